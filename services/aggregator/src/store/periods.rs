//! Periods and their figures.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::Period;
use sqlx::{PgConnection, PgPool};

use super::{TermsRow, since};
use crate::{
    figures::{
        rollup::{PeriodHour, WorkflowPeriod},
        tally::PeriodKey,
        totals::Totals,
    },
    periods::thresholds::Terms,
};

type SqlInstant = jiff_sqlx::Timestamp;

/// A period as the transaction found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeriodRow {
    pub(crate) period: Period,
    /// Whether this transaction opened it.
    pub(crate) opened: bool,
    pub(crate) closed: bool,
    /// The terms it was last compared with.
    pub(crate) terms: Option<Terms>,
}

#[derive(sqlx::FromRow)]
struct StoredRow {
    period_end: SqlInstant,
    closed: bool,
    #[sqlx(flatten)]
    terms: TermsRow,
}

/// Opens the periods that do not exist yet. The caller holds the tenant's lock.
pub(crate) async fn ensure_periods(
    connection: &mut PgConnection,
    tenant_number: i32,
    periods: &BTreeSet<Period>,
    now: Timestamp,
) -> Result<Vec<PeriodRow>, sqlx::Error> {
    let mut rows = Vec::new();
    for period in periods {
        let opened = sqlx::query(
            "INSERT INTO periods (tenant_number, period_start, period_end, opened_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(tenant_number)
        .bind(period.start.to_sqlx())
        .bind(period.end.to_sqlx())
        .bind(now.to_sqlx())
        .execute(&mut *connection)
        .await?;
        let row: StoredRow = sqlx::query_as(
            "SELECT period_end, closed_at IS NOT NULL AS closed, terms_plan, terms_limit, terms_thresholds
             FROM periods WHERE tenant_number = $1 AND period_start = $2",
        )
        .bind(tenant_number)
        .bind(period.start.to_sqlx())
        .fetch_one(&mut *connection)
        .await?;
        rows.push(PeriodRow {
            period: Period { end: row.period_end.to_jiff(), ..*period },
            opened: opened.rows_affected() == 1,
            closed: row.closed,
            terms: row.terms.read(),
        });
    }
    Ok(rows)
}

/// The figures of a period; all zero if there is none.
pub(crate) async fn totals(
    connection: &mut PgConnection,
    tenant_number: i32,
    period: Period,
) -> Result<Totals, sqlx::Error> {
    let totals: Option<Totals> = sqlx::query_as(
        "SELECT counted, uncounted, success, error, crashed, canceled, duration_ms, late, voided, adjusted
         FROM periods WHERE tenant_number = $1 AND period_start = $2",
    )
    .bind(tenant_number)
    .bind(period.start.to_sqlx())
    .fetch_optional(connection)
    .await?;
    Ok(totals.unwrap_or_default())
}

/// Those of the given periods that are closed. The caller holds the tenants' locks, so this stays so.
pub(crate) async fn closed_among(
    connection: &mut PgConnection,
    periods: &BTreeSet<PeriodKey>,
) -> Result<BTreeSet<PeriodKey>, sqlx::Error> {
    let rows: Vec<(i32, SqlInstant)> = sqlx::query_as(
        "SELECT tenant_number, period_start FROM periods
         JOIN UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, period_start)
         USING (tenant_number, period_start)
         WHERE closed_at IS NOT NULL",
    )
    .bind(periods.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(periods.iter().map(|(_, start)| start.to_sqlx()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(tenant, start)| (tenant, start.to_jiff())).collect())
}

/// A period that has ended and may be closed.
#[derive(Debug, Clone)]
pub(crate) struct DuePeriod {
    pub(crate) tenant_number: i32,
    pub(crate) tenant_id: String,
    pub(crate) plan_id: String,
    pub(crate) period: Period,
}

/// Open periods that have ended and whose sources are all complete past the end, or whose grace is over
/// (`period_end <= grace_over`); the earliest first, at most `limit`.
pub(crate) async fn due_periods(
    pool: &PgPool,
    now: Timestamp,
    grace_over: Timestamp,
    limit: i64,
) -> Result<Vec<DuePeriod>, sqlx::Error> {
    let rows: Vec<(i32, String, String, SqlInstant, SqlInstant)> = sqlx::query_as(
        "SELECT number, tenant_id, plan_id, period_start, periods.period_end
         FROM periods JOIN tenants ON number = tenant_number
         WHERE closed_at IS NULL AND periods.period_end <= $1
           AND (periods.period_end <= $2 OR NOT EXISTS (
               SELECT FROM sources JOIN source_tenants ON source_number = sources.number
               WHERE source_tenants.tenant_number = tenants.number AND active
                 AND (counted_until IS NULL OR counted_until < periods.period_end)))
         ORDER BY periods.period_end, number LIMIT $3",
    )
    .bind(now.to_sqlx())
    .bind(grace_over.to_sqlx())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let due = rows.into_iter().map(|(tenant_number, tenant_id, plan_id, start, end)| DuePeriod {
        tenant_number,
        tenant_id,
        plan_id,
        period: Period { start: start.to_jiff(), end: end.to_jiff() },
    });
    Ok(due.collect())
}

/// Closes a period. Returns whether it was open.
pub(crate) async fn close(
    connection: &mut PgConnection,
    tenant_number: i32,
    period: Period,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query(
        "UPDATE periods SET closed_at = $3 WHERE tenant_number = $1 AND period_start = $2 AND closed_at IS NULL",
    )
    .bind(tenant_number)
    .bind(period.start.to_sqlx())
    .bind(now.to_sqlx())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Everything about one period of one tenant, read in one transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Whether the period has been opened.
    pub(crate) is_open: bool,
    /// The terms it is compared with.
    pub(crate) terms: Option<Terms>,
    pub(crate) totals: Totals,
    /// The workflows with the most counted executions.
    pub(crate) workflows: Vec<WorkflowRow>,
    pub(crate) workflows_total: i64,
    /// The active sources that executions of the tenant may come from.
    pub(crate) sources: Vec<SourceProgress>,
    /// Counted executions that stopped before [`Snapshot::complete_until`].
    pub(crate) counted_complete: i64,
}

/// The figures of one workflow.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct WorkflowRow {
    pub(crate) source_id: String,
    pub(crate) workflow_id: String,
    pub(crate) workflow_name: Option<String>,
    #[sqlx(flatten)]
    pub(crate) totals: Totals,
}

