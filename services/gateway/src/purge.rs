//! Deletes rows that no answer needs any more, and rows beyond a bound, in small batches. One replica at a
//! time; after a crash the next round does the rest. The README lists how long each kind of row is kept.

use std::{sync::Arc, time::Duration};

use catalog::Tenant;
use chassis::{KeepFor, Rounds};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use metering::Clock;
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    access::access_tokens::TOKENS_MAX, admission::refusals::hour, api::PERIODS_MAX, store::purge as rows,
};

/// Time between two rounds, in which a tenant may exceed its bounds.
const ROUND_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Rows that one statement deletes, to keep locks and transactions short.
const BATCH_ROWS: u64 = 20_000;

/// Statements of one kind in one round; the next round does the rest. At most ten thousand rows a second.
const BATCHES_MAX: usize = 300;

/// A verdict of the previous period may still be requested again; older ones may not. Twice the longest
/// period, and a margin: a period is at most a month of the calendar with which it began, which need not be
/// the tenant's current one.
const VERDICTS_KEPT: SignedDuration = SignedDuration::from_hours(64 * 24);

/// How long gaps are shown; the stream keeps them as long.
const GAPS_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Gaps kept for one source; an answer shows a thousand.
const GAPS_MAX: u64 = 10_000;

/// Caps kept for one tenant's workflows. A tenant with more makes workflows up, and could as well use a new
/// one for each run, so it gains nothing from the deletion of those nearest to rest. The tenant's own caps
/// are not among them.
const CAPS_MAX: u64 = 10_000;

/// Rates kept for one tenant's workflows, as many and for the same reason.
const RATES_MAX: u64 = 10_000;

/// A rate halves each day: after ten days a thousandth is left, and no rate below one run a second is a loop.
const RATES_KEPT: SignedDuration = SignedDuration::from_hours(10 * 24);

/// How long revoked tokens are listed, so that their revocation can be traced.
const REVOKED_KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);

/// The ledger of a removed tenant is kept longer than its verdicts, so that no verdict is left without it.
const GONE_KEPT: SignedDuration = SignedDuration::from_hours(65 * 24);

/// Old rows cannot be deleted.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The catalog cannot be read.
    #[error("cannot read the tenants")]
    Tenants(#[from] catalog::store::CatalogError),
    /// Rows cannot be deleted.
    #[error("cannot delete old rows")]
    Delete(#[from] sqlx::Error),
}

/// Deletes until `shutdown`.
pub async fn run(pool: PgPool, clock: Arc<dyn Clock>, refusals_kept: KeepFor, shutdown: CancellationToken) {
    // An interrupted round keeps what it has committed.
    Rounds::new(ROUND_INTERVAL, shutdown)
        .each("cannot purge, retrying in 10 min", || round(&pool, refusals_kept, clock.now()))
        .await;
}

/// One round, at `now`. Does nothing while another replica is purging.
///
/// # Errors
///
/// The database failed, or a tenant in the catalog is damaged. Rows already deleted stay deleted; the next
/// round does the rest.
pub async fn round(pool: &PgPool, refusals_kept: KeepFor, now: Timestamp) -> Result<(), PurgeError> {
    // A connection of its own: closing it, also by a crash, releases the lock.
    let mut connection = pool.acquire().await?.detach();
    if rows::take_turn(&mut connection).await? {
        purge(&mut connection, refusals_kept, now).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Repeats a statement of `rows` until it deletes less than a batch.
macro_rules! all_of {
    ($statement:path, $connection:expr $(, $argument:expr)*) => {
        for _ in 0..BATCHES_MAX {
            if $statement(&mut *$connection $(, $argument)*, BATCH_ROWS).await? < BATCH_ROWS {
                break;
            }
        }
    };
}

async fn purge(
    connection: &mut PgConnection,
    refusals_kept: KeepFor,
    now: Timestamp,
) -> Result<(), PurgeError> {
    let ago = |kept| now.saturating_sub(kept).unwrap_or(now);
    let mut verdicts_kept = Vec::new();
    for (name, gone_since) in rows::tenants(&mut *connection).await? {
        let tenant = catalog::store::find::<Tenant>(&mut *connection, &name).await?;
        // A removed tenant gets no more requests: only its verdicts are kept, as long as those of others.
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

/// Deletes rows of a tenant's ledger from before its previous period, and rows beyond its bounds.
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

/// Deletes everything in the ledger of a removed tenant except its verdicts.
async fn purge_gone(connection: &mut PgConnection, tenant: &str, now: Timestamp) -> Result<(), sqlx::Error> {
    all_of!(rows::tallies, connection, tenant, now);
    all_of!(rows::workflow_tallies, connection, tenant, now);
    all_of!(rows::sums, connection, tenant, Timestamp::MAX);
    all_of!(rows::leases, connection, tenant, now);
    all_of!(rows::rested_caps, connection, tenant, Timestamp::MAX);
    all_of!(rows::idle_rates, connection, tenant, Timestamp::MAX);
    Ok(())
}

/// The current period and the previous one began after this, whatever calendars the tenant had.
fn kept_since(now: Timestamp) -> Timestamp {
    now.saturating_sub(VERDICTS_KEPT).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use metering::Calendar;

    use super::*;

    #[test]
    fn the_current_and_the_previous_period_are_kept_with_any_calendar() {
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
