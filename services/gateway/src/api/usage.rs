//! Usage over HTTP: `GET /v1/usage` (operator: all tenants; tenant: itself), `GET /v1/usage/{tenant}` with
//! workflows. What is not known is null, never zero.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::sources::FailingJson;

/// The usage of the current period of every tenant that the caller may see, by tenant id.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsageList {
    /// When this answer was made.
    pub as_of: Timestamp,
    /// One element per tenant.
    pub usage: Vec<UsageJson>,
}

/// The usage of one tenant in its current period. Also the data of the server-sent event `usage`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsageJson {
    /// The tenant's id.
    pub tenant: String,
    /// For people.
    pub name: String,
    /// The id of its plan.
    pub plan: String,
    /// The current period.
    pub period: PeriodJson,
    /// Executions that count; null where nothing is known of this period yet.
    pub counted: Option<u64>,
    /// Executions that the plan does not count.
    pub uncounted: Option<u64>,
    /// Counted executions that ended well.
    pub success: Option<u64>,
    /// Counted executions that ended with an error.
    pub error: Option<u64>,
    /// Counted executions whose process died.
    pub crashed: Option<u64>,
    /// Counted executions that were stopped by a person.
    pub canceled: Option<u64>,
    /// Counted executions that were found after their period had closed.
    pub late: Option<u64>,
    /// success / counted, 0 to 1; null where nothing is counted.
    pub success_rate: Option<f64>,
    /// Run time of the counted executions together.
    pub duration_ms: Option<u64>,
    /// Counted executions allowed in the period; null for no limit.
    pub limit: Option<u64>,
    /// Share of the limit in percent, one decimal; null without limit, with a limit of 0, or if not known.
    pub used_percent: Option<f64>,
    /// Executions left until the limit.
    pub remaining: Option<u64>,
    /// How usage stands to the limit.
    pub state: UsageState,
    /// What the period has cost so far; the invoice is Stripe's. Null without a price, or if not known.
    pub cost_estimate: Option<MoneyJson>,
    /// When these figures were read; null where nothing is known yet.
    pub as_of: Option<Timestamp>,
    /// All sources are counted up to here; null until each has been swept once.
    pub complete_until: Option<Timestamp>,
    /// Time since `complete_until`.
    pub lag_seconds: Option<u64>,
    /// Executions that were running at `complete_until`.
    pub open_executions: Option<u64>,
    /// The tenant's sources, by id.
    pub sources: Vec<SourceFreshnessJson>,
}

/// How usage stands to the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageState {
    /// Below the lowest threshold of the plan, or no limit.
    Ok,
    /// At or past the lowest threshold of the plan.
    Warning,
    /// At or past the limit.
    Over,
    /// Nothing is known of this period yet.
    Unknown,
}

/// How fresh the figures of one source are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceFreshnessJson {
    /// The source's id.
    pub source: String,
    /// Counted up to here; null until its first sweep has ended.
    pub complete_until: Option<Timestamp>,
    /// Time since `complete_until`.
    pub lag_seconds: Option<u64>,
    /// Executions that were running at `complete_until`.
    pub open_executions: Option<u64>,
    /// Whether it is paused.
    pub paused: bool,
    /// Why it cannot be swept now; null where it can.
    pub failing: Option<FailingJson>,
}

/// One tenant's usage with its workflows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsageDetail {
    /// The tenant's usage.
    #[serde(flatten)]
    pub usage: UsageJson,
    /// The workflows with the most counted executions, at most 1,000.
    pub workflows: Vec<WorkflowJson>,
    /// Workflows that are not listed.
    pub workflows_omitted: u32,
}

/// The usage of one workflow.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkflowJson {
    /// The source that runs it.
    pub source: String,
    /// Its id there.
    pub workflow: String,
    /// Its name; null where the source did not say.
    pub name: Option<String>,
    /// Executions that count.
    pub counted: u64,
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
    /// Run time of the counted executions together.
    pub duration_ms: u64,
    /// `duration_ms` / counted, rounded down; null where nothing is counted.
    pub mean_duration_ms: Option<u64>,
    /// success / counted, 0 to 1; null where nothing is counted.
    pub success_rate: Option<f64>,
}

/// A metering period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PeriodJson {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MoneyJson {
    /// In the currency's minor unit (cents).
    pub amount_minor: i64,
    /// ISO 4217, lower case.
    pub currency: String,
}
