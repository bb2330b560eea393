//! Periods as facts: calendars cut them, `progress` says how far they are counted, `thresholds` finds crossings, `publish` sends usage, `close` ends them.
//! May use `figures`, `rollups`, `events` and `store`.

pub mod calendars;
pub mod change;
pub mod close;
pub mod progress;
pub mod publish;
pub mod restate;
pub mod thresholds;
