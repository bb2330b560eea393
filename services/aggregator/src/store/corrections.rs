//! Corrections by an operator: rows that are only ever added, and what each changes.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use metering::Period;
use sqlx::{PgConnection, PgExecutor};

use super::status_of;
use crate::figures::totals::Totals;

type SqlInstant = jiff_sqlx::Timestamp;

/// A stored correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Correction {
    pub(crate) id: String,
    pub(crate) tenant_number: i32,
    pub(crate) period: Period,
    pub(crate) author: String,
    pub(crate) reason: String,
    pub(crate) reason_is_public: bool,
    pub(crate) corrected_at: Timestamp,
    pub(crate) change: Correcting,
}

/// What a correction changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Correcting {
    /// An execution no longer counts.
    Void(ExecutionKey),
    /// Added to the period's count.
    Adjust(i64),
}

/// An execution, by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecutionKey {
    pub(crate) source_number: i32,
    /// For messages; the number is the key.
    pub(crate) source_id: String,
    pub(crate) epoch: i32,
    pub(crate) execution_id: i64,
}

#[derive(sqlx::FromRow)]
struct CorrectionRow {
    correction_id: String,
    tenant_number: i32,
    period_start: SqlInstant,
    period_end: SqlInstant,
    author: String,
    reason: String,
    reason_is_public: bool,
    corrected_at: SqlInstant,
    source_number: Option<i32>,
    source_id: Option<String>,
    epoch: Option<i32>,
    execution_id: Option<i64>,
    quantity: Option<i64>,
}

impl From<CorrectionRow> for Correction {
    fn from(row: CorrectionRow) -> Self {
        let key = row.source_number.zip(row.epoch).zip(row.execution_id);
        let change = match key {
            Some(((source_number, epoch), execution_id)) => Correcting::Void(ExecutionKey {
                source_number,
                source_id: row.source_id.unwrap_or_default(),
                epoch,
                execution_id,
            }),
            None => Correcting::Adjust(row.quantity.unwrap_or_default()),
        };
        Self {
            id: row.correction_id,
            tenant_number: row.tenant_number,
            period: Period { start: row.period_start.to_jiff(), end: row.period_end.to_jiff() },
            author: row.author,
            reason: row.reason,
            reason_is_public: row.reason_is_public,
            corrected_at: row.corrected_at.to_jiff(),
            change,
        }
    }
}

/// The correction with this id.
pub(crate) async fn correction(
    connection: &mut PgConnection,
    id: &str,
) -> Result<Option<Correction>, sqlx::Error> {
    let row: Option<CorrectionRow> = sqlx::query_as(
        "SELECT corrections.*, source_id FROM corrections LEFT JOIN sources ON number = source_number
         WHERE correction_id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Correction::from))
}

/// The corrections of a period, oldest first, at most `limit`.
pub(crate) async fn corrections(
    executor: impl PgExecutor<'_>,
    tenant_number: i32,
    period_start: Timestamp,
    limit: i64,
) -> Result<Vec<Correction>, sqlx::Error> {
    let rows: Vec<CorrectionRow> = sqlx::query_as(
        "SELECT corrections.*, source_id FROM corrections LEFT JOIN sources ON number = source_number
         WHERE corrections.tenant_number = $1 AND period_start = $2 ORDER BY corrected_at, correction_id LIMIT $3",
    )
    .bind(tenant_number)
    .bind(period_start.to_sqlx())
    .bind(limit)
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(Correction::from).collect())
}

/// Stores a correction.
pub(crate) async fn keep_correction(
    connection: &mut PgConnection,
    correction: &Correction,
) -> Result<(), sqlx::Error> {
    let (key, quantity) = match &correction.change {
        Correcting::Void(key) => (Some(key), None),
        Correcting::Adjust(quantity) => (None, Some(*quantity)),
    };
    sqlx::query(
        "INSERT INTO corrections (correction_id, tenant_number, period_start, period_end, author, reason,
             corrected_at, source_number, epoch, execution_id, quantity, reason_is_public)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&correction.id)
    .bind(correction.tenant_number)
    .bind(correction.period.start.to_sqlx())
    .bind(correction.period.end.to_sqlx())
    .bind(&correction.author)
    .bind(&correction.reason)
    .bind(correction.corrected_at.to_sqlx())
    .bind(key.map(|key| key.source_number))
    .bind(key.map(|key| key.epoch))
    .bind(key.map(|key| key.execution_id))
    .bind(quantity)
    .bind(correction.reason_is_public)
    .execute(connection)
    .await?;
    Ok(())
}

