//! Executions: the truth about what has been counted.

use chassis::CopyBuffer;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Mode, Period, Status};
use sqlx::PgConnection;

use crate::tally::{Changed, Decided, Ended, Placed};

type SqlInstant = jiff_sqlx::Timestamp;
type SqlDate = jiff_sqlx::Date;

/// Of a row in a copy, with the lengths of its fields.
const ROW_BYTES: usize = 136;

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

/// Adds executions that are known to be new, sorted by key. The primary key is the second guard: one that is there after
/// all fails the transaction.
pub(crate) async fn copy_executions(
    connection: &mut PgConnection,
    fresh: &[Decided],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    if fresh.is_empty() {
        return Ok(());
    }
    let mut copy = connection
        .copy_in_raw(
            "COPY executions (execution_id, stopped_at, recorded_at, started_at, period_start, source_number, epoch,
                 month, workflow_number, tenant_number, status, mode, counted, late)
             FROM STDIN (FORMAT binary)",
        )
        .await?;
    let mut rows = CopyBuffer::for_rows(fresh.len(), ROW_BYTES);
    for decided in fresh {
        if let Some(part) = rows.take_part() {
            copy.send(part).await?;
        }
        rows.begin_row(14);
        rows.bigint(Some(decided.number));
        rows.instant(Some(decided.ended.stopped_at));
        rows.instant(Some(now));
        rows.instant(decided.ended.started_at);
        rows.instant(decided.placed.map(|placed| placed.period.start));
        rows.integer(Some(decided.source));
        rows.integer(Some(decided.epoch));
        rows.date(decided.month);
        rows.integer(Some(decided.workflow));
        rows.integer(decided.placed.map(|placed| placed.tenant));
        rows.smallint(code_of(&STATUSES, &decided.ended.status));
        rows.smallint(code_of(&MODES, &decided.mode));
        rows.boolean(decided.counted);
        rows.boolean(decided.late);
    }
    copy.send(rows.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// The key of an execution: source, epoch and id.
pub(crate) type Key = (i32, i32, i64);

#[derive(sqlx::FromRow)]
struct CrashedRow {
    source_number: i32,
    epoch: i32,
    execution_id: i64,
    month: SqlDate,
    workflow_number: i32,
    tenant_number: Option<i32>,
    mode: i16,
    counted: bool,
    late: bool,
    voided: bool,
    started_at: Option<SqlInstant>,
    stopped_at: SqlInstant,
    period_start: Option<SqlInstant>,
    period_end: Option<SqlInstant>,
}

/// Those of the given executions that are kept as crashed. The caller holds their sources.
pub(crate) async fn crashed(
    connection: &mut PgConnection,
    keys: &[Key],
) -> Result<Vec<Decided>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<CrashedRow> = sqlx::query_as(
        "SELECT source_number, epoch, execution_id, month, workflow_number, executions.tenant_number, mode,
                executions.counted, executions.late, executions.voided, started_at, stopped_at,
                executions.period_start, period_end
         FROM UNNEST($1::integer[], $2::integer[], $3::bigint[]) AS wanted (source_number, epoch, execution_id)
         JOIN executions USING (source_number, epoch, execution_id)
         LEFT JOIN periods ON periods.tenant_number = executions.tenant_number
             AND periods.period_start = executions.period_start
         WHERE status = 2",
    )
    .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(decided).collect())
}

fn decided(row: CrashedRow) -> Decided {
    let period = row.period_start.zip(row.period_end);
    let placed = row.tenant_number.zip(period).map(|(tenant, (start, end))| Placed {
        tenant,
        period: Period { start: start.to_jiff(), end: end.to_jiff() },
    });
    Decided {
        source: row.source_number,
        epoch: row.epoch,
        number: row.execution_id,
        month: row.month.to_jiff(),
        workflow: row.workflow_number,
        mode: mode_of(row.mode),
        ended: Ended {
            status: Status::Crashed,
            started_at: row.started_at.map(SqlInstant::to_jiff),
            stopped_at: row.stopped_at.to_jiff(),
        },
        placed,
        counted: row.counted,
        late: row.late,
        voided: row.voided,
    }
}

/// Replaces what is known of executions. Their periods, and whether they count, stay.
pub(crate) async fn rewrite(connection: &mut PgConnection, changed: &[Changed]) -> Result<(), sqlx::Error> {
    for Changed { before, after } in changed {
        sqlx::query(
            "UPDATE executions SET status = $5, started_at = $6, stopped_at = $7
             WHERE source_number = $1 AND epoch = $2 AND execution_id = $3 AND month = $4",
        )
        .bind(before.source)
        .bind(before.epoch)
        .bind(before.number)
        .bind(before.month.to_sqlx())
        .bind(code_of(&STATUSES, &after.status))
        .bind(after.started_at.map(ToSqlx::to_sqlx))
        .bind(after.stopped_at.to_sqlx())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
