//! Refused runs by hour, reason and workflow.

use std::collections::BTreeMap;

use jiff::Timestamp;
use metering::{TenantId, WorkflowId};
use sqlx::{PgExecutor, Row};

use super::{from_db, to_db};
use crate::admission::refusals::{Refusal, Refused, hour};

/// Rows of one hour of a tenant, one for each reason and workflow: a tenant with more makes workflows up.
/// Further workflows share one row for each reason.
const ROWS_PER_HOUR_MAX: u64 = 100;

/// Adds refusals to the hour of `now`. In the transaction that stores their verdicts and holds the lock of
/// the tenant's ledger.
pub async fn add(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    refusals: &BTreeMap<Refusal, u64>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let workflow =
        |refusal: &Refusal| refusal.workflow.as_ref().map(WorkflowId::as_str).unwrap_or_default().to_owned();
    sqlx::query("SELECT count_refusals($1, $2, $3, $4, $5, $6, $7)")
        .bind(tenant.as_str())
        .bind(hour(now))
        .bind(to_db(ROWS_PER_HOUR_MAX))
        .bind(refusals.keys().map(|refusal| refusal.is_shadow).collect::<Vec<_>>())
        .bind(refusals.keys().map(|refusal| refusal.reason.as_str()).collect::<Vec<_>>())
        .bind(refusals.keys().map(workflow).collect::<Vec<_>>())
        .bind(refusals.values().map(|runs| to_db(*runs)).collect::<Vec<_>>())
        .execute(executor)
        .await?;
    Ok(())
}

/// How rows are grouped.
#[derive(Debug, Clone, Copy)]
pub struct Division {
    /// By reason.
    pub by_reason: bool,
    /// By workflow.
    pub by_workflow: bool,
}

/// Refused runs of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// The reason's name, if grouped by reason.
    pub reason: Option<String>,
    /// The workflow's id, if grouped by workflow; empty if the requests named none.
    pub workflow: Option<String>,
    /// Whether this is the shared row of further workflows.
    pub is_rest: bool,
    /// How many.
    pub runs: Refused,
}

/// The refused runs of a tenant's hours, the most first, at most `rows_max` rows; and the number of runs in
/// all rows.
pub async fn list(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    hours: std::ops::Range<i64>,
    division: Division,
    rows_max: u64,
) -> Result<(Vec<RefusedRow>, Refused), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT CASE WHEN $4 THEN reason END AS reason, CASE WHEN $5 THEN workflow END AS workflow, $5 AND is_rest AS is_rest,
                coalesce(sum(runs) FILTER (WHERE NOT is_shadow), 0)::bigint AS refused,
                coalesce(sum(runs) FILTER (WHERE is_shadow), 0)::bigint AS watched,
                coalesce(sum(sum(runs) FILTER (WHERE NOT is_shadow)) OVER (), 0)::bigint AS refused_total,
                coalesce(sum(sum(runs) FILTER (WHERE is_shadow)) OVER (), 0)::bigint AS watched_total
         FROM refusals WHERE tenant = $1 AND hour >= $2 AND hour < $3
         GROUP BY 1, 2, 3 ORDER BY sum(runs) DESC, 3, 1, 2 LIMIT $6",
    )
    .bind(tenant.as_str())
    .bind(hours.start)
    .bind(hours.end)
    .bind(division.by_reason)
    .bind(division.by_workflow)
    .bind(to_db(rows_max))
    .fetch_all(executor)
    .await?;
    let figures = |row: &sqlx::postgres::PgRow, refused, watched| {
        let figure = |column| row.try_get::<i64, &str>(column).map(from_db);
        Ok::<_, sqlx::Error>(Refused { refused: figure(refused)?, would_be_refused: figure(watched)? })
    };
    let total = rows.first().map(|row| figures(row, "refused_total", "watched_total")).transpose()?;
    let rows = rows.iter().map(|row| {
        Ok(RefusedRow {
            reason: row.try_get("reason")?,
            workflow: row.try_get("workflow")?,
            is_rest: row.try_get("is_rest")?,
            runs: figures(row, "refused", "watched")?,
        })
    });
    Ok((rows.collect::<Result<_, sqlx::Error>>()?, total.unwrap_or_default()))
}

/// The same by hour, oldest first.
pub async fn by_hour(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    hours: std::ops::Range<i64>,
) -> Result<Vec<(i64, Refused)>, sqlx::Error> {
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT hour, coalesce(sum(runs) FILTER (WHERE NOT is_shadow), 0)::bigint,
                coalesce(sum(runs) FILTER (WHERE is_shadow), 0)::bigint
         FROM refusals WHERE tenant = $1 AND hour >= $2 AND hour < $3 GROUP BY hour ORDER BY hour",
    )
    .bind(tenant.as_str())
    .bind(hours.start)
    .bind(hours.end)
    .fetch_all(executor)
    .await?;
    let figures = |(hour, refused, watched)| {
        (hour, Refused { refused: from_db(refused), would_be_refused: from_db(watched) })
    };
    Ok(rows.into_iter().map(figures).collect())
}
