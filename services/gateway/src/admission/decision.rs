//! May this run start? The pure decision by the limit of the period, from what is [`Known`]; `admissions` surrounds it with
//! memory and ledger.

use std::time::Duration;

use catalog::{LimitKind, OutageRule, Plan, Tenant};
use jiff::{SignedDuration, Timestamp};

use crate::admission::known::Known;

/// The plan's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Executions allowed in the period.
    pub limit: Option<u64>,
    /// What happens at the limit.
    pub kind: LimitKind,
    /// What happens while usage figures are missing or too old.
    pub outage_rule: OutageRule,
    /// With a soft limit: executions allowed beyond it.
    pub overage_max: Option<u64>,
    /// With a hard limit: once it is reached, runs are still allowed until then.
    pub grace_until: Option<Timestamp>,
    /// The open outage rule holds until then.
    pub open_until: Option<Timestamp>,
}

/// What only the ledger knows, because every replica must see the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitState {
    /// When the limit of the period was reached.
    pub reached_at: Option<Timestamp>,
    /// Since when no usage update has been received for the tenant.
    pub blind_since: Option<Timestamp>,
}

impl Terms {
    /// The terms of a tenant at `now`.
    pub fn of(tenant: &Tenant, plan: &Plan, known: &Known, marks: LimitState, now: Timestamp) -> Self {
        let after = |begin: Timestamp, length: Duration| {
            SignedDuration::try_from(length)
                .ok()
                .and_then(|length| begin.checked_add(length).ok())
                .unwrap_or(Timestamp::MAX)
        };
        let last_known = known.fresh_at.or(marks.blind_since).unwrap_or(now);
        Self {
            limit: plan.limit_for(tenant, now),
            kind: plan.limit_kind,
            outage_rule: plan.outage_rule,
            overage_max: plan.admission.overage_max,
            grace_until: plan.admission.grace.map(|grace| after(marks.reached_at.unwrap_or(now), grace)),
            open_until: plan.admission.open_at_most.map(|length| after(last_known, length)),
        }
    }

