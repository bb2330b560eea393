//! Closed periods over HTTP: `GET /v1/usage/{tenant}/periods`.

use axum::{Json, extract::State};
use jiff::Timestamp;
use metering::{Calendar, TenantId};
use prost::Message;
use proto::{InvalidMessage, required_instant, v1};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::PathId,
    figures::{Metered, metered_tenant},
    responses::{Invalid, NotFound},
    schema::TenantIdText,
    shapes::{PeriodJson, executions, success_rate},
};
use crate::store::history::{self, ClosedRow};

/// Periods in one answer, and kept for one tenant: five years.
pub const PERIODS_MAX: u64 = 60;

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
    /// The plan at its end; null if not known.
    pub plan: Option<String>,
    /// When it was closed.
    pub closed_at: Timestamp,
    /// The count: `executions` + `adjusted`, late ones included.
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
    /// Counted executions that were found after the period had closed; part of `counted`.
    pub late: u64,
    /// Executions that an operator has voided; not in any other figure.
    pub voided: u64,
    /// The number that an operator has added to `counted`; negative if subtracted.
    pub adjusted: i64,
    /// When the last late execution was found, or the figures were corrected; null if neither happened.
    pub late_found_at: Option<Timestamp>,
    /// Total run time of the counted executions.
    pub duration_ms: u64,
    /// success / executions, 0 to 1; null if there are none. Adjustments are not executions.
    pub success_rate: Option<f64>,
    /// Sources that were not complete past the period's end when it was closed.
    pub incomplete_sources: Vec<String>,
}

/// A stored period cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowPeriodError {
    /// It is not protobuf.
    #[error("cannot decode a stored period")]
    Decode(#[from] prost::DecodeError),
    /// A part is missing.
    #[error("invalid stored period")]
    Invalid(#[from] InvalidMessage),
}

impl ClosedPeriodJson {
    fn new(row: ClosedRow, calendar: &Calendar) -> Result<Self, ShowPeriodError> {
        let closed = v1::PeriodClosed::decode(row.value.as_slice())?;
        let totals = closed.totals.unwrap_or_default();
        Ok(Self {
            period: PeriodJson::new(row.period, Some(&closed.time_zone), calendar),
            plan: (!closed.plan_id.is_empty()).then_some(closed.plan_id),
            closed_at: required_instant(closed.closed_at.as_ref(), "closed_at")
                .map_err(InvalidMessage::from)?,
            counted: totals.counted,
            executions: executions(&totals),
            uncounted: totals.uncounted,
            success: totals.success,
            error: totals.error,
            crashed: totals.crashed,
            canceled: totals.canceled,
            late: totals.late,
            voided: totals.voided,
            adjusted: totals.adjusted,
            late_found_at: row.late_found_at,
            duration_ms: totals.duration_ms,
            success_rate: success_rate(&totals),
            incomplete_sources: closed.incomplete_sources,
        })
    }
}

/// The closed periods of one tenant, newest first.
#[utoipa::path(get, path = "/v1/usage/{tenant}/periods", operation_id = "list_periods", tag = "usage", params(("tenant" = TenantIdText, Path)), responses(
    (status = 200, body = PeriodList),
    NotFound, Invalid,
))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<PeriodList>, ApiError> {
    let id = TenantId::parse(&id)?;
    let (Metered { tenant, .. }, _) = metered_tenant(&app, &caller, id.as_str()).await?;
    let rows = history::list_closed(&app.pool, &id, PERIODS_MAX).await.map_err(ApiError::unavailable)?;
    let periods =
        rows.into_iter().map(|row| ClosedPeriodJson::new(row, &tenant.calendar)).collect::<Result<_, _>>();
    Ok(Json(PeriodList {
        tenant: id.to_string(),
        as_of: app.clock.now(),
        periods: periods.map_err(ApiError::unavailable)?,
    }))
}
