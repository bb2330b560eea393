//! How many sources are in which state.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgExecutor;

/// Sources by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States {
    ok: u32,
    failing: u32,
    /// Never swept to the end.
    new: u32,
    /// Paused or removed.
    inactive: u32,
    /// Of the active source that is furthest behind.
    lag_max_seconds: u32,
}

impl States {
    /// Sets the metrics.
    pub fn show(self) {
        let states =
            [("ok", self.ok), ("failing", self.failing), ("new", self.new), ("inactive", self.inactive)];
        for (state, count) in states {
            metrics::gauge!("flowmeter_sources", "state" => state).set(f64::from(count));
        }
        metrics::gauge!("flowmeter_source_lag_max_seconds").set(f64::from(self.lag_max_seconds));
    }

    /// One line for all sources.
    pub fn log(self) {
        let Self { ok, failing, new, inactive, lag_max_seconds } = self;
        tracing::info!(ok, failing, new, inactive, lag_max_seconds, "state of the sources");
    }
}

/// Reads the states at `now`.
pub async fn read(executor: impl PgExecutor<'_>, now: Timestamp) -> Result<States, sqlx::Error> {
    let counts: (i64, i64, i64, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE active AND failing_since IS NULL AND complete_until IS NOT NULL),
                count(*) FILTER (WHERE active AND failing_since IS NOT NULL),
                count(*) FILTER (WHERE active AND failing_since IS NULL AND complete_until IS NULL),
                count(*) FILTER (WHERE NOT active),
                coalesce(max(extract(epoch FROM $1 - complete_until)) FILTER (WHERE active), 0)::bigint
         FROM sources",
    )
    .bind(now.to_sqlx())
    .fetch_one(executor)
    .await?;
    let bounded = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
    let (ok, failing, new, inactive, lag) = counts;
    Ok(States {
        ok: bounded(ok),
        failing: bounded(failing),
        new: bounded(new),
        inactive: bounded(inactive),
        lag_max_seconds: bounded(lag),
    })
}
