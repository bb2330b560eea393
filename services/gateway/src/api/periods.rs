//! Closed periods over HTTP: `GET /v1/usage/{tenant}/periods`.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::usage::PeriodJson;

/// The closed periods of one tenant, newest first, at most 60.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeriodList {
    /// The tenant's id.
    pub tenant: String,
    /// When this answer was made.
    pub as_of: Timestamp,
    /// The periods.
    pub periods: Vec<ClosedPeriodJson>,
}

/// The final figures of a period.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClosedPeriodJson {
    /// The period.
    pub period: PeriodJson,
    /// The plan that held at its end; null where it is not known.
    pub plan: Option<String>,
    /// When it was closed.
    pub closed_at: Timestamp,
    /// Executions that count, the late ones included.
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
    /// Counted executions that were found after the period had closed; part of `counted`.
    pub late: u64,
    /// When the last late execution was found; null where there is none.
    pub late_found_at: Option<Timestamp>,
    /// Run time of the counted executions together.
    pub duration_ms: u64,
    /// success / counted, 0 to 1; null where nothing is counted.
    pub success_rate: Option<f64>,
    /// Sources that were not complete past the period's end when it was closed.
    pub incomplete_sources: Vec<String>,
}
