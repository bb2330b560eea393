use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;
use crate::{
    decide::Decision,
    identifier::Identifier,
    minutes::{self, free_instant, minute_of},
    owed::{Owed, Part, Route},
};

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

fn ledger(billable_total: i64, reported_total: i64) -> Ledger {
    let ledger = Ledger::open(TenantId::parse("north").unwrap(), november());
    Ledger { billable_total, reported_total, in_time_total: billable_total, ..ledger }
}

fn cus_north() -> Destination {
    Destination { customer: "cus_north".into(), event_name: "executions".into() }
}

fn billed() -> Route {
    Route { owed: Vec::new(), rest: Some(cus_north()), last: Some(cus_north()) }
}

fn whole(up_to: i64) -> Part {
    Part { up_to, destination: Some(cus_north()), covers: 0 }
}

#[test]
fn the_event_lies_in_the_past_and_inside_the_period() {
    let decide = |now| ledger(7, 0).decide(&rules(), &billed(), at(now));
    assert_eq!(decide("2026-11-24T12:00:00Z"), Decision::Seal(whole(7), at("2026-11-24T11:55:00Z")));
    assert_eq!(decide("2026-11-01T00:04:59Z"), Decision::Wait(at("2026-11-01T00:05:00Z")));
    assert_eq!(decide("2026-12-01T00:30:00Z"), Decision::Seal(whole(7), at("2026-11-30T23:59:59Z")));
}

#[test]
fn nothing_is_sealed_when_nothing_is_owed() {
    assert_eq!(ledger(7, 7).decide(&rules(), &billed(), at("2026-11-24T12:00:00Z")), Decision::Nothing);
}

#[test]
fn usage_counted_in_time_is_still_sent_after_the_deadline() {
    let mut ledger = ledger(0, 0);
    ledger.observe(&rules(), november(), 1, 7, at("2026-12-01T00:54:59Z"));
    ledger.observe(&rules(), november(), 2, 9, at("2026-12-01T00:55:00Z"));
    let decide = |ledger: &Ledger, now| ledger.decide(&rules(), &billed(), at(now));
    let sealed = Decision::Seal(whole(7), at("2026-11-30T23:59:59Z"));
    assert_eq!(decide(&ledger, "2026-12-01T00:57:59Z"), sealed);
    ledger.seal(7);
    assert_eq!(decide(&ledger, "2026-12-01T00:57:59Z"), Decision::Wait(at("2026-12-01T00:58:00Z")));
}

#[test]
fn after_the_window_a_closed_period_is_late_and_an_open_one_waits() {
    let now = at("2026-12-01T00:58:00Z");
    let mut ledger = ledger(7, 0);
    assert_eq!(ledger.decide(&rules(), &billed(), now), Decision::Wait(at("2026-12-01T00:59:00Z")));
    let late = Decision::Late(whole(7), at("2026-11-30T23:59:59Z"));
    assert_eq!(ledger.decide(&rules(), &billed(), at("2026-12-09T00:00:00Z")), late, "it never closes");
    ledger.close(now);
    assert_eq!(ledger.decide(&rules(), &billed(), now), late);
}

