//! Controls n8n: `/control/n8n/{instance}`.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ControlError, Controls, FaultRequest};
use crate::n8n::{
    Execution, Gone, InstanceConfig, Mode, N8n, N8nFault, RETAIN_ROWS_MAX, Runs, Start, Status, Tally,
    Version, Wait, WorkflowChange, WorkflowSaving,
};

/// Longest retention of executions: ten years.
const RETAIN_HOURS_MAX: i64 = 10 * 366 * 24;
/// How long a run waits by default.
const WAIT_MS_DEFAULT: i64 = 3_600_000;
/// How many HTML answers of each kind a restart gives by default.
const RESTART_CALLS_DEFAULT: u32 = 1;

pub(super) fn router() -> Router<Controls> {
    Router::new()
        .route("/{instance}", get(show).post(configure))
        .route("/{instance}/run", post(run))
        .route("/{instance}/start", post(start))
        .route("/{instance}/finish", post(finish))
        .route("/{instance}/wait", post(wait))
        .route("/{instance}/resume", post(resume))
        .route("/{instance}/commit", post(commit))
        .route("/{instance}/retry", post(retry))
        .route("/{instance}/workflow", post(workflow))
        .route("/{instance}/delete", post(delete))
        .route("/{instance}/prune", post(prune))
        .route("/{instance}/restore", post(restore))
        .route("/{instance}/restart", post(restart))
        .route("/{instance}/fault", post(fault))
        .route("/{instance}/load", post(load))
        .route("/{instance}/executions", get(executions))
        .route("/{instance}/tallies", get(tallies))
}

/// The instance a path names; it must exist.
struct Named(N8n);

impl FromRequestParts<Controls> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, controls: &Controls) -> Result<Self, Response> {
        let Path(name) = Path::<String>::from_request_parts(parts, controls)
            .await
            .map_err(|rejection| rejection.into_response())?;
        let n8n = controls.n8n.find(&name);
        n8n.map(Self).ok_or_else(|| ControlError::NoSuchInstance(name).into_response())
    }
}

/// An execution's id: text as in n8n, or a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

impl Id {
    fn parse(self) -> Result<u64, ControlError> {
        match self {
            Id::Number(id) => Ok(id),
            Id::Text(id) => id.parse().map_err(|_| ControlError::InvalidId(id)),
        }
    }
}

#[derive(Debug, Serialize)]
struct ConfigAnswer {
    version: Version,
    key: String,
    retain: usize,
    retain_hours: i64,
    queue_mode: bool,
}

impl From<InstanceConfig> for ConfigAnswer {
    fn from(config: InstanceConfig) -> Self {
        Self {
            version: config.version,
            key: config.key,
            retain: config.retain_rows,
            retain_hours: config.retain_hours,
            queue_mode: config.queue_mode,
        }
    }
}

