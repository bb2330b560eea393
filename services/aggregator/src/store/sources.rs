//! Sources: whose they are, and how far they are counted.

use catalog::Source;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SourceId;
use sqlx::{PgConnection, PgPool};

/// A source with its tenant.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct SourceRow {
    pub(crate) number: i32,
    pub(crate) tenant_number: i32,
    pub(crate) tenant_id: String,
}

/// The source with this id; nothing where the catalog never had it.
pub(crate) async fn source(pool: &PgPool, source: &SourceId) -> Result<Option<SourceRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT sources.number, tenant_number, tenant_id
         FROM sources JOIN tenants ON tenants.number = tenant_number WHERE source_id = $1",
    )
    .bind(source.as_str())
    .fetch_optional(pool)
    .await
}

/// Keeps a source. Its tenant may come after it, because only the last value of each is kept on the topic.
pub(crate) async fn put_source(connection: &mut PgConnection, source: &Source) -> Result<(), sqlx::Error> {
    let Some(tenant) = &source.tenant else { return Ok(()) };
    sqlx::query("INSERT INTO tenants (tenant_id, plan_id) VALUES ($1, '') ON CONFLICT DO NOTHING")
        .bind(tenant.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "WITH owner AS (UPDATE tenants SET revision = revision + 1 WHERE tenant_id = $2 RETURNING number)
         INSERT INTO sources (source_id, tenant_number, active) SELECT $1, number, $3 FROM owner
         ON CONFLICT (source_id) DO UPDATE
         SET tenant_number = excluded.tenant_number, active = excluded.active",
    )
    .bind(source.id.as_str())
    .bind(tenant.as_str())
    .bind(!source.paused)
    .execute(connection)
    .await?;
    Ok(())
}

/// A removed source holds no period open any more; what it ran stays counted.
pub(crate) async fn deactivate_source(
    connection: &mut PgConnection,
    source: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH gone AS (UPDATE sources SET active = false WHERE source_id = $1 RETURNING tenant_number)
         UPDATE tenants SET revision = revision + 1 FROM gone WHERE number = tenant_number",
    )
    .bind(source)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what a sweep has found, unless a later sweep is known. Tells whether the source is known.
pub(crate) async fn synced(
    pool: &PgPool,
    source: &SourceId,
    sweep_started_at: Timestamp,
    complete_until: Timestamp,
    published_through: i64,
    open_executions: i64,
) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query(
        "UPDATE sources SET
            complete_until = CASE WHEN newer THEN $3 ELSE complete_until END,
            published_through = CASE WHEN newer THEN $4 ELSE published_through END,
            open_executions = CASE WHEN newer THEN $5 ELSE open_executions END,
            sweep_started_at = CASE WHEN newer THEN $2 ELSE sweep_started_at END
         FROM (SELECT number AS found, sweep_started_at IS NULL OR sweep_started_at < $2 AS newer
               FROM sources WHERE source_id = $1 FOR UPDATE) AS known
         WHERE number = found",
    )
    .bind(source.as_str())
    .bind(sweep_started_at.to_sqlx())
    .bind(complete_until.to_sqlx())
    .bind(published_through)
    .bind(open_executions)
    .execute(pool)
    .await?;
    Ok(outcome.rows_affected() > 0)
}

/// Whether any source has been published further than it is known to be counted.
pub(crate) async fn any_behind(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM sources WHERE complete_until IS DISTINCT FROM counted_until)",
    )
    .fetch_one(pool)
    .await
}

/// Everything up to `acknowledged` has been counted: moves the sources that were waiting for that.
pub(crate) async fn advance_counted(pool: &PgPool, acknowledged: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH moved AS (
             UPDATE sources SET counted_until = complete_until, counted_open = open_executions
             WHERE complete_until IS DISTINCT FROM counted_until AND published_through <= $1
             RETURNING tenant_number)
         UPDATE tenants SET revision = revision + 1 WHERE number IN (SELECT tenant_number FROM moved)",
    )
    .bind(acknowledged)
    .execute(pool)
    .await?;
    Ok(())
}

/// The tenant's sources that are not counted up to `end`.
pub(crate) async fn incomplete_sources(
    connection: &mut PgConnection,
    tenant_number: i32,
    end: Timestamp,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT source_id FROM sources
         WHERE tenant_number = $1 AND active AND (counted_until IS NULL OR counted_until < $2) ORDER BY source_id",
    )
    .bind(tenant_number)
    .bind(end.to_sqlx())
    .fetch_all(connection)
    .await
}