/// The number of a source; locks it for the rest of the transaction, as every change of its executions must.
pub(crate) async fn lock_source(
    connection: &mut PgConnection,
    source_id: &str,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("SELECT number FROM sources WHERE source_id = $1 FOR UPDATE")
        .bind(source_id)
        .fetch_optional(connection)
        .await
}

/// An execution that may be voided.
#[derive(Debug, Clone)]
pub(crate) struct Voidable {
    pub(crate) workflow_number: i32,
    pub(crate) period: Period,
    pub(crate) stopped_at: Timestamp,
    pub(crate) duration: SignedDuration,
    pub(crate) voided: bool,
    /// Its share in the figures while it is not voided.
    pub(crate) totals: Totals,
}

#[derive(sqlx::FromRow)]
struct VoidableRow {
    workflow_number: i32,
    period_start: SqlInstant,
    period_end: SqlInstant,
    started_at: Option<SqlInstant>,
    stopped_at: SqlInstant,
    status: i16,
    counted: bool,
    late: bool,
    voided: bool,
}

/// The tenant's execution with this key.
pub(crate) async fn voidable(
    connection: &mut PgConnection,
    tenant_number: i32,
    key: &ExecutionKey,
) -> Result<Option<Voidable>, sqlx::Error> {
    let row: Option<VoidableRow> = sqlx::query_as(
        "SELECT workflow_number, period_start, period_end, started_at, stopped_at, status,
                executions.counted, executions.late, executions.voided
         FROM executions JOIN periods USING (tenant_number, period_start)
         WHERE tenant_number = $1 AND source_number = $2 AND epoch = $3 AND execution_id = $4",
    )
    .bind(tenant_number)
    .bind(key.source_number)
    .bind(key.epoch)
    .bind(key.execution_id)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let (started_at, stopped_at) = (row.started_at.map(SqlInstant::to_jiff), row.stopped_at.to_jiff());
        let duration = metering::run_time(started_at, stopped_at);
        Voidable {
            workflow_number: row.workflow_number,
            period: Period { start: row.period_start.to_jiff(), end: row.period_end.to_jiff() },
            stopped_at,
            duration,
            voided: row.voided,
            totals: Totals::ended(status_of(row.status), duration, row.counted, row.late),
        }
    }))
}

/// Marks an execution as voided. Everything else about it stays.
pub(crate) async fn void_execution(
    connection: &mut PgConnection,
    key: &ExecutionKey,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE executions SET voided = true WHERE source_number = $1 AND epoch = $2 AND execution_id = $3",
    )
    .bind(key.source_number)
    .bind(key.epoch)
    .bind(key.execution_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Changes a period's figures.
pub(crate) async fn change_period(
    connection: &mut PgConnection,
    tenant_number: i32,
    period_start: Timestamp,
    change: Totals,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE periods SET counted = counted + $3, uncounted = uncounted + $4, success = success + $5,
             error = error + $6, crashed = crashed + $7, canceled = canceled + $8, duration_ms = saturated(duration_ms::numeric + $9),
             late = late + $10, voided = voided + $11, adjusted = adjusted + $12
         WHERE tenant_number = $1 AND period_start = $2",
    )
    .bind(tenant_number)
    .bind(period_start.to_sqlx())
    .bind(change.counted)
    .bind(change.uncounted)
    .bind(change.success)
    .bind(change.error)
    .bind(change.crashed)
    .bind(change.canceled)
    .bind(change.duration_ms)
    .bind(change.late)
    .bind(change.voided)
    .bind(change.adjusted)
    .execute(connection)
    .await?;
    Ok(())
}
