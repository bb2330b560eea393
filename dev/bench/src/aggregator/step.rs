//! What a part of the growth benchmark has measured.

/// The cost of one step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Executions that were stored when it began.
    pub stored: u64,
    pub per_second: f64,
    /// Processor time of the aggregator, Postgres and NATS for one execution.
    pub cpu_us: f64,
    pub table_mib: f64,
}
