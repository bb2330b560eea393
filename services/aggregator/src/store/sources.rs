//! Sources: the tenants they belong to, and how far they are counted.

use bytes::Bytes;
use catalog::{Entry, Source, sealing::Sealed};
use jiff::{Timestamp, civil::Date};
use jiff_sqlx::ToSqlx;
use metering::{SourceId, TenantId};
use prost::Message;
use sqlx::{PgConnection, PgPool};

/// Stores a source, and the tenants that its executions may belong to. A tenant's entry may arrive later,
/// because the topic keeps only the last value of each.
pub(crate) async fn put_source(connection: &mut PgConnection, source: &Source) -> Result<(), sqlx::Error> {
    // Only what attribution needs; the API key stays with the collector.
    let placement = Source { api_key: Sealed::from_bytes(Bytes::new()), ..source.clone() };
    let number: i32 = sqlx::query_scalar(
        "INSERT INTO sources (source_id, active, placement) VALUES ($1, $2, $3)
         ON CONFLICT (source_id) DO UPDATE
         SET active = excluded.active, placement = excluded.placement, version = sources.version + 1, map_again = true
         RETURNING number",
    )
    .bind(source.id.as_str())
    .bind(!source.paused)
    .bind(placement.to_wire(0).encode_to_vec())
    .fetch_one(&mut *connection)
    .await?;
    let tenants: Vec<&str> = source.tenants().into_iter().map(TenantId::as_str).collect();
    sqlx::query(
        "INSERT INTO tenants (tenant_id, plan_id) SELECT tenant_id, '' FROM UNNEST($1::text[]) AS wanted (tenant_id)
         WHERE NOT EXISTS (SELECT FROM tenants WHERE tenants.tenant_id = wanted.tenant_id)
         ON CONFLICT DO NOTHING",
    )
    .bind(&tenants)
    .execute(&mut *connection)
    .await?;
    let numbers: Vec<i32> = sqlx::query_scalar(
        "SELECT number FROM tenants WHERE tenant_id = ANY($2)
         UNION SELECT tenant_number FROM source_tenants WHERE source_number = $1",
    )
    .bind(number)
    .bind(&tenants)
    .fetch_all(&mut *connection)
    .await?;
    super::raise_revisions(connection, &numbers).await?;
    sqlx::query(
        "DELETE FROM source_tenants USING tenants
         WHERE source_number = $1 AND tenants.number = tenant_number AND NOT tenant_id = ANY($2)",
    )
    .bind(number)
    .bind(&tenants)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO source_tenants (source_number, tenant_number)
         SELECT $1, number FROM tenants WHERE tenant_id = ANY($2) ON CONFLICT DO NOTHING",
    )
    .bind(number)
    .bind(&tenants)
    .execute(connection)
    .await?;
    Ok(())
}

/// A removed source no longer holds a period open; its executions stay counted.
pub(crate) async fn deactivate_source(
    connection: &mut PgConnection,
    source: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sources SET active = false WHERE source_id = $1")
        .bind(source)
        .execute(&mut *connection)
        .await?;
    let tenants: Vec<i32> = sqlx::query_scalar(
        "SELECT tenant_number FROM source_tenants JOIN sources ON number = source_number WHERE source_id = $1",
    )
    .bind(source)
    .fetch_all(&mut *connection)
    .await?;
    super::raise_revisions(connection, &tenants).await?;
    Ok(())
}

/// The result of a sweep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SweptSource<'a> {
    pub(crate) source: &'a SourceId,
    pub(crate) sweep_started_at: Timestamp,
    pub(crate) complete_until: Timestamp,
    /// A sequence of the stream of the source's partition.
    pub(crate) published_through: i64,
    /// The life of the stream that the sequence belongs to; empty if the collector does not report it.
    pub(crate) stream_life: &'a str,
    pub(crate) open_executions: i64,
    /// Their ids; empty if they are not known.
    pub(crate) open_ids: &'a [i64],
    pub(crate) epoch: i32,
}

