//! May this run start? The pure decision; `admit` surrounds it with the ledger.
//!
//! The check is the reservation: what was allowed here and has not been counted yet stands against the limit.
//! With `W`, the instant up to which all sources are counted,
//!
//! ```text
//! used = max(counted, counted before W + running at W + allowed here since W)
//! ```

use std::time::Duration;

use catalog::{LimitKind, OutageRule};
use jiff::{SignedDuration, Timestamp};
use metering::{Calendar, Period};

use crate::usage::Counted;

/// What metering tells of the tenant's current period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The current period.
    pub period: Period,
    /// Executions counted in it; missing where nothing has been heard of the tenant.
    pub counted: Option<u64>,
    /// Those of them that stopped before `complete_until`, and the executions that were running then.
    pub accounted_for: u64,
    /// Runs that were allowed from here on are in none of the figures above.
    pub reserved_since: Timestamp,
    /// When the figures were read.
    pub as_of: Option<Timestamp>,
    /// All sources are counted up to here.
    pub complete_until: Option<Timestamp>,
    /// Whether the figures are too old to decide with.
    pub stale: bool,
}

impl Known {
    /// What is known at `now`. Figures of an earlier period say that nothing is counted in this one yet.
    pub fn at(now: Timestamp, counted: Option<&Counted>, calendar: &Calendar, stale_after: Duration) -> Self {
        let current = counted.filter(|counted| counted.is_current(now));
        let period = current.map_or_else(|| calendar.period_of(now), |counted| counted.period);
        let complete_until = counted.and_then(|counted| counted.complete_until);
        let fresh_at = complete_until.or(counted.map(|counted| counted.as_of));
        Self {
            period,
            counted: counted.map(|_| current.map_or(0, |counted| counted.totals.counted)),
            accounted_for: current.map_or(0, |counted| {
                // Without a W nothing is accounted for: every run since the period began may be a reservation.
                counted.complete_until.map_or(0, |_| counted.counted_complete + counted.open_executions)
            }),
            reserved_since: complete_until.map_or(period.start, |instant| instant.max(period.start)),
            as_of: counted.map(|counted| counted.as_of),
            complete_until,
            stale: fresh_at.is_none_or(|instant| {
                now.duration_since(instant)
                    > SignedDuration::try_from(stale_after).unwrap_or(SignedDuration::MAX)
            }),
        }
    }

    /// Executions that stand against the limit, with `reserved` runs allowed since `reserved_since`.
    pub fn used(&self, reserved: u64) -> Option<u64> {
        self.counted.map(|counted| counted.max(self.accounted_for.saturating_add(reserved)))
    }
}

/// What the plan says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Executions allowed in the period.
    pub limit: Option<u64>,
    /// What happens at the limit.
    pub kind: LimitKind,
    /// What happens where metering cannot tell.
    pub outage_rule: OutageRule,
}

/// Why a run may start, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The limit is not reached.
    WithinLimit,
    /// The limit is reached.
    LimitReached,
    /// The plan does not count runs of this mode.
    NotCounted,
    /// The plan has no limit.
    NoLimit,
    /// The limit is passed, and it is a soft one.
    OverSoftLimit,
    /// Metering is too old to tell; the outage rule decided.
    MeteringStale,
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::WithinLimit,
        Self::LimitReached,
        Self::NotCounted,
        Self::NoLimit,
        Self::OverSoftLimit,
        Self::MeteringStale,
    ];

    /// The reason's name in the ledger and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithinLimit => "within_limit",
            Self::LimitReached => "limit_reached",
            Self::NotCounted => "not_counted",
            Self::NoLimit => "no_limit",
            Self::OverSoftLimit => "over_soft_limit",
            Self::MeteringStale => "metering_stale",
        }
    }

    /// The reason of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// The decision on one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may start.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
}

