//! Controls Stripe: `/control/stripe`.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ControlError, Controls, FaultRequest};
use crate::stripe::{Customer, Formula, Meter, MeterEvent, StripeFault, Total, Window};

pub(super) fn router() -> Router<Controls> {
    Router::new()
        .route("/", post(configure))
        .route("/customers", get(customers).post(add_customer))
        .route("/customers/delete", post(delete_customer))
        .route("/meters", get(meters).post(add_meter))
        .route("/meters/archive", post(archive_meter))
        .route("/meter_events", get(meter_events))
        .route("/totals", get(totals))
        .route("/fault", post(fault))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigRequest {
    key: Option<String>,
    latency_ms: Option<u64>,
    summary_delay_ms: Option<i64>,
}

async fn configure(State(controls): State<Controls>, Json(request): Json<ConfigRequest>) -> Json<Value> {
    if request.key.is_some() {
        controls.stripe.set_key(request.key);
    }
    if let Some(latency_ms) = request.latency_ms {
        controls.stripe.set_latency(Duration::from_millis(latency_ms));
    }
    if let Some(delay_ms) = request.summary_delay_ms {
        controls.stripe.set_summary_delay(SignedDuration::from_millis(delay_ms));
    }
    Json(json!({}))
}

async fn customers(State(controls): State<Controls>) -> Json<Vec<Customer>> {
    Json(controls.stripe.read(|account, _| account.customers.values().cloned().collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomerRequest {
    id: String,
}

async fn add_customer(
    State(controls): State<Controls>,
    Json(request): Json<CustomerRequest>,
) -> Result<Json<Customer>, ControlError> {
    Ok(Json(controls.stripe.add_customer(&request.id)?))
}

async fn delete_customer(
    State(controls): State<Controls>,
    Json(request): Json<CustomerRequest>,
) -> Result<Json<Value>, ControlError> {
    controls.stripe.delete_customer(&request.id)?;
    Ok(Json(json!({})))
}

async fn meters(State(controls): State<Controls>) -> Json<Vec<Meter>> {
    Json(controls.stripe.read(|account, _| account.meters.clone()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeterRequest {
    event_name: String,
    id: Option<String>,
    formula: Option<Formula>,
    window: Option<Window>,
}

async fn add_meter(
    State(controls): State<Controls>,
    Json(request): Json<MeterRequest>,
) -> Result<Json<Meter>, ControlError> {
    let meter = controls.stripe.add_meter_with(&request.event_name, |meter| {
        meter.formula = request.formula.unwrap_or(meter.formula);
        meter.window = request.window;
        if let Some(id) = request.id {
            meter.id = id;
        }
    })?;
    Ok(Json(meter))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchiveRequest {
    id: String,
}

async fn archive_meter(
    State(controls): State<Controls>,
    Json(request): Json<ArchiveRequest>,
) -> Result<Json<Meter>, ControlError> {
    Ok(Json(controls.stripe.archive_meter(&request.id)?))
}

async fn meter_events(State(controls): State<Controls>) -> Json<Vec<MeterEvent>> {
    Json(controls.stripe.meter_events())
}

async fn totals(State(controls): State<Controls>) -> Json<Vec<Total>> {
    Json(controls.stripe.totals())
}

async fn fault(
    State(controls): State<Controls>,
    Json(request): Json<FaultRequest>,
) -> Result<Json<Value>, ControlError> {
    match (request.kind::<StripeFault>()?, request.on.as_deref()) {
        (None, _) => controls.stripe.clear_faults(),
        (Some(fault), None | Some("meter_events")) => controls.stripe.fault(fault, request.count),
        (Some(fault), Some("reads")) => controls.stripe.fault_reads(fault, request.count),
        (Some(_), Some(other)) => {
            return Err(ControlError::UnknownFault(format!("{} on {other}", request.kind)));
        }
    }
    Ok(Json(json!({})))
}
