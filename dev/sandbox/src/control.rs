//! The control API: drives the stand-ins and shows what they saw. The real services have no such API.

mod n8n;
mod stripe;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use metering::Clock as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::SandboxClock;
use crate::mail::{Mail, MailFault, Message};
use crate::n8n::{InstanceError, Registry};
use crate::otlp::{Span, Spans};
use crate::stripe::{Stripe, StripeRefused};

/// Everything that can be controlled.
#[derive(Debug, Clone)]
pub(crate) struct Controls {
    pub(crate) clock: SandboxClock,
    pub(crate) n8n: Registry,
    pub(crate) stripe: Stripe,
    pub(crate) mail: Mail,
    pub(crate) spans: Spans,
}

/// Why a control call was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("there is no n8n instance {0:?}; create it with POST /control/n8n/{0}")]
    NoSuchInstance(String),
    #[error("at most {} n8n instances", crate::n8n::INSTANCES_MAX)]
    TooManyInstances,
    #[error("{0:?} is not an execution id")]
    InvalidId(String),
    #[error("{0} is not a valid number of hours to keep executions")]
    InvalidRetention(i64),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Stripe(#[from] StripeRefused),
    #[error("{0:?} is not a fault")]
    UnknownFault(String),
    #[error("give either advance_ms or now")]
    ClockWithoutTarget,
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match &self {
            ControlError::NoSuchInstance(_) | ControlError::Instance(InstanceError::NoSuchExecution(_)) => {
                StatusCode::NOT_FOUND
            }
            _ => StatusCode::BAD_REQUEST,
        };
        let cause = std::error::Error::source(&self).map(ToString::to_string);
        (status, Json(json!({ "error": self.to_string(), "cause": cause }))).into_response()
    }
}

/// `{"kind": …, "count": N}`: the next N calls, or all until `{"kind": "none"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultRequest {
    kind: String,
    count: Option<u32>,
    /// n8n: how late a slow answer comes.
    delay_ms: Option<u64>,
    /// Stripe: `meter_events` (default) or `reads`.
    on: Option<String>,
    /// Mail: only for this recipient.
    to: Option<String>,
}

impl FaultRequest {
    /// The fault, or `None` for the end of all faults.
    fn kind<K: serde::de::DeserializeOwned>(&self) -> Result<Option<K>, ControlError> {
        if self.kind == "none" {
            return Ok(None);
        }
        serde_json::from_value(Value::String(self.kind.clone()))
            .map(Some)
            .map_err(|_| ControlError::UnknownFault(self.kind.clone()))
    }
}

pub(crate) fn router(controls: Controls) -> Router {
    Router::new()
        .route("/clock", get(clock).post(move_clock))
        .route("/mail", get(mail).delete(clear_mail))
        .route("/mail/fault", post(mail_fault))
        .route("/spans", get(spans).delete(clear_spans))
        .nest("/n8n", n8n::router())
        .nest("/stripe", stripe::router())
        .with_state(controls)
}

/// The clock's time: the answer of `/clock`, which the services follow.
#[derive(Debug, Serialize)]
pub(crate) struct ClockReading {
    now: Timestamp,
    offset_ms: i64,
}

impl ClockReading {
    pub(crate) fn of(clock: &SandboxClock) -> Self {
        Self { now: clock.now(), offset_ms: clock.offset_ms() }
    }
}

async fn clock(State(controls): State<Controls>) -> Json<ClockReading> {
    Json(ClockReading::of(&controls.clock))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockRequest {
    advance_ms: Option<i64>,
    now: Option<Timestamp>,
}

async fn move_clock(
    State(controls): State<Controls>,
    Json(request): Json<ClockRequest>,
) -> Result<Json<ClockReading>, ControlError> {
    match (request.now, request.advance_ms) {
        (Some(now), None) => controls.clock.set(now),
        (None, Some(by)) => controls.clock.advance(SignedDuration::from_millis(by)),
        _ => return Err(ControlError::ClockWithoutTarget),
    }
    Ok(Json(ClockReading::of(&controls.clock)))
}

async fn mail(State(controls): State<Controls>) -> Json<Vec<Message>> {
    Json(controls.mail.messages())
}

async fn clear_mail(State(controls): State<Controls>) -> Json<Value> {
    controls.mail.clear();
    Json(json!({}))
}

async fn mail_fault(
    State(controls): State<Controls>,
    Json(request): Json<FaultRequest>,
) -> Result<Json<Value>, ControlError> {
    match (request.kind::<MailFault>()?, &request.to) {
        (None, _) => controls.mail.clear_faults(),
        (Some(fault), None) => controls.mail.fault(fault, request.count),
        (Some(fault), Some(to)) => controls.mail.fault_for(to, fault, request.count),
    }
    Ok(Json(json!({})))
}

async fn spans(State(controls): State<Controls>) -> Json<Vec<Span>> {
    Json(controls.spans.all())
}

async fn clear_spans(State(controls): State<Controls>) -> Json<Value> {
    controls.spans.clear();
    Json(json!({}))
}