/// Decides on one counted run, with `reserved` runs allowed since `known.reserved_since`.
pub fn decide(terms: &Terms, known: &Known, reserved: u64) -> Decision {
    let allow = |reason| Decision { allowed: true, reason };
    let refuse = |reason| Decision { allowed: false, reason };
    let Some(limit) = terms.limit else { return allow(Reason::NoLimit) };
    let is_hard = terms.kind == LimitKind::Hard;
    // What is counted never becomes less, so this holds however old the figures are.
    if is_hard && known.counted.is_some_and(|counted| counted >= limit) {
        return refuse(Reason::LimitReached);
    }
    let used = match known.used(reserved) {
        Some(used) if !known.stale => used,
        _ if is_hard && terms.outage_rule == OutageRule::Closed => return refuse(Reason::MeteringStale),
        _ => return allow(Reason::MeteringStale),
    };
    match (used >= limit, terms.kind) {
        (false, _) => allow(Reason::WithinLimit),
        (true, LimitKind::Hard) => refuse(Reason::LimitReached),
        (true, LimitKind::Soft) => allow(Reason::OverSoftLimit),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usage::tests::november;

    const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn known(counted: u64) -> Known {
        Known::at(at("2026-11-24T12:00:00Z"), Some(&november(counted, 1)), &Calendar::utc(), STALE_AFTER)
    }

    fn hard(limit: u64) -> Terms {
        Terms { limit: Some(limit), kind: LimitKind::Hard, outage_rule: OutageRule::Open }
    }

    #[test]
    fn the_limit_is_the_last_run_that_is_allowed() {
        assert_eq!(decide(&hard(50), &known(49), 0), Decision { allowed: true, reason: Reason::WithinLimit });
        assert_eq!(
            decide(&hard(50), &known(49), 1),
            Decision { allowed: false, reason: Reason::LimitReached }
        );
        assert_eq!(
            decide(&hard(50), &known(50), 0),
            Decision { allowed: false, reason: Reason::LimitReached }
        );
        assert!(!decide(&hard(0), &known(0), 0).allowed);
    }

    #[test]
    fn a_soft_limit_says_so_and_allows() {
        let soft = Terms { kind: LimitKind::Soft, ..hard(50) };
        assert_eq!(decide(&soft, &known(70), 0), Decision { allowed: true, reason: Reason::OverSoftLimit });
        let none = Terms { limit: None, ..hard(0) };
        assert_eq!(decide(&none, &known(70), 0), Decision { allowed: true, reason: Reason::NoLimit });
    }

    #[test]
    fn running_executions_stand_against_the_limit() {
        let counted = Counted { open_executions: 30, ..november(20, 1) };
        let known = Known::at(at("2026-11-24T12:00:00Z"), Some(&counted), &Calendar::utc(), STALE_AFTER);
        assert_eq!(known.used(0), Some(50));
        assert!(!decide(&hard(50), &known, 0).allowed);
    }

    #[test]
    fn stale_metering_follows_the_outage_rule_but_not_against_what_is_proven() {
        let late = at("2026-11-24T12:29:01Z");
        let stale = |counted: Option<&Counted>| Known::at(late, counted, &Calendar::utc(), STALE_AFTER);
        let closed = Terms { outage_rule: OutageRule::Closed, ..hard(50) };
        for figures in [None, Some(&november(10, 1))] {
            let known = stale(figures);
            assert!(known.stale);
            let open = decide(&hard(50), &known, 0);
            assert_eq!(open, Decision { allowed: true, reason: Reason::MeteringStale });
            let refused = decide(&closed, &known, 0);
            assert_eq!(refused, Decision { allowed: false, reason: Reason::MeteringStale });
        }
        let proven = decide(&hard(50), &stale(Some(&november(50, 1))), 0);
        assert_eq!(proven, Decision { allowed: false, reason: Reason::LimitReached });
        assert_eq!(stale(None).used(3), None, "an outage of metering does not look like little usage");
    }

    #[test]
    fn a_new_period_begins_with_its_own_reservations_only() {
        let known =
            Known::at(at("2026-12-01T00:05:00Z"), Some(&november(50, 1)), &Calendar::utc(), STALE_AFTER);
        assert_eq!(known.period.start, at("2026-12-01T00:00:00Z"));
        assert_eq!(known.reserved_since, known.period.start);
        assert_eq!(known.used(7), Some(7));
    }

    #[test]
    fn before_every_source_was_swept_all_runs_of_the_period_are_reservations() {
        let counted = Counted { complete_until: None, ..november(20, 1) };
        let known = Known::at(at("2026-11-24T12:00:00Z"), Some(&counted), &Calendar::utc(), STALE_AFTER);
        assert_eq!(known.reserved_since, known.period.start);
        assert_eq!((known.used(5), known.used(25)), (Some(20), Some(25)));
    }

    /// What happens to a tenant: a run asks, runs end, a sweep makes the figures complete.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask,
        EndOne,
        Sweep,
    }

    proptest! {
        /// Whatever the order of requests, ends and sweeps: never more than the limit is allowed, and as long
        /// as runs are asked for, all of the limit is.
        #[test]
        fn never_more_than_the_limit_in_any_order(
            limit in 0_u64..30,
            steps in prop::collection::vec(
                prop::sample::select(vec![Step::Ask, Step::Ask, Step::EndOne, Step::Sweep]), 0..200,
            ),
        ) {
            let (mut allowed, mut asked) = (0_u64, 0_u64);
            let (mut running, mut ended) = (0_u64, 0_u64);
            let (mut counted, mut reserved) = (november(0, 0), 0_u64);
            for step in steps {
                match step {
                    Step::Ask => {
                        asked += 1;
                        let known = Known::at(
                            at("2026-11-24T12:00:00Z"), Some(&counted), &Calendar::utc(), STALE_AFTER,
                        );
                        if decide(&hard(limit), &known, reserved).allowed {
                            allowed += 1;
                            running += 1;
                            reserved += 1;
                        }
                    }
                    Step::EndOne if running > 0 => {
                        running -= 1;
                        ended += 1;
                        // Counted before the sweep is complete: `counted` alone moves.
                        counted.totals.counted = ended;
                    }
                    Step::EndOne => {}
                    Step::Sweep => {
                        counted.counted_complete = ended;
                        counted.open_executions = running;
                        reserved = 0;
                    }
                }
            }
            prop_assert_eq!(allowed, asked.min(limit));
        }
    }
}