/// How far one source is counted.
#[derive(Debug, Clone)]
pub(crate) struct SourceProgress {
    pub(crate) source_id: String,
    pub(crate) counted_until: Option<Timestamp>,
    pub(crate) counted_open: i64,
    /// The previous `counted_until`; `None` if it is not known which executions were running then.
    pub(crate) earlier_until: Option<Timestamp>,
}

impl Snapshot {
    /// The previous [`Self::complete_until`], if it is known which executions of all sources were running
    /// then.
    pub(crate) fn earlier_complete_until(&self) -> Option<Timestamp> {
        self.sources.iter().map(|source| source.earlier_until).min().flatten()
    }

    /// The watermark: up to where all sources are counted. `None` while one of them never was, or if there is
    /// none.
    pub(crate) fn complete_until(&self) -> Option<Timestamp> {
        self.sources.iter().map(|source| source.counted_until).min().flatten()
    }
}

/// Starts of periods, by tenant.
fn starts(periods: &BTreeMap<i32, Period>) -> Vec<SqlInstant> {
    periods.values().map(|period| period.start.to_sqlx()).collect()
}

/// Reads a snapshot of each tenant's period, with at most `workflows_max` workflows each, including what is
/// not folded yet. The number of statements is fixed, however many tenants there are.
pub(crate) async fn snapshots(
    connection: &mut PgConnection,
    periods: &BTreeMap<i32, Period>,
    (unfolded, unfolded_hours): (&BTreeMap<WorkflowPeriod, Totals>, &BTreeMap<PeriodHour, i64>),
    workflows_max: i64,
) -> Result<HashMap<i32, Snapshot>, sqlx::Error> {
    let mut snapshots: HashMap<i32, Snapshot> =
        periods.keys().map(|tenant| (*tenant, Snapshot::default())).collect();
    for row in all_totals(connection, periods).await? {
        if let Some(snapshot) = snapshots.get_mut(&row.tenant_number) {
            (snapshot.is_open, snapshot.totals, snapshot.terms) = (true, row.totals, row.terms.read());
        }
    }
    for row in workflows(connection, periods, unfolded, workflows_max).await? {
        if let Some(snapshot) = snapshots.get_mut(&row.tenant_number) {
            snapshot.workflows_total = row.workflows_total;
            snapshot.workflows.push(row.workflow);
        }
    }
    for (tenant, progress) in progress(connection, periods).await? {
        if let Some(snapshot) = snapshots.get_mut(&tenant) {
            snapshot.sources.push(progress);
        }
    }
    for (tenant, since) in counted_since(connection, periods, unfolded_hours, &snapshots).await? {
        if let Some(snapshot) = snapshots.get_mut(&tenant) {
            // Adjustments by hand belong to no instant, and are complete at once.
            snapshot.counted_complete = snapshot.totals.counted - since;
        }
    }
    Ok(snapshots)
}