async fn show(Named(n8n): Named) -> Json<ConfigAnswer> {
    Json(n8n.config().into())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigRequest {
    version: Option<Version>,
    key: Option<String>,
    retain: Option<usize>,
    retain_hours: Option<i64>,
    queue_mode: Option<bool>,
}

async fn configure(
    State(controls): State<Controls>,
    Path(name): Path<String>,
    request: Option<Json<ConfigRequest>>,
) -> Result<Json<ConfigAnswer>, ControlError> {
    let Json(request) = request.unwrap_or_default();
    if let Some(hours) = request.retain_hours.filter(|hours| !(1..=RETAIN_HOURS_MAX).contains(hours)) {
        return Err(ControlError::InvalidRetention(hours));
    }
    let n8n = controls.n8n.find_or_create(&name).ok_or(ControlError::TooManyInstances)?;
    n8n.configure(|config| {
        config.version = request.version.unwrap_or(config.version);
        config.retain_rows = request.retain.unwrap_or(config.retain_rows).min(RETAIN_ROWS_MAX);
        config.retain_hours = request.retain_hours.unwrap_or(config.retain_hours);
        config.queue_mode = request.queue_mode.unwrap_or(config.queue_mode);
        if let Some(key) = request.key {
            config.key = key;
        }
    });
    Ok(Json(n8n.config().into()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    workflow: String,
    name: Option<String>,
    mode: Option<Mode>,
    status: Option<Status>,
    count: Option<u32>,
    duration_ms: Option<i64>,
    stopped_at: Option<Timestamp>,
    saved: Option<bool>,
    committed: Option<bool>,
}

impl From<RunRequest> for Runs {
    fn from(request: RunRequest) -> Self {
        let mut runs = Runs::of(request.workflow);
        runs.name = request.name;
        runs.stopped_at = request.stopped_at;
        runs.mode = request.mode.unwrap_or(runs.mode);
        runs.status = request.status.unwrap_or(runs.status);
        runs.count = request.count.unwrap_or(runs.count);
        runs.duration = request.duration_ms.map_or(runs.duration, SignedDuration::from_millis);
        runs.saved = request.saved.unwrap_or(runs.saved);
        runs.committed = request.committed.unwrap_or(runs.committed);
        runs
    }
}

#[derive(Debug, Serialize)]
struct IdsAnswer {
    ids: Vec<String>,
}

async fn run(Named(n8n): Named, Json(request): Json<RunRequest>) -> Result<Json<IdsAnswer>, ControlError> {
    let ids = n8n.run(&request.into())?;
    Ok(Json(IdsAnswer { ids: ids.iter().map(u64::to_string).collect() }))
}

#[derive(Debug, Serialize)]
struct IdAnswer {
    id: String,
}

fn id_answer(id: u64) -> Json<IdAnswer> {
    Json(IdAnswer { id: id.to_string() })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartRequest {
    workflow: String,
    name: Option<String>,
    mode: Option<Mode>,
    #[serde(default)]
    queued: bool,
    #[serde(default)]
    elsewhere: bool,
    committed: Option<bool>,
    ends_in_ms: Option<i64>,
    ends_as: Option<Status>,
}

impl From<StartRequest> for Start {
    fn from(request: StartRequest) -> Self {
        let mut start = Start::of(request.workflow);
        start.name = request.name;
        start.mode = request.mode.unwrap_or(start.mode);
        start.queued = request.queued;
        start.elsewhere = request.elsewhere;
        start.committed = request.committed.unwrap_or(start.committed);
        start.ending = request.ends_in_ms.map(|after_ms| {
            (SignedDuration::from_millis(after_ms), request.ends_as.unwrap_or(Status::Success))
        });
        start
    }
}

async fn start(Named(n8n): Named, Json(request): Json<StartRequest>) -> Result<Json<IdAnswer>, ControlError> {
    Ok(id_answer(n8n.start(&request.into())?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishRequest {
    id: Id,
    status: Option<Status>,
    saved: Option<bool>,
}

async fn finish(
    Named(n8n): Named,
    Json(request): Json<FinishRequest>,
) -> Result<Json<IdAnswer>, ControlError> {
    let id = request.id.parse()?;
    let status = request.status.unwrap_or(Status::Success);
    if request.saved.unwrap_or(true) {
        n8n.finish(id, status)?;
    } else {
        n8n.finish_unsaved(id, status)?;
    }
    Ok(id_answer(id))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitRequest {
    /// The running execution that begins to wait; without it, one is started.
    id: Option<Id>,
    workflow: Option<String>,
    for_ms: Option<i64>,
    then: Option<Status>,
    #[serde(default)]
    in_memory: bool,
}

async fn wait(Named(n8n): Named, Json(request): Json<WaitRequest>) -> Result<Json<IdAnswer>, ControlError> {
    let id = match request.id {
        Some(id) => id.parse()?,
        None => n8n.start(&Start::of(request.workflow.unwrap_or_else(|| "waiting".to_owned())))?,
    };
    let lasting = SignedDuration::from_millis(request.for_ms.unwrap_or(WAIT_MS_DEFAULT));
    n8n.wait(id, Wait { lasting, then: request.then, in_memory: request.in_memory })?;
    Ok(id_answer(id))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdRequest {
    id: Id,
}

async fn resume(Named(n8n): Named, Json(request): Json<IdRequest>) -> Result<Json<IdAnswer>, ControlError> {
    let id = request.id.parse()?;
    n8n.resume(id)?;
    Ok(id_answer(id))
}

async fn commit(Named(n8n): Named, Json(request): Json<IdRequest>) -> Result<Json<IdAnswer>, ControlError> {
    let id = request.id.parse()?;
    n8n.commit(id)?;
    Ok(id_answer(id))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryRequest {
    id: Id,
    status: Option<Status>,
}

async fn retry(Named(n8n): Named, Json(request): Json<RetryRequest>) -> Result<Json<IdAnswer>, ControlError> {
    let retried = n8n.retry(request.id.parse()?, request.status.unwrap_or(Status::Success))?;
    Ok(id_answer(retried))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkflowRequest {
    id: String,
    name: Option<String>,
    tags: Option<Vec<String>>,
    project: Option<String>,
    saving: Option<WorkflowSaving>,
}

async fn workflow(
    Named(n8n): Named,
    Json(request): Json<WorkflowRequest>,
) -> Result<Json<Value>, ControlError> {
    let mut change = WorkflowChange::of(request.id);
    change.name = request.name;
    change.tags = request.tags;
    change.project = request.project;
    change.saving = request.saving;
    n8n.change_workflow(&change)?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeleteRequest {
    Id(Id),
    Workflow(String),
}

async fn delete(Named(n8n): Named, Json(request): Json<DeleteRequest>) -> Result<Json<Value>, ControlError> {
    let deleted = match request {
        DeleteRequest::Id(id) => n8n.delete(id.parse()?).map(|()| 1)?,
        DeleteRequest::Workflow(workflow) => n8n.delete_workflow(&workflow),
    };
    Ok(Json(json!({ "deleted": deleted })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PruneRequest {
    keep: usize,
}

async fn prune(Named(n8n): Named, Json(request): Json<PruneRequest>) -> Json<Value> {
    Json(json!({ "pruned": n8n.prune(request.keep) }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RestoreRequest {
    /// The newest id in the backup; 0, the default, is an empty database.
    to_id: u64,
}

async fn restore(Named(n8n): Named, request: Option<Json<RestoreRequest>>) -> Json<Value> {
    n8n.restore(request.unwrap_or_default().to_id);
    Json(json!({}))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RestartRequest {
    starting_calls: Option<u32>,
    not_found_calls: Option<u32>,
}

async fn restart(Named(n8n): Named, request: Option<Json<RestartRequest>>) -> Json<Value> {
    let Json(request) = request.unwrap_or_default();
    n8n.restart(
        request.starting_calls.unwrap_or(RESTART_CALLS_DEFAULT),
        request.not_found_calls.unwrap_or(RESTART_CALLS_DEFAULT),
    );
    Json(json!({}))
}

async fn fault(Named(n8n): Named, Json(request): Json<FaultRequest>) -> Result<Json<Value>, ControlError> {
    if let Some(delay_ms) = request.delay_ms {
        n8n.set_slowness(Duration::from_millis(delay_ms));
    }
    match request.kind::<N8nFault>()? {
        None => n8n.clear_faults(),
        Some(fault) => n8n.fault(fault, request.count),
    }
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadRequest {
    per_second: f64,
}

async fn load(Named(n8n): Named, Json(request): Json<LoadRequest>) -> Result<Json<Value>, ControlError> {
    n8n.load(request.per_second)?;
    Ok(Json(json!({})))
}

/// One execution as it really happened.
#[derive(Debug, Serialize)]
struct ExecutionAnswer {
    id: String,
    workflow: String,
    mode: Mode,
    status: Status,
    started_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    wait_till: Option<Timestamp>,
    retry_of: Option<String>,
    shown: bool,
    gone: Option<Gone>,
}

impl From<Execution> for ExecutionAnswer {
    fn from(execution: Execution) -> Self {
        Self {
            id: execution.id.to_string(),
            shown: execution.is_shown(),
            workflow: execution.workflow,
            mode: execution.mode,
            status: execution.status,
            started_at: execution.started_at,
            stopped_at: execution.stopped_at,
            wait_till: execution.wait_till,
            retry_of: execution.retry_of.map(|id| id.to_string()),
            gone: execution.gone,
        }
    }
}

async fn executions(Named(n8n): Named) -> Json<Vec<ExecutionAnswer>> {
    Json(n8n.executions().into_iter().map(ExecutionAnswer::from).collect())
}

async fn tallies(Named(n8n): Named) -> Json<Vec<Tally>> {
    Json(n8n.tallies())
}
