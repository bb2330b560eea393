//! `[aggregator]`

use std::time::Duration;

use chassis::Validate;
use serde::Deserialize;

use crate::{KeepFor, PoolSettings};

/// Keeps the whole previous period, with its grace, whatever the anchor day.
const EXECUTIONS_KEPT_DAYS_MIN: i32 = 92;

/// The dashboard shows a month of hours.
const HOURS_KEPT_DAYS_MIN: i32 = 32;

/// As long as the events of periods, so that a closed period can be explained while its event is kept: a
/// year, and a month to look back at it.
const KEPT_DAYS: u16 = 400;

/// The aggregator's settings.
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
    /// How long executions are kept one by one, to explain figures, void executions and rebuild. A month is
    /// dropped as a whole once all of it is older. The figures stay, and the ids are known for ever.
    pub executions_kept: KeepFor,
    /// How long figures by hour, and those of workflows by day, are kept. Those of tenants by day, and those by period, stay for
    /// ever.
    pub hours_kept: KeepFor,
    /// Connections to the database, by purpose.
    pub pools: PoolSettings,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            workers: 2,
            close_grace: Duration::from_secs(6 * 60 * 60),
            publish_interval: Duration::from_millis(250),
            rollup_interval: Duration::from_secs(2),
            executions_kept: KeepFor::days(KEPT_DAYS),
            hours_kept: KeepFor::days(KEPT_DAYS),
            pools: PoolSettings::default(),
        }
    }
}

impl AggregatorSettings {
    /// Checks that a period waits at least as long as a message waits for its source, tenant or plan
    /// (`nats.patience`): a message that is counted at last must find its period open.
    pub(crate) fn check_patience(&self, patience: Duration) -> Result<(), String> {
        if self.close_grace >= patience {
            return Ok(());
        }
        let grace = self.close_grace;
        Err(format!(
            "aggregator.close_grace ({grace:?}) must be at least nats.patience ({patience:?}): otherwise a message that waits for its source or plan may be counted after its period has closed"
        ))
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
        if !self.executions_kept.is_at_least_days(EXECUTIONS_KEPT_DAYS_MIN) {
            return Err(format!(
                "executions_kept must be at least {EXECUTIONS_KEPT_DAYS_MIN}d: late executions and corrections need the last periods"
            ));
        }
        if !self.hours_kept.is_at_least_days(HOURS_KEPT_DAYS_MIN) {
            return Err(format!(
                "hours_kept must be at least {HOURS_KEPT_DAYS_MIN}d: the dashboard shows a month of hours"
            ));
        }
        self.pools.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_grace_below_the_patience_of_messages_is_refused() {
        let settings = |seconds| AggregatorSettings {
            close_grace: Duration::from_secs(seconds),
            ..AggregatorSettings::default()
        };
        let patience = Duration::from_secs(300);
        assert_eq!(settings(300).check_patience(patience), Ok(()));
        assert!(settings(299).check_patience(patience).is_err_and(|reason| reason.contains("nats.patience")));
    }

    #[test]
    fn a_retention_that_is_too_short_is_refused_by_name() {
        let settings = |executions: u16, hours: u16| AggregatorSettings {
            executions_kept: KeepFor::days(executions),
            hours_kept: KeepFor::days(hours),
            ..AggregatorSettings::default()
        };
        assert_eq!(AggregatorSettings::default().validate(), Ok(()));
        assert_eq!(settings(92, 32).validate(), Ok(()));
        assert!(settings(91, 32).validate().is_err_and(|reason| reason.contains("executions_kept")));
        assert!(settings(92, 31).validate().is_err_and(|reason| reason.contains("hours_kept")));
    }
}
