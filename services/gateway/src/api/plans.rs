//! Plans over HTTP.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A plan as it is written: `PUT /v1/plans/{id}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanInput {
    /// For people.
    pub name: String,
    /// Counted executions in a period; null for no limit.
    #[serde(default)]
    pub monthly_limit: Option<u64>,
    /// What happens at the limit.
    #[serde(default)]
    pub limit_kind: LimitKindJson,
    /// Shares of the limit at which the tenant is warned, in percent.
    #[serde(default = "default_thresholds")]
    pub thresholds_percent: Vec<u32>,
    /// Which executions count, beyond production runs.
    #[serde(default)]
    pub counting: CountingJson,
    /// What usage costs; null where the plan has no price.
    #[serde(default)]
    pub price: Option<PriceJson>,
    /// The event name of the Stripe meter; null where usage is not billed.
    #[serde(default)]
    pub meter_event_name: Option<String>,
    /// What the limit check answers where metering cannot tell.
    #[serde(default)]
    pub outage_rule: OutageRuleJson,
}

/// A plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PlanJson {
    /// The operator's word for it.
    pub id: String,
    /// Grows with every change.
    pub revision: u64,
    /// For people.
    pub name: String,
    /// Counted executions in a period; null for no limit.
    pub monthly_limit: Option<u64>,
    /// What happens at the limit.
    pub limit_kind: LimitKindJson,
    /// Shares of the limit at which the tenant is warned, in percent, ascending.
    pub thresholds_percent: Vec<u32>,
    /// Which executions count, beyond production runs.
    pub counting: CountingJson,
    /// What usage costs.
    pub price: Option<PriceJson>,
    /// The event name of the Stripe meter.
    pub meter_event_name: Option<String>,
    /// What the limit check answers where metering cannot tell.
    pub outage_rule: OutageRuleJson,
}

/// All plans, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanList {
    /// The plans.
    pub plans: Vec<PlanJson>,
}

/// What happens at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitKindJson {
    /// The limit check refuses.
    #[default]
    Hard,
    /// The limit check allows, and says that the limit is passed.
    Soft,
}

/// What the limit check answers where metering cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutageRuleJson {
    /// Allow.
    #[default]
    Open,
    /// Refuse.
    Closed,
}

/// Which executions count, beyond production runs (webhook, trigger, retry, cli, evaluation).
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CountingJson {
    /// Also runs from the editor.
    pub manual: bool,
    /// Also sub-workflow runs.
    pub sub_workflow: bool,
    /// Also error-workflow runs.
    pub error_workflow: bool,
    /// Also canceled runs.
    pub canceled: bool,
    /// Also modes that are none of the above.
    pub other: bool,
}

/// What a plan charges for a period. Amounts are in the currency's minor unit (cents).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceJson {
    /// ISO 4217, lower case, e.g. `eur`.
    pub currency: String,
    /// Charged whatever the usage.
    #[serde(default)]
    pub base_fee_minor: i64,
    /// Executions that the base fee covers.
    #[serde(default)]
    pub included_executions: u64,
    /// For each 1,000 executions past the included ones.
    #[serde(default)]
    pub overage_per_thousand_minor: i64,
}

/// n8n's own warning levels.
fn default_thresholds() -> Vec<u32> {
    vec![80, 100]
}
