//! What a rebuild reads and writes: the executions in one snapshot, what was logged since, and all figures of a tenant.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use metering::Period;
use sqlx::{PgConnection, PgExecutor};

use super::{add_figures, read_durations, status_of};
use crate::figures::{
    rollup::{Cell, Figures, Share, WorkflowDay, WorkflowPeriod},
    totals::Totals,
};

type SqlInstant = jiff_sqlx::Timestamp;

/// Waits until no other rebuild runs, and holds the rebuild lock for the life of the connection.
pub(crate) async fn hold_rebuild(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock(hashtext(current_schema() || '.rebuild'))")
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps a rebuild from starting until the transaction ends. Returns false while one runs.
pub(crate) async fn hold_off_rebuild(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock_shared(hashtext(current_schema() || '.rebuild'))")
        .fetch_one(connection)
        .await
}

/// Takes the folder's turn until the transaction ends, waiting for it.
pub(crate) async fn fold_turn(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.folder'))")
        .execute(connection)
        .await?;
    Ok(())
}

/// All tenants that were ever known, by number.
pub(crate) async fn all_tenants(connection: &mut PgConnection) -> Result<Vec<(i32, String)>, sqlx::Error> {
    sqlx::query_as("SELECT number, tenant_id FROM tenants ORDER BY number").fetch_all(connection).await
}

/// Makes the transaction read one snapshot. Returns the snapshot's name, for [`logged_since`].
pub(crate) async fn freeze(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("SELECT pg_current_snapshot()::text").fetch_one(connection).await
}

#[derive(sqlx::FromRow)]
struct ShareRow {
    workflow_number: i32,
    period_start: SqlInstant,
    started_at: Option<SqlInstant>,
    stopped_at: SqlInstant,
    status: i16,
    counted: bool,
    late: bool,
    voided: bool,
}

/// The shares of all executions of a tenant.
pub(crate) fn shares(
    connection: &mut PgConnection,
    tenant: i32,
) -> impl Stream<Item = Result<Share, sqlx::Error>> {
    sqlx::query_as(
        "SELECT workflow_number, period_start, started_at, stopped_at, status, counted, late, voided
         FROM executions WHERE tenant_number = $1",
    )
    .bind(tenant)
    .fetch(connection)
    .map(move |row: Result<ShareRow, sqlx::Error>| row.map(|row| share(tenant, &row)))
}

fn share(tenant: i32, row: &ShareRow) -> Share {
    let (started_at, stopped_at) = (row.started_at.map(SqlInstant::to_jiff), row.stopped_at.to_jiff());
    let duration: SignedDuration = metering::run_time(started_at, stopped_at);
    let totals = if row.voided {
        Totals::VOIDED
    } else {
        Totals::ended(status_of(row.status), duration, row.counted, row.late)
    };
    Share {
        tenant,
        workflow: row.workflow_number,
        period_start: row.period_start.to_jiff(),
        stopped_at,
        duration,
        totals,
    }
}

/// What was logged by transactions that the snapshot does not see.
pub(crate) async fn logged_since(
    connection: &mut PgConnection,
    snapshot: &str,
) -> Result<Vec<(i64, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, change FROM rollup_log WHERE NOT pg_visible_in_snapshot(written_by, $1::pg_snapshot)",
    )
    .bind(snapshot)
    .fetch_all(connection)
    .await
}

#[derive(sqlx::FromRow)]
struct FiguresRow {
    start: SqlInstant,
    #[sqlx(default)]
    workflow: i32,
    #[sqlx(flatten)]
    totals: Totals,
    #[sqlx(default)]
    durations: Option<Vec<u8>>,
}

impl FiguresRow {
    fn cell(&self) -> Result<Cell, sqlx::Error> {
        let durations = read_durations(self.durations.as_deref().unwrap_or_default())?;
        Ok(Cell { totals: self.totals, durations })
    }
}

macro_rules! figures_of {
    ($columns:literal, $table:literal) => {
        concat!(
            "SELECT ",
            $columns,
            ", counted, uncounted, success, error, crashed, canceled, duration_ms, late, voided
             FROM ",
            $table,
            " WHERE tenant_number = $1"
        )
    };
}