#[derive(sqlx::FromRow)]
struct TotalsRow {
    tenant_number: i32,
    #[sqlx(flatten)]
    totals: Totals,
    #[sqlx(flatten)]
    terms: TermsRow,
}

async fn all_totals(
    connection: &mut PgConnection,
    periods: &BTreeMap<i32, Period>,
) -> Result<Vec<TotalsRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT tenant_number, counted, uncounted, success, error, crashed, canceled, duration_ms, late, voided, adjusted,
             terms_plan, terms_limit, terms_thresholds
         FROM periods JOIN UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, period_start)
         USING (tenant_number, period_start)",
    )
    .bind(periods.keys().copied().collect::<Vec<_>>())
    .bind(starts(periods))
    .fetch_all(connection)
    .await
}

/// A period that has ended and is not closed.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) period: Period,
    pub(crate) totals: Totals,
    /// The terms it was last compared with.
    pub(crate) terms: Option<Terms>,
}

#[derive(sqlx::FromRow)]
struct EndedRow {
    tenant_number: i32,
    period_start: SqlInstant,
    period_end: SqlInstant,
    #[sqlx(flatten)]
    totals: Totals,
    #[sqlx(flatten)]
    terms: TermsRow,
}

/// The periods of these tenants that have ended by `now` and are not closed, the earliest first: only the
/// latest `limit` of each tenant.
pub(crate) async fn ended_periods(
    connection: &mut PgConnection,
    tenants: &[i32],
    now: Timestamp,
    limit: i64,
) -> Result<HashMap<i32, Vec<Ended>>, sqlx::Error> {
    let rows: Vec<EndedRow> = sqlx::query_as(
        "SELECT * FROM (
             SELECT periods.*, row_number() OVER (PARTITION BY tenant_number ORDER BY period_start DESC) AS place
             FROM periods WHERE tenant_number = ANY($1) AND closed_at IS NULL AND period_end <= $2) AS ended
         WHERE place <= $3 ORDER BY tenant_number, period_start",
    )
    .bind(tenants)
    .bind(now.to_sqlx())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let mut ended: HashMap<i32, Vec<Ended>> = HashMap::new();
    for row in rows {
        let period = Period { start: row.period_start.to_jiff(), end: row.period_end.to_jiff() };
        let one = Ended { period, totals: row.totals, terms: row.terms.read() };
        ended.entry(row.tenant_number).or_default().push(one);
    }
    Ok(ended)
}

#[derive(sqlx::FromRow)]
struct RankedRow {
    tenant_number: i32,
    workflows_total: i64,
    #[sqlx(flatten)]
    workflow: WorkflowRow,
}

