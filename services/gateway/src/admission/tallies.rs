//! How many runs a replica has allowed from leased units, as the ledger tallies them.
//!
//! Rows of `tallies` and `workflow_tallies` with a replica's id are written only by that replica, with
//! absolute figures: writing them again after a commit with an unknown outcome changes nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use metering::WorkflowId;

/// The time that one row covers. Migrations contain it as a number.
const SLOT_SECONDS: i64 = 5;

/// How long rows are kept in memory: a run may turn out to be another replica's only when its verdict is
/// stored.
const KEPT: SignedDuration = SignedDuration::from_secs(15);

/// The row of an instant.
pub fn slot(instant: Timestamp) -> i64 {
    instant.as_second().div_euclid(SLOT_SECONDS)
}

/// Runs by when they were allowed.
#[derive(Debug, Clone, Default)]
pub struct Tallies(BTreeMap<i64, Tally>);

/// Runs that were allowed in one row's time.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// All of them.
    pub units: u64,
    /// Those of each workflow that was named.
    pub workflows: BTreeMap<WorkflowId, u64>,
}

impl Tallies {
    /// Counts one run. Returns the workflow's id as stored here, so that many runs share one text.
    pub fn count(&mut self, allowed_at: Timestamp, workflow: Option<&WorkflowId>) -> Option<WorkflowId> {
        let tally = self.0.entry(slot(allowed_at)).or_default();
        tally.add(1, workflow.map(|id| (id, 1)));
        tally.workflows.get_key_value(workflow?).map(|(kept, _)| kept.clone())
    }

    /// Adds the figures of `newer`.
    pub fn add(&mut self, newer: &Self) {
        for (slot, tally) in &newer.0 {
            let workflows = tally.workflows.iter().map(|(workflow, units)| (workflow, *units));
            self.0.entry(*slot).or_default().add(tally.units, workflows);
        }
    }

    /// Uncounts a run. Returns whether it was counted here.
    pub fn take_back(&mut self, allowed_at: Timestamp, workflow: Option<&WorkflowId>) -> bool {
        let Some(tally) = self.0.get_mut(&slot(allowed_at)).filter(|tally| tally.units > 0) else {
            return false;
        };
        if let Some(workflow) = workflow {
            let Some(units) = tally.workflows.get_mut(workflow).filter(|units| **units > 0) else {
                return false;
            };
            *units -= 1;
        }
        tally.units -= 1;
        true
    }

    /// Forgets rows that can no longer change.
    pub fn forget_old(&mut self, now: Timestamp) {
        let first = slot(now.saturating_sub(KEPT).unwrap_or(now));
        self.0.retain(|slot, _| *slot >= first);
    }

    /// The workflow's runs in all rows.
    pub fn of(&self, workflow: &WorkflowId) -> u64 {
        self.0.values().filter_map(|tally| tally.workflows.get(workflow)).sum()
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = (i64, &Tally)> {
        self.0.iter().map(|(slot, tally)| (*slot, tally))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Tally {
    fn add<'a>(&mut self, units: u64, workflows: impl IntoIterator<Item = (&'a WorkflowId, u64)>) {
        self.units += units;
        for (workflow, units) in workflows {
            add(&mut self.workflows, workflow, units);
        }
    }
}

/// Adds to the figure of a workflow.
pub fn add(figures: &mut BTreeMap<WorkflowId, u64>, workflow: &WorkflowId, units: u64) {
    match figures.get_mut(workflow) {
        Some(figure) => *figure += units,
        None => drop(figures.insert(workflow.clone(), units)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Each row: its slot, all runs, and those of `w1`.
    fn rows(tallies: &Tallies) -> Vec<(i64, u64, u64)> {
        let workflow = WorkflowId::parse("w1").unwrap();
        let row = |(slot, tally): (i64, &Tally)| {
            (slot, tally.units, tally.workflows.get(&workflow).copied().unwrap_or_default())
        };
        tallies.rows().map(row).collect()
    }

    #[test]
    fn runs_are_counted_in_the_row_of_their_instant_until_it_is_old() {
        let workflow = WorkflowId::parse("w1").unwrap();
        let (noon, later) = (at("2026-11-24T12:00:00Z"), at("2026-11-24T12:00:05Z"));
        let mut fresh = Tallies::default();
        fresh.count(noon, Some(&workflow));
        fresh.count(at("2026-11-24T12:00:04.999Z"), None);
        fresh.count(later, Some(&workflow));
        let mut tallies = Tallies::default();
        tallies.add(&fresh);
        tallies.add(&fresh);
        let first = slot(noon);
        assert_eq!(rows(&tallies), [(first, 4, 2), (first + 1, 2, 2)]);

        assert!(tallies.take_back(noon, Some(&workflow)));
        assert!(!tallies.take_back(at("2026-11-24T11:59:59Z"), None), "that row is not known");
        let other = WorkflowId::parse("w2").unwrap();
        assert!(!tallies.take_back(noon, Some(&other)), "that workflow has no run in it");
        tallies.forget_old(at("2026-11-24T12:00:19Z"));
        assert_eq!(rows(&tallies)[0], (first, 3, 1), "fifteen seconds are not over");
        tallies.forget_old(at("2026-11-24T12:00:20Z"));
        assert_eq!(rows(&tallies), [(first + 1, 2, 2)]);
    }
}
