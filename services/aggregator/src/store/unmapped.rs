//! Executions that no attribution matches, and mapping them to tenants.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::WorkflowId;
use sqlx::{PgConnection, PgPool};

use super::{mode_of, status_of};
use crate::figures::tally::{Decided, Ended};

type SqlInstant = jiff_sqlx::Timestamp;
type SqlDate = jiff_sqlx::Date;

/// One replica maps at a time; the others try again later. Held for the life of the connection.
pub(crate) async fn take_mapping_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext(current_schema() || '.mapper'))")
        .fetch_one(connection)
        .await
}

/// Sources whose unmapped executions may match now, at most `limit`.
pub(crate) async fn sources_to_map(pool: &PgPool, limit: i64) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar("SELECT number FROM sources WHERE map_again OR mapping ORDER BY number LIMIT $1")
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// Starts mapping a source. From here on a change of its attributions or workflows marks it again.
pub(crate) async fn begin_mapping(connection: &mut PgConnection, source: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sources SET map_again = false, mapping = true WHERE number = $1")
        .bind(source)
        .execute(connection)
        .await
        .map(drop)
}

/// Ends mapping a source.
pub(crate) async fn end_mapping(connection: &mut PgConnection, source: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sources SET mapping = false WHERE number = $1")
        .bind(source)
        .execute(connection)
        .await
        .map(drop)
}

/// The workflows of a source that have unmapped executions.
pub(crate) async fn workflows_unmapped(
    connection: &mut PgConnection,
    source: i32,
) -> Result<Vec<WorkflowId>, sqlx::Error> {
    // Skips from workflow to workflow along the index, however many executions each has.
    let ids: Vec<String> = sqlx::query_scalar(
        "WITH RECURSIVE found AS (
             (SELECT workflow_number FROM executions WHERE source_number = $1 AND tenant_number IS NULL
              ORDER BY workflow_number LIMIT 1)
             UNION ALL
             SELECT following.workflow_number FROM found CROSS JOIN LATERAL (
                 SELECT workflow_number FROM executions WHERE source_number = $1 AND tenant_number IS NULL
                     AND workflow_number > found.workflow_number
                 ORDER BY workflow_number LIMIT 1) AS following)
         SELECT workflow_id FROM found JOIN workflows ON number = workflow_number ORDER BY number",
    )
    .bind(source)
    .fetch_all(connection)
    .await?;
    let parse = |id: String| WorkflowId::parse(&id).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    ids.into_iter().map(parse).collect()
}

/// Where the next page of a workflow's unmapped executions begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    stopped_at: Timestamp,
    epoch: i32,
    number: i64,
}

impl Place {
    /// Before all that stopped at this instant or later.
    pub(crate) fn since(instant: Timestamp) -> Self {
        // No execution is older.
        Self { stopped_at: instant.max(Timestamp::UNIX_EPOCH), epoch: i32::MIN, number: i64::MIN }
    }

    /// After this one.
    pub(crate) fn after(unmapped: &Decided) -> Self {
        Self { stopped_at: unmapped.ended.stopped_at, epoch: unmapped.epoch, number: unmapped.number }
    }
}

#[derive(sqlx::FromRow)]
struct UnmappedRow {
    epoch: i32,
    execution_id: i64,
    month: SqlDate,
    status: i16,
    mode: i16,
    started_at: Option<SqlInstant>,
    stopped_at: SqlInstant,
    confirmed: bool,
}

/// A page of the unmapped executions of one of a source's workflows; with `confirmed_only`, of those that a
/// poll has shown. The caller holds the source's lock.
pub(crate) async fn unmapped(
    connection: &mut PgConnection,
    source: i32,
    workflow: i32,
    from: Place,
    confirmed_only: bool,
    limit: i64,
) -> Result<Vec<Decided>, sqlx::Error> {
    let rows: Vec<UnmappedRow> = sqlx::query_as(
        "SELECT epoch, execution_id, month, status, mode, started_at, stopped_at, confirmed FROM executions
         WHERE source_number = $1 AND workflow_number = $2 AND tenant_number IS NULL
           AND (stopped_at, epoch, execution_id) > ($3, $4, $5) AND (confirmed OR NOT $7)
         ORDER BY stopped_at, epoch, execution_id LIMIT $6",
    )
    .bind(source)
    .bind(workflow)
    .bind(from.stopped_at.to_sqlx())
    .bind(from.epoch)
    .bind(from.number)
    .bind(limit)
    .bind(confirmed_only)
    .fetch_all(connection)
    .await?;
    let read = |row: UnmappedRow| Decided {
        source,
        epoch: row.epoch,
        number: row.execution_id,
        month: row.month.to_jiff(),
        workflow,
        mode: mode_of(row.mode),
        ended: Ended {
            status: status_of(row.status),
            started_at: row.started_at.map(SqlInstant::to_jiff),
            stopped_at: row.stopped_at.to_jiff(),
        },
        placed: None,
        counted: false,
        late: false,
        voided: false,
        confirmed: row.confirmed,
    };
    Ok(rows.into_iter().map(read).collect())
}

