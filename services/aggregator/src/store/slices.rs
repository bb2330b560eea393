//! Figures over time, for questions.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Period, TenantId};
use sqlx::{PgPool, Postgres, postgres::PgArguments, query::QueryAs};

use super::read_durations;
use crate::figures::{durations::Durations, totals::Totals};

type SqlInstant = jiff_sqlx::Timestamp;

/// The figures of one slice of time.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(crate) start: Timestamp,
    /// Stored for periods; hours and days end by the calendar.
    pub(crate) end: Option<Timestamp>,
    pub(crate) totals: Totals,
    pub(crate) durations: Option<Durations>,
}

/// The figures of one workflow in a period.
#[derive(Debug, Clone)]
pub(crate) struct WorkflowFigures {
    pub(crate) source_id: String,
    pub(crate) workflow_id: String,
    pub(crate) workflow_name: Option<String>,
    pub(crate) totals: Totals,
    pub(crate) durations: Durations,
}

#[derive(sqlx::FromRow)]
struct SliceRow {
    slice_start: SqlInstant,
    #[sqlx(default)]
    slice_end: Option<SqlInstant>,
    #[sqlx(flatten)]
    totals: Totals,
    #[sqlx(default)]
    durations: Option<Vec<u8>>,
}

type SliceQuery = QueryAs<'static, Postgres, SliceRow, PgArguments>;

/// The number of a tenant; `None` if the catalog never had it.
pub(crate) async fn tenant_number(pool: &PgPool, tenant: &TenantId) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("SELECT number FROM tenants WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .fetch_optional(pool)
        .await
}

/// The number of a workflow; `None` if no run of it by the tenant has been folded.
pub(crate) async fn workflow_number(
    pool: &PgPool,
    tenant: i32,
    source_id: &str,
    workflow_id: &str,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT workflows.number FROM workflows JOIN sources ON sources.number = source_number
         WHERE source_id = $1 AND workflow_id = $2 AND EXISTS (
             SELECT FROM workflow_days WHERE tenant_number = $3 AND workflow_number = workflows.number)",
    )
    .bind(source_id)
    .bind(workflow_id)
    .bind(tenant)
    .fetch_optional(pool)
    .await
}

/// The tenant's hours that begin in the span.
pub(crate) async fn hours(pool: &PgPool, tenant: i32, span: Period) -> Result<Vec<Slice>, sqlx::Error> {
    let query: SliceQuery = sqlx::query_as(
        "SELECT hour_start AS slice_start, counted, uncounted, success, error, crashed, canceled, duration_ms, late,
                voided, durations
         FROM usage_hours WHERE tenant_number = $1 AND hour_start >= $2 AND hour_start < $3 ORDER BY hour_start",
    );
    slices(pool, query.bind(tenant), span).await
}

/// The tenant's days that begin in the span.
pub(crate) async fn days(pool: &PgPool, tenant: i32, span: Period) -> Result<Vec<Slice>, sqlx::Error> {
    let query: SliceQuery = sqlx::query_as(
        "SELECT day_start AS slice_start, counted, uncounted, success, error, crashed, canceled, duration_ms, late,
                voided, durations
         FROM usage_days WHERE tenant_number = $1 AND day_start >= $2 AND day_start < $3 ORDER BY day_start",
    );
    slices(pool, query.bind(tenant), span).await
}

/// The days of one of the tenant's workflows that begin in the span.
pub(crate) async fn workflow_days(
    pool: &PgPool,
    tenant: i32,
    workflow: i32,
    span: Period,
) -> Result<Vec<Slice>, sqlx::Error> {
    let query: SliceQuery = sqlx::query_as(
        "SELECT day_start AS slice_start, counted, uncounted, success, error, crashed, canceled, duration_ms, late,
                voided, durations
         FROM workflow_days WHERE tenant_number = $1 AND day_start >= $2 AND day_start < $3 AND workflow_number = $4
         ORDER BY day_start",
    );
    let query = query.bind(tenant).bind(span.start.to_sqlx()).bind(span.end.to_sqlx()).bind(workflow);
    read(query.fetch_all(pool).await?)
}

/// The tenant's periods that begin in the span.
pub(crate) async fn periods_in(pool: &PgPool, tenant: i32, span: Period) -> Result<Vec<Slice>, sqlx::Error> {
    let query: SliceQuery = sqlx::query_as(
        "SELECT period_start AS slice_start, period_end AS slice_end, counted, uncounted, success, error, crashed,
                canceled, duration_ms, late, voided, adjusted
         FROM periods WHERE tenant_number = $1 AND period_start >= $2 AND period_start < $3 ORDER BY period_start",
    );
    slices(pool, query.bind(tenant), span).await
}

/// The tenant's periods that begin in the span and were adjusted by hand, each with the sum of its
/// adjustments.
pub(crate) async fn adjusted_periods(
    pool: &PgPool,
    tenant: i32,
    span: Period,
) -> Result<Vec<(Period, i64)>, sqlx::Error> {
    let rows: Vec<(SqlInstant, SqlInstant, i64)> = sqlx::query_as(
        "SELECT period_start, period_end, adjusted FROM periods
         WHERE tenant_number = $1 AND period_start >= $2 AND period_start < $3 AND adjusted <> 0
         ORDER BY period_start",
    )
    .bind(tenant)
    .bind(span.start.to_sqlx())
    .bind(span.end.to_sqlx())
    .fetch_all(pool)
    .await?;
    let period = |start: SqlInstant, end: SqlInstant| Period { start: start.to_jiff(), end: end.to_jiff() };
    Ok(rows.into_iter().map(|(start, end, adjusted)| (period(start, end), adjusted)).collect())
}

