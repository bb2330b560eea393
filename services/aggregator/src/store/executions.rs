//! Executions: the source of truth for what has been counted.

use std::collections::HashSet;

use chassis::CopyBuffer;
use jiff::{Timestamp, civil::Date};
use jiff_sqlx::ToSqlx;
use metering::{Mode, Period, Status};
use sqlx::PgConnection;

use crate::figures::tally::{Decided, Ended, Placed};

type SqlInstant = jiff_sqlx::Timestamp;
type SqlDate = jiff_sqlx::Date;

/// Size of a row in a binary `COPY`, with the lengths of its fields.
const ROW_BYTES: usize = 141;

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

/// The status with this stored number.
pub(crate) fn status_of(code: i16) -> Status {
    usize::try_from(code).ok().and_then(|code| STATUSES.get(code).copied()).unwrap_or(Status::Error)
}

/// The mode with this stored number.
pub(crate) fn mode_of(code: i16) -> Mode {
    usize::try_from(code).ok().and_then(|code| MODES.get(code).copied()).unwrap_or(Mode::Other)
}

/// Adds executions that are known to be new, sorted by key. The primary key is the second guard: one that
/// exists after all fails the transaction.
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
                 month, workflow_number, tenant_number, status, mode, counted, late, confirmed)
             FROM STDIN (FORMAT binary)",
        )
        .await?;
    let mut rows = CopyBuffer::for_rows(fresh.len(), ROW_BYTES);
    for decided in fresh {
        if let Some(part) = rows.take_part() {
            copy.send(part).await?;
        }
        rows.begin_row(15);
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
        rows.boolean(decided.confirmed);
    }
    copy.send(rows.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// The key of an execution: source, epoch and id.
pub(crate) type Key = (i32, i32, i64);

#[derive(sqlx::FromRow)]
struct KeptRow {
    source_number: i32,
    epoch: i32,
    execution_id: i64,
    month: SqlDate,
    workflow_number: i32,
    tenant_number: Option<i32>,
    status: i16,
    mode: i16,
    counted: bool,
    late: bool,
    voided: bool,
    confirmed: bool,
    started_at: Option<SqlInstant>,
    stopped_at: SqlInstant,
    period_start: Option<SqlInstant>,
    period_end: Option<SqlInstant>,
}

/// Those of the given executions that are stored and may still change: crashed ones, and those that no poll
/// has shown. Each is given with the month in which it is most likely stored. The caller holds the sources'
/// locks.
pub(crate) async fn changeable(
    connection: &mut PgConnection,
    wanted: &[(Key, Date)],
) -> Result<Vec<Decided>, sqlx::Error> {
    let mut found = changeable_in(connection, wanted, true).await?;
    if found.len() < wanted.len() {
        // Not in that month: a push reported another end. Searched in all months, which costs more.
        let keys: HashSet<Key> = found.iter().map(Decided::key).collect();
        let missing: Vec<(Key, Date)> =
            wanted.iter().filter(|(key, _)| !keys.contains(key)).copied().collect();
        found.extend(changeable_in(connection, &missing, false).await?);
    }
    Ok(found)
}

async fn changeable_in(
    connection: &mut PgConnection,
    wanted: &[(Key, Date)],
    this_month: bool,
) -> Result<Vec<Decided>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<KeptRow> = sqlx::query_as(if this_month { CHANGEABLE_OF_MONTH } else { CHANGEABLE })
        .bind(wanted.iter().map(|((source, ..), _)| *source).collect::<Vec<_>>())
        .bind(wanted.iter().map(|((_, epoch, _), _)| *epoch).collect::<Vec<_>>())
        .bind(wanted.iter().map(|((.., id), _)| *id).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, month)| month.to_sqlx()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(decided).collect())
}

