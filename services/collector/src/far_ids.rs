//! Pushed ids that lie far beyond everything that the source has shown. Pure.
//!
//! The aggregator keeps every id for ever, in chunks of 65,536: close together they take a few bits each, far apart a row
//! each. Whoever holds a push token may make ids up, so what is taken from a push is bounded by what the poll has seen. What
//! lies beyond is left to the poll, which loses nothing: a source that has such an id shows it.

use metering::Execution;

use crate::row::RunId;

/// So far beyond the newest id that a sweep has seen a pushed one may be. A source that pushes is swept within three
/// intervals, half an hour by default: ten million are 5,500 executions a second.
const AHEAD_MAX: u64 = 10_000_000;

/// The largest id that is taken, where `newest` is what the last sweep has seen.
pub fn largest(newest: Option<RunId>) -> u64 {
    newest.map_or(0, RunId::number).saturating_add(AHEAD_MAX)
}

/// Whether any of them has a larger id.
pub fn any_beyond(executions: &[Execution], largest: u64) -> bool {
    executions.iter().any(|execution| is_beyond(execution, largest))
}

/// Takes those out that have a larger id. Returns how many.
pub fn take_out(executions: &mut Vec<Execution>, largest: u64) -> usize {
    let before = executions.len();
    executions.retain(|execution| !is_beyond(execution, largest));
    before - executions.len()
}

fn is_beyond(execution: &Execution, largest: u64) -> bool {
    execution.id.as_str().parse::<u64>().is_ok_and(|id| id > largest)
}
