//! Tenants: their numbers, their revisions, and which of them have news.

use catalog::Tenant;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{PgConnection, PgPool};

use crate::periods::restate::Raise;

/// Stores a tenant, and locks it; its plan or limit may have changed, which is news. Returns its number.
pub(crate) async fn put_tenant(connection: &mut PgConnection, tenant: &Tenant) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO tenants (tenant_id, plan_id) VALUES ($1, $2)
         ON CONFLICT (tenant_id) DO UPDATE SET plan_id = excluded.plan_id, revision = tenants.revision + 1
         RETURNING number",
    )
    .bind(tenant.id.as_str())
    .bind(tenant.plan.as_str())
    .fetch_one(connection)
    .await
}

/// A changed plan is news for all its tenants.
pub(crate) async fn touch_tenants_of_plan(
    connection: &mut PgConnection,
    plan: &str,
) -> Result<(), sqlx::Error> {
    let tenants: Vec<i32> = sqlx::query_scalar("SELECT number FROM tenants WHERE plan_id = $1")
        .bind(plan)
        .fetch_all(&mut *connection)
        .await?;
    super::raise_revisions(connection, &tenants).await?;
    Ok(())
}

/// A period that has ended is news, even if nothing was counted. Only after earlier news has been published,
/// so that a slow publisher does not get the same news in every round.
pub(crate) async fn touch_tenants_in_new_period(pool: &PgPool, now: Timestamp) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let tenants: Vec<i32> = sqlx::query_scalar(
        "SELECT number FROM tenants WHERE period_end <= $1 AND published_revision = revision
         ORDER BY number FOR NO KEY UPDATE",
    )
    .bind(now.to_sqlx())
    .fetch_all(&mut *transaction)
    .await?;
    super::raise_revisions(&mut transaction, &tenants).await?;
    transaction.commit().await
}

/// Notes that the catalog has changed.
pub(crate) async fn raise_catalog_version(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(connection).await?;
    Ok(())
}

/// Grows with every change of the catalog.
pub(crate) async fn catalog_version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT version FROM catalog_version").fetch_one(connection).await
}

/// Marks the sources that may hold unmapped executions of the tenant, because the tenant is known now.
pub(crate) async fn map_again_for_tenant(
    connection: &mut PgConnection,
    tenant: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH held AS MATERIALIZED (
             SELECT number FROM sources WHERE number IN (
                 SELECT source_number FROM source_tenants JOIN tenants ON tenants.number = tenant_number
                 WHERE tenant_id = $1)
             ORDER BY number FOR NO KEY UPDATE)
         UPDATE sources SET map_again = true FROM held WHERE sources.number = held.number",
    )
    .bind(tenant)
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks the sources with unmapped executions that may wait for a plan: those of its tenants. Others are left
/// alone, because a changed plan is no reason to map again, and there may be many.
pub(crate) async fn map_again_for_plan(connection: &mut PgConnection, plan: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH held AS MATERIALIZED (
             SELECT number FROM sources WHERE number IN (
                 SELECT source_number FROM source_tenants JOIN tenants ON tenants.number = tenant_number
                 WHERE plan_id = $1)
               AND EXISTS (SELECT FROM executions WHERE source_number = number AND executions.tenant_number IS NULL)
             ORDER BY number FOR NO KEY UPDATE)
         UPDATE sources SET map_again = true FROM held WHERE sources.number = held.number",
    )
    .bind(plan)
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks the tenant for the rest of the transaction. Returns its revision.
pub(crate) async fn lock_tenant(connection: &mut PgConnection, number: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT revision FROM tenants WHERE number = $1 FOR UPDATE")
        .bind(number)
        .fetch_one(connection)
        .await
}

/// Gives the tenant a new revision, which is news.
pub(crate) async fn next_revision(connection: &mut PgConnection, number: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("UPDATE tenants SET revision = revision + 1 WHERE number = $1 RETURNING revision")
        .bind(number)
        .fetch_one(connection)
        .await
}

