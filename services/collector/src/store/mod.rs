//! All SQL of the collector.

pub mod audits;
pub mod checks;
mod claims;
mod cursors;
pub mod epochs;
pub mod expiry;
pub mod limits;
pub mod refusals;
pub mod states;
pub mod workflows;

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{SourceId, later};
use sqlx::{PgExecutor, PgPool, Row, postgres::PgRow};

use crate::{n8n::row::RunId, sweep::failure::SweepError};

pub use claims::{Claim, Health, claim, fail, release, renew};
pub use cursors::{advance, cursor};

/// Pushes of one source are noted at most once in this many seconds: a source may push many times a second.
const PUSH_NOTED_S: i64 = 60;

/// Unreadable rows are remembered this many seconds: as long as a dead letter is kept.
pub const UNREADABLE_KEPT_S: i64 = 30 * 24 * 60 * 60;

/// Whether a source is swept, as the catalog says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Swept, and due now.
    Active,
    /// Paused or removed.
    Resting,
}

/// Follows a change in the catalog.
pub async fn set_activity(
    executor: impl PgExecutor<'_>,
    source: &str,
    activity: Activity,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sources (source_id, active, next_sweep_at) VALUES ($1, $2, $3)
         ON CONFLICT (source_id) DO UPDATE
         SET active = excluded.active, next_sweep_at = excluded.next_sweep_at,
             changes = sources.changes + 1, failures = 0, failing_since = NULL, postponable_until = NULL",
    )
    .bind(source)
    .bind(activity == Activity::Active)
    .bind(now.to_sqlx())
    .execute(executor)
    .await
    .map(drop)
}

/// Records that a batch outside of a sweep was published. A source without a row has never been in the
/// catalog.
pub async fn published(pool: &PgPool, source: &SourceId, sequence: u64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sources SET published_through = greatest(published_through, $2) WHERE source_id = $1")
        .bind(source.as_str())
        .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
        .execute(pool)
        .await
        .map(drop)
}

/// Records that the source has pushed, and postpones its next sweep until an interval after that, as far as
/// allowed.
pub async fn pushed(
    pool: &PgPool,
    source: &SourceId,
    interval: Duration,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sources SET last_pushed_at = $2,
             next_sweep_at = CASE WHEN postponable_until IS NULL THEN next_sweep_at
                                  ELSE greatest(next_sweep_at, least(postponable_until, $3)) END
         WHERE source_id = $1 AND (last_pushed_at IS NULL OR last_pushed_at <= $4)",
    )
    .bind(source.as_str())
    .bind(now.to_sqlx())
    .bind(later(now, interval).to_sqlx())
    .bind(seconds_before(now, PUSH_NOTED_S).to_sqlx())
    .execute(pool)
    .await
    .map(drop)
}

/// The newest id that the last sweep of the source has seen.
pub async fn newest(pool: &PgPool, source: &SourceId) -> Result<Option<RunId>, sqlx::Error> {
    let newest: Option<Option<i64>> = sqlx::query_scalar("SELECT floor FROM sources WHERE source_id = $1")
        .bind(source.as_str())
        .fetch_optional(pool)
        .await?;
    Ok(newest.flatten().and_then(|newest| RunId::new(u64::try_from(newest).ok()?)))
}

/// Whether this row has a dead letter already.
pub async fn has_letter(pool: &PgPool, source: &SourceId, digest: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM unreadable_rows WHERE source_id = $1 AND digest = $2)")
        .bind(source.as_str())
        .bind(digest)
        .fetch_one(pool)
        .await
}

/// Remembers that this row has a dead letter.
pub async fn remember_letter(
    pool: &PgPool,
    source: &SourceId,
    digest: &str,
    found_at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO unreadable_rows (source_id, digest, found_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(source.as_str())
    .bind(digest)
    .bind(found_at.to_sqlx())
    .execute(pool)
    .await
    .map(drop)
}

fn instant(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(name)?.map(jiff_sqlx::Timestamp::to_jiff))
}

/// This many seconds before `now`.
pub fn seconds_before(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now)
}

fn run_id(stored: i64) -> Result<RunId, SweepError> {
    u64::try_from(stored).ok().and_then(RunId::new).ok_or(SweepError::Damaged("execution id"))
}

fn column(id: RunId) -> i64 {
    signed(id.number())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