/// Stores the result of a sweep, unless a later sweep is known. Returns whether the source is known.
pub(crate) async fn synced(pool: &PgPool, swept: SweptSource<'_>) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query(
        "UPDATE sources SET
            complete_until = CASE WHEN newer THEN $3 ELSE complete_until END,
            published_through = CASE WHEN newer THEN $4 ELSE published_through END,
            published_life = CASE WHEN newer THEN $6 ELSE published_life END,
            open_executions = CASE WHEN newer THEN $5 ELSE open_executions END,
            open_ids = CASE WHEN newer THEN $7 ELSE open_ids END,
            open_epoch = CASE WHEN newer THEN $8 ELSE open_epoch END,
            sweep_started_at = CASE WHEN newer THEN $2 ELSE sweep_started_at END
         FROM (SELECT number AS found, sweep_started_at IS NULL OR sweep_started_at < $2 AS newer
               FROM sources WHERE source_id = $1 FOR UPDATE) AS known
         WHERE number = found",
    )
    .bind(swept.source.as_str())
    .bind(swept.sweep_started_at.to_sqlx())
    .bind(swept.complete_until.to_sqlx())
    .bind(swept.published_through)
    .bind(swept.open_executions)
    .bind(swept.stream_life)
    .bind((!swept.open_ids.is_empty()).then_some(swept.open_ids))
    .bind(swept.epoch)
    .execute(pool)
    .await?;
    Ok(outcome.rows_affected() > 0)
}

/// A source with published executions that are not known to be counted yet.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Behind {
    pub(crate) number: i32,
    pub(crate) source_id: String,
    pub(crate) published_through: i64,
    pub(crate) published_life: String,
}

impl Behind {
    /// Whether everything published of it has been acknowledged.
    pub(crate) fn is_reached(&self, acknowledged: &Acknowledged) -> bool {
        self.published_through <= acknowledged.sequence
            && (self.published_life.is_empty() || self.published_life == acknowledged.life)
    }
}

/// What has been acknowledged of a stream: everything up to this sequence, in this life of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) sequence: i64,
    pub(crate) life: String,
}

/// Sources with published executions that are not known to be counted yet, at most `limit`. Removed ones are
/// left out.
pub(crate) async fn behind(pool: &PgPool, limit: i64) -> Result<Vec<Behind>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, source_id, coalesce(published_through, 0) AS published_through, published_life
         FROM sources
         WHERE active AND complete_until IS DISTINCT FROM counted_until ORDER BY complete_until LIMIT $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Advances `counted_until` of those of these sources whose published executions are covered by the
/// acknowledgement given with each.
pub(crate) async fn advance_counted(
    pool: &PgPool,
    reached: &[(i32, Acknowledged)],
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let sources: Vec<i32> = reached.iter().map(|(source, _)| *source).collect();
    super::lock_sources(&mut transaction, &sources).await?;
    let moved: Vec<i32> = sqlx::query_scalar(
        "UPDATE sources SET earlier_until = counted_until, earlier_open_epoch = counted_open_epoch,
            earlier_open_ids = CASE WHEN counted_open = 0 THEN '{}' ELSE counted_open_ids END,
            counted_until = complete_until, counted_open = open_executions,
            counted_open_ids = open_ids, counted_open_epoch = open_epoch
         FROM UNNEST($1::integer[], $2::bigint[], $3::text[]) AS reached (source, sequence, life)
         WHERE number = source AND complete_until IS DISTINCT FROM counted_until AND published_through <= sequence
           AND (published_life = '' OR published_life = life)
         RETURNING number",
    )
    .bind(&sources)
    .bind(reached.iter().map(|(_, reached)| reached.sequence).collect::<Vec<_>>())
    .bind(reached.iter().map(|(_, reached)| reached.life.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *transaction)
    .await?;
    let tenants: Vec<i32> =
        sqlx::query_scalar("SELECT DISTINCT tenant_number FROM source_tenants WHERE source_number = ANY($1)")
            .bind(&moved)
            .fetch_all(&mut *transaction)
            .await?;
    super::raise_revisions(&mut transaction, &tenants).await?;
    transaction.commit().await
}

/// The tenant's sources that are not counted up to `end`.
pub(crate) async fn incomplete_sources(
    connection: &mut PgConnection,
    tenant_number: i32,
    end: Timestamp,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT source_id FROM sources JOIN source_tenants ON source_number = number
         WHERE tenant_number = $1 AND active AND (counted_until IS NULL OR counted_until < $2) ORDER BY source_id",
    )
    .bind(tenant_number)
    .bind(end.to_sqlx())
    .fetch_all(connection)
    .await
}

/// Adds to the day's number of pushed executions that the poll contradicts. Returns the source's id and the
/// new number. The caller holds the source's lock.
pub(crate) async fn add_contradictions(
    connection: &mut PgConnection,
    source: i32,
    day: Date,
    count: i64,
) -> Result<(String, i64), sqlx::Error> {
    sqlx::query_as(
        "UPDATE sources SET contradicted = CASE WHEN contradicted_on = $2 THEN contradicted ELSE 0 END + $3,
             contradicted_on = $2
         WHERE number = $1 RETURNING source_id, contradicted",
    )
    .bind(source)
    .bind(day.to_sqlx())
    .bind(count)
    .fetch_one(connection)
    .await
}
