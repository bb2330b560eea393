//! The running audits: see [`crate::audit::run`].

use metering::SourceId;
use sqlx::PgPool;
use uuid::Uuid;

/// How long an audit counts as running after its last renewal, in seconds of the machine's time.
const LEASE_S: f64 = 60.0;

/// Begins an audit. False if one is running.
pub async fn begin(pool: &PgPool, source: &SourceId, audit: Uuid) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query(
        "INSERT INTO audits (source_id, audit_id, leased_until) VALUES ($1, $2, now() + make_interval(secs => $3))
         ON CONFLICT (source_id) DO UPDATE
         SET audit_id = excluded.audit_id, leased_until = excluded.leased_until
         WHERE audits.leased_until < now()",
    )
    .bind(source.as_str())
    .bind(audit)
    .bind(LEASE_S)
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// Renews the audit's lease. False if another has begun since.
pub async fn renew(pool: &PgPool, source: &SourceId, audit: Uuid) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query(
        "UPDATE audits SET leased_until = now() + make_interval(secs => $3) WHERE source_id = $1 AND audit_id = $2",
    )
    .bind(source.as_str())
    .bind(audit)
    .bind(LEASE_S)
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Ends the audit.
pub async fn end(pool: &PgPool, source: &SourceId, audit: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM audits WHERE source_id = $1 AND audit_id = $2")
        .bind(source.as_str())
        .bind(audit)
        .execute(pool)
        .await
        .map(drop)
}
