//! Figures over time and by workflow: `GET /v1/tenants/{id}/usage/series` and `.../usage/workflows`. The aggregator has
//! them; the gateway asks, and says whose they are.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use catalog::Tenant;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use metering::{Calendar, Money, Period, Price, TenantId};
use proto::{InvalidMessage, instant, subjects::Question, timestamp, v1};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    authenticate::Caller,
    error::{ApiError, ErrorJson},
    extract::{PathId, QueryOf},
    questions::ask,
    usage::{MoneyJson, PeriodJson, WorkflowJson, executions, success_rate},
};
use crate::{directory::Snapshot, parts, shares, usage::period_at};

/// The aggregator answers in milliseconds; a person waits no longer than this.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a series shows where nothing is said: two days of hours, a year of periods.
const HOURS_SHOWN: SignedDuration = SignedDuration::from_hours(48);
const PERIODS_SHOWN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Workflows where nothing is said, and at most.
const WORKFLOWS_SHOWN: u32 = 20;

/// Workflows in one answer at most: the aggregator gives no more.
pub const WORKFLOWS_MAX: u32 = 1_000;

/// How long a slice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrainJson {
    /// Hours in the tenant's time zone; not kept by workflow.
    Hour,
    /// Days in the tenant's time zone.
    #[default]
    Day,
    /// The tenant's periods.
    Period,
}

/// Which figures.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesQuery {
    /// How long a slice is.
    #[serde(default)]
    #[param(inline)]
    grain: GrainJson,
    /// Slices that begin at or after this instant (RFC 3339) or date (in the tenant's time zone).
    from: Option<String>,
    /// Slices that begin before this instant or date.
    to: Option<String>,
    /// Only this workflow, by its id at its source.
    workflow: Option<String>,
    /// The workflow's source; needed where the tenant has several.
    source: Option<String>,
}

/// Which workflows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkflowsQuery {
    /// An instant (RFC 3339) or date in the period; the current period where nothing is said.
    pub period: Option<String>,
    /// How many, 1 to 1,000; 20 where nothing is said.
    pub limit: Option<u32>,
    /// Which come first.
    #[serde(default)]
    #[param(inline)]
    pub sort: SortJson,
}

/// Which workflows come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SortJson {
    /// Those with the most counted executions.
    #[default]
    Counted,
    /// Those with the most failures (`error` and `crashed`); others are not listed.
    Failures,
}

/// Of which period.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatementQuery {
    /// An instant (RFC 3339) or date in the period; the current period where nothing is said.
    pub period: Option<String>,
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
    /// Everything that was counted until then is in.
    pub as_of: Option<Timestamp>,
    /// Slices without executions are left out.
    pub slices: Vec<SliceJson>,
    /// The slices together.
    pub totals: TotalsJson,
    /// Periods that were adjusted by hand and begin in the span. Of hours and days, `totals` does not have them: over a whole
    /// period, the slices' `counted` and this `adjusted` add up to the period's.
    pub adjustments: Vec<AdjustedPeriodJson>,
}

/// What was adjusted by hand in a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdjustedPeriodJson {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// Added to the period's count, or taken from it.
    pub adjusted: i64,
}

/// The figures of one slice of time.
#[derive(Debug, Serialize, ToSchema)]
pub struct SliceJson {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// The start by the tenant's clock, with its offset from UTC (RFC 3339): an hour may come twice where the clocks go back.
    pub local_start: String,
    /// The figures.
    #[serde(flatten)]
    pub totals: TotalsJson,
    /// Half of the counted executions took no longer; null where there are none, or it is not kept.
    pub duration_p50_ms: Option<u64>,
    /// 95 of 100 counted executions took no longer.
    pub duration_p95_ms: Option<u64>,
}

/// Figures over a set of executions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TotalsJson {
    /// What counts: `executions` + `adjusted`.
    pub counted: u64,
    /// Counted executions, by how they ended: `success` + `error` + `crashed` + `canceled`.
    pub executions: u64,
    /// Executions that the plan does not count.
    pub uncounted: u64,
    /// Counted executions that ended well.
    pub success: u64,
    /// Counted executions that ended with an error.
    pub error: u64,
    /// Counted executions whose process died.
    pub crashed: u64,
    /// Counted executions that were stopped by a person.
    pub canceled: u64,
    /// Counted executions that were found after their period had closed.
    pub late: u64,
    /// Executions that an operator has voided: in none of the other figures.
    pub voided: u64,
    /// What an operator has added to `counted`, or taken from it, by hand. Only whole periods have it: no hour, day or
    /// workflow is adjusted.
    pub adjusted: i64,
    /// Run time of the counted executions together.
    pub duration_ms: u64,
    /// success / executions, 0 to 1; null where there are none. What was adjusted by hand is no execution.
    pub success_rate: Option<f64>,
}

