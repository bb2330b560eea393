//! Executions that a source's hook says it refused: see [`crate::sweep::refusals`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SourceId;
use sqlx::{PgExecutor, PgPool, Row};

use crate::n8n::row::RunId;

/// Claims that are kept for one source: more than n8n keeps rows by default. Further ones are not kept, so
/// their rows count as the list shows them.
const CLAIMS_MAX: i64 = 20_000;

/// How long a claim is kept, in days: longer than n8n keeps rows by default, so that audits know it too.
const CLAIMS_KEPT_DAYS: i32 = 30;

fn number(id: RunId) -> i64 {
    i64::try_from(id.number()).unwrap_or(i64::MAX)
}

/// Stores the hook's claims, as far as there is room.
pub async fn claim(
    pool: &PgPool,
    source: &SourceId,
    ids: &[RunId],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM refusals WHERE claimed_at < $1 - make_interval(days => $2)")
        .bind(now.to_sqlx())
        .bind(CLAIMS_KEPT_DAYS)
        .execute(pool)
        .await?;
    sqlx::query(
        "INSERT INTO refusals (source_id, execution_id, claimed_at)
         SELECT source_id, id, $3 FROM sources, unnest($2::bigint[]) AS id
         WHERE source_id = $1 AND (SELECT count(*) FROM refusals WHERE source_id = $1) < $4
         ON CONFLICT (source_id, execution_id) DO NOTHING",
    )
    .bind(source.as_str())
    .bind(ids.iter().copied().map(number).collect::<Vec<_>>())
    .bind(now.to_sqlx())
    .bind(CLAIMS_MAX)
    .execute(pool)
    .await
    .map(drop)
}

/// The ones among these executions that the hook says it refused, with what their data say, if they were
/// read.
pub async fn claimed(
    executor: impl PgExecutor<'_>,
    source: &SourceId,
    ids: &[RunId],
) -> Result<Vec<(RunId, Option<bool>)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT execution_id, is_proven FROM refusals WHERE source_id = $1 AND execution_id = ANY($2)
         ORDER BY execution_id",
    )
    .bind(source.as_str())
    .bind(ids.iter().copied().map(number).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.try_get("execution_id")?;
        if let Some(id) = u64::try_from(id).ok().and_then(RunId::new) {
            claimed.push((id, row.try_get("is_proven")?));
        }
    }
    Ok(claimed)
}

/// The source's executions between two ids, both inclusive, that were refused by their own data.
pub async fn proven_between(
    executor: impl PgExecutor<'_>,
    source: &SourceId,
    (first, last): (RunId, RunId),
) -> Result<BTreeSet<u64>, sqlx::Error> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT execution_id FROM refusals
         WHERE source_id = $1 AND execution_id BETWEEN $2 AND $3 AND is_proven",
    )
    .bind(source.as_str())
    .bind(number(first))
    .bind(number(last))
    .fetch_all(executor)
    .await?;
    Ok(ids.into_iter().filter_map(|id| u64::try_from(id).ok()).collect())
}

/// Stores what an execution's data say.
pub async fn prove(
    executor: impl PgExecutor<'_>,
    source: &SourceId,
    id: RunId,
    is_proven: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE refusals SET is_proven = $3 WHERE source_id = $1 AND execution_id = $2")
        .bind(source.as_str())
        .bind(number(id))
        .bind(is_proven)
        .execute(executor)
        .await
        .map(drop)
}
