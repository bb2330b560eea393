//! What the recording transaction reads and writes, many sources and tenants at once.

use std::collections::{BTreeMap, HashMap};

use catalog::{Entry, InvalidEntry, Source};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Period, SourceId, TenantId, WorkflowId};
use prost::Message;
use proto::v1;
use sqlx::PgConnection;

use super::TermsRow;
use crate::{
    figures::{
        tally::{PeriodChange, PeriodKey},
        totals::Totals,
    },
    periods::thresholds::Terms,
    recording::{known_workflow::Workflow, ownership::Ownership},
};

type SqlInstant = jiff_sqlx::Timestamp;

fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// The numbers of sources; those that the catalog never had are left out.
pub(crate) async fn source_numbers(
    connection: &mut PgConnection,
    sources: &[SourceId],
) -> Result<Vec<(SourceId, i32)>, sqlx::Error> {
    let rows: Vec<(String, i32)> =
        sqlx::query_as("SELECT source_id, number FROM sources WHERE source_id = ANY($1)")
            .bind(sources.iter().map(SourceId::as_str).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(|(id, number)| Ok((SourceId::parse(&id).map_err(damaged)?, number))).collect()
}

/// Locks the sources for the rest of the transaction, in the order of their numbers to avoid deadlocks.
/// Returns their versions.
pub(crate) async fn lock_sources(
    connection: &mut PgConnection,
    sources: &[i32],
) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, version FROM sources WHERE number = ANY($1) ORDER BY number FOR NO KEY UPDATE",
    )
    .bind(sources)
    .fetch_all(connection)
    .await
}

/// Invalidates what other workers remember of these sources, and marks those in `map_again`.
pub(crate) async fn raise_versions(
    connection: &mut PgConnection,
    sources: &[i32],
    map_again: &[i32],
) -> Result<(), sqlx::Error> {
    if sources.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE sources SET version = version + 1, map_again = map_again OR number = ANY($2)
         WHERE number = ANY($1)",
    )
    .bind(sources)
    .bind(map_again)
    .execute(connection)
    .await?;
    Ok(())
}

/// Which tenants the executions of these sources belong to.
pub(crate) async fn ownerships(
    connection: &mut PgConnection,
    sources: &[i32],
) -> Result<Vec<(i32, Ownership)>, sqlx::Error> {
    let rows: Vec<(i32, Option<Vec<u8>>, Option<String>)> = sqlx::query_as(
        "SELECT number, placement, (SELECT min(tenant_id) FROM source_tenants
             JOIN tenants ON tenants.number = tenant_number WHERE source_number = sources.number)
         FROM sources WHERE number = ANY($1)",
    )
    .bind(sources)
    .fetch_all(connection)
    .await?;
    let ownership = |placement: Option<Vec<u8>>, tenant: Option<String>| match placement {
        Some(bytes) => {
            let wire = v1::Source::decode(bytes.as_slice()).map_err(damaged)?;
            let source: Result<Source, InvalidEntry> = Source::from_wire(wire);
            Ok::<_, sqlx::Error>(Ownership::Catalog(Box::new(source.map_err(damaged)?)))
        }
        None => {
            let tenant = tenant.map(|id| TenantId::parse(&id)).transpose().map_err(damaged)?;
            Ok(Ownership::Tenant(tenant))
        }
    };
    rows.into_iter().map(|(number, bytes, tenant)| Ok((number, ownership(bytes, tenant)?))).collect()
}

#[derive(sqlx::FromRow)]
struct WorkflowRow {
    source_number: i32,
    workflow_id: String,
    number: i32,
    name: Option<String>,
    named_at: Option<SqlInstant>,
    project_id: Option<String>,
    tags: Vec<String>,
    read_at: Option<SqlInstant>,
}

