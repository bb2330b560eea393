//! Compares the results with the truth. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cast::{Month, SOURCES, TENANTS},
    gather::Found,
    guests::Guest,
    play::Made,
    truth::Figures,
};

/// Thresholds of every plan here, in percent: the default.
const THRESHOLDS: [u32; 2] = [80, 100];

/// The terms of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The tenants' limits, in the order of [`TENANTS`].
    pub limits: &'a [u64],
    /// Months that must be closed; the others are current.
    pub closed: &'a [Month],
    /// Tenants that asked the limit check.
    pub guests: &'a [Guest],
    /// Faults that may come between a mail's acceptance by the server and its record.
    pub mail_faults: usize,
}

/// Every difference from the truth, in words.
pub fn differences(found: &Found, made: &Made, terms: Terms<'_>) -> Vec<String> {
    let mut differences = Vec::new();
    workflows(found, &mut differences);
    for (number, tenant) in TENANTS.iter().enumerate() {
        let months = Month::ALL.map(|month| of_tenant(found, number, month));
        shown(found, tenant.id, &months, terms.closed, &mut differences);
        let billable = if tenant.billed { months.iter().map(|it| it.counted).sum() } else { 0 };
        let billed = found.stripe.get(&tenant.customer()).copied().unwrap_or_default();
        if billed != billable {
            differences.push(format!("Stripe has {billed} for {}, expected {billable}", tenant.id));
        }
        let limit = terms.limits.get(number).copied().unwrap_or(1);
        crossings(found, number, limit, &months, &mut differences);
    }
    for guest in terms.guests {
        let months = Month::ALL.map(|month| of_sources(found, month, |source| source == guest.source));
        shown(found, guest.tenant, &months, terms.closed, &mut differences);
        for (month, truth) in Month::ALL.into_iter().zip(&months) {
            if let Some(limit) = guest.limit.filter(|limit| truth.counted > *limit) {
                differences.push(format!(
                    "{} ran {} times in {month:?}, its limit is {limit}",
                    guest.tenant, truth.counted
                ));
            }
        }
    }
    mails(found, terms.mail_faults, &mut differences);
    dead_letters(found, made, &mut differences);
    differences.extend(found.troubles.iter().cloned());
    if found.delivered.1 != found.executions + known_strangers(made) {
        let (different, there) = (found.delivered.1, found.executions);
        differences
            .push(format!("{different} different executions were published, the instances have {there}"));
    }
    differences
}

/// Executions of planted batches: all batches of one source carry the same execution id.
fn known_strangers(made: &Made) -> u64 {
    made.strangers.len() as u64
}

fn workflows(found: &Found, differences: &mut Vec<String>) {
    let keys: BTreeSet<_> = found.truth.keys().chain(found.workflows.keys()).collect();
    for key in keys {
        let truth = found.truth.get(key).copied().unwrap_or_default();
        let shown = found.workflows.get(key).copied().unwrap_or_default();
        if truth != shown {
            let (month, source, workflow) = key;
            differences.push(format!("{month:?}, {source}, {workflow}: {shown}; expected {truth}"));
        }
    }
}

/// A closed month as it was closed, and the current one as it is.
fn shown(
    found: &Found,
    tenant: &str,
    months: &[Figures; 2],
    closed: &[Month],
    differences: &mut Vec<String>,
) {
    for (month, truth) in Month::ALL.into_iter().zip(months) {
        if closed.contains(&month) {
            let shown = found.closed.get(&(tenant.to_owned(), month)).copied();
            if shown != Some(*truth) {
                differences.push(format!("closed {month:?} of {tenant}: {shown:?}, expected {truth:?}"));
            }
        } else if found.current.get(tenant) != Some(&truth.counted) {
            let shown = found.current.get(tenant);
            differences.push(format!("{tenant}: {shown:?} counted, expected {}", truth.counted));
        }
    }
}

/// Counted executions beyond the limits, which the limit check must prevent.
pub fn overshoot(found: &Found, guests: &[Guest]) -> u64 {
    let of_guest = |guest: &Guest| {
        let counted =
            Month::ALL.map(|month| of_sources(found, month, |source| source == guest.source).counted);
        let limit = guest.limit.unwrap_or(u64::MAX);
        counted.iter().map(|counted| counted.saturating_sub(limit)).sum::<u64>()
    };
    guests.iter().map(of_guest).sum()
}

fn of_tenant(found: &Found, tenant: usize, month: Month) -> Figures {
    of_sources(found, month, |source| SOURCES.iter().any(|it| it.id == source && it.tenant == tenant))
}

fn of_sources(found: &Found, month: Month, is_of: impl Fn(&str) -> bool) -> Figures {
    let mut sum = Figures::default();
    for ((of, source, _), figures) in &found.truth {
        if *of == month && is_of(source) {
            sum.add(figures);
        }
    }
    sum
}

