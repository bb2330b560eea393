//! Roll-ups: the log of changes, and the figures folded from it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{PgConnection, PgExecutor};

use super::since::add_period_hours;
use crate::figures::{
    durations::Durations,
    rollup::{Cell, Changes, Figures, WorkflowDay, WorkflowPeriod},
    totals::Totals,
};

type SqlInstant = jiff_sqlx::Timestamp;

/// Logs the changes of this transaction, if there are any.
pub(crate) async fn log_changes(
    connection: &mut PgConnection,
    changes: &Changes,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query("INSERT INTO rollup_log (logged_at, change, workflows_added) VALUES ($1, $2, false)")
        .bind(now.to_sqlx())
        .bind(changes.to_bytes())
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the folder's turn until the transaction ends. Returns false while another replica holds it.
pub(crate) async fn try_fold_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext(current_schema() || '.folder'))")
        .fetch_one(connection)
        .await
}

/// A pending change: logged, and not folded into the roll-ups yet.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Waiting {
    pub(crate) number: i64,
    pub(crate) change: Vec<u8>,
    /// Whether its figures of workflows, except for durations, were added when it was logged.
    pub(crate) workflows_added: bool,
    /// Whether it was included in the hours of periods when these were introduced.
    pub(crate) hours_added: bool,
}

/// The oldest pending changes, at most `limit`.
pub(crate) async fn waiting(connection: &mut PgConnection, limit: i64) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, change, workflows_added, hours_added FROM rollup_log
         WHERE NOT folded ORDER BY number LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Pending changes whose figures of workflows or hours are not added yet: the numbers of all, each with
/// whether its figures of workflows are added, and the changes that are not in `known`.
pub(crate) async fn not_added(
    connection: &mut PgConnection,
    known: &[i64],
) -> Result<(BTreeMap<i64, bool>, Vec<Waiting>), sqlx::Error> {
    let numbers: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT number, workflows_added FROM rollup_log WHERE NOT folded AND NOT (workflows_added AND hours_added)",
    )
    .fetch_all(&mut *connection)
    .await?;
    let numbers: BTreeMap<i64, bool> = numbers.into_iter().collect();
    let news: Vec<i64> = numbers.keys().filter(|number| !known.contains(number)).copied().collect();
    if news.is_empty() {
        return Ok((numbers, Vec::new()));
    }
    let rows = sqlx::query_as(
        "SELECT number, change, workflows_added, hours_added FROM rollup_log WHERE number = ANY($1)",
    )
    .bind(news)
    .fetch_all(connection)
    .await?;
    Ok((numbers, rows))
}

/// When the oldest pending change was logged: the roll-ups are complete up to there.
pub(crate) async fn waiting_since(executor: impl PgExecutor<'_>) -> Result<Option<Timestamp>, sqlx::Error> {
    let since: Option<SqlInstant> =
        sqlx::query_scalar("SELECT min(logged_at) FROM rollup_log WHERE NOT folded")
            .fetch_one(executor)
            .await?;
    Ok(since.map(SqlInstant::to_jiff))
}

/// Marks these changes as folded.
pub(crate) async fn folded(connection: &mut PgConnection, numbers: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rollup_log SET folded = true WHERE number = ANY($1)")
        .bind(numbers)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes folded changes, unless a rebuild runs: it needs what was logged since it began.
pub(crate) async fn forget_folded(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM rollup_log WHERE folded
         AND (SELECT pg_try_advisory_xact_lock_shared(hashtext(current_schema() || '.rebuild')))",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds to the stored figures. The caller holds the folder's turn: nobody else writes roll-ups.
pub(crate) async fn add_figures(connection: &mut PgConnection, figures: &Figures) -> Result<(), sqlx::Error> {
    add_hours(connection, figures).await?;
    add_days(connection, figures).await?;
    add_workflow_days(connection, figures).await?;
    add_period_hours(connection, figures).await?;
    add_workflows(connection, figures).await
}

/// `INSERT` that adds the totals if a row already exists. The totals are `$1` to `$9`; the key and any
/// further columns come after them.
macro_rules! add_totals {
    ($table:literal, $columns:literal, $types:literal, $key:literal $(, $set:literal)?) => {
        concat!(
            "INSERT INTO ", $table, " AS kept (counted, uncounted, success, error, crashed, canceled, duration_ms,
                 late, voided, ", $columns, ")
             SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                 $7::bigint[], $8::bigint[], $9::bigint[], ", $types, ")
             ON CONFLICT (", $key, ") DO UPDATE
             SET counted = kept.counted + excluded.counted, uncounted = kept.uncounted + excluded.uncounted,
                 success = kept.success + excluded.success, error = kept.error + excluded.error,
                 crashed = kept.crashed + excluded.crashed, canceled = kept.canceled + excluded.canceled,
                 duration_ms = saturated(kept.duration_ms::numeric + excluded.duration_ms), late = kept.late + excluded.late,
                 voided = kept.voided + excluded.voided" $(, $set)?
        )
    };
}

fn column<K, V, C>(rows: &[(&K, &V)], value: impl Fn(&K) -> C) -> Vec<C> {
    rows.iter().map(|(key, _)| value(key)).collect()
}

async fn add_hours(connection: &mut PgConnection, figures: &Figures) -> Result<(), sqlx::Error> {
    let read = "SELECT tenant_number, hour_start, durations FROM usage_hours
         JOIN UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, hour_start)
         USING (tenant_number, hour_start)";
    let write = add_totals!(
        "usage_hours",
        "tenant_number, hour_start, durations",
        "$10::integer[], $11::timestamptz[], $12::bytea[]",
        "tenant_number, hour_start",
        ", durations = excluded.durations"
    );
    add_slices(connection, &figures.hours, (read, write)).await
}

