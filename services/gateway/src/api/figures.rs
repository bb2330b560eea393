//! Figures over time: `GET /v1/tenants/{id}/usage/series`, and what all requests for figures have in common.
//! The aggregator has the figures; the gateway asks for them and checks who may see them.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use catalog::Tenant;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use metering::{Calendar, Period, SourceId, TenantId, WorkflowId};
use proto::{InvalidMessage, instant, subjects::Question, v1};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::{PathId, QueryOf},
    questions::ask,
    responses::{Invalid, NotFound},
    schema::{MomentText, SourceIdText, TenantIdText, WorkflowIdText},
    shapes::{executions, success_rate},
};
use crate::{
    directory::snapshot::Snapshot,
    usage::{live::period_at, parts},
};

/// The aggregator answers in milliseconds; a user does not wait longer than this.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The default span of a series: two days of hours, a year of periods.
const HOURS_SHOWN: SignedDuration = SignedDuration::from_hours(48);
const PERIODS_SHOWN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// How long a slice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrainJson {
    /// Hours in the tenant's time zone; not available by workflow.
    Hour,
    /// Days in the tenant's time zone.
    #[default]
    Day,
    /// The tenant's periods.
    Period,
}

/// The figures to return.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesQuery {
    /// How long a slice is.
    #[serde(default)]
    #[param(inline)]
    grain: GrainJson,
    /// Slices that begin at or after this instant (RFC 3339) or date (in the tenant's time zone).
    #[param(value_type = Option<MomentText>)]
    from: Option<String>,
    /// Slices that begin before this instant or date.
    #[param(value_type = Option<MomentText>)]
    to: Option<String>,
    /// Only this workflow, by its id at its source.
    #[param(value_type = Option<WorkflowIdText>)]
    workflow: Option<String>,
    /// The workflow's source; needed if the tenant has several.
    #[param(value_type = Option<SourceIdText>)]
    source: Option<String>,
}

/// A tenant's figures over time, oldest slice first.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesJson {
    /// The tenant's id.
    pub tenant: String,
    /// How long a slice is.
    pub grain: GrainJson,
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// The tenant's time zone, by its IANA name.
    pub time_zone: String,
    /// Includes everything that was counted until then.
    pub as_of: Option<Timestamp>,
    /// Slices without executions are left out.
    pub slices: Vec<SliceJson>,
    /// The sum of the slices.
    pub totals: TotalsJson,
    /// Periods that begin in the span and were adjusted by an operator. For hours and days, `totals` does not
    /// include the adjustments: over a whole period, the slices' `counted` and this `adjusted` add up to the
    /// period's `counted`.
    pub adjustments: Vec<AdjustedPeriodJson>,
}

/// The adjustment of a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdjustedPeriodJson {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// Added to the period's count; negative if subtracted.
    pub adjusted: i64,
}

/// The figures of one slice of time.
#[derive(Debug, Serialize, ToSchema)]
pub struct SliceJson {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// The start by the tenant's clock, with its offset from UTC (RFC 3339): an hour may occur twice when the
    /// clocks go back.
    pub local_start: String,
    /// The figures.
    #[serde(flatten)]
    pub totals: TotalsJson,
    /// Half of the counted executions took no longer; null if there are none, or if it is not kept.
    pub duration_p50_ms: Option<u64>,
    /// 95 of 100 counted executions took no longer.
    pub duration_p95_ms: Option<u64>,
}

/// Figures over a set of executions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TotalsJson {
    /// The count: `executions` + `adjusted`.
    pub counted: u64,
    /// Counted executions, by how they ended: `success` + `error` + `crashed` + `canceled`.
    pub executions: u64,
    /// Executions that the plan does not count.
    pub uncounted: u64,
    /// Counted executions that succeeded.
    pub success: u64,
    /// Counted executions that ended with an error.
    pub error: u64,
    /// Counted executions whose process died.
    pub crashed: u64,
    /// Counted executions that were stopped by a person.
    pub canceled: u64,
    /// Counted executions that were found after their period had closed.
    pub late: u64,
    /// Executions that an operator has voided; not in any other figure.
    pub voided: u64,
    /// The number that an operator has added to `counted`; negative if subtracted. Only for whole periods:
    /// hours, days and workflows are not adjusted.
    pub adjusted: i64,
    /// Total run time of the counted executions.
    pub duration_ms: u64,
    /// success / executions, 0 to 1; null if there are none. Adjustments are not executions.
    pub success_rate: Option<f64>,
}

