//! What n8n's API shows of an execution or a workflow, field by field, in each version.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::execution::{Execution, Mode, Status};
use super::instance::{Instance, Version};
use super::workflow::{Workflow, WorkflowSaving};

/// One element of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListRow {
    id: String,
    finished: bool,
    mode: Mode,
    retry_of: Option<String>,
    retry_success_id: Option<String>,
    status: &'static str,
    started_at: Option<String>,
    stopped_at: Option<String>,
    workflow_id: String,
    wait_till: Option<String>,
    #[serde(flatten)]
    data: Option<ListData>,
}

/// What `includeData=true` adds to an element.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListData {
    stored_at: &'static str,
    json_size_bytes: u64,
    workflow_version_id: Option<String>,
    data: Value,
    workflow_data: Value,
    custom_data: Value,
}

impl ListRow {
    /// The row of a list call.
    pub(crate) fn of(instance: &Instance, execution: &Execution, include_data: bool) -> Self {
        Self {
            id: execution.id.to_string(),
            finished: execution.status == Status::Success,
            mode: execution.mode,
            retry_of: execution.retry_of.map(|id| id.to_string()),
            retry_success_id: execution.retry_success_id.map(|id| id.to_string()),
            status: execution.status.as_str(),
            started_at: execution.started_at.map(instant),
            stopped_at: execution.stopped_at.map(instant),
            workflow_id: execution.workflow.clone(),
            wait_till: execution.wait_till.map(instant),
            data: include_data.then(|| ListData {
                stored_at: "db",
                json_size_bytes: json_size_bytes(execution),
                workflow_version_id: version_id(execution),
                data: run_data(execution),
                workflow_data: workflow_data(instance, execution),
                custom_data: json!({}),
            }),
        }
    }

    /// Gives the row a status that no version of n8n has.
    pub(crate) fn with_unknown_status(mut self) -> Self {
        self.status = "suspended";
        self
    }

    /// Adds this much text to the row's data.
    pub(crate) fn inflated(self, bytes: usize) -> Value {
        let mut row = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = row.as_object_mut() {
            fields.insert("data".into(), json!({ "padding": "x".repeat(bytes) }));
        }
        row
    }
}

/// `GET /executions/{id}`, and with a number for an id the answer to `DELETE`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Single {
    id: Value,
    finished: bool,
    mode: Mode,
    retry_of: Option<String>,
    retry_success_id: Option<String>,
    status: &'static str,
    created_at: String,
    started_at: Option<String>,
    stopped_at: Option<String>,
    deleted_at: Option<String>,
    workflow_id: String,
    wait_till: Option<String>,
    #[serde(flatten)]
    newer: Option<NewerFields>,
    #[serde(flatten)]
    data: Option<SingleData>,
}

/// What the 2.x line added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NewerFields {
    stored_at: &'static str,
    tracing_context: Option<Value>,
    deduplication_key: Option<String>,
    json_size_bytes: u64,
    binary_data_size_bytes: u64,
    workflow_version_id: Option<String>,
    used_private_credentials: bool,
}

/// What `includeData=true` adds to a single execution.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SingleData {
    data: Value,
    custom_data: Value,
    workflow_data: Value,
}

impl Single {
    /// The answer to a `GET`.
    pub(crate) fn of(instance: &Instance, execution: &Execution, include_data: bool) -> Self {
        let newer = (instance.config.version == Version::V2_40).then(|| NewerFields {
            stored_at: "db",
            tracing_context: None,
            deduplication_key: deduplication_key(execution),
            json_size_bytes: json_size_bytes(execution),
            binary_data_size_bytes: 0,
            workflow_version_id: version_id(execution),
            used_private_credentials: false,
        });
        Self {
            id: Value::String(execution.id.to_string()),
            finished: execution.status == Status::Success,
            mode: execution.mode,
            retry_of: execution.retry_of.map(|id| id.to_string()),
            retry_success_id: execution.retry_success_id.map(|id| id.to_string()),
            status: execution.status.as_str(),
            created_at: instant(execution.created_at),
            started_at: execution.started_at.map(instant),
            stopped_at: execution.stopped_at.map(instant),
            deleted_at: None,
            workflow_id: execution.workflow.clone(),
            wait_till: execution.wait_till.map(instant),
            newer,
            data: include_data.then(|| SingleData {
                data: run_data(execution),
                custom_data: json!({}),
                workflow_data: workflow_data(instance, execution),
            }),
        }
    }

    /// The answer to a `DELETE`: there the id is a number.
    pub(crate) fn deleted(instance: &Instance, execution: &Execution) -> Self {
        Self { id: json!(execution.id), ..Self::of(instance, execution, false) }
    }
}