/// Reads executions by key, and by month or not.
macro_rules! changeable {
    ($using:literal) => {
        concat!(
            "SELECT executions.source_number, executions.epoch, executions.execution_id, executions.month,
                    workflow_number, executions.tenant_number, status, mode, executions.counted, executions.late,
                    executions.voided, confirmed, started_at, stopped_at, executions.period_start, period_end
             FROM UNNEST($1::integer[], $2::integer[], $3::bigint[], $4::date[])
                 AS wanted (source_number, epoch, execution_id, month)
             JOIN executions USING (",
            $using,
            ")
             LEFT JOIN periods ON periods.tenant_number = executions.tenant_number
                 AND periods.period_start = executions.period_start
             WHERE status = 2 OR NOT confirmed"
        )
    };
}

const CHANGEABLE: &str = changeable!("source_number, epoch, execution_id");
const CHANGEABLE_OF_MONTH: &str = changeable!("source_number, epoch, execution_id, month");

fn decided(row: KeptRow) -> Decided {
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
            status: status_of(row.status),
            started_at: row.started_at.map(SqlInstant::to_jiff),
            stopped_at: row.stopped_at.to_jiff(),
        },
        placed,
        counted: row.counted,
        late: row.late,
        voided: row.voided,
        confirmed: row.confirmed,
    }
}

/// Marks these executions as shown by a poll exactly as they are stored. The caller holds the sources' locks.
pub(crate) async fn confirm(connection: &mut PgConnection, shown: &[&Decided]) -> Result<(), sqlx::Error> {
    if shown.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE executions SET confirmed = true
         FROM UNNEST($1::integer[], $2::integer[], $3::bigint[], $4::date[]) AS shown (source, epoch_of, id, month_of)
         WHERE source_number = source AND epoch = epoch_of AND execution_id = id AND month = month_of",
    )
    .bind(shown.iter().map(|decided| decided.source).collect::<Vec<_>>())
    .bind(shown.iter().map(|decided| decided.epoch).collect::<Vec<_>>())
    .bind(shown.iter().map(|decided| decided.number).collect::<Vec<_>>())
    .bind(shown.iter().map(|decided| decided.month.to_sqlx()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}

/// Overwrites executions, except for their keys. The caller holds the sources' locks.
pub(crate) async fn rewrite(connection: &mut PgConnection, after: &[&Decided]) -> Result<(), sqlx::Error> {
    if after.is_empty() {
        return Ok(());
    }
    let tenants = after.iter().map(|decided| decided.placed.map(|placed| placed.tenant));
    let periods = after.iter().map(|decided| decided.placed.map(|placed| placed.period.start.to_sqlx()));
    sqlx::query(
        "UPDATE executions SET status = status_now, mode = mode_now, workflow_number = workflow, started_at = start_now,
             stopped_at = stop_now, tenant_number = tenant, period_start = period, counted = counts, late = is_late,
             confirmed = is_confirmed
         FROM UNNEST($1::integer[], $2::integer[], $3::bigint[], $4::date[], $5::smallint[], $6::smallint[],
             $7::integer[], $8::timestamptz[], $9::timestamptz[], $10::integer[], $11::timestamptz[], $12::boolean[],
             $13::boolean[], $14::boolean[]) AS found (source, epoch_of, id, month_of, status_now, mode_now, workflow,
             start_now, stop_now, tenant, period, counts, is_late, is_confirmed)
         WHERE source_number = source AND epoch = epoch_of AND execution_id = id AND month = month_of",
    )
    .bind(after.iter().map(|decided| decided.source).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.epoch).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.number).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.month.to_sqlx()).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| code_of(&STATUSES, &decided.ended.status)).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| code_of(&MODES, &decided.mode)).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.workflow).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.ended.started_at.map(ToSqlx::to_sqlx)).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.ended.stopped_at.to_sqlx()).collect::<Vec<_>>())
    .bind(tenants.collect::<Vec<_>>())
    .bind(periods.collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.counted).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.late).collect::<Vec<_>>())
    .bind(after.iter().map(|decided| decided.confirmed).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}
