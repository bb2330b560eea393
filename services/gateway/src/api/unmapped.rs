//! Executions that no attribution maps to a tenant: `GET /v1/unmapped`. They are kept, and counted as soon as
//! they are mapped.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use std::time::Duration;

use axum::{Json, extract::State};
use jiff::Timestamp;
use metering::SourceId;
use proto::{InvalidMessage, instant, required_instant, subjects::Question, v1};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App, authenticate::Caller, error::ApiError, extract::QueryOf, questions::ask, responses::Invalid,
    schema::SourceIdText,
};

/// The aggregator reads one index.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The executions to return.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UnmappedQuery {
    /// Only this source.
    #[param(value_type = Option<SourceIdText>)]
    source: Option<String>,
}

/// Executions that belong to no tenant yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnmappedList {
    /// When these figures were read.
    pub as_of: Timestamp,
    /// How many there are.
    pub executions: u64,
    /// Executions that were pushed for shared sources, and are held until a poll shows them. They are not in
    /// any other figure.
    pub executions_held: u64,
    /// How many workflows they belong to.
    pub workflows_total: u64,
    /// The workflows with the most of them, at most 1,000.
    pub workflows: Vec<UnmappedJson>,
}

/// Executions of one workflow that belong to no tenant yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnmappedJson {
    /// The source that runs it.
    pub source: String,
    /// Its id there.
    pub workflow: String,
    /// Its name; null if not known.
    pub name: Option<String>,
    /// The names of its tags.
    pub tags: Vec<String>,
    /// The id of its project; null if not known.
    pub project: Option<String>,
    /// How many.
    pub executions: u64,
    /// When the first of them stopped.
    pub first_stopped_at: Option<Timestamp>,
    /// When the last of them stopped.
    pub last_stopped_at: Option<Timestamp>,
}

impl TryFrom<v1::UnmappedAnswer> for UnmappedList {
    type Error = InvalidMessage;

    fn try_from(wire: v1::UnmappedAnswer) -> Result<Self, InvalidMessage> {
        let workflows = wire.workflows.into_iter().map(UnmappedJson::try_from);
        Ok(Self {
            as_of: required_instant(wire.as_of.as_ref(), "as_of")?,
            executions: wire.executions_total,
            executions_held: wire.executions_held,
            workflows_total: wire.workflows_total,
            workflows: workflows.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<v1::UnmappedWorkflow> for UnmappedJson {
    type Error = InvalidMessage;

    fn try_from(wire: v1::UnmappedWorkflow) -> Result<Self, InvalidMessage> {
        let workflow = wire.workflow.unwrap_or_default();
        let known = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self {
            source: wire.source_id,
            workflow: workflow.workflow_id,
            name: known(workflow.name),
            tags: workflow.tags,
            project: known(workflow.project_id),
            executions: wire.executions,
            first_stopped_at: instant(wire.first_stopped_at.as_ref(), "first_stopped_at")?,
            last_stopped_at: instant(wire.last_stopped_at.as_ref(), "last_stopped_at")?,
        })
    }
}

/// Executions that no attribution maps to a tenant, by workflow.
#[utoipa::path(get, path = "/v1/unmapped", operation_id = "list_unmapped", tag = "catalog", params(UnmappedQuery), responses(
    (status = 200, body = UnmappedList),
    Invalid,
))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    QueryOf(query): QueryOf<UnmappedQuery>,
) -> Result<Json<UnmappedList>, ApiError> {
    let source = query.source.map(|id| SourceId::parse(&id)).transpose()?;
    let question = v1::UnmappedQuestion { source_id: source.map(|id| id.to_string()).unwrap_or_default() };
    let answer: v1::UnmappedAnswer = ask(&app, &caller, Question::Unmapped, &question, ANSWER_WITHIN).await?;
    Ok(Json(UnmappedList::try_from(answer).map_err(ApiError::unavailable)?))
}