/// One element of `GET /workflows`, or the whole of `GET /workflows/{id}`.
pub(crate) fn workflow(version: Version, id: &str, workflow: &Workflow) -> Value {
    let created_at = instant(workflow.created_at);
    let version_id = hash_uuid(id);
    let nodes = nodes(id);
    let connections = connections();
    let project = workflow.project.clone().unwrap_or_else(|| hash_uuid("project"));
    let tag = |name: &String| json!({"id": hash_uuid(name), "name": name, "createdAt": created_at, "updatedAt": created_at});
    let tags: Vec<Value> = workflow.tags.iter().map(tag).collect();
    let mut row = json!({
        "id": id, "name": workflow.name, "active": true, "createdAt": created_at, "updatedAt": created_at,
        "isArchived": false, "versionId": version_id, "triggerCount": 1, "nodes": nodes,
        "connections": connections, "settings": settings(workflow), "staticData": null, "pinData": null,
        "meta": null, "tags": tags,
        "shared": [{"role": "workflow:owner", "workflowId": id, "projectId": project,
                    "createdAt": created_at, "updatedAt": created_at}],
    });
    if let (Version::V2_40, Some(fields)) = (version, row.as_object_mut()) {
        fields.insert("activeVersionId".into(), json!(version_id));
        fields.insert("nodeGroups".into(), json!([]));
        fields.insert(
            "activeVersion".into(),
            json!({"versionId": version_id, "workflowId": id, "nodes": nodes, "connections": connections,
                   "nodeGroups": [], "authors": "Owner", "name": null, "description": null, "autosaved": false,
                   "createdAt": created_at, "updatedAt": created_at}),
        );
    }
    row
}

/// n8n leaves out what was never set.
fn settings(workflow: &Workflow) -> Value {
    let (kept, manual) = match workflow.saving {
        None => return json!({"executionOrder": "v1"}),
        Some(WorkflowSaving::All) => ("all", true),
        Some(WorkflowSaving::Nothing) => ("none", false),
    };
    json!({"executionOrder": "v1", "saveDataSuccessExecution": kept, "saveDataErrorExecution": kept,
           "saveManualExecutions": manual})
}

/// UTC with milliseconds, as JavaScript's `toISOString` writes it.
pub(crate) fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Runs of a trigger carry a key that keeps two processes from starting the same tick.
fn deduplication_key(execution: &Execution) -> Option<String> {
    (execution.mode == Mode::Trigger)
        .then(|| format!("{}:start:{}", execution.workflow, instant(execution.created_at)))
}

/// Retries run what the original ran, and name no version.
fn version_id(execution: &Execution) -> Option<String> {
    (execution.mode != Mode::Retry).then(|| hash_uuid(&execution.workflow))
}

fn hash_uuid(text: &str) -> String {
    let hex = hex::encode(&Sha256::digest(text)[..16]);
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

fn json_size_bytes(execution: &Execution) -> u64 {
    run_data(execution).to_string().len().try_into().unwrap_or(u64::MAX)
}

fn run_data(execution: &Execution) -> Value {
    let start = execution.started_at.map(Timestamp::as_millisecond);
    if execution.status == Status::Error && execution.started_at == execution.stopped_at {
        return refused(start);
    }
    json!({
        "version": 1,
        "startData": {},
        "resultData": {
            "runData": {"Webhook": [{"startTime": start, "executionIndex": 0, "source": [], "hints": [],
                                     "executionTime": 0, "executionStatus": execution.status.as_str()}]},
            "lastNodeExecuted": "Webhook",
        },
    })
}

/// What n8n before 2.40 writes for a run that a hook has refused, which takes no time: a node that never ran has failed,
/// without an error of its own.
fn refused(start: Option<i64>) -> Value {
    json!({
        "version": 1,
        "startData": {},
        "resultData": {
            "error": {"name": "RefusedBeforeStart", "message": "Refused", "stack": "RefusedBeforeStart: Refused"},
            "runData": {"Webhook": [{"startTime": start, "executionIndex": 0, "source": [],
                                     "executionTime": 0, "executionStatus": "error"}]},
            "lastNodeExecuted": "Webhook",
        },
    })
}

fn workflow_data(instance: &Instance, execution: &Execution) -> Value {
    let name = instance.workflows.get(&execution.workflow).map(|workflow| workflow.name.as_str());
    json!({"id": execution.workflow, "name": name, "nodes": nodes(&execution.workflow),
           "connections": connections(), "settings": {"executionOrder": "v1"}, "nodeGroups": []})
}

/// The two nodes of every workflow here.
fn nodes(workflow: &str) -> Value {
    json!([
        {"id": "start", "name": "Webhook", "webhookId": workflow, "type": "n8n-nodes-base.webhook",
         "typeVersion": 2, "position": [0, 0], "parameters": {"path": workflow, "httpMethod": "POST"}},
        {"id": "done", "name": "Done", "type": "n8n-nodes-base.noOp", "typeVersion": 1,
         "position": [220, 0], "parameters": {}},
    ])
}

fn connections() -> Value {
    json!({"Webhook": {"main": [[{"node": "Done", "type": "main", "index": 0}]]}})
}
