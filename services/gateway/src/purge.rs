//! Deletes what no answer needs any more, in bounded steps.

use std::{sync::Arc, time::Duration};

use catalog::Tenant;
use jiff::{SignedDuration, Timestamp};
use messaging::consume::chain;
use metering::Clock;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store;

/// Time between two rounds.
const ROUND_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Rows that one statement deletes: short locks, short transactions.
const BATCH_ROWS: u64 = 20_000;

/// Statements on verdicts in one round; the rest waits for the next round: at most ten thousand a second.
const BATCHES_MAX: usize = 300;

/// A verdict of the previous period may still be asked for again; older ones may not. Twice the longest period, and a day: a
/// period is a month by the calendar with which it began, which need not be the tenant's of now, or less.
const VERDICTS_KEPT: SignedDuration = SignedDuration::from_hours(64 * 24);

/// Gaps are shown this long; the stream keeps them as long.
const GAPS_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What is out of date cannot be deleted.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The catalog cannot be read.
    #[error("cannot read the tenants")]
    Tenants(#[from] catalog::store::CatalogError),
    /// Rows cannot be deleted.
    #[error("cannot delete")]
    Delete(#[from] sqlx::Error),
}

/// Deletes until `shutdown`.
pub async fn run(pool: PgPool, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = round(&pool, clock.now()).await {
            tracing::warn!(error = chain(&error), "old rows stay for now");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(ROUND_INTERVAL) => {}
        }
    }
}

/// One round, at `now`.
pub async fn round(pool: &PgPool, now: Timestamp) -> Result<(), PurgeError> {
    let mut verdicts_kept = Vec::new();
    for name in store::admissions::tenants(pool).await? {
        let tenant = catalog::store::find::<Tenant>(pool, &name).await?;
        // A tenant that is gone asks no more: it leaves verdicts only, and those go with the others' of their age.
        let before = kept_since(now);
        store::admissions::purge_leases(pool, &name, if tenant.is_some() { before } else { now }).await?;
        verdicts_kept.push((name, before));
    }
    for _ in 0..BATCHES_MAX {
        if store::admissions::purge(pool, &verdicts_kept, BATCH_ROWS).await? < BATCH_ROWS {
            break;
        }
    }
    store::history::purge_gaps(pool, now.saturating_sub(GAPS_KEPT).unwrap_or(now), BATCH_ROWS).await?;
    store::tokens::purge_sessions(pool, now, BATCH_ROWS).await?;
    Ok(())
}

/// Whatever calendars a tenant had, its current period and the one before it began after this.
fn kept_since(now: Timestamp) -> Timestamp {
    now.saturating_sub(VERDICTS_KEPT).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use metering::Calendar;

    use super::*;

    #[test]
    fn the_current_and_the_previous_period_are_kept_whatever_calendars_there_were() {
        for (zone, day) in [("UTC", 1), ("Europe/Madrid", 31), ("Pacific/Apia", 15), ("America/Havana", 14)] {
            let calendar = Calendar::new(zone, day).unwrap();
            let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            for _ in 0..500 {
                let current = calendar.period_of(now);
                let before = calendar.period_of(current.start - SignedDuration::from_nanos(1));
                assert!(kept_since(now) <= before.start, "{zone} {day} {now}");
                now += SignedDuration::from_hours(25);
            }
        }
    }
}