/// Expects one crossing for each threshold that was reached while its month was current. Each recipient gets a mail about a
/// month's highest threshold, and perhaps about lower ones: where one change crosses several, or a mail was not sent in
/// time, the highest replaces the others.
fn crossings(found: &Found, tenant: usize, limit: u64, months: &[Figures; 2], differences: &mut Vec<String>) {
    let Some(tenant) = TENANTS.get(tenant) else { return };
    let (mut expected, mut months_told) = (0, 0);
    for (month, figures) in Month::ALL.into_iter().zip(months) {
        let expected_before = expected;
        for percent in THRESHOLDS {
            // Late executions change no crossing: their month is over.
            let used = figures.counted - figures.late;
            let reached = used * 100 >= limit * u64::from(percent);
            let ids = found.crossings.iter().filter(|(of, in_month, of_percent, _)| {
                (of.as_str(), *in_month, *of_percent) == (tenant.id, month, percent)
            });
            let count = ids.count();
            expected += usize::from(reached);
            if count != usize::from(reached) {
                differences.push(format!(
                    "{} crossed {percent} % of {limit} in {month:?} {count} times, with {used} used",
                    tenant.id
                ));
            }
        }
        months_told += usize::from(expected > expected_before);
    }
    for recipient in tenant.recipients {
        let ids: BTreeSet<&str> = found
            .mails
            .iter()
            .filter(|mail| mail.to == *recipient)
            .map(|mail| mail.message_id.as_str())
            .collect();
        if !(months_told..=expected).contains(&ids.len()) {
            differences.push(format!(
                "{recipient} has {} different mails, expected {months_told} to {expected}",
                ids.len()
            ));
        }
    }
}

fn mails(found: &Found, faults: usize, differences: &mut Vec<String>) {
    let mut by_id: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for mail in &found.mails {
        by_id.entry(&mail.message_id).or_default().insert((&mail.to, &mail.subject));
    }
    differences.extend(
        by_id.iter().filter(|(_, mails)| mails.len() > 1).map(|(id, _)| format!("{id} is on two mails")),
    );
    let repeats = found.mails.len() - by_id.len();
    // One fault can repeat each recipient's mail at most once.
    if repeats > 0 && faults == 0 {
        differences.push(format!("{repeats} mails were sent again without a fault that explains it"));
    }
}

fn dead_letters(found: &Found, made: &Made, differences: &mut Vec<String>) {
    let mut missing = made.planted.clone();
    for (service, payload, reason) in &found.letters {
        let text = String::from_utf8_lossy(payload);
        let planted = |(of, mark): &&(String, String)| of == service && ends_with_mark(&text, mark);
        match made.planted.iter().find(planted) {
            Some(known) => drop(missing.remove(known)),
            None => differences.push(format!("an unplanted dead letter of {service}: {reason}")),
        }
    }
    differences
        .extend(missing.iter().map(|(service, mark)| format!("{service} wrote no dead letter about {mark}")));
}

/// Whether the text holds this mark and not a longer one that begins the same.
fn ends_with_mark(text: &str, mark: &str) -> bool {
    text.match_indices(mark).any(|(at, _)| {
        let next = text.get(at + mark.len()..).and_then(|rest| rest.chars().next());
        !next.is_some_and(|next| next.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(counted: u64) -> Found {
        let key = (Month::March, "north-n8n".to_owned(), "orderSync".to_owned());
        let figures = Figures { counted, success: counted, ..Figures::default() };
        let mut found = Found { executions: counted, ..Found::default() };
        found.delivered = (counted, counted);
        found.truth.insert(key.clone(), figures);
        found.workflows.insert(key, figures);
        for tenant in TENANTS {
            let counted = if tenant.id == "north" { counted } else { 0 };
            found.current.insert(tenant.id.to_owned(), 0);
            found.stripe.insert(tenant.customer(), counted);
            let figures = Figures { counted, success: counted, ..Figures::default() };
            found.closed.insert((tenant.id.to_owned(), Month::March), figures);
        }
        found
    }

    fn differences_of(found: &Found, made: &Made) -> Vec<String> {
        let terms =
            Terms { limits: &[100, 100, 100, 100], closed: &[Month::March], guests: &[], mail_faults: 0 };
        differences(found, made, terms)
    }

    #[test]
    fn results_that_match_the_truth_have_no_differences() {
        assert_eq!(differences_of(&truth(70), &Made::default()), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_difference_is_reported() {
        let made = Made::default();
        let mut lost = truth(70);
        lost.workflows.clear();
        assert_eq!(differences_of(&lost, &made).len(), 1);
        let mut billed_twice = truth(70);
        billed_twice.stripe.insert("cus_north".to_owned(), 71);
        assert!(differences_of(&billed_twice, &made)[0].contains("Stripe has 71"));
        assert_eq!(differences_of(&truth(80), &made).len(), 3, "a crossing is missing, and two mails");
        let mut dead = truth(70);
        dead.letters.push(("aggregator".to_owned(), b"\0planted-12".to_vec(), "why".to_owned()));
        assert_eq!(differences_of(&dead, &made).len(), 1);
        let mut planted = Made::default();
        planted.planted.insert(("aggregator".to_owned(), "planted-1".to_owned()));
        assert_eq!(differences_of(&dead, &planted).len(), 2, "12 is not 1");
    }
}
