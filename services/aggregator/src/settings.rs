//! `[aggregator]`

use std::time::Duration;

use chassis::Validate;
use serde::Deserialize;

/// What the aggregator is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AggregatorSettings {
    /// Transactions that record executions at once. Each needs a connection to the database.
    pub workers: usize,
    /// How long after its end a period waits for sources that are not complete.
    #[serde(with = "chassis::duration")]
    pub close_grace: Duration,
    /// A tenant's usage is published at most this often.
    #[serde(with = "chassis::duration")]
    pub publish_interval: Duration,
    /// Figures by hour, day and workflow are at most this much behind the counts.
    #[serde(with = "chassis::duration")]
    pub rollup_interval: Duration,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            workers: 2,
            close_grace: Duration::from_secs(6 * 60 * 60),
            publish_interval: Duration::from_millis(250),
            rollup_interval: Duration::from_secs(2),
        }
    }
}

impl Validate for AggregatorSettings {
    fn validate(&self) -> Result<(), String> {
        if !(1..=16).contains(&self.workers) {
            return Err("workers must be 1 to 16: there are 16 partitions".to_owned());
        }
        if self.close_grace > Duration::from_secs(7 * 24 * 60 * 60) {
            return Err("close_grace must be at most 7 days: invoices wait for it".to_owned());
        }
        if !(Duration::from_millis(20)..=Duration::from_secs(60)).contains(&self.publish_interval) {
            return Err("publish_interval must be 20ms to 60s".to_owned());
        }
        if !(Duration::from_millis(20)..=Duration::from_secs(60)).contains(&self.rollup_interval) {
            return Err("rollup_interval must be 20ms to 60s".to_owned());
        }
        Ok(())
    }
}
