//! Executions that are only counted.

use serde::{Deserialize, Serialize};

use super::execution::{Execution, Mode, Status};

/// How many executions of a kind there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The workflow's id.
    pub workflow: String,
    /// How they were started.
    pub mode: Mode,
    /// Their state.
    pub status: Status,
    /// How many.
    pub count: u64,
}

/// The executions that are no longer listed one by one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Dropped(pub(super) Vec<Tally>);

impl Dropped {
    pub(super) fn add(&mut self, execution: &Execution) {
        tally(&mut self.0, execution);
    }
}

/// Adds an execution to the tally of its kind.
pub(super) fn tally(tallies: &mut Vec<Tally>, execution: &Execution) {
    let same = |tally: &&mut Tally| {
        tally.mode == execution.mode
            && tally.status == execution.status
            && tally.workflow == execution.workflow
    };
    match tallies.iter_mut().find(same) {
        Some(tally) => tally.count += 1,
        None => tallies.push(Tally {
            workflow: execution.workflow.clone(),
            mode: execution.mode,
            status: execution.status,
            count: 1,
        }),
    }
}
