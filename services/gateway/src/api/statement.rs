//! A period as CSV, for an accountant: `GET /v1/tenants/{id}/usage/statement`. One line for each workflow,
//! and lines that make them add up: the workflows that are not listed, the adjustments, the base fee, the
//! total.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{extract::State, response::Response};
use jiff::tz::TimeZone;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::{PathId, QueryOf},
    figures::TotalsJson,
    responses::{Invalid, NotFound},
    schema::{MomentText, TenantIdText},
    shapes::{MoneyJson, WorkflowJson},
    spreadsheet::{cell, decimal, file},
    top_workflows::{TopWorkflows, WORKFLOWS_MAX, WorkflowsQuery, top_workflows},
};

/// The period of a statement.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatementQuery {
    /// An instant (RFC 3339) or date in the period; by default the current period.
    #[param(value_type = Option<MomentText>)]
    pub period: Option<String>,
}

/// The columns.
const HEADER: [&str; 20] = [
    "tenant",
    "period_start",
    "period_end",
    "time_zone",
    "line",
    "source",
    "workflow",
    "name",
    "counted",
    "uncounted",
    "success",
    "error",
    "crashed",
    "canceled",
    "late",
    "voided",
    "duration_ms",
    "cost_minor",
    "currency",
    "cost",
];

/// How many figures a line has.
const FIGURES: usize = 9;

fn of_workflow(of: &WorkflowJson) -> [String; FIGURES] {
    [
        of.counted,
        of.uncounted,
        of.success,
        of.error,
        of.crashed,
        of.canceled,
        of.late,
        of.voided,
        of.duration_ms,
    ]
    .map(|figure| figure.to_string())
}

fn of_totals(of: &TotalsJson) -> [String; FIGURES] {
    [
        of.counted,
        of.uncounted,
        of.success,
        of.error,
        of.crashed,
        of.canceled,
        of.late,
        of.voided,
        of.duration_ms,
    ]
    .map(|figure| figure.to_string())
}

/// The figures of a line that has only a count, which may be zero.
fn only(counted: i64) -> [String; FIGURES] {
    let mut figures = [(); FIGURES].map(|()| "0".to_owned());
    figures[0] = counted.to_string();
    figures
}

/// RFC 4180, with a header. Costs are empty if the plan has no price.
fn to_csv(top: &TopWorkflows) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(HEADER)?;
    let mut line = |kind: &str, who: [&str; 3], figures: [String; FIGURES], cost: Option<&MoneyJson>| {
        let period = &top.period;
        let before = [&top.tenant, &period.start.to_string(), &period.end.to_string(), &period.time_zone]
            .map(|text| cell(text));
        let cost = cost.map_or_else(Default::default, |cost| {
            [cost.amount_minor.to_string(), cost.currency.to_uppercase(), decimal(cost)]
        });
        let kind = [kind.to_owned()];
        writer.write_record(before.into_iter().chain(kind).chain(who.map(cell)).chain(figures).chain(cost))
    };
    for workflow in &top.workflows {
        let of = &workflow.figures;
        let who = [of.source.as_str(), &of.workflow, of.name.as_deref().unwrap_or_default()];
        line("workflow", who, of_workflow(of), workflow.cost.as_ref())?;
    }
    let cost = top.cost.as_ref();
    let nobody = ["", "", ""];
    line("other_workflows", nobody, of_totals(&top.omitted), cost.map(|cost| &cost.omitted))?;
    line("adjusted_by_hand", nobody, only(top.totals.adjusted), cost.map(|cost| &cost.adjusted))?;
    line("base_fee", nobody, only(0), cost.map(|cost| &cost.base_fee))?;
    line("total", nobody, of_totals(&top.totals), cost.map(|cost| &cost.total))?;
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// A period as CSV (RFC 4180): a line for each workflow, and lines that make them add up to the total.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage/statement", operation_id = "get_usage_statement", tag = "usage", params(("id" = TenantIdText, Path), StatementQuery), responses(
    (status = 200, body = String, content_type = "text/csv"),
    NotFound, Invalid,
))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<StatementQuery>,
) -> Result<Response, ApiError> {
    let query =
        WorkflowsQuery { period: query.period, limit: Some(WORKFLOWS_MAX), ..WorkflowsQuery::default() };
    let top = top_workflows(&app, &caller, &id, &query).await?;
    let zone = TimeZone::get(&top.period.time_zone).unwrap_or(TimeZone::UTC);
    let begins = top.period.start.to_zoned(zone).date();
    // All characters of a tenant id are safe in a header and a file name.
    let name = format!("usage-{}-{begins}.csv", top.tenant);
    Ok(file(&name, to_csv(&top).map_err(ApiError::unavailable)?))
}