    /// Executions at which runs are refused, if ever. A grace period is not considered here.
    pub fn bound(&self) -> Option<u64> {
        match self.kind {
            LimitKind::Hard => self.limit,
            LimitKind::Soft => Some(self.limit?.saturating_add(self.overage_max?)),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Why a run may start, or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason's name in answers, in the ledger and in metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// The limit is not reached.
    WithinLimit = "within_limit",
    /// The plan has no limit.
    NoLimit = "no_limit",
    /// The limit is exceeded, and it is a soft one.
    OverSoftLimit = "over_soft_limit",
    /// The limit is reached, but the plan's grace has not ended.
    Grace = "grace",
    /// The plan does not count runs of this mode.
    NotCounted = "not_counted",
    /// A run of an error workflow is never refused: that would start the error workflow again.
    ErrorWorkflow = "error_workflow",
    /// It would have been refused, but the plan is in shadow mode.
    Shadow = "shadow",
    /// The usage figures are too old; the outage rule decided.
    MeteringStale = "metering_stale",
    /// The limit is reached.
    LimitReached = "limit_reached",
    /// The limit seems reached, but runs allowed shortly before the watermark may be counted twice: a later
    /// check may allow.
    LimitUnsettled = "limit_unsettled",
    /// The soft limit and the overage that the plan allows are used.
    OverageReached = "overage_reached",
    /// The tenant's runs for this minute are used.
    TenantMinuteCap = "tenant_minute_cap",
    /// The tenant's runs for this day are used.
    TenantDayCap = "tenant_day_cap",
    /// The tenant has as many concurrent runs as it may.
    TenantConcurrentCap = "tenant_concurrent_cap",
    /// The workflow's runs for this minute are used.
    WorkflowMinuteCap = "workflow_minute_cap",
    /// The workflow's runs for this day are used.
    WorkflowDayCap = "workflow_day_cap",
    /// The workflow has as many concurrent runs as it may.
    WorkflowConcurrentCap = "workflow_concurrent_cap",
    /// The workflow has used its share of the limit.
    WorkflowShareUsed = "workflow_share_used",
    /// The workflow seems to start itself.
    LoopDetected = "loop_detected",
}

impl Reason {
    /// The reason of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
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

impl Decision {
    /// It may start.
    pub fn allow(reason: Reason) -> Self {
        Self { allowed: true, reason }
    }

    /// It may not.
    pub fn refuse(reason: Reason) -> Self {
        Self { allowed: false, reason }
    }
}

/// Decides one counted run by the period's limit, with `reserved` runs allowed since `known.reserved_since`.
pub fn decide(terms: &Terms, known: &Known, reserved: u64, now: Timestamp) -> Decision {
    let Some(limit) = terms.limit else { return Decision::allow(Reason::NoLimit) };
    let is_hard = terms.kind == LimitKind::Hard;
    // A count never decreases, so this holds however old the figures are. Of a tenant without figures only the runs
    // that were allowed since the period began are known: without them a new tenant would have no limit until its first figures.
    let least = known.counted.unwrap_or(reserved);
    let proven = terms.bound().is_some_and(|bound| least >= bound);
    let used = match known.used(reserved) {
        _ if proven => return at_bound(terms, now),
        Some(used) if !known.stale => used,
        _ if is_hard && !is_open(terms, now) => return Decision::refuse(Reason::MeteringStale),
        _ => return Decision::allow(Reason::MeteringStale),
    };
    match terms.bound() {
        Some(bound) if used >= bound => at_bound(terms, now),
        _ if used >= limit => Decision::allow(Reason::OverSoftLimit),
        _ => Decision::allow(Reason::WithinLimit),
    }
}

fn is_open(terms: &Terms, now: Timestamp) -> bool {
    terms.outage_rule == OutageRule::Open && terms.open_until.is_none_or(|until| now < until)
}

fn at_bound(terms: &Terms, now: Timestamp) -> Decision {
    match terms.kind {
        LimitKind::Hard if terms.grace_until.is_some_and(|until| now < until) => {
            Decision::allow(Reason::Grace)
        }
        LimitKind::Hard => Decision::refuse(Reason::LimitReached),
        LimitKind::Soft => Decision::refuse(Reason::OverageReached),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use metering::Calendar;

    use super::*;
    use crate::{
        admission::known::START_MARGIN,
        usage::live::{Counted, tests::november},
    };

    const NOON: &str = "2026-11-24T12:00:00Z";

    fn decide(terms: &Terms, known: &Known, reserved: u64) -> Decision {
        super::decide(terms, known, reserved, at(NOON))
    }

    const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn known(counted: u64) -> Known {
        Known::at(at("2026-11-24T12:00:00Z"), Some(&november(counted, 1)), &Calendar::utc(), STALE_AFTER)
    }

    fn hard(limit: u64) -> Terms {
        Terms {
            limit: Some(limit),
            kind: LimitKind::Hard,
            outage_rule: OutageRule::Open,
            overage_max: None,
            grace_until: None,
            open_until: None,
        }
    }

    #[test]
    fn a_tenant_at_its_limit_gets_no_new_period_by_changing_its_calendar() {
        let (now, calendar) = (at("2026-11-24T12:00:00Z"), Calendar::new("Europe/Madrid", 15).unwrap());
        let counted = november(100, 1);
        let known = Known::at(now, Some(&counted), &calendar, STALE_AFTER);
        assert_eq!((known.period, known.counted), (counted.period, Some(100)));
        // At the rollover the ledger's period begins where the last one ended.
        let known = Known::at(counted.period.end, Some(&counted), &calendar, STALE_AFTER);
        assert_eq!((known.period.start, known.counted), (counted.period.end, Some(0)));
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
    fn running_executions_count_against_the_limit() {
        let counted = Counted { open_executions: 30, ..november(20, 1) };
        let known = Known::at(at("2026-11-24T12:00:00Z"), Some(&counted), &Calendar::utc(), STALE_AFTER);
        assert_eq!(known.used(0), Some(50));
        assert!(!decide(&hard(50), &known, 0).allowed);
    }

    #[test]
    fn stale_metering_follows_the_outage_rule_unless_the_count_reaches_the_limit() {
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
        let allowed = decide(&hard(50), &stale(None), 50);
        assert_eq!(allowed, Decision { allowed: false, reason: Reason::LimitReached }, "without figures");
        assert!(decide(&hard(50), &stale(None), 49).allowed);
        assert_eq!(stale(None).used(3), None, "an outage of metering does not look like little usage");
    }

    #[test]
    fn a_new_period_begins_with_the_runs_that_may_end_in_it() {
        let november = Counted { open_executions: 3, ..november(50, 1) };
        let begun = |now: &str| Known::at(at(now), Some(&november), &Calendar::utc(), STALE_AFTER);
        let known = begun("2026-12-01T00:05:00Z");
        assert_eq!(known.period.start, at("2026-12-01T00:00:00Z"));
        // The watermark is still in November: runs running then, or allowed since, may end in December.
        assert_eq!(known.reserved_since, at("2026-11-24T11:58:55Z"));
        assert_eq!(known.counted, Some(0), "November's count is not December's");
        assert_eq!(known.used(7), Some(10));
    }

    #[test]
    fn before_every_source_was_swept_all_runs_of_the_period_are_reservations() {
        let counted = Counted { complete_until: None, ..november(20, 1) };
        let known = Known::at(at("2026-11-24T12:00:00Z"), Some(&counted), &Calendar::utc(), STALE_AFTER);
        assert_eq!(known.reserved_since, known.period.start);
        assert_eq!((known.used(5), known.used(25)), (Some(20), Some(25)));
    }

    /// What happens to a tenant: a run asks to start, a run ends, a sweep completes the figures.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask,
        EndOne,
        Sweep,
    }

    proptest! {
        /// In any order of requests, ends and sweeps: never more runs than the limit are allowed, and as long
        /// as runs ask, all of the limit is used.
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

        /// Runs whose executions carry `admitted_at`, pushed at once, with sweeps at any time: the limit is
        /// never exceeded. If no run spans two sweeps, none is refused while a unit is free; otherwise no
        /// more units are out of use than runs that were allowed shortly before the earlier watermark and are
        /// still running.
        #[test]
        fn settled_runs_never_exceed_the_limit_and_are_not_refused_falsely(
            limit in 1_u64..30,
            is_short in any::<bool>(),
            steps in prop::collection::vec((0_i64..4, prop::sample::select(
                vec![Step::Ask, Step::Ask, Step::Ask, Step::EndOne, Step::Sweep])), 0..200,
            ),
        ) {
            let noon = at(NOON);
            let instant = |second: i64| noon + SignedDuration::from_secs(second);
            let slot = |second: i64| instant(second).as_second().div_euclid(5);
            let first = |until: i64| (instant(until) - START_MARGIN).as_second().div_euclid(5);
            // When each run was allowed, and whether it has ended.
            let mut runs: Vec<(i64, bool)> = Vec::new();
            let (mut now, mut complete) = (0_i64, 0_u64);
            // The watermarks: each with the indices of the runs that were running then.
            let (mut last, mut earlier) = ((0_i64, Vec::<usize>::new()), None::<(i64, Vec<usize>)>);
            for (pause, step) in steps {
                now += pause;
                match step {
                    Step::Ask => {
                        let mut tallied = std::collections::BTreeMap::<i64, (u64, u64)>::new();
                        for (begun, has_ended) in &runs {
                            let row = tallied.entry(slot(*begun)).or_default();
                            row.0 += 1;
                            row.1 += u64::from(*has_ended);
                        }
                        let goes_on = |place: &&usize| !runs[**place].1;
                        let ended = runs.iter().filter(|(_, has_ended)| *has_ended).count() as u64;
                        let still_open = last.1.iter().filter(goes_on).count() as u64;
                        let counted = Counted {
                            complete_until: Some(instant(last.0)),
                            counted_complete: complete,
                            open_executions: last.1.len() as u64,
                            open_and_counted: last.1.len() as u64 - still_open,
                            earlier_complete_until: earlier.as_ref().map(|(until, _)| instant(*until)),
                            earlier_open: earlier
                                .as_ref()
                                .map_or(0, |(_, open)| open.iter().filter(goes_on).count() as u64),
                            ..november(ended, 1)
                        };
                        let mut known =
                            Known::at(instant(now), Some(&counted), &Calendar::utc(), STALE_AFTER);
                        let since = tallied.range(first(last.0)..);
                        let (reserved, settled) = since.fold((0, 0), |(units, settled), (_, row)| {
                            (units + row.0, settled + row.0.min(row.1))
                        });
                        let between = earlier.as_ref().map_or(0, |(until, _)| {
                            let rows = tallied.range(first(*until)..first(last.0));
                            rows.map(|(_, row)| row.0.saturating_sub(row.1)).sum()
                        });
                        known.settle(settled, between);
                        if decide(&hard(limit), &known, reserved).allowed {
                            runs.push((now, is_short));
                        } else {
                            let twice = |(until, open): &(i64, Vec<usize>)| {
                                open.iter().filter(goes_on).filter(|place| slot(runs[**place].0) >= first(*until)).count()
                            };
                            let out_of_use = twice(&last).min(earlier.as_ref().map_or(usize::MAX, twice));
                            prop_assert!(runs.len() as u64 + out_of_use as u64 >= limit, "{known:?}");
                        }
                        prop_assert!(runs.len() as u64 <= limit);
                    }
                    Step::EndOne => {
                        if let Some(run) = runs.iter_mut().find(|(_, has_ended)| !has_ended) {
                            run.1 = true;
                        }
                    }
                    Step::Sweep if now > last.0 => {
                        complete = runs.iter().filter(|(_, has_ended)| *has_ended).count() as u64;
                        let open = (0..runs.len()).filter(|place| !runs[*place].1).collect();
                        earlier = Some(std::mem::replace(&mut last, (now, open)));
                    }
                    Step::Sweep => {}
                }
            }
        }
    }
}
