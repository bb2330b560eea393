//! Deletes rows that are old or too many. Each statement deletes at most `rows_max` rows, finds them by an
//! index, and returns how many it deleted. Rows that a decision has locked are left for the next round: the
//! purge never waits for a tenant's ledger.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{PgConnection, PgExecutor};

use super::{instant_from_db, to_db};
use crate::admission::tallies::slot;

/// Takes the lock that lets one replica purge, for the life of the connection. Returns `false` if another has
/// it.
pub async fn take_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext(current_schema() || '.purge'))")
        .fetch_one(connection)
        .await
}

/// A tenant with a ledger, and since when the purge has found it missing in the catalog.
pub type Asked = (String, Option<Timestamp>);

/// Every tenant that has a ledger.
pub async fn tenants(executor: impl PgExecutor<'_>) -> Result<Vec<Asked>, sqlx::Error> {
    let rows: Vec<(String, Option<jiff_sqlx::Timestamp>)> =
        sqlx::query_as("SELECT tenant, gone_since FROM ledgers ORDER BY tenant").fetch_all(executor).await?;
    Ok(rows.into_iter().map(|(tenant, gone_since)| (tenant, instant_from_db(gone_since))).collect())
}

/// Records since when the tenant is missing in the catalog; `None` if it exists.
pub async fn note_gone(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    gone_since: Option<Timestamp>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE ledgers SET gone_since = $2 WHERE tenant = $1")
        .bind(tenant)
        .bind(super::instant_to_db(gone_since))
        .execute(executor)
        .await?;
    Ok(())
}

/// Deletes the ledger of a removed tenant.
pub async fn ledger(executor: impl PgExecutor<'_>, tenant: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM ledgers WHERE tenant = $1 AND gone_since IS NOT NULL")
        .bind(tenant)
        .execute(executor)
        .await?;
    Ok(())
}

/// Verdicts of each of these tenants from before its instant.
pub async fn verdicts(
    executor: impl PgExecutor<'_>,
    before: &[(String, Timestamp)],
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let (tenants, instants): (Vec<_>, Vec<_>) =
        before.iter().map(|(tenant, before)| (tenant.as_str(), before.to_sqlx())).unzip();
    // The latest instant separately: the index on old rows has only the instant.
    let latest = before.iter().map(|(_, before)| before).max().map(|before| before.to_sqlx());
    let outcome = sqlx::query(
        "DELETE FROM admissions WHERE key IN
             (SELECT key FROM admissions JOIN unnest($1::text[], $2::timestamptz[]) AS kept (tenant, since) USING (tenant)
              WHERE admitted_at < $3 AND admitted_at < since LIMIT $4)",
    )
    .bind(tenants)
    .bind(instants)
    .bind(latest)
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// Deletes rows of a tenant whose `$column` is below a bound.
macro_rules! delete_below {
    ($table:literal, $column:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM ",
            $table,
            " WHERE tenant = $1 AND ",
            $column,
            " < $2
                 ORDER BY ",
            $column,
            " LIMIT $3 FOR UPDATE SKIP LOCKED))"
        )
    };
}

async fn below(
    executor: impl PgExecutor<'_>,
    statement: &'static str,
    tenant: &str,
    bound: i64,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome =
        sqlx::query(statement).bind(tenant).bind(bound).bind(to_db(rows_max)).execute(executor).await?;
    Ok(outcome.rows_affected())
}

/// Tallies of a tenant from before an instant.
pub async fn tallies(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    below(executor, delete_below!("tallies", "slot"), tenant, slot(before), rows_max).await
}

/// Tallies of a tenant's workflows from before an instant.
pub async fn workflow_tallies(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    below(executor, delete_below!("workflow_tallies", "slot"), tenant, slot(before), rows_max).await
}

/// Sums of a tenant's tallies that begin before an instant. A sum that is still needed is computed again.
pub async fn sums(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    below(executor, delete_below!("tally_sums", "since_slot"), tenant, slot(before), rows_max).await
}

/// Caps of a tenant that are at rest: a past arrival time is the same as none.
pub async fn rested_caps(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    now: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let now_ns = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    below(executor, delete_below!("caps", "arrival_ns"), tenant, now_ns, rows_max).await
}

/// Rates of a tenant's workflows that have not asked to run since an instant.
pub async fn idle_rates(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let minute = before.as_second().div_euclid(60);
    below(executor, delete_below!("workflows", "minute"), tenant, minute, rows_max).await
}