/// What is known of these workflows; those without a row are left out.
pub(crate) async fn workflows(
    connection: &mut PgConnection,
    wanted: &[(i32, WorkflowId)],
) -> Result<Vec<(i32, WorkflowId, Workflow)>, sqlx::Error> {
    let rows: Vec<WorkflowRow> = sqlx::query_as(
        "SELECT source_number, workflow_id, number, name, named_at, project_id, tags, read_at
         FROM workflows JOIN UNNEST($1::integer[], $2::text[]) AS wanted (source_number, workflow_id)
         USING (source_number, workflow_id)",
    )
    .bind(wanted.iter().map(|(source, _)| *source).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, workflow)| workflow.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let read = |row: WorkflowRow| {
        let workflow = Workflow {
            number: row.number,
            name: row.name,
            named_at: row.named_at.map(SqlInstant::to_jiff),
            project: row.project_id,
            tags: row.tags,
            read_at: row.read_at.map(SqlInstant::to_jiff),
            dirty: false,
        };
        Ok((row.source_number, WorkflowId::parse(&row.workflow_id).map_err(damaged)?, workflow))
    };
    rows.into_iter().map(read).collect()
}

/// How many workflows a source has.
pub(crate) async fn workflows_kept(connection: &mut PgConnection, source: i32) -> Result<usize, sqlx::Error> {
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM workflows WHERE source_number = $1")
        .bind(source)
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(kept).unwrap_or_default())
}

/// Stores what is known of a workflow. The caller holds its source's lock. Returns its number.
pub(crate) async fn put_workflow(
    connection: &mut PgConnection,
    source: i32,
    id: &WorkflowId,
    workflow: &Workflow,
) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO workflows (source_number, workflow_id, name, named_at, project_id, tags, read_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (source_number, workflow_id) DO UPDATE
         SET name = excluded.name, named_at = excluded.named_at, project_id = excluded.project_id,
             tags = excluded.tags, read_at = excluded.read_at
         RETURNING number",
    )
    .bind(source)
    .bind(id.as_str())
    .bind(&workflow.name)
    .bind(workflow.named_at.map(ToSqlx::to_sqlx))
    .bind(&workflow.project)
    .bind(&workflow.tags)
    .bind(workflow.read_at.map(ToSqlx::to_sqlx))
    .fetch_one(connection)
    .await
}

