//! Deletes what no answer needs any more, and what is beyond a bound, in small batches. One replica at a time; a crash leaves
//! the rest to the next round. The README lists what is kept for how long.

use std::{sync::Arc, time::Duration};

use catalog::Tenant;
use chassis::{Kept, Rounds};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use messaging::error_chain;
use metering::Clock;
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{accounts::TOKENS_MAX, api::PERIODS_MAX, refusals::hour, store::purge as rows};

/// Time between two rounds: so long may a tenant add rows before its bounds are looked at.
const ROUND_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Rows that one statement deletes: short locks, short transactions.
const BATCH_ROWS: u64 = 20_000;

/// Statements of one kind in one round; the rest waits for the next round: at most ten thousand rows a second.
const BATCHES_MAX: usize = 300;

/// A verdict of the previous period may still be asked for again; older ones may not. Twice the longest period, and a day: a
/// period is a month by the calendar with which it began, which need not be the tenant's of now, or less.
const VERDICTS_KEPT: SignedDuration = SignedDuration::from_hours(64 * 24);

/// Gaps are shown this long; the stream keeps them as long.
const GAPS_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Gaps of one source that are kept; an answer shows a thousand.
const GAPS_MAX: u64 = 10_000;

/// Caps of one tenant's workflows that are kept. Who has more makes up workflows, and could as well start each run under a new
/// one: what its workflows are spared by forgetting the ones that are nearest to rest, it had already. The tenant's own caps
/// are not among them.
const CAPS_MAX: u64 = 10_000;

/// Rates of one tenant's workflows that are kept, as many and for the same reason.
const RATES_MAX: u64 = 10_000;

/// A rate halves each day: what it says after ten is a thousandth, and no loop is seen below one run a second.
const RATES_KEPT: SignedDuration = SignedDuration::from_hours(10 * 24);

/// Tokens that were taken back are listed so long, for those who ask what has happened.
const REVOKED_KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);

/// The ledger of a tenant that is gone stays longer than its verdicts, so that none of them is left without it.
const GONE_KEPT: SignedDuration = SignedDuration::from_hours(65 * 24);

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
pub async fn run(pool: PgPool, clock: Arc<dyn Clock>, refusals_kept: Kept, shutdown: CancellationToken) {
    let mut rounds = Rounds::new(ROUND_INTERVAL, shutdown.clone());
    while rounds.next().await {
        tokio::select! {
            // A round that is cut off has done what it has committed.
            () = shutdown.cancelled() => return,
            outcome = round(&pool, refusals_kept, clock.now()) => if let Err(error) = outcome {
                tracing::warn!(error = error_chain(&error), "old rows are not deleted, trying again in ten minutes");
            },
        }
    }
}

/// One round, at `now`. Does nothing while another replica has the turn.
///
/// # Errors
///
/// The database failed, or a tenant in the catalog is damaged. What was deleted is; the next round does the rest.
pub async fn round(pool: &PgPool, refusals_kept: Kept, now: Timestamp) -> Result<(), PurgeError> {
    // A connection of its own: its end, also by a crash, ends the turn.
    let mut connection = pool.acquire().await?.detach();
    if rows::take_turn(&mut connection).await? {
        purge(&mut connection, refusals_kept, now).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Runs a statement of `rows` until it deletes less than a batch.
macro_rules! all_of {
    ($statement:path, $connection:expr $(, $argument:expr)*) => {
        for _ in 0..BATCHES_MAX {
            if $statement(&mut *$connection $(, $argument)*, BATCH_ROWS).await? < BATCH_ROWS {
                break;
            }
        }
    };
}

async fn purge(connection: &mut PgConnection, refusals_kept: Kept, now: Timestamp) -> Result<(), PurgeError> {
    let ago = |kept| now.saturating_sub(kept).unwrap_or(now);
    let mut verdicts_kept = Vec::new();
    for (name, gone_since) in rows::tenants(&mut *connection).await? {
        let tenant = catalog::store::find::<Tenant>(&mut *connection, &name).await?;
        // A tenant that is gone asks no more: it leaves verdicts only, and those go with the others' of their age.
        let before = kept_since(now);
        match &tenant {
            Some(_) => purge_tenant(connection, &name, before, now).await?,
            None => purge_gone(connection, &name, now).await?,
        }
        match (tenant, gone_since) {
            (Some(_), Some(_)) => rows::note_gone(&mut *connection, &name, None).await?,
            (None, None) => rows::note_gone(&mut *connection, &name, Some(now)).await?,
            (None, Some(gone_since)) if gone_since < ago(GONE_KEPT) => {
                rows::ledger(&mut *connection, &name).await?;
            }
            _ => {}
        }
        verdicts_kept.push((name, before));
    }
    all_of!(rows::verdicts, connection, &verdicts_kept);
    all_of!(rows::closed_beyond, connection, PERIODS_MAX);
    let cutoff = refusals_kept.cutoff(now).and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    if let Some(cutoff) = cutoff {
        all_of!(rows::refusals, connection, hour(cutoff.timestamp()));
    }
    all_of!(rows::gaps, connection, ago(GAPS_KEPT));
    all_of!(rows::gaps_beyond, connection, GAPS_MAX);
    all_of!(rows::sessions, connection, now);
    all_of!(rows::revoked_tokens, connection, ago(REVOKED_KEPT), TOKENS_MAX);
    Ok(())
}

/// What a tenant's ledger holds from before its previous period, and what is beyond its bounds.
async fn purge_tenant(
    connection: &mut PgConnection,
    tenant: &str,
    before: Timestamp,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    all_of!(rows::tallies, connection, tenant, before);
    all_of!(rows::workflow_tallies, connection, tenant, before);
    all_of!(rows::sums, connection, tenant, before);
    all_of!(rows::leases, connection, tenant, before);
    all_of!(rows::rested_caps, connection, tenant, now);
    all_of!(rows::caps_beyond, connection, tenant, CAPS_MAX);
    all_of!(rows::idle_rates, connection, tenant, now.saturating_sub(RATES_KEPT).unwrap_or(now));
    all_of!(rows::rates_beyond, connection, tenant, RATES_MAX);
    Ok(())
}

/// All that stands in the ledger of a tenant that is gone, but its verdicts.
async fn purge_gone(connection: &mut PgConnection, tenant: &str, now: Timestamp) -> Result<(), sqlx::Error> {
    all_of!(rows::tallies, connection, tenant, now);
    all_of!(rows::workflow_tallies, connection, tenant, now);
    all_of!(rows::sums, connection, tenant, Timestamp::MAX);
    all_of!(rows::leases, connection, tenant, now);
    all_of!(rows::rested_caps, connection, tenant, Timestamp::MAX);
    all_of!(rows::idle_rates, connection, tenant, Timestamp::MAX);
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
