//! One file for each request that the aggregator answers over the broker: usage, workflows, explain, corrections.
//! May use every other room; no room uses this one.

pub mod correct;
pub mod end_period;
pub mod explain;
pub mod recorded;
pub mod subject;
pub mod unmapped;
pub mod usage;
pub mod workflows;