/// A tenant's stored figures, without adjustments by hand.
pub(crate) async fn stored_figures(
    connection: &mut PgConnection,
    tenant: i32,
) -> Result<Figures, sqlx::Error> {
    let mut figures = Figures::default();
    for row in rows(connection, figures_of!("period_start AS start, adjusted", "periods"), tenant).await? {
        // Adjustments are part of `counted`, but come from no execution.
        let totals = Totals { counted: row.totals.counted - row.totals.adjusted, adjusted: 0, ..row.totals };
        figures.periods.insert((tenant, row.start.to_jiff()), totals);
    }
    let workflows =
        figures_of!("period_start AS start, workflow_number AS workflow, durations", "workflow_usage");
    for row in rows(connection, workflows, tenant).await? {
        let key = WorkflowPeriod { tenant, period_start: row.start.to_jiff(), workflow: row.workflow };
        figures.workflows.insert(key, row.cell()?);
    }
    for row in rows(connection, figures_of!("hour_start AS start, durations", "usage_hours"), tenant).await? {
        figures.hours.insert((tenant, row.start.to_jiff()), row.cell()?);
    }
    for row in rows(connection, figures_of!("day_start AS start, durations", "usage_days"), tenant).await? {
        figures.days.insert((tenant, row.start.to_jiff()), row.cell()?);
    }
    let days = figures_of!("day_start AS start, workflow_number AS workflow, durations", "workflow_days");
    for row in rows(connection, days, tenant).await? {
        let key = WorkflowDay { tenant, workflow: row.workflow, day_start: row.start.to_jiff() };
        figures.workflow_days.insert(key, row.cell()?);
    }
    Ok(figures)
}

async fn rows(
    connection: &mut PgConnection,
    statement: &'static str,
    tenant: i32,
) -> Result<Vec<FiguresRow>, sqlx::Error> {
    sqlx::query_as(statement).bind(tenant).fetch_all(connection).await
}

/// Since when all executions are kept: figures that begin before can be neither rebuilt nor explained.
pub(crate) async fn kept_since(executor: impl PgExecutor<'_>) -> Result<Timestamp, sqlx::Error> {
    let since: SqlInstant =
        sqlx::query_scalar("SELECT since FROM executions_kept").fetch_one(executor).await?;
    Ok(since.to_jiff())
}

/// Adjustments by hand, by period.
pub(crate) async fn adjustments(
    connection: &mut PgConnection,
    tenant: i32,
) -> Result<BTreeMap<Timestamp, i64>, sqlx::Error> {
    let rows: Vec<(SqlInstant, i64)> = sqlx::query_as(
        "SELECT period_start, sum(quantity)::bigint FROM corrections
         WHERE tenant_number = $1 AND quantity IS NOT NULL GROUP BY period_start",
    )
    .bind(tenant)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(start, quantity)| (start.to_jiff(), quantity)).collect())
}

/// Replaces a tenant's stored roll-ups from `since` on, but its hours and its workflows' days from
/// `hours_since` on. The caller holds the folder's turn and the tenant's lock, and no change of the tenant is
/// pending.
pub(crate) async fn replace_rollups(
    connection: &mut PgConnection,
    tenant: i32,
    (since, hours_since): (Timestamp, Timestamp),
    figures: &Figures,
) -> Result<(), sqlx::Error> {
    for (statement, since) in [
        ("DELETE FROM usage_hours WHERE tenant_number = $1 AND hour_start >= $2", hours_since),
        ("DELETE FROM usage_days WHERE tenant_number = $1 AND day_start >= $2", since),
        ("DELETE FROM workflow_days WHERE tenant_number = $1 AND day_start >= $2", hours_since),
        ("DELETE FROM period_hours WHERE tenant_number = $1 AND period_start >= $2", since),
        ("DELETE FROM workflow_usage WHERE tenant_number = $1 AND period_start >= $2", since),
    ] {
        sqlx::query(statement).bind(tenant).bind(since.to_sqlx()).execute(&mut *connection).await?;
    }
    add_figures(connection, figures).await
}

/// Sets a period's figures.
pub(crate) async fn set_period(
    connection: &mut PgConnection,
    tenant: i32,
    period: Period,
    totals: Totals,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE periods SET counted = $3, uncounted = $4, success = $5, error = $6, crashed = $7, canceled = $8,
             duration_ms = $9, late = $10, voided = $11, adjusted = $12
         WHERE tenant_number = $1 AND period_start = $2",
    )
    .bind(tenant)
    .bind(period.start.to_sqlx())
    .bind(totals.counted)
    .bind(totals.uncounted)
    .bind(totals.success)
    .bind(totals.error)
    .bind(totals.crashed)
    .bind(totals.canceled)
    .bind(totals.duration_ms)
    .bind(totals.late)
    .bind(totals.voided)
    .bind(totals.adjusted)
    .execute(connection)
    .await?;
    Ok(())
}
