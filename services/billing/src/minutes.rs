//! Room for reports: one event per customer, meter and minute, however many tenants share them.
//!
//! The summary of a minute is a report's receipt, so no two reports of a customer and meter share a minute.
//! The tenants of a customer share its minutes: the more there are, the less often each reports, so that
//! together they take at most every second minute while a period runs. The other half is reserved for its
//! end, when each has to report its last totals within the invoice's grace.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use metering::Period;

use crate::ledger::Rules;
use metering::later;

/// Time for each report of a customer and meter while a period runs: every second minute stays free for the
/// end.
const RUNNING_PACE: Duration = Duration::from_secs(2 * 60);

/// Interval between two reports of an ended period. Short, so that little is left for the last moment.
const ENDED_INTERVAL: Duration = Duration::from_secs(60);

/// The same for each tenant that shares the customer: in an hour of grace all of them together take at most
/// 360 minutes, plus one each at the end and at the deadline.
const ENDED_PACE: Duration = Duration::from_secs(10);

/// Minutes that are searched first; nearly always one of them is free.
const SEARCHED_FIRST: i64 = 60;

/// Factor by which each further search widens, up to the period's start.
const SEARCH_WIDENS_BY: i64 = 8;

const MINUTE_SECONDS: i64 = 60;

/// When an account is looked at again after a report, if `tenants` share its customer and meter.
pub fn next_look(rules: &Rules, period: Period, tenants: u32, now: Timestamp) -> Timestamp {
    let deadline = rules.counted_before(period);
    if now < period.end {
        let interval = rules.report_interval.max(RUNNING_PACE.saturating_mul(tenants));
        later(now, interval).min(period.end)
    } else if now < deadline {
        let interval = ENDED_INTERVAL.max(ENDED_PACE.saturating_mul(tenants));
        later(now, interval).min(deadline)
    } else {
        later(now, ENDED_INTERVAL)
    }
}

/// How many minutes to search: first a few, in the end all from `start` to `latest`.
pub fn searches(start: Timestamp, latest: Timestamp) -> impl Iterator<Item = i64> {
    let all = minute_of(latest).saturating_sub(minute_of(start)).saturating_add(1);
    let mut next = Some(SEARCHED_FIRST);
    std::iter::from_fn(move || {
        let minutes = next?;
        next = (minutes < all).then(|| minutes.saturating_mul(SEARCH_WIDENS_BY));
        Some(minutes.min(all))
    })
}

/// The latest whole second not after `latest` and not before `earliest` in one of the last `minutes` minutes that is
/// not taken. `taken` holds minutes since 1970.
pub fn free_instant(
    latest: Timestamp,
    earliest: Timestamp,
    minutes: i64,
    taken: &BTreeSet<i64>,
) -> Option<Timestamp> {
    let wanted = minute_of(latest);
    let minute = (0..minutes).map(|back| wanted - back).find(|minute| !taken.contains(minute))?;
    let end_of_minute = minute * MINUTE_SECONDS + MINUTE_SECONDS - 1;
    let instant = Timestamp::from_second(end_of_minute.min(latest.as_second())).ok()?;
    (instant >= earliest).then_some(instant)
}

/// The minute that an instant lies in, counted since 1970.
pub fn minute_of(instant: Timestamp) -> i64 {
    instant.as_second().div_euclid(MINUTE_SECONDS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    fn period(start: &str, end: &str) -> Period {
        Period { start: at(start), end: at(end) }
    }

    fn november() -> Period {
        period("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    }

    #[test]
    fn a_taken_minute_gives_way_to_the_one_before() {
        let latest = at("2026-11-30T23:59:59Z");
        let taken = BTreeSet::from([minute_of(latest), minute_of(latest) - 1]);
        assert_eq!(free_instant(latest, november().start, 60, &taken), Some(at("2026-11-30T23:57:59Z")));
        let first = at("2026-11-01T00:00:10Z");
        assert_eq!(free_instant(first, november().start, 60, &BTreeSet::from([minute_of(first)])), None);
    }

    #[test]
    fn the_search_widens_to_the_whole_period() {
        let wide: Vec<i64> = searches(november().start, at("2026-11-30T23:59:59Z")).collect();
        assert_eq!(wide, [60, 480, 3_840, 30_720, 30 * 24 * 60]);
        let short: Vec<i64> = searches(at("2026-11-30T23:50:30Z"), at("2026-11-30T23:59:59Z")).collect();
        assert_eq!(short, [10]);
    }

    #[test]
    fn the_end_and_the_deadline_are_never_missed() {
        let look = |tenants, now| next_look(&rules(), november(), tenants, at(now));
        assert_eq!(look(1, "2026-11-24T12:00:00Z"), at("2026-11-24T12:05:00Z"));
        assert_eq!(look(20, "2026-11-24T12:00:00Z"), at("2026-11-24T12:40:00Z"));
        assert_eq!(look(500, "2026-11-30T12:00:00Z"), november().end);
        assert_eq!(look(1, "2026-12-01T00:10:00Z"), at("2026-12-01T00:11:00Z"));
        assert_eq!(look(500, "2026-12-01T00:50:00Z"), at("2026-12-01T00:55:00Z"));
    }

    proptest! {
        // Each case simulates a whole day of up to 60 tenants.
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Tenants that always have something to report, from a period's start to the end of its grace.
        #[test]
        fn there_is_room_for_every_tenant_of_a_customer(tenants in 1_u32..=60, offset_s in 0_i64..7_200) {
            let period = period("2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z");
            let deadline = rules().counted_before(period);
            let mut taken = BTreeSet::new();
            let first = |tenant: u32| period.start + Duration::from_secs(300)
                + Duration::from_secs(u64::try_from(offset_s).unwrap() * u64::from(tenant) % 3_600);
            let mut looks: BTreeSet<(Timestamp, u32)> = (0..tenants).map(|tenant| (first(tenant), tenant)).collect();
            while let Some((now, tenant)) = looks.pop_first() {
                let latest = (now - rules().seal_delay).min(period.end - Duration::from_secs(1));
                let free = searches(period.start, latest)
                    .find_map(|minutes| free_instant(latest, period.start, minutes, &taken));
                if let Some(instant) = free {
                    prop_assert!(period.contains(instant));
                    prop_assert!(taken.insert(minute_of(instant)), "two reports in one minute");
                } else {
                    // A report may have to wait a little while the period runs, but not after its end.
                    prop_assert!(now < period.end, "tenant {} of {} has no room at {}", tenant, tenants, now);
                }
                if now < deadline {
                    looks.insert((next_look(&rules(), period, tenants, now), tenant));
                }
            }
        }
    }
}