/// The `limit` workflows of each tenant with the most counted executions, in this order.
async fn workflows(
    connection: &mut PgConnection,
    periods: &BTreeMap<i32, Period>,
    unfolded: &BTreeMap<WorkflowPeriod, Totals>,
    limit: i64,
) -> Result<Vec<RankedRow>, sqlx::Error> {
    let totals: Vec<Totals> = unfolded.values().copied().collect();
    let query = sqlx::query_as(
        "WITH parts AS (
             SELECT tenant_number, workflow_number, counted, uncounted, success, error, crashed, canceled, duration_ms,
                 late, voided
             FROM workflow_usage JOIN UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, period_start)
             USING (tenant_number, period_start)
             UNION ALL
             SELECT * FROM UNNEST($4::integer[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
                 $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
         ), used AS (
             SELECT tenant_number, workflow_number, sum(counted)::bigint AS counted, sum(uncounted)::bigint AS uncounted,
                 sum(success)::bigint AS success, sum(error)::bigint AS error, sum(crashed)::bigint AS crashed,
                 sum(canceled)::bigint AS canceled, saturated(sum(duration_ms)) AS duration_ms, sum(late)::bigint AS late,
                 sum(voided)::bigint AS voided
             FROM parts GROUP BY tenant_number, workflow_number
         ), ranked AS (
             SELECT used.*, source_id, workflow_id, name AS workflow_name,
                 count(*) OVER (PARTITION BY tenant_number) AS workflows_total,
                 row_number() OVER (PARTITION BY tenant_number
                     ORDER BY counted DESC, uncounted DESC, source_id, workflow_id) AS place
             FROM used JOIN workflows ON workflows.number = workflow_number
             JOIN sources ON sources.number = source_number
         )
         SELECT * FROM ranked WHERE place <= $3 ORDER BY tenant_number, place",
    )
    .bind(periods.keys().copied().collect::<Vec<_>>())
    .bind(starts(periods))
    .bind(limit)
    .bind(unfolded.keys().map(|key| key.tenant).collect::<Vec<_>>())
    .bind(unfolded.keys().map(|key| key.workflow).collect::<Vec<_>>());
    bind_totals!(query, &totals).fetch_all(connection).await
}

#[derive(sqlx::FromRow)]
struct ProgressRow {
    tenant_number: i32,
    source_id: String,
    counted_until: Option<SqlInstant>,
    counted_open: i64,
    earlier_until: Option<SqlInstant>,
}

async fn progress(
    connection: &mut PgConnection,
    periods: &BTreeMap<i32, Period>,
) -> Result<Vec<(i32, SourceProgress)>, sqlx::Error> {
    let rows: Vec<ProgressRow> = sqlx::query_as(
        "SELECT tenant_number, source_id, counted_until, counted_open,
             CASE WHEN earlier_open_ids IS NOT NULL THEN earlier_until END AS earlier_until
         FROM sources JOIN source_tenants ON source_number = number
         WHERE tenant_number = ANY($1) AND active ORDER BY tenant_number, source_id",
    )
    .bind(periods.keys().copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let progress = rows.into_iter().map(|row| {
        let progress = SourceProgress {
            source_id: row.source_id,
            counted_until: row.counted_until.map(SqlInstant::to_jiff),
            counted_open: row.counted_open,
            earlier_until: row.earlier_until.map(SqlInstant::to_jiff),
        };
        (row.tenant_number, progress)
    });
    Ok(progress.collect())
}

/// Counted executions that stopped at or after the watermark, of tenants that have one. The caller subtracts
/// them from the total.
async fn counted_since(
    connection: &mut PgConnection,
    periods: &BTreeMap<i32, Period>,
    unfolded: &BTreeMap<PeriodHour, i64>,
    snapshots: &HashMap<i32, Snapshot>,
) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    let complete = periods
        .iter()
        .filter_map(|(tenant, period)| Some((*tenant, snapshots.get(tenant)?.complete_until()?, *period)));
    let complete: Vec<(i32, Timestamp, Period)> = complete.collect();
    since::counted_since(connection, &complete, unfolded).await
}