/// Deletes a tenant's rows except the `$2` with the greatest values of the column. The tenant's own caps have
/// no workflow, and stay.
macro_rules! delete_beyond {
    ($table:literal, $column:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM ",
            $table,
            " WHERE tenant = $1 AND workflow <> '' AND ",
            $column,
            " <=
                     (SELECT ",
            $column,
            " FROM ",
            $table,
            " WHERE tenant = $1 AND workflow <> ''
                      ORDER BY ",
            $column,
            " DESC OFFSET $2 LIMIT 1)
                 ORDER BY ",
            $column,
            " LIMIT least($3, greatest(0,
                     (SELECT count(*) FROM ",
            $table,
            " WHERE tenant = $1 AND workflow <> '') - $2))
                 FOR UPDATE SKIP LOCKED))"
        )
    };
}

/// Caps of a tenant's workflows beyond the `kept` that are furthest from rest.
pub async fn caps_beyond(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    kept: u64,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let statement = delete_beyond!("caps", "arrival_ns");
    let outcome =
        sqlx::query(statement).bind(tenant).bind(to_db(kept)).bind(to_db(rows_max)).execute(executor).await?;
    Ok(outcome.rows_affected())
}

/// Rates of a tenant's workflows beyond the `kept` that asked to run last.
pub async fn rates_beyond(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    kept: u64,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let statement = delete_beyond!("workflows", "minute");
    let outcome =
        sqlx::query(statement).bind(tenant).bind(to_db(kept)).bind(to_db(rows_max)).execute(executor).await?;
    Ok(outcome.rows_affected())
}

/// Leases of a tenant that expired before an instant.
pub async fn leases(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM leases WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM leases WHERE tenant = $1 AND expires_at < $2 LIMIT $3 FOR UPDATE SKIP LOCKED))",
    )
    .bind(tenant)
    .bind(before.to_sqlx())
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// Closed periods of any tenant beyond its newest `kept`.
pub async fn closed_beyond(
    executor: impl PgExecutor<'_>,
    kept: u64,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM closed_periods WHERE ctid = ANY(ARRAY(
             SELECT closed_periods.ctid FROM closed_periods
             JOIN (SELECT tenant FROM closed_periods GROUP BY tenant HAVING count(*) > $1) AS full_ones USING (tenant)
             WHERE period_start < (SELECT newer.period_start FROM closed_periods AS newer
                                   WHERE newer.tenant = closed_periods.tenant
                                   ORDER BY newer.period_start DESC OFFSET $1 - 1 LIMIT 1)
             LIMIT $2))",
    )
    .bind(to_db(kept))
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// Refused runs of hours before this one, of all tenants, removed ones included.
pub async fn refusals(executor: impl PgExecutor<'_>, before: i64, rows_max: u64) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM refusals WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM refusals WHERE hour < $1 ORDER BY hour LIMIT $2))",
    )
    .bind(before)
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// Gaps found before an instant.
pub async fn gaps(
    executor: impl PgExecutor<'_>,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM gaps WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM gaps WHERE found_at < $1 ORDER BY found_at LIMIT $2))",
    )
    .bind(before.to_sqlx())
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// Gaps of any source beyond its newest `kept`.
pub async fn gaps_beyond(
    executor: impl PgExecutor<'_>,
    kept: u64,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM gaps WHERE ctid = ANY(ARRAY(
             SELECT gaps.ctid FROM gaps
             JOIN (SELECT source FROM gaps GROUP BY source HAVING count(*) > $1) AS full_ones USING (source)
             WHERE found_at < (SELECT newer.found_at FROM gaps AS newer WHERE newer.source = gaps.source
                               ORDER BY newer.found_at DESC OFFSET $1 - 1 LIMIT 1)
             LIMIT $2))",
    )
    .bind(to_db(kept))
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// Sessions that have ended.
pub async fn sessions(
    executor: impl PgExecutor<'_>,
    now: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM sessions WHERE hash IN
             (SELECT hash FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
    )
    .bind(now.to_sqlx())
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// Tokens that were revoked before an instant, and those beyond the `kept` that were revoked last.
pub async fn revoked_tokens(
    executor: impl PgExecutor<'_>,
    before: Timestamp,
    kept: u64,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM tokens WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM tokens
             WHERE revoked_at IS NOT NULL AND revoked_at < greatest($1,
                 (SELECT revoked_at FROM tokens WHERE revoked_at IS NOT NULL
                  ORDER BY revoked_at DESC OFFSET $2 - 1 LIMIT 1))
             ORDER BY revoked_at LIMIT $3))",
    )
    .bind(before.to_sqlx())
    .bind(to_db(kept))
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}
