//! The executions behind a figure: `GET /v1/tenants/{id}/usage/explain`.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{Json, extract::State};
use jiff::Timestamp;
use metering::Execution;
use proto::{InvalidMessage, required_instant, subjects::Question, timestamp, v1};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    authenticate::Caller,
    corrections::CorrectionJson,
    error::ApiError,
    extract::{PathId, QueryOf},
    figures::{ANSWER_WITHIN, TotalsJson, answered_period, count, instant_in, metered_tenant, workflow_of},
    questions::ask,
    responses::{Invalid, NotFound},
    schema::{MomentText, PageText, SourceIdText, StatusText, TenantIdText, WorkflowIdText},
    shapes::PeriodJson,
};

/// Executions in one answer by default.
const EXECUTIONS_SHOWN: u32 = 100;

/// Executions in one answer at most: the aggregator sends no more.
const EXECUTIONS_MAX: u32 = 1_000;

/// The figure to explain.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// An instant (RFC 3339) or date in the period; by default the current period.
    #[param(value_type = Option<MomentText>)]
    period: Option<String>,
    /// Only this workflow, by its id at its source.
    #[param(value_type = Option<WorkflowIdText>)]
    workflow: Option<String>,
    /// The workflow's source; needed if the tenant has several.
    #[param(value_type = Option<SourceIdText>)]
    source: Option<String>,
    /// Executions in one answer, 1 to 1,000; by default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// `next_page` of an earlier answer.
    #[param(value_type = Option<PageText>)]
    page: Option<String>,
}

/// A figure and a page of the executions behind it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// The tenant's id.
    pub tenant: String,
    /// The period.
    pub period: PeriodJson,
    /// The figure: its executions and adjustments.
    pub totals: TotalsJson,
    /// Corrections by operators; only with the first page.
    pub corrections: Vec<CorrectionJson>,
    /// Executions in the order in which they stopped.
    pub executions: Vec<ExplainedJson>,
    /// The `page` of the next request; null at the end.
    pub next_page: Option<String>,
}

/// An execution, and how it was counted.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedJson {
    /// The source that ran it.
    pub source: String,
    /// The epoch of the source's id sequence.
    pub epoch: u32,
    /// Its id there.
    pub execution: String,
    /// The workflow's id there.
    pub workflow: String,
    /// The workflow's name; null if the source did not give it.
    pub name: Option<String>,
    /// `success`, `error`, `crashed` or `canceled`.
    #[schema(value_type = StatusText)]
    pub status: String,
    /// What started it, as n8n names it.
    pub mode: String,
    /// When it started; null if it never did.
    pub started_at: Option<Timestamp>,
    /// When it stopped.
    pub stopped_at: Timestamp,
    /// Whether it counts.
    pub counted: bool,
    /// Whether it was found after the period had closed.
    pub late: bool,
    /// Whether an operator has voided it, so that it no longer counts.
    pub voided: bool,
    /// When it was counted.
    pub recorded_at: Timestamp,
}

impl TryFrom<v1::ExplainedExecution> for ExplainedJson {
    type Error = InvalidMessage;

    fn try_from(wire: v1::ExplainedExecution) -> Result<Self, InvalidMessage> {
        let execution = Execution::try_from(wire.execution.ok_or(InvalidMessage::Missing("execution"))?)?;
        Ok(Self {
            source: wire.source_id,
            epoch: wire.epoch,
            execution: execution.id.to_string(),
            workflow: execution.workflow.to_string(),
            name: execution.workflow_name.map(String::from),
            status: execution.status.as_str().to_owned(),
            mode: execution.mode.as_str().to_owned(),
            started_at: execution.started_at,
            stopped_at: execution.stopped_at,
            counted: wire.counted,
            late: wire.late,
            voided: wire.voided,
            recorded_at: required_instant(wire.recorded_at.as_ref(), "recorded_at")?,
        })
    }
}

/// The executions behind a period's figure.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage/explain", operation_id = "explain_usage", tag = "usage", params(("id" = TenantIdText, Path), ExplainQuery), responses(
    (status = 200, body = Explanation),
    NotFound, Invalid,
))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<ExplainQuery>,
) -> Result<Json<Explanation>, ApiError> {
    let (metered, catalog) = metered_tenant(&app, &caller, &id).await?;
    let (now, tenant) = (metered.now(&app), metered.tenant);
    let instant = instant_in(query.period.as_deref(), &tenant.calendar, now)?;
    let (source_id, workflow_id) = workflow_of(&catalog, &tenant, query.source, query.workflow)?;
    let count_max = count(query.limit, EXECUTIONS_SHOWN, EXECUTIONS_MAX)?;
    if query.page.as_deref() == Some("") {
        return Err(ApiError::field("page", "unknown page; start with the first one"));
    }
    let question = v1::ExplainQuestion {
        tenant_id: tenant.id.to_string(),
        // For an aggregator of the previous version.
        period_start: Some(timestamp(tenant.calendar.period_of(instant).start)),
        period_at: Some(timestamp(instant)),
        source_id,
        workflow_id,
        count_max,
        page: query.page.unwrap_or_default(),
    };
    let answer: v1::ExplainAnswer = ask(&app, &caller, Question::Explain, &question, ANSWER_WITHIN).await?;
    let period = answered_period(answer.period, &tenant.calendar, instant)?;
    let executions = answer.executions.into_iter().map(ExplainedJson::try_from).collect::<Result<_, _>>();
    let is_tenant = caller.principal.tenant().is_some();
    let shown = |made: CorrectionJson| if is_tenant { made.for_tenant() } else { made };
    let corrections = answer.corrections.into_iter().map(|made| CorrectionJson::try_from(made).map(shown));
    let corrections = corrections.collect::<Result<_, _>>();
    Ok(Json(Explanation {
        tenant: tenant.id.to_string(),
        period: PeriodJson::new(period, Some(&answer.time_zone), &tenant.calendar),
        totals: TotalsJson::from(&answer.totals.unwrap_or_default()),
        corrections: corrections.map_err(ApiError::unavailable)?,
        executions: executions.map_err(ApiError::unavailable)?,
        next_page: (!answer.next_page.is_empty()).then_some(answer.next_page),
    }))
}
