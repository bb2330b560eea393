//! Which collector sweeps a source: leases.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SourceId;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::instant;
use crate::sweep::failure::SweepError;

/// How long a lease holds without being renewed, in seconds of the machine's time.
pub const LEASE_S: i32 = 30;

/// A source that this collector may sweep, for as long as it renews its lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The source.
    pub source: SourceId,
    /// Proves that the lease is still ours.
    pub lease: Uuid,
    /// The catalog's changes that the sweep knows of.
    pub changes: i64,
    /// Failed sweeps in a row before this one.
    pub failures: u32,
    /// Since when.
    pub failing_since: Option<Timestamp>,
}

/// Which due sources to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Those whose last sweep succeeded and has read everything, or that have had none.
    Well,
    /// Those whose last sweep succeeded and has left something to read.
    Behind,
    /// Those whose last sweep failed.
    Failing,
}

/// Leases up to `count` sources that are due at `now`, the longest due first. Another collector that asks at
/// the same time gets others.
pub async fn claim(
    pool: &PgPool,
    health: Health,
    count: usize,
    now: Timestamp,
) -> Result<Vec<Claim>, SweepError> {
    let lease = Uuid::new_v4();
    let rows = sqlx::query(
        "WITH due AS (
             SELECT source_id FROM sources
             WHERE active AND next_sweep_at <= $1 AND (failures > 0) = $2
               AND ($2 OR (backlog IS NOT NULL) = $6)
               AND (leased_until IS NULL OR leased_until < now())
             ORDER BY next_sweep_at
             LIMIT $3
             FOR UPDATE SKIP LOCKED
         )
         UPDATE sources SET lease = $4, leased_until = now() + make_interval(secs => $5)
         FROM due WHERE sources.source_id = due.source_id
         RETURNING sources.source_id, changes, failures, failing_since",
    )
    .bind(now.to_sqlx())
    .bind(health == Health::Failing)
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .bind(lease)
    .bind(f64::from(LEASE_S))
    .bind(health == Health::Behind)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let source: String = row.try_get("source_id")?;
            Ok(Claim {
                source: SourceId::parse(&source).map_err(|_| SweepError::Damaged("source id"))?,
                lease,
                changes: row.try_get("changes")?,
                failures: u32::try_from(row.try_get::<i32, _>("failures")?).unwrap_or(0),
                failing_since: instant(row, "failing_since")?,
            })
        })
        .collect()
}

/// Renews the lease. False if it is lost.
pub async fn renew(pool: &PgPool, claim: &Claim) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query(
        "UPDATE sources SET leased_until = now() + make_interval(secs => $3)
         WHERE source_id = $1 AND lease = $2",
    )
    .bind(claim.source.as_str())
    .bind(claim.lease)
    .bind(f64::from(LEASE_S))
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Releases the lease, and leaves the source as it was.
pub async fn release(pool: &PgPool, claim: &Claim) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sources SET lease = NULL, leased_until = NULL WHERE source_id = $1 AND lease = $2")
        .bind(claim.source.as_str())
        .bind(claim.lease)
        .execute(pool)
        .await
        .map(drop)
}

/// Records that a sweep has failed, and releases the lease.
pub async fn fail(
    pool: &PgPool,
    claim: &Claim,
    failing_since: Timestamp,
    next_sweep_at: Timestamp,
) -> Result<(), sqlx::Error> {
    // A change that came in between has already made the source due, and restarts the count.
    sqlx::query(
        "UPDATE sources SET lease = NULL, leased_until = NULL, postponable_until = NULL,
             failures      = CASE WHEN changes = $3 THEN $4 ELSE failures END,
             failing_since = CASE WHEN changes = $3 THEN $5 ELSE failing_since END,
             next_sweep_at = CASE WHEN changes = $3 THEN $6 ELSE next_sweep_at END
         WHERE source_id = $1 AND lease = $2",
    )
    .bind(claim.source.as_str())
    .bind(claim.lease)
    .bind(claim.changes)
    .bind(i32::try_from(claim.failures.saturating_add(1)).unwrap_or(i32::MAX))
    .bind(failing_since.to_sqlx())
    .bind(next_sweep_at.to_sqlx())
    .execute(pool)
    .await
    .map(drop)
}