#[test]
fn a_tenant_not_billed_in_time_is_never_billed_for_that_period() {
    let mut ledger = ledger(7, 0);
    ledger.close(at("2026-12-01T00:10:00Z"));
    let before = at("2026-12-01T00:57:59Z");
    assert!(matches!(ledger.decide(&rules(), &Route::default(), before), Decision::Wait(_)));
    let after = at("2026-12-01T00:58:00Z");
    assert_eq!(ledger.decide(&rules(), &Route::default(), after), Decision::Waive);
    let owed = Route { owed: vec![Owed { up_to: 4, destination: cus_north() }], ..Route::default() };
    let late = Decision::Late(Part { covers: 1, ..whole(4) }, at("2026-11-30T23:59:59Z"));
    assert_eq!(ledger.decide(&rules(), &owed, after), late, "what was owed before is not waived");
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
    /// Totals may come twice, late or out of order: the reports still add up to the last one.
    #[test]
    fn the_quantities_add_up_to_the_last_total(
        totals in proptest::collection::vec(0_i64..1_000_000, 1..20),
        steps in steps(20),
    ) {
        let mut ledger = ledger(0, 0);
        let mut reports: Vec<(u32, i64)> = Vec::new();
        let mut taken = BTreeSet::new();
        let mut identifiers = HashSet::new();
        let last = totals.len() - 1;
        let ending = [Step::Total(last), Step::Seal];
        for (tick, step) in steps.into_iter().chain(ending).enumerate() {
            // Several steps fall into one minute.
            let now = later(at("2026-11-30T23:00:00Z"), Duration::from_secs(30) * u32::try_from(tick).unwrap());
            match step {
                Step::Total(index) => {
                    let index = index.min(last);
                    let revision = u64::try_from(index).unwrap() + 1;
                    ledger.observe(&rules(), november(), revision, totals[index], now);
                }
                Step::Refuse => {
                    if let Some((_, quantity)) = reports.pop() {
                        ledger.give_back(quantity, &cus_north());
                    }
                }
                Step::Seal => {
                    let Decision::Seal(part, latest) = ledger.decide(&rules(), &billed(), now) else { continue };
                    let event_at = free_instant(latest, november().start, 60, &taken).unwrap();
                    prop_assert!(taken.insert(minute_of(event_at)), "two reports in one minute");
                    prop_assert!(november().contains(event_at) && event_at <= now);
                    let (quantity, version) = ledger.seal(part.up_to);
                    prop_assert_ne!(quantity, 0);
                    let identifier =
                        Identifier::of("live", "executions", &ledger.tenant, ledger.period, version);
                    prop_assert!(identifiers.insert(identifier), "an identifier was used twice");
                    reports.push((version, quantity));
                }
            }
        }
        let sum: i64 = reports.iter().map(|(_, quantity)| quantity).sum();
        prop_assert_eq!(sum, totals[last]);
        prop_assert_eq!(ledger.reported_total, totals[last]);
    }

    /// A period that stays open for six hours: usage counted before the deadline is sealed, and only the rest
    /// is late.
    #[test]
    fn only_usage_counted_after_the_deadline_is_late(
        counts in proptest::collection::vec((0_u64..21_600, 1_i64..100), 1..40),
        looks_every_s in 1_u64..150,
    ) {
        let end = november().end;
        let mut counts: Vec<(Timestamp, i64)> =
            counts.into_iter().map(|(after_s, count)| (later(end, Duration::from_secs(after_s)), count)).collect();
        counts.sort_unstable();
        let in_time: i64 =
            counts.iter().filter(|(at, _)| *at < rules().counted_before(november())).map(|(_, count)| count).sum();
        let (mut ledger, mut sealed, mut late) = (ledger(0, 0), 0, 0);
        let (mut now, mut due, mut arrivals, mut revision) = (end, end, counts.iter().peekable(), 0);
        while now <= later(end, Duration::from_secs(22_000)) {
            while let Some((counted_at, count)) = arrivals.next_if(|(counted_at, _)| *counted_at <= now) {
                revision += 1;
                ledger.observe(&rules(), november(), revision, ledger.billable_total + count, *counted_at);
            }
            if now >= later(end, Duration::from_secs(21_700)) {
                ledger.close(now);
            }
            if now >= due {
                due = match ledger.decide(&rules(), &billed(), now) {
                    Decision::Seal(part, _) => {
                        prop_assert!(now < rules().send_before(november()));
                        sealed += ledger.seal(part.up_to).0;
                        minutes::next_look(&rules(), november(), 1, now)
                    }
                    Decision::Late(part, _) => {
                        late += ledger.seal(part.up_to).0;
                        now
                    }
                    Decision::Wait(until) => until,
                    Decision::Nothing | Decision::Waive => now,
                };
            }
            now = later(now, Duration::from_secs(looks_every_s));
        }
        prop_assert_eq!(sealed, in_time);
        prop_assert_eq!(sealed + late, ledger.billable_total);
    }
}
