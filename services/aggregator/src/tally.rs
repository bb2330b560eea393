//! From executions to changes of figures. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use metering::{Execution, Period, Status, WorkflowId};

use crate::totals::Totals;

/// An execution as it will be kept, with what was decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    /// The source's id as a number; the key's last part.
    pub(crate) number: i64,
    pub(crate) execution: Execution,
    /// Decided by `stopped_at` when the execution was first seen; never changes.
    pub(crate) period: Period,
    /// Decided by the plan when the execution was first seen; never changes.
    pub(crate) counted: bool,
    /// Whether its period had closed before.
    pub(crate) late: bool,
    /// Whether an operator has voided it since.
    pub(crate) voided: bool,
}

impl Decided {
    /// Its share in the figures, where it is known to have ended as `execution`.
    pub(crate) fn totals(&self, execution: &Execution) -> Totals {
        if self.voided { Totals::VOIDED } else { Totals::of(execution, self.counted, self.late) }
    }
}

/// An execution that was counted before and is different now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) before: Decided,
    pub(crate) after: Execution,
}

/// Changes of the figures of one tenant's periods and workflows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) periods: BTreeMap<Timestamp, Totals>,
    pub(crate) workflows: BTreeMap<(Timestamp, WorkflowId), (Option<String>, Totals)>,
}

impl Tally {
    /// The workflows, with the names that came with their executions.
    pub(crate) fn names(&self) -> BTreeMap<WorkflowId, Option<String>> {
        self.workflows.iter().map(|((_, workflow), (name, _))| (workflow.clone(), name.clone())).collect()
    }

    fn add(&mut self, period: Period, execution: &Execution, change: Totals) {
        *self.periods.entry(period.start).or_default() += change;
        let key = (period.start, execution.workflow.clone());
        let (name, totals) = self.workflows.entry(key).or_default();
        *totals += change;
        if execution.workflow_name.is_some() {
            name.clone_from(&execution.workflow_name);
        }
    }
}

/// What fresh and changed executions do to the figures.
pub(crate) fn tally(fresh: &[Decided], changed: &[Changed]) -> Tally {
    let mut tally = Tally::default();
    for decided in fresh {
        let change = decided.totals(&decided.execution);
        tally.add(decided.period, &decided.execution, change);
    }
    for Changed { before, after } in changed {
        let mut change = before.totals(&before.execution).negated();
        change += before.totals(after);
        tally.add(before.period, &before.execution, change);
    }
    tally
}

/// Whether what is seen now replaces what was counted. Only a crash is not the last word: its process died,
/// and its source may find out later how the run really ended. Every other repeat is a repeat, so the order
/// in which messages arrive cannot change the outcome.
pub(crate) fn replaces(before: Status, after: Status) -> bool {
    before == Status::Crashed && after != Status::Crashed
}

/// One execution per number, in order; of two the one that replaces the other.
pub(crate) fn unique(executions: impl IntoIterator<Item = (i64, Execution)>) -> BTreeMap<i64, Execution> {
    let mut unique: BTreeMap<i64, Execution> = BTreeMap::new();
    for (number, execution) in executions {
        match unique.get(&number) {
            Some(kept) if !replaces(kept.status, execution.status) => {}
            _ => {
                unique.insert(number, execution);
            }
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use metering::{Calendar, ExecutionId, Mode};

    use super::*;

    fn execution(status: Status, seconds: i64) -> Execution {
        let started_at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        Execution {
            id: ExecutionId::parse("7").unwrap(),
            workflow: WorkflowId::parse("w").unwrap(),
            workflow_name: Some("Order sync".into()),
            status,
            mode: Mode::Webhook,
            started_at: Some(started_at),
            stopped_at: started_at + jiff::SignedDuration::from_secs(seconds),
            retry_of: None,
        }
    }

    fn decided(execution: Execution, counted: bool, late: bool) -> Decided {
        let period = Calendar::utc().period_of(execution.stopped_at);
        Decided { number: 7, execution, period, counted, late, voided: false }
    }

    #[test]
    fn an_uncounted_execution_is_kept_apart() {
        let tally = tally(&[decided(execution(Status::Success, 1), false, false)], &[]);
        let totals = tally.periods.values().next().unwrap();
        assert_eq!((totals.counted, totals.uncounted, totals.duration_ms), (0, 1, 0));
    }

    #[test]
    fn a_crash_that_becomes_an_error_is_moved_and_not_counted_again() {
        let before = decided(execution(Status::Crashed, 1), true, true);
        let tally = tally(&[], &[Changed { before, after: execution(Status::Error, 3) }]);
        let expected = Totals { error: 1, crashed: -1, duration_ms: 2_000, ..Totals::default() };
        assert_eq!(tally.periods.into_values().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_voided_crash_that_becomes_an_error_stays_voided() {
        let before = Decided { voided: true, ..decided(execution(Status::Crashed, 1), true, false) };
        let tally = tally(&[], &[Changed { before, after: execution(Status::Error, 3) }]);
        assert_eq!(tally.periods.into_values().collect::<Vec<_>>(), [Totals::ZERO]);
    }

    #[test]
    fn only_a_crash_gives_way() {
        for before in Status::ALL {
            for after in Status::ALL {
                let expected = before == Status::Crashed && after != Status::Crashed;
                assert_eq!(replaces(before, after), expected, "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn a_repeat_in_one_batch_is_one_execution_in_either_order() {
        let (crash, error) = (execution(Status::Crashed, 1), execution(Status::Error, 3));
        let one = unique([(7, crash.clone()), (7, error.clone())]);
        let other = unique([(7, error.clone()), (7, crash)]);
        assert_eq!(one, other);
        assert_eq!(one.into_values().collect::<Vec<_>>(), [error]);
    }
}
