//! The workflows of a period, with their shares of its cost: `GET /v1/tenants/{id}/usage/workflows`.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{Json, extract::State};
use jiff::Timestamp;
use metering::{Money, Price};
use proto::{instant, subjects::Question, timestamp, v1};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::{PathId, QueryOf},
    figures::{ANSWER_WITHIN, TotalsJson, answered_period, count, instant_in, metered_tenant},
    questions::ask,
    responses::{Invalid, NotFound},
    schema::{MomentText, TenantIdText},
    shapes::{MoneyJson, PeriodJson, WorkflowJson},
};
use crate::usage::{parts, shares};

/// Workflows in one answer by default.
const WORKFLOWS_SHOWN: u32 = 20;

/// Workflows in one answer at most: the aggregator sends no more.
pub const WORKFLOWS_MAX: u32 = 1_000;

/// The workflows to return.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkflowsQuery {
    /// An instant (RFC 3339) or date in the period; by default the current period.
    #[param(value_type = Option<MomentText>)]
    pub period: Option<String>,
    /// How many, 1 to 1,000; by default 20.
    #[param(minimum = 1, maximum = 1000, default = 20)]
    pub limit: Option<u32>,
    /// The order.
    #[serde(default)]
    #[param(inline)]
    pub sort: SortJson,
}

/// The order of workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SortJson {
    /// The most counted executions first.
    #[default]
    Counted,
    /// The most failures (`error` and `crashed`) first; workflows without failures are not listed.
    Failures,
}

/// The workflows of a tenant's period, the largest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopWorkflows {
    /// The tenant's id.
    pub tenant: String,
    /// The period.
    pub period: PeriodJson,
    /// Includes everything that was counted until then.
    pub as_of: Option<Timestamp>,
    /// The workflows.
    pub workflows: Vec<TopWorkflow>,
    /// How many workflows there are.
    pub workflows_total: u64,
    /// The sum of the workflows that are not listed.
    pub omitted: TotalsJson,
    /// The period's figures: the workflows, `omitted` and `adjusted` add up to its `counted`.
    pub totals: TotalsJson,
    /// The cost at the current price of the tenant's plan; null without a price. Stripe issues the invoice.
    pub cost: Option<CostsJson>,
}

/// A period's cost, and the shares of it that belong to no listed workflow. The workflows' costs and these
/// add up to the total.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostsJson {
    /// The cost of the whole period.
    pub total: MoneyJson,
    /// Charged whatever the usage, so it belongs to no workflow.
    pub base_fee: MoneyJson,
    /// The share of the workflows that are not listed.
    pub omitted: MoneyJson,
    /// The share of the adjustments; negative if they subtract executions.
    pub adjusted: MoneyJson,
}

/// One workflow, and how long its counted executions take.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopWorkflow {
    /// Its figures.
    #[serde(flatten)]
    pub figures: WorkflowJson,
    /// Half of its counted executions took no longer; null if there are none.
    pub duration_p50_ms: Option<u64>,
    /// 95 of 100 of its counted executions took no longer.
    pub duration_p95_ms: Option<u64>,
    /// Its share of the period's cost without the base fee, in proportion to its count; null without a price.
    /// Rounded to whole minor units so that all shares add up.
    pub cost: Option<MoneyJson>,
}

/// A period's workflows with the most counted executions, and their run times.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage/workflows", operation_id = "list_top_workflows", tag = "usage", params(("id" = TenantIdText, Path), WorkflowsQuery), responses(
    (status = 200, body = TopWorkflows),
    NotFound, Invalid,
))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<WorkflowsQuery>,
) -> Result<Json<TopWorkflows>, ApiError> {
    top_workflows(&app, &caller, &id, &query).await.map(Json)
}

/// A period's workflows, with their shares of its cost.
pub async fn top_workflows(
    app: &App,
    caller: &Caller,
    id: &str,
    query: &WorkflowsQuery,
) -> Result<TopWorkflows, ApiError> {
    let (metered, catalog) = metered_tenant(app, caller, id).await?;
    let (now, tenant) = (metered.now(app), metered.tenant);
    let within = instant_in(query.period.as_deref(), &tenant.calendar, now)?;
    let count_max = count(query.limit, WORKFLOWS_SHOWN, WORKFLOWS_MAX)?;
    let question = v1::WorkflowsQuestion {
        tenant_id: tenant.id.to_string(),
        // For an aggregator of the previous version.
        period_start: Some(timestamp(tenant.calendar.period_of(within).start)),
        period_at: Some(timestamp(within)),
        count_max,
        by_failures: query.sort == SortJson::Failures,
    };
    let answer: v1::WorkflowsAnswer = ask(app, caller, Question::Workflows, &question, ANSWER_WITHIN).await?;
    let period = answered_period(answer.period, &tenant.calendar, within)?;
    let as_of = instant(answer.as_of.as_ref(), "as_of").map_err(ApiError::unavailable)?;
    let listed = || answer.workflows.iter().filter_map(|workflow| workflow.usage.as_ref()?.totals.as_ref());
    // An aggregator of the previous version does not send them: then nothing is known of the other workflows.
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

/// The costs of a period, and of each of its workflows. `quantities` are those of the omitted workflows, of
/// the adjustments, and of each workflow.
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
    fn all_shares_add_up_to_the_periods_cost() {
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
