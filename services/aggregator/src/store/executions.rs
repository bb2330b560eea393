//! Executions: the truth about what has been counted.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Execution, ExecutionId, Mode, Period, Status, WorkflowId};
use sqlx::PgConnection;

use super::SourceRow;
use crate::tally::Decided;

type SqlInstant = jiff_sqlx::Timestamp;

/// Stored numbers of statuses: append only.
const STATUSES: [Status; 4] = [Status::Success, Status::Error, Status::Crashed, Status::Canceled];

/// Stored numbers of modes: append only.
const MODES: [Mode; 9] = [
    Mode::Webhook,
    Mode::Trigger,
    Mode::Retry,
    Mode::Cli,
    Mode::Evaluation,
    Mode::Manual,
    Mode::Integrated,
    Mode::Error,
    Mode::Other,
];

fn code_of<T: PartialEq>(all: &[T], value: &T) -> i16 {
    let position = all.iter().position(|known| known == value).unwrap_or_default();
    i16::try_from(position).unwrap_or_default()
}

/// The status that a stored number stands for.
pub(crate) fn status_of(code: i16) -> Status {
    usize::try_from(code).ok().and_then(|code| STATUSES.get(code).copied()).unwrap_or(Status::Error)
}

/// The mode that a stored number stands for.
pub(crate) fn mode_of(code: i16) -> Mode {
    usize::try_from(code).ok().and_then(|code| MODES.get(code).copied()).unwrap_or(Mode::Other)
}

/// Claims executions: those that were not there before. The primary key decides, so of any number of claims,
/// at any time and from any replica, exactly one succeeds.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    source: &SourceRow,
    epoch: i32,
    decided: &[Decided],
    now: Timestamp,
) -> Result<HashSet<i64>, sqlx::Error> {
    let column = |value: fn(&Decided) -> i16| decided.iter().map(value).collect::<Vec<_>>();
    let instants = |value: fn(&Decided) -> Timestamp| {
        decided.iter().map(|decided| value(decided).to_sqlx()).collect::<Vec<SqlInstant>>()
    };
    let claimed: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO executions (source_number, epoch, tenant_number, recorded_at, execution_id, workflow_id,
             status, mode, counted, late, started_at, stopped_at, period_start)
         SELECT $1, $2, $3, $4, fresh.* FROM UNNEST($5::bigint[], $6::text[], $7::smallint[], $8::smallint[],
             $9::boolean[], $10::boolean[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[]) AS fresh
         ON CONFLICT (source_number, epoch, execution_id) DO NOTHING
         RETURNING execution_id",
    )
    .bind(source.number)
    .bind(epoch)
    .bind(source.tenant_number)
    .bind(now.to_sqlx())
    .bind(decided.iter().map(|decided| decided.number).collect::<Vec<_>>())
    .bind(decided.iter().map(|decided| decided.execution.workflow.as_str()).collect::<Vec<_>>())
    .bind(column(|decided| code_of(&STATUSES, &decided.execution.status)))
    .bind(column(|decided| code_of(&MODES, &decided.execution.mode)))
    .bind(decided.iter().map(|decided| decided.counted).collect::<Vec<_>>())
    .bind(decided.iter().map(|decided| decided.late).collect::<Vec<_>>())
    .bind(decided.iter().map(|decided| decided.execution.started_at.map(ToSqlx::to_sqlx)).collect::<Vec<_>>())
    .bind(instants(|decided| decided.execution.stopped_at))
    .bind(instants(|decided| decided.period.start))
    .fetch_all(connection)
    .await?;
    Ok(claimed.into_iter().collect())
}

#[derive(sqlx::FromRow)]
struct CrashedRow {
    execution_id: i64,
    workflow_id: String,
    mode: i16,
    counted: bool,
    late: bool,
    voided: bool,
    started_at: Option<SqlInstant>,
    stopped_at: SqlInstant,
    period_start: SqlInstant,
    period_end: SqlInstant,
}

/// Those of the given executions that are kept as crashed.
pub(crate) async fn crashed(
    connection: &mut PgConnection,
    source: &SourceRow,
    epoch: i32,
    numbers: &[i64],
) -> Result<Vec<Decided>, sqlx::Error> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<CrashedRow> = sqlx::query_as(
        "SELECT execution_id, workflow_id, mode, executions.counted, executions.late, executions.voided, started_at, stopped_at, period_start,
                period_end
         FROM executions JOIN periods USING (tenant_number, period_start)
         WHERE source_number = $1 AND epoch = $2 AND execution_id = ANY($3) AND status = $4",
    )
    .bind(source.number)
    .bind(epoch)
    .bind(numbers)
    .bind(code_of(&STATUSES, &Status::Crashed))
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(decided).collect()
}

fn decided(row: CrashedRow) -> Result<Decided, sqlx::Error> {
    let damaged = |error: metering::InvalidId| sqlx::Error::Decode(Box::new(error));
    Ok(Decided {
        number: row.execution_id,
        execution: Execution {
            id: ExecutionId::parse(&row.execution_id.to_string()).map_err(damaged)?,
            workflow: WorkflowId::parse(&row.workflow_id).map_err(damaged)?,
            workflow_name: None,
            status: Status::Crashed,
            mode: mode_of(row.mode),
            started_at: row.started_at.map(SqlInstant::to_jiff),
            stopped_at: row.stopped_at.to_jiff(),
            retry_of: None,
        },
        period: Period { start: row.period_start.to_jiff(), end: row.period_end.to_jiff() },
        counted: row.counted,
        late: row.late,
        voided: row.voided,
    })
}

/// Replaces what is known of an execution. Its period, and whether it counts, stay.
pub(crate) async fn rewrite(
    connection: &mut PgConnection,
    source: &SourceRow,
    epoch: i32,
    number: i64,
    execution: &Execution,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE executions SET status = $4, started_at = $5, stopped_at = $6
         WHERE source_number = $1 AND epoch = $2 AND execution_id = $3",
    )
    .bind(source.number)
    .bind(epoch)
    .bind(number)
    .bind(code_of(&STATUSES, &execution.status))
    .bind(execution.started_at.map(ToSqlx::to_sqlx))
    .bind(execution.stopped_at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}