async fn add_days(connection: &mut PgConnection, figures: &Figures) -> Result<(), sqlx::Error> {
    let read = "SELECT tenant_number, day_start, durations FROM usage_days
         JOIN UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, day_start)
         USING (tenant_number, day_start)";
    let write = add_totals!(
        "usage_days",
        "tenant_number, day_start, durations",
        "$10::integer[], $11::timestamptz[], $12::bytea[]",
        "tenant_number, day_start",
        ", durations = excluded.durations"
    );
    add_slices(connection, &figures.days, (read, write)).await
}

/// Adds hours or days of tenants, with the statements that read their sketches and write them.
async fn add_slices(
    connection: &mut PgConnection,
    figures: &BTreeMap<(i32, Timestamp), Cell>,
    (read, write): (&'static str, &'static str),
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = figures.iter().collect();
    let (tenants, starts) = (column(&rows, |key| key.0), column(&rows, |key| key.1.to_sqlx()));
    let kept: Vec<(i32, SqlInstant, Vec<u8>)> =
        sqlx::query_as(read).bind(&tenants).bind(&starts).fetch_all(&mut *connection).await?;
    let mut cells = figures.clone();
    for (tenant, start, bytes) in kept {
        if let Some(cell) = cells.get_mut(&(tenant, start.to_jiff())) {
            cell.durations += &read_durations(&bytes)?;
        }
    }
    let totals: Vec<Totals> = cells.values().map(|cell| cell.totals).collect();
    bind_totals!(sqlx::query(write), &totals)
        .bind(tenants)
        .bind(starts)
        .bind(durations_of(cells.values()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn add_workflow_days(connection: &mut PgConnection, figures: &Figures) -> Result<(), sqlx::Error> {
    let mut cells = figures.workflow_days.clone();
    let rows: Vec<_> = figures.workflow_days.iter().collect();
    let (tenants, workflows) = (column(&rows, |key| key.tenant), column(&rows, |key| key.workflow));
    let days = column(&rows, |key| key.day_start.to_sqlx());
    let kept: Vec<(i32, i32, SqlInstant, Vec<u8>)> = sqlx::query_as(
        "SELECT tenant_number, workflow_number, day_start, durations FROM workflow_days
         JOIN UNNEST($1::integer[], $2::integer[], $3::timestamptz[])
             AS wanted (tenant_number, workflow_number, day_start)
         USING (tenant_number, workflow_number, day_start)",
    )
    .bind(&tenants)
    .bind(&workflows)
    .bind(&days)
    .fetch_all(&mut *connection)
    .await?;
    for (tenant, workflow, day, bytes) in kept {
        if let Some(cell) = cells.get_mut(&WorkflowDay { tenant, workflow, day_start: day.to_jiff() }) {
            cell.durations += &read_durations(&bytes)?;
        }
    }
    let totals: Vec<Totals> = cells.values().map(|cell| cell.totals).collect();
    let query = sqlx::query(add_totals!(
        "workflow_days",
        "tenant_number, workflow_number, day_start, durations",
        "$10::integer[], $11::integer[], $12::timestamptz[], $13::bytea[]",
        "tenant_number, workflow_number, day_start",
        ", durations = excluded.durations"
    ));
    bind_totals!(query, &totals)
        .bind(tenants)
        .bind(workflows)
        .bind(days)
        .bind(durations_of(cells.values()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn add_workflows(connection: &mut PgConnection, figures: &Figures) -> Result<(), sqlx::Error> {
    let mut cells = figures.workflows.clone();
    let rows: Vec<_> = figures.workflows.iter().collect();
    let (tenants, workflows) = (column(&rows, |key| key.tenant), column(&rows, |key| key.workflow));
    let starts = column(&rows, |key| key.period_start.to_sqlx());
    let kept: Vec<(i32, SqlInstant, i32, Vec<u8>)> = sqlx::query_as(
        "SELECT tenant_number, period_start, workflow_number, durations FROM workflow_usage
         JOIN UNNEST($1::integer[], $2::timestamptz[], $3::integer[])
             AS wanted (tenant_number, period_start, workflow_number)
         USING (tenant_number, period_start, workflow_number)",
    )
    .bind(&tenants)
    .bind(&starts)
    .bind(&workflows)
    .fetch_all(&mut *connection)
    .await?;
    for (tenant, start, workflow, bytes) in kept {
        let key = WorkflowPeriod { tenant, period_start: start.to_jiff(), workflow };
        if let Some(cell) = cells.get_mut(&key) {
            cell.durations += &read_durations(&bytes)?;
        }
    }
    let totals: Vec<Totals> = cells.values().map(|cell| cell.totals).collect();
    let query = sqlx::query(add_totals!(
        "workflow_usage",
        "tenant_number, period_start, workflow_number, durations",
        "$10::integer[], $11::timestamptz[], $12::integer[], $13::bytea[]",
        "tenant_number, period_start, workflow_number",
        ", durations = excluded.durations"
    ));
    bind_totals!(query, &totals)
        .bind(tenants)
        .bind(starts)
        .bind(workflows)
        .bind(durations_of(cells.values()))
        .execute(connection)
        .await?;
    Ok(())
}

fn durations_of<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<Vec<u8>> {
    cells.map(|cell| cell.durations.to_bytes()).collect()
}

/// Reads the stored bytes of a sketch.
pub(crate) fn read_durations(bytes: &[u8]) -> Result<Durations, sqlx::Error> {
    Durations::from_bytes(bytes).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