/// The numbers of tenants.
pub(crate) async fn tenant_numbers(
    connection: &mut PgConnection,
    tenants: &[TenantId],
) -> Result<HashMap<String, i32>, sqlx::Error> {
    let rows: Vec<(String, i32)> =
        sqlx::query_as("SELECT tenant_id, number FROM tenants WHERE tenant_id = ANY($1)")
            .bind(tenants.iter().map(TenantId::as_str).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

/// The ids of tenants, by number.
pub(crate) async fn tenant_ids(
    connection: &mut PgConnection,
    tenants: &[i32],
) -> Result<Vec<TenantId>, sqlx::Error> {
    let ids: Vec<String> = sqlx::query_scalar("SELECT tenant_id FROM tenants WHERE number = ANY($1)")
        .bind(tenants)
        .fetch_all(connection)
        .await?;
    ids.iter().map(|id| TenantId::parse(id).map_err(damaged)).collect()
}

/// A tenant that is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raised {
    /// Its new revision.
    pub(crate) revision: i64,
    /// The version of its timeline.
    pub(crate) calendar_version: i32,
}

/// Locks the tenants for the rest of the transaction, in the order of their numbers, after the sources. Gives
/// each a new revision, which is news.
pub(crate) async fn raise_revisions(
    connection: &mut PgConnection,
    tenants: &[i32],
) -> Result<HashMap<i32, Raised>, sqlx::Error> {
    sqlx::query("SELECT FROM tenants WHERE number = ANY($1) ORDER BY number FOR NO KEY UPDATE")
        .bind(tenants)
        .execute(&mut *connection)
        .await?;
    let rows: Vec<(i32, i64, i32)> = sqlx::query_as(
        "UPDATE tenants SET revision = revision + 1 WHERE number = ANY($1)
         RETURNING number, revision, calendar_version",
    )
    .bind(tenants)
    .fetch_all(connection)
    .await?;
    let raised = rows
        .into_iter()
        .map(|(number, revision, calendar_version)| (number, Raised { revision, calendar_version }));
    Ok(raised.collect())
}

/// A period after its figures have changed.
#[derive(Debug, Clone)]
pub(crate) struct ChangedPeriod {
    pub(crate) tenant: i32,
    pub(crate) period: Period,
    /// Whether this transaction opened it.
    pub(crate) opened: bool,
    pub(crate) closed: bool,
    pub(crate) totals: Totals,
    /// The terms it was last compared with.
    pub(crate) terms: Option<Terms>,
}

#[derive(sqlx::FromRow)]
struct ChangedPeriodRow {
    tenant_number: i32,
    period_start: SqlInstant,
    period_end: SqlInstant,
    opened: bool,
    closed: bool,
    #[sqlx(flatten)]
    totals: Totals,
    #[sqlx(flatten)]
    terms: TermsRow,
}

/// Adds to the figures of periods, and opens those that do not exist yet. What is counted in a closed one is
/// late. The caller holds the tenants' locks.
pub(crate) async fn add_to_periods(
    connection: &mut PgConnection,
    changes: &BTreeMap<PeriodKey, PeriodChange>,
    now: Timestamp,
) -> Result<Vec<ChangedPeriod>, sqlx::Error> {
    correct_late(&mut *connection, changes).await?;
    let totals: Vec<Totals> = changes.values().map(|change| change.totals).collect();
    let query = sqlx::query_as(
        "INSERT INTO periods AS kept (counted, uncounted, success, error, crashed, canceled, duration_ms,
             tenant_number, period_start, period_end, opened_at)
         SELECT *, $11 FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
             $7::bigint[], $8::integer[], $9::timestamptz[], $10::timestamptz[])
         ON CONFLICT (tenant_number, period_start) DO UPDATE
         SET counted = kept.counted + excluded.counted, uncounted = kept.uncounted + excluded.uncounted,
             success = kept.success + excluded.success, error = kept.error + excluded.error,
             crashed = kept.crashed + excluded.crashed, canceled = kept.canceled + excluded.canceled,
             duration_ms = saturated(kept.duration_ms::numeric + excluded.duration_ms),
             late = kept.late + CASE WHEN kept.closed_at IS NULL THEN 0 ELSE excluded.counted END
         RETURNING tenant_number, period_start, period_end, xmax = 0 AS opened, closed_at IS NOT NULL AS closed,
             counted, uncounted, success, error, crashed, canceled, duration_ms, late, voided, adjusted,
             terms_plan, terms_limit, terms_thresholds",
    );
    let rows: Vec<ChangedPeriodRow> = bind_recorded!(query, &totals)
        .bind(changes.keys().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
        .bind(changes.keys().map(|(_, start)| start.to_sqlx()).collect::<Vec<_>>())
        .bind(changes.values().map(|change| change.period.end.to_sqlx()).collect::<Vec<_>>())
        .bind(now.to_sqlx())
        .fetch_all(connection)
        .await?;
    let changed = rows.into_iter().map(|row| ChangedPeriod {
        tenant: row.tenant_number,
        period: Period { start: row.period_start.to_jiff(), end: row.period_end.to_jiff() },
        opened: row.opened,
        closed: row.closed,
        totals: row.totals,
        terms: row.terms.read(),
    });
    Ok(changed.collect())
}

/// If executions that were recorded before change, `late` does not follow `counted`: one that was in time may
/// leave a closed period. The difference is corrected before the rest is added.
async fn correct_late(
    connection: &mut PgConnection,
    changes: &BTreeMap<PeriodKey, PeriodChange>,
) -> Result<(), sqlx::Error> {
    for ((tenant, start), change) in changes.iter().filter(|(_, change)| change.late_apart != 0) {
        sqlx::query(
            "UPDATE periods SET late = late + $3
             WHERE tenant_number = $1 AND period_start = $2 AND closed_at IS NOT NULL",
        )
        .bind(tenant)
        .bind(start.to_sqlx())
        .bind(change.late_apart)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
