//! What several answers share: periods, money, workflows and rates.

use jiff::Timestamp;
use metering::{Calendar, Money, Period};
use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

/// A metering period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PeriodJson {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// The IANA name of the time zone in which the period begins at midnight. A tenant's new time zone takes
    /// effect with the next period.
    pub time_zone: String,
}

impl PeriodJson {
    /// A period that was cut in this time zone; if that is not known, in that of the tenant's current
    /// calendar.
    pub fn new(period: Period, time_zone: Option<&str>, calendar: &Calendar) -> Self {
        let time_zone = time_zone.filter(|zone| !zone.is_empty()).unwrap_or(calendar.time_zone_name());
        Self { start: period.start, end: period.end, time_zone: time_zone.to_owned() }
    }
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MoneyJson {
    /// In the currency's minor unit (cents).
    pub amount_minor: i64,
    /// ISO 4217, lower case.
    #[schema(min_length = 3, max_length = 3)]
    pub currency: String,
    /// The amount is `amount_minor` divided by 10 to the power of this: ISO 4217's exponent of the currency.
    /// A library's own number of digits for the currency may differ.
    pub exponent: u32,
}

impl From<Money> for MoneyJson {
    fn from(money: Money) -> Self {
        Self {
            amount_minor: money.amount_minor,
            currency: money.currency.as_str().to_owned(),
            exponent: money.currency.exponent(),
        }
    }
}

/// The usage of one workflow.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkflowJson {
    /// The source that runs it.
    pub source: String,
    /// Its id there.
    pub workflow: String,
    /// Its name; null if the source did not give it.
    pub name: Option<String>,
    /// Executions that count.
    pub counted: u64,
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
    /// Total run time of the counted executions.
    pub duration_ms: u64,
    /// `duration_ms` / executions, rounded down; null if there are none.
    pub mean_duration_ms: Option<u64>,
    /// success / executions, 0 to 1; null if there are none.
    pub success_rate: Option<f64>,
}

impl From<&v1::WorkflowUsage> for WorkflowJson {
    fn from(usage: &v1::WorkflowUsage) -> Self {
        let totals = usage.totals.unwrap_or_default();
        Self {
            source: usage.source_id.clone(),
            workflow: usage.workflow_id.clone(),
            name: (!usage.workflow_name.is_empty()).then(|| usage.workflow_name.clone()),
            counted: totals.counted,
            uncounted: totals.uncounted,
            success: totals.success,
            error: totals.error,
            crashed: totals.crashed,
            canceled: totals.canceled,
            late: totals.late,
            voided: totals.voided,
            duration_ms: totals.duration_ms,
            mean_duration_ms: totals.duration_ms.checked_div(executions(&totals)),
            success_rate: success_rate(&totals),
        }
    }
}

/// Counted executions: `counted` without adjustments.
pub fn executions(totals: &v1::Totals) -> u64 {
    [totals.success, totals.error, totals.crashed, totals.canceled].into_iter().fold(0, u64::saturating_add)
}

/// success / executions, for display. An adjustment is not an execution: it neither succeeds nor fails.
pub fn success_rate(totals: &v1::Totals) -> Option<f64> {
    let executions = executions(totals);
    (executions > 0).then(|| totals.success as f64 / executions as f64)
}

/// Whole seconds from `instant` to `now`; zero if it lies ahead, because clocks differ a little.
pub fn seconds_since(instant: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(instant).as_secs()).unwrap_or_default()
}