/// A tenant whose usage has changed since it was published.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct News {
    pub(crate) number: i32,
    pub(crate) tenant_id: String,
    pub(crate) revision: i64,
}

/// Makes all statements of a new transaction see the same snapshot of the database, read-only.
pub(crate) async fn read_one_snapshot(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(connection).await?;
    Ok(())
}

/// A tenant with its published revision.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct PublishedTenant {
    pub(crate) number: i32,
    pub(crate) tenant_id: String,
    pub(crate) revision: i64,
    pub(crate) published_revision: i64,
}

/// Every tenant with its published revision.
pub(crate) async fn published_tenants(pool: &PgPool) -> Result<Vec<PublishedTenant>, sqlx::Error> {
    sqlx::query_as("SELECT number, tenant_id, revision, published_revision FROM tenants ORDER BY number")
        .fetch_all(pool)
        .await
}

/// Raises the revision of each tenant above its own and the given one, which is news.
pub(crate) async fn raise_revisions_above(pool: &PgPool, raises: &[Raise]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH wanted AS (SELECT * FROM UNNEST($1::integer[], $2::bigint[]) AS wanted (number, above)),
         held AS MATERIALIZED (
             SELECT number FROM tenants WHERE number IN (SELECT number FROM wanted)
             ORDER BY number FOR NO KEY UPDATE)
         UPDATE tenants SET revision = greatest(revision, above) + 1
         FROM held JOIN wanted USING (number) WHERE tenants.number = held.number",
    )
    .bind(raises.iter().map(|raise| raise.tenant).collect::<Vec<_>>())
    .bind(raises.iter().map(|raise| raise.above).collect::<Vec<_>>())
    .execute(pool)
    .await
    .map(drop)
}

/// Tenants with news, those with the most unpublished revisions first; at most `limit`.
pub(crate) async fn tenants_with_news(
    connection: &mut PgConnection,
    published: &[Published],
    limit: i64,
) -> Result<Vec<News>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, tenant_id, revision
         FROM tenants LEFT JOIN UNNEST($1::integer[], $2::bigint[]) AS seen (number, seen_revision) USING (number)
         WHERE has_news AND coalesce(seen_revision, 0) < revision
         ORDER BY greatest(published_revision, seen_revision) - revision, number LIMIT $3",
    )
    .bind(published.iter().map(|published| published.tenant).collect::<Vec<_>>())
    .bind(published.iter().map(|published| published.revision).collect::<Vec<_>>())
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// A revision that was published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) tenant: i32,
    pub(crate) revision: i64,
    /// The end of the published period; `None` if the tenant was removed.
    pub(crate) period_end: Option<Timestamp>,
}

/// Notes what was published. Tenants locked by a recording transaction are skipped: waiting for one while
/// holding others would block the other recorders. Returns the tenants that were noted.
pub(crate) async fn published(pool: &PgPool, published: &[Published]) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH held AS MATERIALIZED (
             SELECT number FROM tenants WHERE number = ANY($1) FOR NO KEY UPDATE SKIP LOCKED
         ), noted AS (
             UPDATE tenants SET published_revision = wanted.revision, period_end = wanted.period_end
             FROM held JOIN UNNEST($1::integer[], $2::bigint[], $3::timestamptz[])
                 AS wanted (number, revision, period_end) USING (number)
             WHERE tenants.number = held.number AND published_revision < wanted.revision)
         SELECT number FROM held",
    )
    .bind(published.iter().map(|published| published.tenant).collect::<Vec<_>>())
    .bind(published.iter().map(|published| published.revision).collect::<Vec<_>>())
    .bind(published.iter().map(|published| published.period_end.map(ToSqlx::to_sqlx)).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
}

/// Takes the publisher's turn until the transaction ends. Returns false while another replica holds it.
pub(crate) async fn take_publishing_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext(current_schema() || '.publisher'))")
        .fetch_one(connection)
        .await
}
