//! Pushed ids that lie far beyond everything that the source has shown. Pure.
//!
//! The aggregator keeps every id for ever, in chunks of 65,536: close together they take a few bits each, far
//! apart a row each. Whoever holds a push token may make ids up, so the ids accepted from a push are bounded
//! by what the poll has seen. Those beyond are left to the poll, which loses nothing: a source that has such
//! an id shows it.

use crate::{n8n::row::RunId, push::item::Pushed};

/// How far a pushed id may be beyond the newest one that a sweep has seen. A source that pushes is swept
/// within three intervals, half an hour by default: ten million are 5,500 executions a second.
const AHEAD_MAX: u64 = 10_000_000;

/// The largest id that is accepted, if `newest` is the newest that the last sweep has seen.
pub fn largest(newest: Option<RunId>) -> u64 {
    newest.map_or(0, RunId::number).saturating_add(AHEAD_MAX)
}

/// Whether any of them has a larger id.
pub fn any_beyond(pushed: &[Pushed], largest: u64) -> bool {
    pushed.iter().any(|pushed| is_beyond(pushed, largest))
}

/// Removes those that have a larger id. Returns how many.
pub fn take_out(pushed: &mut Vec<Pushed>, largest: u64) -> usize {
    let before = pushed.len();
    pushed.retain(|pushed| !is_beyond(pushed, largest));
    before - pushed.len()
}

fn is_beyond(pushed: &Pushed, largest: u64) -> bool {
    pushed.execution.id.as_str().parse::<u64>().is_ok_and(|id| id > largest)
}
