//! The ledger of admissions.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::TenantId;
use sqlx::{PgConnection, PgExecutor, Row};

use super::{from_db, instant_from_db, instant_to_db, to_db};

/// A verdict as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The caller's id of the run.
    pub id: String,
    /// When it was decided.
    pub admitted_at: Timestamp,
    /// Whether the run may start.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// Executions that stand against the limit, this one included where allowed.
    pub used: Option<u64>,
    /// Runs allowed and not yet counted, this one included where allowed.
    pub reserved: u64,
    /// The limit that held.
    pub limit: Option<u64>,
    /// The end of the period.
    pub resets_at: Timestamp,
    /// When the figures behind it were read.
    pub as_of: Option<Timestamp>,
    /// All sources were counted up to here.
    pub complete_until: Option<Timestamp>,
}

/// Locks the tenant's ledger until the transaction ends.
pub async fn lock(connection: &mut PgConnection, tenant: &TenantId) -> Result<(), sqlx::Error> {
    const LOCK: &str = "SELECT tenant FROM ledgers WHERE tenant = $1 FOR UPDATE";
    if sqlx::query(LOCK).bind(tenant.as_str()).fetch_optional(&mut *connection).await?.is_some() {
        return Ok(());
    }
    sqlx::query("INSERT INTO ledgers (tenant) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(tenant.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query(LOCK).bind(tenant.as_str()).execute(connection).await?;
    Ok(())
}

/// The verdict that was given for this id.
pub async fn find(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    id: &str,
) -> Result<Option<Entry>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT id, admitted_at, allowed, reason, used_units, reserved_units, limit_units, resets_at, as_of,
                complete_until
         FROM admissions WHERE tenant = $1 AND id = $2",
    )
    .bind(tenant.as_str())
    .bind(id)
    .fetch_optional(executor)
    .await?;
    row.map(|row| {
        Ok(Entry {
            id: row.try_get("id")?,
            admitted_at: row.try_get::<jiff_sqlx::Timestamp, _>("admitted_at")?.to_jiff(),
            allowed: row.try_get("allowed")?,
            reason: row.try_get("reason")?,
            used: row.try_get::<Option<i64>, _>("used_units")?.map(from_db),
            reserved: from_db(row.try_get("reserved_units")?),
            limit: row.try_get::<Option<i64>, _>("limit_units")?.map(from_db),
            resets_at: row.try_get::<jiff_sqlx::Timestamp, _>("resets_at")?.to_jiff(),
            as_of: instant_from_db(row.try_get("as_of")?),
            complete_until: instant_from_db(row.try_get("complete_until")?),
        })
    })
    .transpose()
}

/// Runs allowed at or after `since` that stand against the limit.
pub async fn count_reserved(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<u64, sqlx::Error> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM admissions WHERE tenant = $1 AND admitted_at >= $2 AND reserved",
    )
    .bind(tenant.as_str())
    .bind(since.to_sqlx())
    .fetch_one(executor)
    .await?;
    Ok(from_db(count))
}

/// Keeps a verdict on a counted run: an allowed one is reserved. The caller holds the ledger's lock and has
/// found no verdict under this id.
pub async fn insert(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflow: Option<&str>,
    mode: Option<&str>,
    entry: &Entry,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO admissions (tenant, id, admitted_at, reserved, allowed, reason, workflow, mode,
             used_units, reserved_units, limit_units, resets_at, as_of, complete_until)
         VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(tenant.as_str())
    .bind(&entry.id)
    .bind(entry.admitted_at.to_sqlx())
    .bind(entry.allowed)
    .bind(&entry.reason)
    .bind(workflow)
    .bind(mode)
    .bind(entry.used.map(to_db))
    .bind(to_db(entry.reserved))
    .bind(entry.limit.map(to_db))
    .bind(entry.resets_at.to_sqlx())
    .bind(instant_to_db(entry.as_of))
    .bind(instant_to_db(entry.complete_until))
    .execute(executor)
    .await?;
    Ok(())
}

/// Every tenant that ever asked.
pub async fn tenants(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT tenant FROM ledgers ORDER BY tenant").fetch_all(executor).await
}

/// Deletes at most `rows_max` verdicts given before `before`. Returns how many.
pub async fn purge(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM admissions WHERE tenant = $1 AND id IN
             (SELECT id FROM admissions WHERE tenant = $1 AND admitted_at < $2 ORDER BY admitted_at LIMIT $3)",
    )
    .bind(tenant)
    .bind(before.to_sqlx())
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}