/// Assigns unmapped executions to the tenants that were found for them. The caller holds the source's lock.
pub(crate) async fn map(connection: &mut PgConnection, mapped: &[Decided]) -> Result<(), sqlx::Error> {
    let tenants = mapped.iter().map(|decided| decided.placed.map(|placed| placed.tenant));
    let periods = mapped.iter().map(|decided| decided.placed.map(|placed| placed.period.start.to_sqlx()));
    sqlx::query(
        "UPDATE executions SET tenant_number = tenant, period_start = period, counted = counts, late = is_late
         FROM UNNEST($1::integer[], $2::integer[], $3::bigint[], $4::date[], $5::integer[], $6::timestamptz[],
             $7::boolean[], $8::boolean[]) AS found (source, epoch_of, id, month_of, tenant, period, counts, is_late)
         WHERE source_number = source AND epoch = epoch_of AND execution_id = id AND month = month_of
           AND tenant_number IS NULL",
    )
    .bind(mapped.iter().map(|decided| decided.source).collect::<Vec<_>>())
    .bind(mapped.iter().map(|decided| decided.epoch).collect::<Vec<_>>())
    .bind(mapped.iter().map(|decided| decided.number).collect::<Vec<_>>())
    .bind(mapped.iter().map(|decided| decided.month.to_sqlx()).collect::<Vec<_>>())
    .bind(tenants.collect::<Vec<_>>())
    .bind(periods.collect::<Vec<_>>())
    .bind(mapped.iter().map(|decided| decided.counted).collect::<Vec<_>>())
    .bind(mapped.iter().map(|decided| decided.late).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}

/// Unmapped executions of one workflow.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct UnmappedWorkflow {
    pub(crate) source_id: String,
    pub(crate) workflow_id: String,
    pub(crate) name: Option<String>,
    pub(crate) project_id: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) executions: i64,
    pub(crate) first_stopped_at: SqlInstant,
    pub(crate) last_stopped_at: SqlInstant,
    pub(crate) workflows_total: i64,
    pub(crate) executions_total: i64,
}

/// The workflows with the most unmapped executions, at most `limit`; of one source, or of all.
pub(crate) async fn unmapped_workflows(
    pool: &PgPool,
    source: Option<&str>,
    limit: i64,
) -> Result<Vec<UnmappedWorkflow>, sqlx::Error> {
    sqlx::query_as(
        "WITH shared AS (
             SELECT source_number AS number FROM source_tenants GROUP BY source_number HAVING count(*) > 1)
         SELECT source_id, workflow_id, name, project_id, tags, executions, first_stopped_at, last_stopped_at,
             count(*) OVER () AS workflows_total, (sum(executions) OVER ())::bigint AS executions_total
         FROM (SELECT workflow_number, count(*) AS executions, min(stopped_at) AS first_stopped_at,
                   max(stopped_at) AS last_stopped_at
               FROM executions WHERE tenant_number IS NULL
                 AND (confirmed OR source_number NOT IN (SELECT number FROM shared))
                 AND ($1::text IS NULL OR source_number = (SELECT number FROM sources WHERE source_id = $1))
               GROUP BY workflow_number) AS unmapped
         JOIN workflows ON workflows.number = workflow_number JOIN sources ON sources.number = source_number
         ORDER BY executions DESC, source_id, workflow_id LIMIT $2",
    )
    .bind(source)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Executions that were pushed for shared sources and that no poll has shown; of one source, or of all.
pub(crate) async fn held(pool: &PgPool, source: Option<&str>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM executions JOIN sources ON sources.number = source_number
         WHERE tenant_number IS NULL AND NOT confirmed AND ($1::text IS NULL OR source_id = $1)
           AND source_number IN (SELECT source_number FROM source_tenants GROUP BY source_number HAVING count(*) > 1)",
    )
    .bind(source)
    .fetch_one(pool)
    .await
}

/// A recorded execution.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct RecordedRow {
    pub(crate) execution_id: i64,
    pub(crate) status: i16,
    pub(crate) stopped_at: SqlInstant,
    pub(crate) mode: i16,
    pub(crate) workflow_id: String,
    pub(crate) tenant_id: Option<String>,
    pub(crate) counted: bool,
    pub(crate) confirmed: bool,
}

/// A source's recorded executions with ids from `first` to `last`, at most `limit`, in order.
pub(crate) async fn recorded(
    pool: &PgPool,
    source: i32,
    epoch: i32,
    (first, last): (i64, i64),
    limit: i64,
) -> Result<Vec<RecordedRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT execution_id, status, stopped_at, mode, workflow_id, tenant_id, counted AND NOT voided AS counted, confirmed
         FROM executions JOIN workflows ON workflows.number = workflow_number
         LEFT JOIN tenants ON tenants.number = tenant_number
         WHERE executions.source_number = $1 AND epoch = $2 AND execution_id BETWEEN $3 AND $4
         ORDER BY execution_id LIMIT $5",
    )
    .bind(source)
    .bind(epoch)
    .bind(first)
    .bind(last)
    .bind(limit)
    .fetch_all(pool)
    .await
}
