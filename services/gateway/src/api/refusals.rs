//! Refused runs as figures: `GET /v1/tenants/{id}/refusals`.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use std::collections::HashMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use metering::Period;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::{PathId, QueryOf},
    figures::{metered_tenant, moment},
    responses::{Invalid, NotFound},
    schema::{MomentText, TenantIdText},
    spreadsheet::{FormatJson, cell, file, to_csv},
};
use crate::{
    admission::refusals::{Refused, by_day, hour, hour_after, start_of},
    store::refusals::{Division, RefusedRow, by_hour, list},
    usage::live::{Counted, period_at},
};

/// Rows in one answer; the rest is summed in `omitted`.
const ROWS_MAX: u64 = 1_000;

/// The longest time that one answer covers, to bound what is read.
const SPAN_MAX: SignedDuration = SignedDuration::from_hours(400 * 24);

/// The refusals to return.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RefusalsQuery {
    /// From this instant (RFC 3339) or date (in the tenant's time zone) on, rounded down to a whole hour in
    /// UTC. By default the start of the current period.
    #[param(value_type = Option<MomentText>)]
    from: Option<String>,
    /// Until this instant or date, exclusive, rounded up to a whole hour. By default now.
    #[param(value_type = Option<MomentText>)]
    to: Option<String>,
    /// How rows are grouped; by default by reason and workflow.
    #[param(inline)]
    group: Option<GroupJson>,
    /// The format of the answer.
    #[serde(default)]
    #[param(inline)]
    format: FormatJson,
}

/// How refusals are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupJson {
    /// By reason.
    Reason,
    /// By workflow.
    Workflow,
    /// By date in the tenant's time zone, oldest first.
    Day,
}

/// A tenant's refused runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusalsJson {
    /// The tenant's id.
    pub tenant: String,
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// The tenant's time zone, by its IANA name.
    pub time_zone: String,
    /// Includes everything that was refused until then.
    pub as_of: Timestamp,
    /// How rows are grouped; null: by reason and workflow.
    pub group: Option<GroupJson>,
    /// The sum of all refusals.
    pub totals: RefusedJson,
    /// The most first, at most 1,000; days in chronological order.
    pub rows: Vec<RefusalRowJson>,
    /// Refusals that are in no row.
    pub omitted: RefusedJson,
}

/// How many runs.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct RefusedJson {
    /// Runs that were refused.
    pub refused: u64,
    /// Runs that were allowed only because the plan is in shadow mode.
    pub would_be_refused: u64,
}

/// Refused runs of one reason, workflow or day.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusalRowJson {
    /// The reason, as in the limit check's answer; null if not grouped by reason.
    pub reason: Option<String>,
    /// The workflow's id; null if the requests named none, in rows of further workflows, and if not grouped
    /// by workflow.
    pub workflow: Option<String>,
    /// Its name; null if not known.
    pub name: Option<String>,
    /// Whether this is the sum of further workflows: an hour has separate figures for the first 100 pairs of
    /// reason and workflow.
    pub is_further: bool,
    /// The date in the tenant's time zone; null if not grouped by day. An hour belongs to the date on which
    /// it begins.
    pub day: Option<Date>,
    /// How many.
    #[serde(flatten)]
    pub runs: RefusedJson,
}

impl From<Refused> for RefusedJson {
    fn from(of: Refused) -> Self {
        Self { refused: of.refused, would_be_refused: of.would_be_refused }
    }
}

impl RefusalRowJson {
    fn new(row: RefusedRow, names: &HashMap<&str, &str>) -> Self {
        let workflow = row.workflow.filter(|workflow| !workflow.is_empty());
        let name = workflow.as_deref().and_then(|workflow| names.get(workflow));
        Self {
            reason: row.reason,
            name: name.map(|name| (*name).to_owned()),
            workflow,
            is_further: row.is_rest,
            day: None,
            runs: row.runs.into(),
        }
    }

    fn of_day((day, runs): (Date, Refused)) -> Self {
        Self {
            reason: None,
            workflow: None,
            name: None,
            is_further: false,
            day: Some(day),
            runs: runs.into(),
        }
    }
}

/// Names of the workflows that ran in the period. A request names no source, so an id that two sources have
/// gets no name.
fn names(counted: Option<&Counted>) -> HashMap<&str, &str> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    for usage in counted.iter().flat_map(|counted| &counted.workflows) {
        let is_new = names.insert(&usage.workflow_id, &usage.workflow_name).is_none();
        if !is_new {
            names.insert(&usage.workflow_id, "");
        }
    }
    names.retain(|_, name| !name.is_empty());
    names
}

const HEADER: [&str; 10] =
    ["tenant", "from", "to", "time_zone", "day", "reason", "workflow", "name", "refused", "would_be_refused"];