impl From<&v1::Totals> for TotalsJson {
    fn from(totals: &v1::Totals) -> Self {
        Self {
            counted: totals.counted,
            executions: executions(totals),
            uncounted: totals.uncounted,
            success: totals.success,
            error: totals.error,
            crashed: totals.crashed,
            canceled: totals.canceled,
            late: totals.late,
            voided: totals.voided,
            adjusted: totals.adjusted,
            duration_ms: totals.duration_ms,
            success_rate: success_rate(totals),
        }
    }
}

impl SliceJson {
    fn new(slice: v1::UsageSlice, zone: &TimeZone) -> Result<Self, InvalidMessage> {
        let span = Period::try_from(slice.span.ok_or(InvalidMessage::Missing("span"))?)?;
        Ok(Self {
            start: span.start,
            end: span.end,
            local_start: span.start.display_with_offset(zone.to_offset(span.start)).to_string(),
            totals: TotalsJson::from(&slice.totals.unwrap_or_default()),
            duration_p50_ms: slice.duration_p50_ms,
            duration_p95_ms: slice.duration_p95_ms,
        })
    }
}

impl TryFrom<v1::AdjustedPeriod> for AdjustedPeriodJson {
    type Error = InvalidMessage;

    fn try_from(adjusted: v1::AdjustedPeriod) -> Result<Self, InvalidMessage> {
        let period = Period::try_from(adjusted.period.ok_or(InvalidMessage::Missing("period"))?)?;
        Ok(Self { start: period.start, end: period.end, adjusted: adjusted.adjusted })
    }
}

/// The tenant of a path, after checking that the caller may see it.
pub async fn tenant_of(app: &App, caller: &Caller, id: &str) -> Result<(Tenant, Arc<Snapshot>), ApiError> {
    let id = TenantId::parse(id)?;
    caller.check_may_see(&id)?;
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let tenant = catalog.tenants.get(&id).cloned().ok_or_else(|| ApiError::no_tenant(&id))?;
    Ok((tenant, catalog))
}

/// The same for requests of figures, which archived tenants keep.
pub async fn metered_tenant(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<(Metered, Arc<Snapshot>), ApiError> {
    let id = TenantId::parse(id)?;
    caller.check_may_see(&id)?;
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    if let Some(tenant) = catalog.tenants.get(&id) {
        return Ok((Metered { tenant: tenant.clone(), until: None }, catalog));
    }
    let archived = catalog::store::find_archived(&app.pool, id.as_str()).await;
    let archived = archived.map_err(ApiError::unavailable)?.ok_or_else(|| ApiError::no_tenant(&id))?;
    Ok((Metered { tenant: archived.tenant, until: archived.archived_at }, catalog))
}

/// A tenant whose figures are requested.
pub struct Metered {
    /// The tenant.
    pub tenant: Tenant,
    /// When it was archived; `None` if it was not.
    pub until: Option<Timestamp>,
}

impl Metered {
    /// "Now" for a request about it, so that an archived tenant's default period is its last one.
    pub fn now(&self, app: &App) -> Timestamp {
        self.until.unwrap_or_else(|| app.clock.now())
    }
}

/// The instant in the text, or the first instant of a date in the calendar's time zone.
pub fn moment(text: &str, calendar: &Calendar, field: &'static str) -> Result<Timestamp, ApiError> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let date: civil::Date = text.parse().map_err(|_| {
        ApiError::field(field, format!("{text:?} is neither an instant (RFC 3339) nor a date (2026-11-24)"))
    })?;
    Ok(calendar.start_of(date))
}

/// How many elements an answer has at most.
pub fn count(asked: Option<u32>, usual: u32, most: u32) -> Result<u32, ApiError> {
    match asked.unwrap_or(usual) {
        count if (1..=most).contains(&count) => Ok(count),
        _ => Err(ApiError::field("limit", format!("use 1 to {most}"))),
    }
}

/// An instant within the period that the text names, by default now. Only the aggregator knows which period
/// that is. For a date it is the middle of the day, because periods begin at midnight, possibly in a former
/// time zone of the tenant.
pub fn instant_in(text: Option<&str>, calendar: &Calendar, now: Timestamp) -> Result<Timestamp, ApiError> {
    let Some(text) = text else { return Ok(now) };
    let instant = moment(text, calendar, "period")?;
    if text.parse::<Timestamp>().is_ok() {
        return Ok(instant);
    }
    let half_a_day = SignedDuration::from_hours(12);
    Ok(instant.saturating_add(half_a_day).unwrap_or(instant))
}

/// The period of the aggregator's answer. An aggregator of the previous version does not send it: then the
/// calendar's.
pub fn answered_period(
    period: Option<v1::Period>,
    calendar: &Calendar,
    instant: Timestamp,
) -> Result<Period, ApiError> {
    period.map_or_else(|| Ok(calendar.period_of(instant)), Period::try_from).map_err(ApiError::unavailable)
}

