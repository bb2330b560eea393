//! How many sources are in which state.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgExecutor, Row as _};

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
    /// Of the active source whose clock is furthest from ours.
    clock_skew_max_seconds: u32,
    /// Active sources whose clock is wrong.
    clock_wrong: u32,
    /// Active sources whose token several n8n instances use.
    token_shared: u32,
    /// Active sources whose n8n instance pushes for others too.
    doubled: u32,
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
        metrics::gauge!("flowmeter_source_clock_skew_max_seconds")
            .set(f64::from(self.clock_skew_max_seconds));
        let warnings = [
            ("clock", self.clock_wrong),
            ("shared_push_token", self.token_shared),
            ("same_instance", self.doubled),
        ];
        for (kind, count) in warnings {
            metrics::gauge!("flowmeter_source_warnings", "kind" => kind).set(f64::from(count));
        }
    }

    /// One line for all sources.
    pub fn log(self) {
        let Self { ok, failing, new, inactive, lag_max_seconds, clock_skew_max_seconds, .. } = self;
        tracing::info!(
            ok,
            failing,
            new,
            inactive,
            lag_max_seconds,
            clock_skew_max_seconds,
            "state of the sources"
        );
    }
}

/// Reads the states at `now`.
pub async fn read(executor: impl PgExecutor<'_>, now: Timestamp) -> Result<States, sqlx::Error> {
    let row = sqlx::query(
        "SELECT ARRAY[
                    count(*) FILTER (WHERE active AND failing_since IS NULL AND complete_until IS NOT NULL),
                    count(*) FILTER (WHERE active AND failing_since IS NOT NULL),
                    count(*) FILTER (WHERE active AND failing_since IS NULL AND complete_until IS NULL),
                    count(*) FILTER (WHERE NOT active),
                    coalesce(max(extract(epoch FROM $1 - complete_until)) FILTER (WHERE active), 0)::bigint,
                    coalesce(max(abs(skew_ms)) FILTER (WHERE active), 0) / 1000,
                    count(*) FILTER (WHERE active AND clock_wrong_since IS NOT NULL),
                    count(*) FILTER (WHERE active AND token_shared_since IS NOT NULL),
                    count(*) FILTER (WHERE active AND doubled_since IS NOT NULL)] AS counts
         FROM sources LEFT JOIN source_checks USING (source_id)",
    )
    .bind(now.to_sqlx())
    .fetch_one(executor)
    .await?;
    let counts: Vec<i64> = row.try_get("counts")?;
    let mut counts = counts.into_iter().map(|count| u32::try_from(count.max(0)).unwrap_or(u32::MAX));
    let mut next = || counts.next().unwrap_or_default();
    // In the order of the array.
    Ok(States {
        ok: next(),
        failing: next(),
        new: next(),
        inactive: next(),
        lag_max_seconds: next(),
        clock_skew_max_seconds: next(),
        clock_wrong: next(),
        token_shared: next(),
        doubled: next(),
    })
}
