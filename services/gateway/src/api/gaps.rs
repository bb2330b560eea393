//! Gaps over HTTP: executions that disappeared before they were seen.

use std::{collections::HashMap, time::Duration};

use axum::{Json, extract::State};
use catalog::Source;
use chassis::Rounds;
use jiff::Timestamp;
use messaging::error_chain;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{App, error::ApiError, extract::PathId, responses::NotFound, schema::SourceIdText};
use crate::store::history::{self, GapRow};

/// Gaps shown with their source.
const GAPS_SHOWN_MAX: u64 = 20;

/// Gaps in a list of their own.
const GAPS_LISTED_MAX: u64 = 1_000;

/// Interval for learning of gaps that another replica stored, and of deleted ones.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// Executions that disappeared before they were seen.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct GapsJson {
    /// How many gaps are kept (90 days).
    pub count: u64,
    /// The latest ones, newest first, at most 20.
    pub recent: Vec<GapJson>,
}

/// A range of executions that the source no longer shows and that were never collected.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GapJson {
    /// `open_execution_vanished`, `pruned_before_seen`, `epoch_ended` or `unspecified`.
    pub reason: String,
    /// The epoch of the source's id sequence that the ids belong to.
    pub epoch: u32,
    /// First id of the range.
    pub first_execution_id: String,
    /// Last id of the range, inclusive; empty if no end is known.
    pub last_execution_id: String,
    /// When it was found.
    pub found_at: Timestamp,
}

/// The gaps of one source.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GapList {
    /// The source's id.
    pub source: String,
    /// How many gaps are kept (90 days).
    pub count: u64,
    /// The latest ones, newest first, at most 1,000.
    pub gaps: Vec<GapJson>,
}

/// The latest gaps of each source that has any, by source id.
pub async fn recent(
    pool: &PgPool,
    sources: &[String],
    per_source_max: u64,
) -> Result<HashMap<String, GapsJson>, sqlx::Error> {
    let mut gaps: HashMap<String, GapsJson> = HashMap::new();
    for row in history::list_gaps(pool, sources, per_source_max).await? {
        let GapRow { source, count, epoch, first_execution_id, last_execution_id, reason, found_at } = row;
        let of_source = gaps.entry(source).or_default();
        of_source.count = count;
        of_source.recent.push(GapJson { reason, epoch, first_execution_id, last_execution_id, found_at });
    }
    Ok(gaps)
}

/// The latest gaps of each source, as they are shown with it.
pub async fn shown(app: &App, sources: &[String]) -> Result<HashMap<String, GapsJson>, ApiError> {
    recent(&app.pool, sources, GAPS_SHOWN_MAX).await.map_err(ApiError::unavailable)
}

/// The gaps of one source, newest first.
#[utoipa::path(get, path = "/v1/sources/{id}/gaps", operation_id = "list_gaps", tag = "catalog", params(("id" = SourceIdText, Path)), responses(
    (status = 200, body = GapList),
    NotFound,
))]
pub async fn list(State(app): State<App>, PathId(id): PathId) -> Result<Json<GapList>, ApiError> {
    let source = app.editor.find::<Source>(&id).await?.value.id.to_string();
    let mut gaps = recent(&app.pool, std::slice::from_ref(&source), GAPS_LISTED_MAX)
        .await
        .map_err(ApiError::unavailable)?;
    let GapsJson { count, recent } = gaps.remove(&source).unwrap_or_default();
    Ok(Json(GapList { source, count, gaps: recent }))
}

/// Keeps the gap counts up to date until shutdown, and notifies live listeners of each change.
pub async fn count(app: App) {
    let mut rounds = Rounds::new(REFRESH_INTERVAL, app.shutdown.clone());
    while rounds.next_or(app.gap_counts.kept.notified()).await {
        match app.gap_counts.refresh(&app.pool).await {
            Ok(changed) => changed.into_iter().for_each(|source| app.announcer.source_changed(source)),
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot read the gap counts, showing the last ones"
                )
            }
        }
    }
}
