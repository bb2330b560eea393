//! What the collector reports of each source: its state, its gaps and its audits.
//! May use `store` and `directory`. Collects nothing itself.

pub mod audits;
pub mod gap_counts;
pub mod keep_gaps;
pub mod status;