/// The workflows of a tenant's period, the largest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopWorkflows {
    /// The tenant's id.
    pub tenant: String,
    /// The period.
    pub period: PeriodJson,
    /// Everything that was counted until then is in.
    pub as_of: Option<Timestamp>,
    /// The workflows.
    pub workflows: Vec<TopWorkflow>,
    /// How many there are.
    pub workflows_total: u64,
    /// The figures of the workflows that are not listed, together.
    pub omitted: TotalsJson,
    /// The period's figures: the workflows, `omitted` and `adjusted` add up to its `counted`.
    pub totals: TotalsJson,
    /// What it costs at the price that the tenant's plan has now; null without a price. The invoice is Stripe's.
    pub cost: Option<CostsJson>,
}

/// A period's cost, and the parts of it that no listed workflow has. The workflows' costs and these add up to the total.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostsJson {
    /// Of the whole period.
    pub total: MoneyJson,
    /// Charged whatever the usage: no workflow's.
    pub base_fee: MoneyJson,
    /// Of the workflows that are not listed.
    pub omitted: MoneyJson,
    /// Of what was adjusted by hand; negative where something was taken away.
    pub adjusted: MoneyJson,
}

/// One workflow, and how long its counted executions take.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopWorkflow {
    /// Its figures.
    #[serde(flatten)]
    pub figures: WorkflowJson,
    /// Half of its counted executions took no longer; null where there are none.
    pub duration_p50_ms: Option<u64>,
    /// 95 of 100 of its counted executions took no longer.
    pub duration_p95_ms: Option<u64>,
    /// Its part of the period's cost without the base fee, by its share in what counts; null without a price. Rounded to whole
    /// minor units so that all parts add up.
    pub cost: Option<MoneyJson>,
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

/// The tenant of a path, once the caller may see it.
pub async fn tenant_of(app: &App, caller: &Caller, id: &str) -> Result<(Tenant, Arc<Snapshot>), ApiError> {
    let id = TenantId::parse(id)?;
    caller.check_may_see(&id)?;
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let tenant = catalog.tenants.get(&id).cloned().ok_or_else(|| ApiError::no_tenant(&id))?;
    Ok((tenant, catalog))
}

/// The tenant of a path whose figures are asked for: an archived one keeps them.
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

/// A tenant whose figures are asked for.
pub struct Metered {
    /// The tenant.
    pub tenant: Tenant,
    /// When it was archived; missing where it was not.
    pub until: Option<Timestamp>,
}

impl Metered {
    /// What "now" is for a question about it: what is shown where no period is named is the last one of an archived tenant.
    pub fn now(&self, app: &App) -> Timestamp {
        self.until.unwrap_or_else(|| app.clock.now())
    }
}

/// An instant, or a date's first instant in the calendar's time zone.
pub fn moment(text: &str, calendar: &Calendar, field: &'static str) -> Result<Timestamp, ApiError> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let date: civil::Date = text.parse().map_err(|_| {
        ApiError::field(field, format!("{text:?} is neither an instant (RFC 3339) nor a date (2026-11-24)"))
    })?;
    Ok(calendar.start_of(date))
}

/// An instant of the period that the text names; now where nothing is said. Which period that is, the aggregator knows. Of a
/// date it is the middle, because periods begin at midnight, be it the midnight of a time zone that the tenant had before.
pub fn instant_in(text: Option<&str>, calendar: &Calendar, now: Timestamp) -> Result<Timestamp, ApiError> {
    let Some(text) = text else { return Ok(now) };
    let instant = moment(text, calendar, "period")?;
    if text.parse::<Timestamp>().is_ok() {
        return Ok(instant);
    }
    let half_a_day = SignedDuration::from_hours(12);
    Ok(instant.saturating_add(half_a_day).unwrap_or(instant))
}

/// The period that the aggregator has answered for. One of a version before answers without it: then the calendar's.
pub fn answered_period(
    period: Option<v1::Period>,
    calendar: &Calendar,
    instant: Timestamp,
) -> Result<Period, ApiError> {
    period.map_or_else(|| Ok(calendar.period_of(instant)), Period::try_from).map_err(ApiError::unavailable)
}

/// Source and workflow of a query. The source may be left out where the tenant has only one.
pub fn workflow_of(
    catalog: &Snapshot,
    tenant: &Tenant,
    source: Option<String>,
    workflow: Option<String>,
) -> Result<(String, String), ApiError> {
    let Some(workflow) = workflow else {
        return match source {
            None => Ok(Default::default()),
            Some(_) => {
                Err(ApiError::field("workflow", "a source alone is not a filter: name the workflow too"))
            }
        };
    };
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
#[utoipa::path(get, path = "/v1/tenants/{id}/usage/series", operation_id = "get_usage_series", tag = "usage", params(("id" = String, Path), SeriesQuery), responses(
    (status = 200, body = SeriesJson),
    (status = "default", body = ErrorJson),
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
    // A name that this machine does not know is read as UTC, as everywhere.
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

/// A period's workflows with the most counted executions, and how long those take.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage/workflows", operation_id = "list_top_workflows", tag = "usage", params(("id" = String, Path), WorkflowsQuery), responses(
    (status = 200, body = TopWorkflows),
    (status = "default", body = ErrorJson),
))]
pub async fn workflows(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<WorkflowsQuery>,
) -> Result<Json<TopWorkflows>, ApiError> {
    top_workflows(&app, &caller, &id, &query).await.map(Json)
}