fn lines(refusals: &RefusalsJson) -> Vec<Vec<String>> {
    let before = [
        refusals.tenant.clone(),
        refusals.from.to_string(),
        refusals.to.to_string(),
        refusals.time_zone.clone(),
    ];
    let text = |text: Option<&str>| cell(text.unwrap_or_default());
    let line = |who: [String; 4], runs: RefusedJson| {
        let figures = [runs.refused, runs.would_be_refused].map(|runs| runs.to_string());
        before.iter().map(|text| cell(text)).chain(who).chain(figures).collect()
    };
    let mut lines: Vec<Vec<String>> = Vec::with_capacity(refusals.rows.len() + 2);
    for row in &refusals.rows {
        let name = if row.is_further { Some("(further workflows)") } else { row.name.as_deref() };
        let day = row.day.map(|day| day.to_string()).unwrap_or_default();
        let who = [day, text(row.reason.as_deref()), text(row.workflow.as_deref()), text(name)];
        lines.push(line(who, row.runs));
    }
    let named = |name: &str| [String::new(), String::new(), String::new(), name.to_owned()];
    if refusals.omitted.refused > 0 || refusals.omitted.would_be_refused > 0 {
        lines.push(line(named("(omitted)"), refusals.omitted));
    }
    lines.push(line(named("(total)"), refusals.totals));
    lines
}

/// A tenant's refused runs, by reason and workflow. Runs that a plan in shadow mode would have refused are
/// counted separately.
#[utoipa::path(get, path = "/v1/tenants/{id}/refusals", operation_id = "list_refusals", tag = "limit check", params(("id" = TenantIdText, Path), RefusalsQuery), responses(
    (status = 200, content((RefusalsJson = "application/json"), (String = "text/csv")), description = "With `format=csv` the rows as CSV (RFC 4180), and a line with the total."),
    NotFound, Invalid,
))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<RefusalsQuery>,
) -> Result<Response, ApiError> {
    let (metered, _) = metered_tenant(&app, &caller, &id).await?;
    let (now, tenant) = (metered.now(&app), metered.tenant);
    let calendar = &tenant.calendar;
    let counted = app.usage.of(&tenant.id);
    let given =
        |text: &Option<String>, field| text.as_deref().map(|text| moment(text, calendar, field)).transpose();
    let current = period_at(counted.as_deref(), calendar, now);
    let span = Period {
        start: given(&query.from, "from")?.unwrap_or(current.start),
        end: given(&query.to, "to")?.unwrap_or(now),
    };
    if span.start > span.end {
        return Err(ApiError::field("from", "`from` must lie before `to`"));
    }
    if span.end.duration_since(span.start) > SPAN_MAX {
        return Err(ApiError::field(
            "from",
            format!("ask for at most {} days at once", SPAN_MAX.as_hours() / 24),
        ));
    }
    // The current hour is included, even at its first instant.
    let end = if query.to.is_some() { hour_after(span.end) } else { hour(now).saturating_add(1) };
    let hours = hour(span.start)..end;
    let zone = TimeZone::get(calendar.time_zone_name()).unwrap_or(TimeZone::UTC);
    let (totals, rows) = match query.group {
        Some(GroupJson::Day) => {
            let hours = by_hour(&app.pool, &tenant.id, hours.clone()).await.map_err(ApiError::unavailable)?;
            let totals = hours.iter().fold(Refused::default(), |sum, (_, runs)| sum.plus(*runs));
            (totals, by_day(&hours, &zone).into_iter().map(RefusalRowJson::of_day).collect::<Vec<_>>())
        }
        group => {
            let division = Division {
                by_reason: group != Some(GroupJson::Workflow),
                by_workflow: group != Some(GroupJson::Reason),
            };
            let found = list(&app.pool, &tenant.id, hours.clone(), division, ROWS_MAX).await;
            let (rows, totals) = found.map_err(ApiError::unavailable)?;
            let names = names(counted.as_deref());
            (totals, rows.into_iter().map(|row| RefusalRowJson::new(row, &names)).collect())
        }
    };
    let listed = rows.iter().fold(Refused::default(), |sum, row| {
        sum.plus(Refused { refused: row.runs.refused, would_be_refused: row.runs.would_be_refused })
    });
    let refusals = RefusalsJson {
        tenant: tenant.id.to_string(),
        from: start_of(hours.start),
        to: start_of(hours.end),
        time_zone: calendar.time_zone_name().to_owned(),
        as_of: now,
        group: query.group,
        totals: totals.into(),
        omitted: totals.minus(listed).into(),
        rows,
    };
    if query.format == FormatJson::Json {
        return Ok(Json(refusals).into_response());
    }
    let csv = to_csv(&HEADER, &lines(&refusals)).map_err(ApiError::unavailable)?;
    let begins = refusals.from.to_zoned(zone).date();
    Ok(file(&format!("refusals-{}-{begins}.csv", refusals.tenant), csv))
}
