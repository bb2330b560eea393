//! What usage is made of: counts, totals, roll-ups and durations. Pure: no I/O, no clock.
//! Uses nothing else of the service.

pub mod durations;
pub mod rollup;
pub mod tally;
pub mod totals;