/// A period's workflows, with their parts of its cost.
pub async fn top_workflows(
    app: &App,
    caller: &Caller,
    id: &str,
    query: &WorkflowsQuery,
) -> Result<TopWorkflows, ApiError> {
    let (metered, catalog) = metered_tenant(app, caller, id).await?;
    let (now, tenant) = (metered.now(app), metered.tenant);
    let within = instant_in(query.period.as_deref(), &tenant.calendar, now)?;
    let question = v1::WorkflowsQuestion {
        tenant_id: tenant.id.to_string(),
        // For an aggregator of the version before.
        period_start: Some(timestamp(tenant.calendar.period_of(within).start)),
        period_at: Some(timestamp(within)),
        count_max: query.limit.unwrap_or(WORKFLOWS_SHOWN),
        by_failures: query.sort == SortJson::Failures,
    };
    let answer: v1::WorkflowsAnswer = ask(app, caller, Question::Workflows, &question, ANSWER_WITHIN).await?;
    let period = answered_period(answer.period, &tenant.calendar, within)?;
    let as_of = instant(answer.as_of.as_ref(), "as_of").map_err(ApiError::unavailable)?;
    let listed = || answer.workflows.iter().filter_map(|workflow| workflow.usage.as_ref()?.totals.as_ref());
    // One of the version before answers without it: then nothing is known of the others.
    let totals = answer.totals.unwrap_or_else(|| parts::sum(listed()));
    let omitted = parts::rest(&totals, listed());
    let price = catalog.plans.get(&tenant.plan).and_then(|plan| plan.price);
    let counted = |totals: &v1::Totals| i64::try_from(totals.counted).unwrap_or(i64::MAX);
    let mut quantities = vec![counted(&omitted), totals.adjusted];
    quantities.extend(
        answer.workflows.iter().map(|workflow| {
            workflow.usage.as_ref().and_then(|usage| usage.totals.as_ref()).map_or(0, counted)
        }),
    );
    let costs = price.map(|price| costs(price, totals.counted, &quantities));
    let (cost, of_workflows) = costs.unzip();
    let mut of_workflows = of_workflows.unwrap_or_default().into_iter();
    let workflows = answer.workflows.iter().map(|workflow| TopWorkflow {
        cost: of_workflows.next(),
        figures: WorkflowJson::from(&workflow.usage.clone().unwrap_or_default()),
        duration_p50_ms: workflow.duration_p50_ms,
        duration_p95_ms: workflow.duration_p95_ms,
    });
    Ok(TopWorkflows {
        tenant: tenant.id.to_string(),
        period: PeriodJson::new(period, Some(&answer.time_zone), &tenant.calendar),
        as_of,
        workflows: workflows.collect(),
        workflows_total: answer.workflows_total,
        omitted: TotalsJson::from(&omitted),
        totals: TotalsJson::from(&totals),
        cost,
    })
}

/// The costs of a period, and of each of its workflows. `quantities` are those of the omitted workflows, of what was adjusted,
/// and of the workflows.
fn costs(price: Price, counted: u64, quantities: &[i64]) -> (CostsJson, Vec<MoneyJson>) {
    let total = price.cost(counted);
    let money = |amount_minor| MoneyJson::from(Money { amount_minor, ..total });
    let by_usage = total.amount_minor.saturating_sub(price.base_fee_minor);
    let mut shares = shares::by_quantity(by_usage, quantities).into_iter().map(money);
    let mut next = || shares.next().unwrap_or_else(|| money(0));
    let (omitted, adjusted) = (next(), next());
    let costs = CostsJson { total: total.into(), base_fee: money(price.base_fee_minor), omitted, adjusted };
    (costs, shares.collect())
}

#[cfg(test)]
mod tests {
    use metering::Currency;

    use super::*;

    #[test]
    fn costs_of_parts_add_up_to_the_periods() {
        let price = Price {
            currency: Currency::parse("eur").unwrap(),
            base_fee_minor: 1_900,
            included_executions: 10,
            overage_per_thousand_minor: 333,
        };
        // Omitted, adjusted, and three workflows.
        let quantities = [7, -3, 4_000, 1_501, 2];
        let (costs, workflows) = costs(price, 5_507, &quantities);
        let parts = [costs.base_fee, costs.omitted, costs.adjusted].into_iter().chain(workflows);
        assert_eq!(parts.map(|part| part.amount_minor).sum::<i64>(), costs.total.amount_minor);
        assert_eq!(costs.total.amount_minor, price.cost(5_507).amount_minor);
    }
}
