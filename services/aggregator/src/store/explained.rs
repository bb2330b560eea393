//! The executions behind a figure, page by page.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use metering::{Execution, ExecutionId, NAME_CHARS_MAX, Period, SafeText, WorkflowId};
use sqlx::{PgConnection, PgPool};

use super::{mode_of, status_of};
use crate::figures::totals::Totals;

type SqlInstant = jiff_sqlx::Timestamp;

/// How far outside its period an execution is searched: a crash that was resolved later may have ended
/// outside it, and stays in the period of the crash.
const CORRECTED_END_MAX: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Where a page begins: after this execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct After {
    pub(crate) stopped_at: Timestamp,
    pub(crate) source_number: i32,
    pub(crate) epoch: i32,
    pub(crate) execution_id: i64,
}

/// An execution, and how it was counted.
#[derive(Debug, Clone)]
pub(crate) struct Explained {
    pub(crate) place: After,
    pub(crate) source_id: String,
    pub(crate) execution: Execution,
    pub(crate) counted: bool,
    pub(crate) late: bool,
    pub(crate) voided: bool,
    pub(crate) recorded_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct ExplainedRow {
    source_number: i32,
    source_id: String,
    epoch: i32,
    execution_id: i64,
    workflow_id: String,
    name: Option<String>,
    status: i16,
    mode: i16,
    started_at: Option<SqlInstant>,
    stopped_at: SqlInstant,
    counted: bool,
    late: bool,
    voided: bool,
    recorded_at: SqlInstant,
}

/// The next executions of a period, or of one workflow in it, in the order in which they stopped; at most `limit`.
pub(crate) async fn explained(
    pool: &PgPool,
    tenant_number: i32,
    period: Period,
    workflow: Option<i32>,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<Explained>, sqlx::Error> {
    let earliest = period.start.saturating_sub(CORRECTED_END_MAX).unwrap_or(Timestamp::MIN);
    let latest = period.end.saturating_add(CORRECTED_END_MAX).unwrap_or(Timestamp::MAX);
    let first = After { stopped_at: earliest, source_number: 0, epoch: 0, execution_id: -1 };
    let after = after.unwrap_or(first);
    let rows: Vec<ExplainedRow> = sqlx::query_as(
        "SELECT executions.source_number, source_id, epoch, execution_id, workflows.workflow_id, name, status, mode, started_at,
                stopped_at, counted, late, voided, recorded_at
         FROM executions JOIN workflows ON workflows.number = workflow_number
         JOIN sources ON sources.number = executions.source_number
         WHERE executions.tenant_number = $1 AND period_start = $2 AND stopped_at >= $3 AND stopped_at < $4
           AND (stopped_at, executions.source_number, epoch, execution_id) > ($3, $5, $6, $7)
           AND ($8::integer IS NULL OR workflows.number = $8)
         ORDER BY stopped_at, executions.source_number, epoch, execution_id LIMIT $9",
    )
    .bind(tenant_number)
    .bind(period.start.to_sqlx())
    .bind(after.stopped_at.to_sqlx())
    .bind(latest.to_sqlx())
    .bind(after.source_number)
    .bind(after.epoch)
    .bind(after.execution_id)
    .bind(workflow)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(read).collect()
}

fn read(row: ExplainedRow) -> Result<Explained, sqlx::Error> {
    let damaged = |error: metering::InvalidId| sqlx::Error::Decode(Box::new(error));
    let stopped_at = row.stopped_at.to_jiff();
    Ok(Explained {
        place: After {
            stopped_at,
            source_number: row.source_number,
            epoch: row.epoch,
            execution_id: row.execution_id,
        },
        source_id: row.source_id,
        execution: Execution {
            id: ExecutionId::parse(&row.execution_id.to_string()).map_err(damaged)?,
            workflow: WorkflowId::parse(&row.workflow_id).map_err(damaged)?,
            workflow_name: row.name.map(|name| SafeText::clean(&name, NAME_CHARS_MAX)),
            status: status_of(row.status),
            mode: mode_of(row.mode),
            started_at: row.started_at.map(SqlInstant::to_jiff),
            stopped_at,
            retry_of: None,
            admitted_at: None,
        },
        counted: row.counted,
        late: row.late,
        voided: row.voided,
        recorded_at: row.recorded_at.to_jiff(),
    })
}

/// The period that begins at this instant; `None` if it was never opened.
pub(crate) async fn period_at(
    connection: &mut PgConnection,
    tenant_number: i32,
    start: Timestamp,
) -> Result<Option<Period>, sqlx::Error> {
    let end: Option<SqlInstant> =
        sqlx::query_scalar("SELECT period_end FROM periods WHERE tenant_number = $1 AND period_start = $2")
            .bind(tenant_number)
            .bind(start.to_sqlx())
            .fetch_optional(connection)
            .await?;
    Ok(end.map(|end| Period { start, end: end.to_jiff() }))
}

/// The figures of one workflow in a period; all zero if it did not run.
pub(crate) async fn workflow_totals(
    pool: &PgPool,
    tenant_number: i32,
    period_start: Timestamp,
    workflow: i32,
) -> Result<Totals, sqlx::Error> {
    let totals: Option<Totals> = sqlx::query_as(
        "SELECT counted, uncounted, success, error, crashed, canceled, duration_ms, late, voided, adjusted
         FROM workflow_usage WHERE tenant_number = $1 AND period_start = $2 AND workflow_number = $3",
    )
    .bind(tenant_number)
    .bind(period_start.to_sqlx())
    .bind(workflow)
    .fetch_optional(pool)
    .await?;
    Ok(totals.unwrap_or_default())
}
