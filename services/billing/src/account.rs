//! The books of one tenant and period: what is billable, what is reported, and when the rest is sealed.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use metering::{Period, TenantId};

/// Sending stops this long before the invoice may become final: time for retries whose first try arrived.
pub const GRACE_MARGIN: Duration = Duration::from_secs(5 * 60);

/// Minutes before the wanted one that are searched for a free one. Reports are rarer than minutes, so one
/// hour always has room; what has none waits for the next look.
pub const MINUTES_SEARCHED_MAX: u32 = 60;

const MINUTE_SECONDS: i64 = 60;

/// How reports are cut.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Between two reports of a tenant.
    pub report_interval: Duration,
    /// Events lie at least this far in the past.
    pub seal_delay: Duration,
    /// How long after its end a period's usage still reaches its invoice.
    pub invoice_grace: Duration,
}

impl Rules {
    /// No event of the period is sent from this instant on.
    pub fn send_before(&self, period: Period) -> Timestamp {
        let window = self.invoice_grace.saturating_sub(GRACE_MARGIN);
        period.end.saturating_add(window).unwrap_or(Timestamp::MAX)
    }
}

/// The books of one tenant and period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose usage.
    pub tenant: TenantId,
    /// In which period.
    pub period: Period,
    /// The billable executions, by the largest revision seen.
    pub billable_total: i64,
    /// That revision.
    pub revision: u64,
    /// The sum of what was sealed and not refused.
    pub reported_total: i64,
    /// The version of the next report.
    pub next_version: u32,
    /// When the period was closed.
    pub closed_at: Option<Timestamp>,
    /// Never to be reported: nobody was to be billed while there was time.
    pub waived: bool,
}

/// What to do about the part that is not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// All is reported.
    Nothing,
    /// Look again then.
    Wait(Timestamp),
    /// Seal a report whose event lies at this instant at the latest.
    Seal(Timestamp),
    /// Too late for the invoice: an operator has to bill it.
    Late(Timestamp),
    /// The tenant was not billed in this period, and now it is too late to begin.
    Waive,
}

impl Account {
    /// Empty books.
    pub fn open(tenant: TenantId, period: Period) -> Self {
        Self {
            tenant,
            period,
            billable_total: 0,
            revision: 0,
            reported_total: 0,
            next_version: 1,
            closed_at: None,
            waived: false,
        }
    }

    /// Takes a total unless a newer one is known. Messages may come twice and in any order.
    pub fn observe(&mut self, period: Period, revision: u64, billable_total: i64) {
        if revision >= self.revision {
            // A calendar that was changed may move the end; what is sealed stays.
            self.period = period;
            self.revision = revision;
            self.billable_total = billable_total;
        }
    }

    /// Notes that the period is over; the first time counts.
    pub fn close(&mut self, closed_at: Timestamp) {
        self.closed_at.get_or_insert(closed_at);
    }

    /// What is not reported yet; negative where too much was.
    pub fn unreported(&self) -> i64 {
        self.billable_total.saturating_sub(self.reported_total)
    }

    /// What to do now. `is_billed` tells whether the tenant has a customer and its plan a meter.
    pub fn decide(&self, rules: &Rules, is_billed: bool, now: Timestamp) -> Decision {
        if self.waived || self.unreported() == 0 {
            return Decision::Nothing;
        }
        let next_look = later(now, rules.report_interval);
        let last_instant = earlier(self.period.end, Duration::from_secs(1));
        match (now < rules.send_before(self.period), is_billed) {
            (true, false) => Decision::Wait(next_look),
            (false, false) => Decision::Waive,
            (true, true) => {
                let event_at = earlier(now, rules.seal_delay).min(last_instant);
                if event_at < self.period.start {
                    Decision::Wait(later(self.period.start, rules.seal_delay))
                } else {
                    Decision::Seal(event_at)
                }
            }
            // Until the period closes the figure may still grow: one late report says it all.
            (false, true) if self.closed_at.is_none() => Decision::Wait(next_look),
            (false, true) => Decision::Late(last_instant),
        }
    }

    /// Takes the unreported part onto a report. Returns its quantity and version.
    pub fn seal(&mut self) -> (i64, u32) {
        let (quantity, version) = (self.unreported(), self.next_version);
        self.reported_total = self.billable_total;
        self.next_version = self.next_version.saturating_add(1);
        (quantity, version)
    }

    /// Gives the quantity of a refused report back: it was not executed, so it is reported anew.
    pub fn give_back(&mut self, quantity: i64) {
        self.reported_total = self.reported_total.saturating_sub(quantity);
    }
}

/// The latest whole second not after `latest` and not before `earliest` in a minute that is not taken.
/// `taken` holds minutes since 1970.
pub fn free_instant(latest: Timestamp, earliest: Timestamp, taken: &BTreeSet<i64>) -> Option<Timestamp> {
    let wanted = minute_of(latest);
    let minute = (0..=i64::from(MINUTES_SEARCHED_MAX))
        .map(|back| wanted - back)
        .find(|minute| !taken.contains(minute))?;
    let end_of_minute = minute * MINUTE_SECONDS + MINUTE_SECONDS - 1;
    let instant = Timestamp::from_second(end_of_minute.min(latest.as_second())).ok()?;
    (instant >= earliest).then_some(instant)
}

/// The minute that an instant lies in, counted since 1970.
pub fn minute_of(instant: Timestamp) -> i64 {
    instant.as_second().div_euclid(MINUTE_SECONDS)
}