/// Source and workflow of a query. The source may be left out if the tenant has only one.
pub fn workflow_of(
    catalog: &Snapshot,
    tenant: &Tenant,
    source: Option<String>,
    workflow: Option<String>,
) -> Result<(String, String), ApiError> {
    let source = source.map(|id| SourceId::parse(&id).map_err(|error| ApiError::field("source", error)));
    let source = source.transpose()?.map(|id| id.to_string());
    let Some(workflow) = workflow else {
        return match source {
            None => Ok(Default::default()),
            Some(_) => {
                Err(ApiError::field("workflow", "a source alone is not a filter: name the workflow too"))
            }
        };
    };
    let workflow = WorkflowId::parse(&workflow).map_err(|error| ApiError::field("workflow", error))?;
    let workflow = workflow.to_string();
    match (source, catalog.sources_of(&tenant.id)) {
        (Some(source), _) => Ok((source, workflow)),
        (None, [only]) => Ok((only.id.to_string(), workflow)),
        (None, _) => Err(ApiError::field("source", "name the workflow's source too")),
    }
}

impl SeriesQuery {
    fn span(&self, calendar: &Calendar, current: Period, now: Timestamp) -> Result<Period, ApiError> {
        let given = |text: &Option<String>, field| {
            text.as_deref().map(|text| moment(text, calendar, field)).transpose()
        };
        let back = |by| now.saturating_sub(by).unwrap_or(Timestamp::MIN);
        let usual = match self.grain {
            GrainJson::Hour => Period { start: back(HOURS_SHOWN), end: now },
            GrainJson::Day => current,
            GrainJson::Period => Period { start: back(PERIODS_SHOWN), end: current.end },
        };
        let start = given(&self.from, "from")?.unwrap_or(usual.start);
        let end = given(&self.to, "to")?.unwrap_or(usual.end);
        if start < end {
            Ok(Period { start, end })
        } else {
            Err(ApiError::field("from", "`from` must lie before `to`"))
        }
    }
}

impl From<GrainJson> for v1::Grain {
    fn from(grain: GrainJson) -> Self {
        match grain {
            GrainJson::Hour => Self::Hour,
            GrainJson::Day => Self::Day,
            GrainJson::Period => Self::Period,
        }
    }
}

/// A tenant's figures by hour, day or period.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage/series", operation_id = "get_usage_series", tag = "usage", params(("id" = TenantIdText, Path), SeriesQuery), responses(
    (status = 200, body = SeriesJson),
    NotFound, Invalid,
))]
pub async fn series(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<SeriesQuery>,
) -> Result<Json<SeriesJson>, ApiError> {
    let (metered, catalog) = metered_tenant(&app, &caller, &id).await?;
    let (now, tenant) = (metered.now(&app), metered.tenant);
    let counted = app.usage.of(&tenant.id);
    let current = period_at(counted.as_deref(), &tenant.calendar, now);
    let span = query.span(&tenant.calendar, current, now)?;
    let (source_id, workflow_id) = workflow_of(&catalog, &tenant, query.source, query.workflow)?;
    let question = v1::UsageQuestion {
        tenant_id: tenant.id.to_string(),
        span: Some(span.into()),
        grain: v1::Grain::from(query.grain).into(),
        source_id,
        workflow_id,
    };
    let answer: v1::UsageAnswer = ask(&app, &caller, Question::Usage, &question, ANSWER_WITHIN).await?;
    let as_of = instant(answer.as_of.as_ref(), "as_of").map_err(ApiError::unavailable)?;
    // A time zone that this machine does not know is read as UTC, as everywhere.
    let zone = TimeZone::get(tenant.calendar.time_zone_name()).unwrap_or(TimeZone::UTC);
    let together = parts::sum(answer.slices.iter().filter_map(|slice| slice.totals.as_ref()));
    let adjustments = answer.adjustments.into_iter().map(AdjustedPeriodJson::try_from);
    let adjustments: Result<_, _> = adjustments.collect();
    let slices =
        answer.slices.into_iter().map(|slice| SliceJson::new(slice, &zone)).collect::<Result<_, _>>();
    Ok(Json(SeriesJson {
        tenant: tenant.id.to_string(),
        grain: query.grain,
        from: span.start,
        to: span.end,
        time_zone: tenant.calendar.time_zone_name().to_owned(),
        as_of,
        slices: slices.map_err(ApiError::unavailable)?,
        totals: TotalsJson::from(&together),
        adjustments: adjustments.map_err(ApiError::unavailable)?,
    }))
}