/// One of the tenant's workflows in the periods that begin in the span.
pub(crate) async fn workflow_periods(
    pool: &PgPool,
    tenant: i32,
    workflow: i32,
    span: Period,
) -> Result<Vec<Slice>, sqlx::Error> {
    let query: SliceQuery = sqlx::query_as(
        "SELECT used.period_start AS slice_start, period_end AS slice_end, used.counted, used.uncounted,
                used.success, used.error, used.crashed, used.canceled, used.duration_ms, used.late, used.voided,
                durations
         FROM workflow_usage AS used JOIN periods USING (tenant_number, period_start)
         WHERE tenant_number = $1 AND period_start >= $2 AND period_start < $3 AND workflow_number = $4
         ORDER BY period_start",
    );
    let query = query.bind(tenant).bind(span.start.to_sqlx()).bind(span.end.to_sqlx()).bind(workflow);
    read(query.fetch_all(pool).await?)
}

async fn slices(pool: &PgPool, query: SliceQuery, span: Period) -> Result<Vec<Slice>, sqlx::Error> {
    read(query.bind(span.start.to_sqlx()).bind(span.end.to_sqlx()).fetch_all(pool).await?)
}

fn read(rows: Vec<SliceRow>) -> Result<Vec<Slice>, sqlx::Error> {
    let slices = rows.into_iter().map(|row| {
        Ok(Slice {
            start: row.slice_start.to_jiff(),
            end: row.slice_end.map(SqlInstant::to_jiff),
            totals: row.totals,
            durations: row.durations.as_deref().map(read_durations).transpose()?,
        })
    });
    slices.collect()
}

#[derive(sqlx::FromRow)]
struct WorkflowRow {
    source_id: String,
    workflow_id: String,
    name: Option<String>,
    #[sqlx(flatten)]
    totals: Totals,
    durations: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct PeriodSum {
    workflows: i64,
    #[sqlx(flatten)]
    totals: Totals,
}

/// The `limit` workflows of a period with the most counted executions, or with the most failures; how many
/// workflows there are, and the sum of their figures with adjustments by hand.
pub(crate) async fn top_workflows(
    pool: &PgPool,
    tenant: i32,
    period_start: Timestamp,
    (limit, by_failures): (i64, bool),
) -> Result<(Vec<WorkflowFigures>, i64, Totals), sqlx::Error> {
    // Chosen first, so that names are looked up only for what is shown.
    let rows: Vec<WorkflowRow> = sqlx::query_as(
        "SELECT source_id, workflow_id, name, top.*
         FROM (SELECT * FROM workflow_usage WHERE tenant_number = $1 AND period_start = $2 AND (NOT $4 OR error + crashed > 0)
               ORDER BY CASE WHEN $4 THEN error + crashed ELSE counted END DESC, counted DESC, uncounted DESC,
                        workflow_number LIMIT $3) AS top
         JOIN workflows ON workflows.number = workflow_number
         JOIN sources ON sources.number = source_number
         ORDER BY CASE WHEN $4 THEN error + crashed ELSE counted END DESC, counted DESC, uncounted DESC, source_id,
                  workflow_id",
    )
    .bind(tenant)
    .bind(period_start.to_sqlx())
    .bind(limit)
    .bind(by_failures)
    .fetch_all(pool)
    .await?;
    let sum: PeriodSum = sqlx::query_as(
        "SELECT workflows, counted + adjusted AS counted, uncounted, success, error, crashed, canceled, duration_ms, late,
                voided, adjusted
         FROM (SELECT count(*) AS workflows, coalesce(sum(counted), 0)::bigint AS counted,
                      coalesce(sum(uncounted), 0)::bigint AS uncounted, coalesce(sum(success), 0)::bigint AS success,
                      coalesce(sum(error), 0)::bigint AS error, coalesce(sum(crashed), 0)::bigint AS crashed,
                      coalesce(sum(canceled), 0)::bigint AS canceled,
                      saturated(coalesce(sum(duration_ms), 0)) AS duration_ms,
                      coalesce(sum(late), 0)::bigint AS late, coalesce(sum(voided), 0)::bigint AS voided
               FROM workflow_usage WHERE tenant_number = $1 AND period_start = $2) AS folded,
              (SELECT coalesce(sum(adjusted), 0)::bigint AS adjusted FROM periods
               WHERE tenant_number = $1 AND period_start = $2) AS by_hand",
    )
    .bind(tenant)
    .bind(period_start.to_sqlx())
    .fetch_one(pool)
    .await?;
    let figures = rows.into_iter().map(|row| {
        Ok(WorkflowFigures {
            source_id: row.source_id,
            workflow_id: row.workflow_id,
            workflow_name: row.name,
            totals: row.totals,
            durations: read_durations(&row.durations)?,
        })
    });
    Ok((figures.collect::<Result<_, sqlx::Error>>()?, sum.workflows, sum.totals))
}