/// `instant + by`, stopping at the end of the calendar.
pub fn later(instant: Timestamp, by: Duration) -> Timestamp {
    instant.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// `instant - by`, stopping at the beginning of the calendar.
pub fn earlier(instant: Timestamp, by: Duration) -> Timestamp {
    instant.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::identifier::Identifier;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rules() -> Rules {
        Rules {
            report_interval: Duration::from_secs(300),
            seal_delay: Duration::from_secs(300),
            invoice_grace: Duration::from_secs(3_600),
        }
    }

    fn november() -> Period {
        Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") }
    }

    fn account(billable_total: i64, reported_total: i64) -> Account {
        let account = Account::open(TenantId::parse("north").unwrap(), november());
        Account { billable_total, reported_total, ..account }
    }

    #[test]
    fn the_event_lies_in_the_past_and_inside_the_period() {
        let decide = |now| account(7, 0).decide(&rules(), true, at(now));
        assert_eq!(decide("2026-11-24T12:00:00Z"), Decision::Seal(at("2026-11-24T11:55:00Z")));
        assert_eq!(decide("2026-11-01T00:04:59Z"), Decision::Wait(at("2026-11-01T00:05:00Z")));
        assert_eq!(decide("2026-12-01T00:30:00Z"), Decision::Seal(at("2026-11-30T23:59:59Z")));
    }

    #[test]
    fn nothing_is_sealed_where_nothing_is_owed() {
        assert_eq!(account(7, 7).decide(&rules(), true, at("2026-11-24T12:00:00Z")), Decision::Nothing);
    }

    #[test]
    fn after_the_window_a_closed_period_is_late_and_an_open_one_waits() {
        let now = at("2026-12-01T00:55:00Z");
        let mut account = account(7, 0);
        assert_eq!(account.decide(&rules(), true, now), Decision::Wait(at("2026-12-01T01:00:00Z")));
        account.close(now);
        assert_eq!(account.decide(&rules(), true, now), Decision::Late(at("2026-11-30T23:59:59Z")));
    }

    #[test]
    fn who_is_not_billed_in_time_is_never_billed_for_it() {
        let mut account = account(7, 0);
        account.close(at("2026-12-01T00:10:00Z"));
        let before = at("2026-12-01T00:54:59Z");
        assert!(matches!(account.decide(&rules(), false, before), Decision::Wait(_)));
        assert_eq!(account.decide(&rules(), false, at("2026-12-01T00:55:00Z")), Decision::Waive);
    }

    #[test]
    fn a_taken_minute_gives_way_to_the_one_before() {
        let latest = at("2026-11-30T23:59:59Z");
        let taken = BTreeSet::from([minute_of(latest), minute_of(latest) - 1]);
        assert_eq!(free_instant(latest, november().start, &taken), Some(at("2026-11-30T23:57:59Z")));
        let all = (0..=i64::from(MINUTES_SEARCHED_MAX)).map(|back| minute_of(latest) - back).collect();
        assert_eq!(free_instant(latest, november().start, &all), None);
        let first = at("2026-11-01T00:00:10Z");
        assert_eq!(free_instant(first, november().start, &BTreeSet::from([minute_of(first)])), None);
    }

    /// What may happen to an account.
    #[derive(Debug, Clone)]
    enum Step {
        /// The total of this revision arrives: maybe again, maybe after a later one.
        Total(usize),
        Seal,
        /// The last report is refused.
        Refuse,
    }

    fn steps(revisions: usize) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..revisions).prop_map(Step::Total),
            2 => Just(Step::Seal),
            1 => Just(Step::Refuse),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever comes twice, late or in the wrong order: the reports add up to the last total.
        #[test]
        fn the_quantities_add_up_to_the_last_total(
            totals in proptest::collection::vec(0_i64..1_000_000, 1..20),
            steps in steps(20),
        ) {
            let mut account = account(0, 0);
            let mut reports: Vec<(u32, i64)> = Vec::new();
            let mut taken = BTreeSet::new();
            let mut identifiers = HashSet::new();
            let last = totals.len() - 1;
            let ending = [Step::Total(last), Step::Seal];
            for (tick, step) in steps.into_iter().chain(ending).enumerate() {
                match step {
                    Step::Total(index) => {
                        let index = index.min(last);
                        let revision = u64::try_from(index).unwrap() + 1;
                        account.observe(november(), revision, totals[index]);
                    }
                    Step::Refuse => {
                        if let Some((_, quantity)) = reports.pop() {
                            account.give_back(quantity);
                        }
                    }
                    Step::Seal => {
                        // Several looks fall into one minute.
                        let passed = Duration::from_secs(30) * u32::try_from(tick).unwrap();
                        let now = later(at("2026-11-30T23:00:00Z"), passed);
                        let Decision::Seal(latest) = account.decide(&rules(), true, now) else { continue };
                        let event_at = free_instant(latest, november().start, &taken).unwrap();
                        prop_assert!(taken.insert(minute_of(event_at)), "two reports in one minute");
                        prop_assert!(november().contains(event_at) && event_at <= now);
                        let (quantity, version) = account.seal();
                        prop_assert_ne!(quantity, 0);
                        let identifier =
                            Identifier::of("live", "executions", &account.tenant, account.period, version);
                        prop_assert!(identifiers.insert(identifier), "an identifier came back");
                        reports.push((version, quantity));
                    }
                }
            }
            let sum: i64 = reports.iter().map(|(_, quantity)| quantity).sum();
            prop_assert_eq!(sum, totals[last]);
            prop_assert_eq!(account.reported_total, totals[last]);
        }
    }
}
