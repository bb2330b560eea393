//! How many runs of a workflow may spend leased units, if the plan refuses loops.
//!
//! With `T` the most runs in a minute that are not a loop (`loop_detection`), the ledger refuses run `T + 1` of a
//! minute, one by one and under the tenant's lock. Memory allows runs without the ledger, so after each
//! transaction it may allow an eighth of what is left of `T`, and no run of a workflow that was not part of
//! one. It reports the runs it has allowed in the next transaction. So at any instant a replica has allowed
//! at most `T / 8` runs that the ledger does not know, and `R` replicas together allow in a minute at most
//!
//! ```text
//! T + (R - 1) * T / 8        T = max(60, 5 * usual)
//! ```
//!
//! A single replica knows its own runs and allows `T`.

use std::collections::HashMap;

use metering::WorkflowId;

use crate::admission::{loop_detection::Rate, tallies::Tallies};

/// A replica may allow one eighth of what is left.
const SHARE: u64 = 8;

/// How many runs of each workflow may spend leased units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowances(Option<HashMap<String, u64>>);

impl Allowances {
    /// Any number: the plan does not refuse loops.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// The allowances of these workflows; other workflows have none.
    pub fn of<'a>(rates: impl Iterator<Item = (&'a str, &'a Rate)>) -> Self {
        Self(Some(rates.map(|(workflow, rate)| (workflow.to_owned(), rate.left() / SHARE)).collect()))
    }

    /// Whether one more run of the workflow may be allowed after those in `fresh`. A run without a workflow
    /// has no rate.
    pub fn permit(&self, workflow: Option<&WorkflowId>, fresh: &Tallies) -> bool {
        let (Some(allowances), Some(workflow)) = (&self.0, workflow) else { return true };
        allowances.get(workflow.as_str()).is_some_and(|allowed| fresh.of(workflow) < *allowed)
    }

    /// Subtracts the runs in `fresh`, which are being sent to the ledger; until it answers, only the rest is
    /// allowed.
    pub fn take(&mut self, fresh: &Tallies) {
        let Some(allowances) = &mut self.0 else { return };
        for (workflow, runs) in fresh.rows().flat_map(|(_, tally)| &tally.workflows) {
            if let Some(allowed) = allowances.get_mut(workflow.as_str()) {
                *allowed = allowed.saturating_sub(*runs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::*;

    /// One gateway: what it may allow, and the runs that it has allowed and not reported.
    struct Replica {
        allowances: Allowances,
        fresh: Tallies,
    }

    impl Replica {
        /// Reports the allowed runs to the ledger, and asks it for one more run.
        fn ask(&mut self, rate: &mut Rate, workflow: &WorkflowId, now: Timestamp) -> bool {
            self.report(rate, workflow, now);
            rate.observe(now, 1);
            let allowed = rate.looping_since.is_none();
            self.allowances = Allowances::of([(workflow.as_str(), &*rate)].into_iter());
            allowed
        }

        fn report(&mut self, rate: &mut Rate, workflow: &WorkflowId, now: Timestamp) {
            rate.observe(now, self.fresh.of(workflow));
            self.fresh = Tallies::default();
            self.allowances = Allowances::of([(workflow.as_str(), &*rate)].into_iter());
        }
    }

    proptest! {
        /// In any order of requests to the replicas, with reports in between.
        #[test]
        fn a_burst_is_refused_after_the_documented_number_of_runs(
            replicas_count in 1_usize..5,
            usual in 0_u32..200,
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..20), 0..3_000),
        ) {
            let noon: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
            let workflow = WorkflowId::parse("w1").unwrap();
            let mut rate = Rate { usual: f64::from(usual), ..Rate::default() };
            rate.turn_to(noon);
            let most = rate.most();
            let none = || Replica { allowances: Allowances::of([].into_iter()), fresh: Tallies::default() };
            let mut replicas: Vec<Replica> = (0..replicas_count).map(|_| none()).collect();
            let (mut allowed, mut asked) = (0, 0);
            for (number, (index, look)) in steps.iter().enumerate() {
                let now = noon + SignedDuration::from_millis(number as i64);
                let replica = index.get_mut(&mut replicas);
                if *look == 0 {
                    replica.report(&mut rate, &workflow, now);
                }
                asked += 1;
                if replica.allowances.permit(Some(&workflow), &replica.fresh) {
                    replica.fresh.count(now, Some(&workflow));
                    allowed += 1;
                } else {
                    allowed += u64::from(replica.ask(&mut rate, &workflow, now));
                }
            }
            let others = replicas_count as u64 - 1;
            prop_assert!(allowed <= most + others * (most / SHARE), "{allowed} of {asked}, a loop above {most}");
            prop_assert!(allowed >= asked.min(most));
        }
    }

    #[test]
    fn runs_that_are_being_reported_are_not_allowed_again() {
        let workflow = WorkflowId::parse("w1").unwrap();
        let rate = Rate::default();
        let mut allowances = Allowances::of([("w1", &rate)].into_iter());
        let mut fresh = Tallies::default();
        while allowances.permit(Some(&workflow), &fresh) {
            fresh.count(Timestamp::UNIX_EPOCH, Some(&workflow));
        }
        assert_eq!(fresh.of(&workflow), 7, "an eighth of sixty");
        allowances.take(&fresh);
        assert!(!allowances.permit(Some(&workflow), &Tallies::default()));
        let unlooked = WorkflowId::parse("w2").unwrap();
        assert!(!allowances.permit(Some(&unlooked), &Tallies::default()));
        assert!(allowances.permit(None, &fresh) && Allowances::unlimited().permit(Some(&unlooked), &fresh));
    }
}
