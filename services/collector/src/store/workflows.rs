//! Workflows as they were published last: see [`crate::sweep::workflows`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{NAME_CHARS_MAX, SafeText, SourceId, WorkflowId};
use sqlx::{PgExecutor, PgPool, Row, postgres::PgRow};

use super::{instant, seconds_before};
use crate::{
    n8n::workflow::Workflow,
    sweep::{failure::SweepError, workflows::News},
};

/// Separates tags that are passed joined: a control character, which no tag that is kept contains.
const TAGS_BETWEEN: &str = "\u{1f}";

/// What is known of a workflow, and when it was first read so; `None` if the source's list does not have it.
pub type Known = Option<(Workflow, Timestamp)>;

/// What is known of these workflows. Those that no reading of the list has looked for are left out.
pub async fn of(
    executor: impl PgExecutor<'_>,
    source: &SourceId,
    workflows: &BTreeSet<WorkflowId>,
) -> Result<BTreeMap<WorkflowId, Known>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT workflow_id, name, project_id, tags, read_at FROM workflows
         WHERE source_id = $1 AND workflow_id = ANY($2)",
    )
    .bind(source.as_str())
    .bind(workflows.iter().map(WorkflowId::as_str).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    let mut known = BTreeMap::new();
    for row in &rows {
        if let Ok(id) = WorkflowId::parse(row.try_get("workflow_id")?) {
            known.insert(id, workflow(row)?);
        }
    }
    Ok(known)
}

/// Every workflow of the source that its list has had.
pub async fn all(
    executor: impl PgExecutor<'_>,
    source: &SourceId,
) -> Result<BTreeMap<WorkflowId, Workflow>, SweepError> {
    let rows = sqlx::query(
        "SELECT workflow_id, name, project_id, tags, read_at FROM workflows
         WHERE source_id = $1 AND name IS NOT NULL",
    )
    .bind(source.as_str())
    .fetch_all(executor)
    .await?;
    let mut all = BTreeMap::new();
    for row in &rows {
        let id: String = row.try_get("workflow_id")?;
        let id = WorkflowId::parse(&id).map_err(|_| SweepError::Damaged("workflow id"))?;
        all.extend(workflow(row)?.map(|(workflow, _)| (id, workflow)));
    }
    Ok(all)
}

/// When the list was read last; `None` if it never was, or is to be read again.
pub async fn read_at(
    executor: impl PgExecutor<'_>,
    source: &SourceId,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let row = sqlx::query("SELECT workflows_read_at FROM sources WHERE source_id = $1")
        .bind(source.as_str())
        .fetch_one(executor)
        .await?;
    instant(&row, "workflows_read_at")
}

/// Stores what was published of a reading, and which workflows it did not have.
pub async fn keep(
    pool: &PgPool,
    source: &SourceId,
    news: &News,
    read_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if !news.changed.is_empty() {
        // Arrays of arrays do not unnest row by row, so the tags of each are passed joined.
        sqlx::query(
            "INSERT INTO workflows (source_id, workflow_id, name, project_id, tags, read_at)
             SELECT $1, workflow_id, name, project_id, string_to_array(tags, $6), $7
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[])
                 AS changed (workflow_id, name, project_id, tags)
             ON CONFLICT (source_id, workflow_id) DO UPDATE
             SET name = excluded.name, project_id = excluded.project_id, tags = excluded.tags,
                 read_at = excluded.read_at",
        )
        .bind(source.as_str())
        .bind(news.changed.keys().map(WorkflowId::as_str).collect::<Vec<_>>())
        .bind(news.changed.values().map(|workflow| workflow.name.as_str()).collect::<Vec<_>>())
        .bind(news.changed.values().map(|workflow| workflow.project.as_deref()).collect::<Vec<_>>())
        .bind(news.changed.values().map(|workflow| joined(&workflow.tags)).collect::<Vec<_>>())
        .bind(TAGS_BETWEEN)
        .bind(read_at.to_sqlx())
        .execute(&mut *transaction)
        .await?;
    }
    if !news.missing.is_empty() {
        sqlx::query(
            "INSERT INTO workflows (source_id, workflow_id, read_at) SELECT $1, unnest($2::text[]), $3
             ON CONFLICT (source_id, workflow_id) DO NOTHING",
        )
        .bind(source.as_str())
        .bind(news.missing.iter().map(WorkflowId::as_str).collect::<Vec<_>>())
        .bind(read_at.to_sqlx())
        .execute(&mut *transaction)
        .await?;
    }
    let update = "UPDATE sources SET workflows_read_at = $2, unsaving_workflows = $3, all_saved = $4
                  WHERE source_id = $1";
    sqlx::query(update)
        .bind(source.as_str())
        .bind(read_at.to_sqlx())
        .bind(i32::try_from(news.kept.unsaving).unwrap_or(i32::MAX))
        .bind(news.kept.all)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Makes the next sweep read the list, and come at once, unless one has begun within `pause_s` seconds or the
/// source is failing.
pub async fn want(
    executor: impl PgExecutor<'_>,
    source: &SourceId,
    pause_s: i64,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sources SET workflows_read_at = NULL, next_sweep_at = least(next_sweep_at, $2),
             postponable_until = NULL
         WHERE source_id = $1 AND failures = 0 AND (swept_at IS NULL OR swept_at <= $3)",
    )
    .bind(source.as_str())
    .bind(now.to_sqlx())
    .bind(seconds_before(now, pause_s).to_sqlx())
    .execute(executor)
    .await
    .map(drop)
}

fn joined(tags: &[SafeText]) -> String {
    tags.iter().map(SafeText::as_str).collect::<Vec<_>>().join(TAGS_BETWEEN)
}

/// Cleaned again: a row may date from when less was checked.
fn stored(text: &str) -> SafeText {
    SafeText::clean(text, NAME_CHARS_MAX)
}

fn workflow(row: &PgRow) -> Result<Known, sqlx::Error> {
    let (name, read_at) = (row.try_get::<Option<String>, _>("name")?, instant(row, "read_at")?);
    let project = row.try_get::<Option<String>, _>("project_id")?.map(|project| stored(&project));
    let tags = row.try_get::<Vec<String>, _>("tags")?.iter().map(|tag| stored(tag)).collect();
    Ok(name.zip(read_at).map(|(name, read_at)| (Workflow { name: stored(&name), project, tags }, read_at)))
}
