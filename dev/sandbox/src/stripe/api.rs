//! Stripe's API over HTTP, as far as metered billing needs it.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::Stripe;
use super::account::{Customer, Lock};
use super::call::{Call, list, render};
use super::error::StripeError;
use super::form::Form;
use super::meter::{Meter, SummaryQuery};
use super::meter_event::NewEvent;

const PAGE_DEFAULT: usize = 10;
const PAGE_MAX: usize = 100;

pub(crate) fn router(stripe: Stripe) -> Router {
    Router::new()
        .route("/v1/billing/meter_events", post(create_meter_event))
        .route("/v1/billing/meter_event_adjustments", post(adjust_meter_event))
        .route("/v1/billing/meters", get(list_meters).post(create_meter))
        .route("/v1/billing/meters/{id}", get(meter))
        .route("/v1/billing/meters/{id}/deactivate", post(deactivate_meter))
        .route("/v1/billing/meters/{id}/reactivate", post(reactivate_meter))
        .route("/v1/billing/meters/{id}/event_summaries", get(event_summaries))
        .route("/v1/customers", get(list_customers).post(create_customer))
        .route("/v1/customers/{id}", get(customer).post(update_customer).delete(delete_customer))
        .fallback(unknown_url)
        .method_not_allowed_fallback(unknown_url)
        .with_state(stripe)
}

/// Holds the lock of one customer's usage of one meter while the event is processed.
struct Busy<'s> {
    stripe: &'s Stripe,
    lock: Lock,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.stripe.change(|account, _| account.unlock(&self.lock));
    }
}

async fn create_meter_event(State(stripe): State<Stripe>, call: Call) -> Response {
    let fault = stripe.take_write_fault();
    call.execute(&stripe, fault, async |form| {
        let event = stripe.read(|_, now| NewEvent::from_form(form, now))?;
        let lock = stripe.change(|account, _| account.lock(&event))?;
        let _busy = Busy { stripe: &stripe, lock };
        tokio::time::sleep(stripe.read(|account, _| account.settings.latency)).await;
        stripe.change(|account, now| account.record(&event, now))
    })
    .await
}

async fn adjust_meter_event(State(stripe): State<Stripe>, call: Call) -> Response {
    let fault = stripe.take_write_fault();
    call.execute(&stripe, fault, async |form| {
        form.allow(&["event_name", "type", "cancel"])?;
        if form.require("type")? != "cancel" {
            return Err(StripeError::NotAllowed { param: "type".into(), allowed: "cancel" });
        }
        let event_name = form.text("event_name", 100)?;
        let identifier = form.text("cancel[identifier]", 100)?;
        stripe.change(|account, now| account.cancel(event_name, identifier, now))
    })
    .await
}

async fn create_meter(State(stripe): State<Stripe>, call: Call) -> Response {
    call.execute(&stripe, None, async |form| {
        stripe.change(|account, now| {
            let id = account.next_id("mtr_test");
            Ok(account.add_meter(Meter::from_form(form, id, now)?)?.object())
        })
    })
    .await
}

async fn meter(State(stripe): State<Stripe>, Path(id): Path<String>, call: Call) -> Response {
    let answer = stripe.read(|account, _| account.find_meter(&id).map(Meter::object));
    call.read(stripe.take_read_fault(), answer).await
}

async fn deactivate_meter(State(stripe): State<Stripe>, Path(id): Path<String>, call: Call) -> Response {
    call.execute(&stripe, None, async |_| {
        stripe.change(|account, now| account.archive(&id, now).map(|meter| meter.object()))
    })
    .await
}

async fn reactivate_meter(State(stripe): State<Stripe>, Path(id): Path<String>, call: Call) -> Response {
    call.execute(&stripe, None, async |_| {
        stripe.change(|account, _| {
            let meter = account.meter(&id)?;
            meter.deactivated_at = None;
            Ok(meter.object())
        })
    })
    .await
}

async fn list_meters(State(stripe): State<Stripe>, call: Call) -> Response {
    let answer = stripe.read(|account, _| {
        let wanted = call.form.get("status");
        let objects = account.meters.iter().rev().map(Meter::object);
        let objects = objects.filter(|it| wanted.is_none_or(|wanted| it["status"] == wanted)).collect();
        page("/v1/billing/meters", objects, &call.form)
    });
    call.read(stripe.take_read_fault(), answer).await
}

async fn event_summaries(State(stripe): State<Stripe>, Path(id): Path<String>, call: Call) -> Response {
    let answer = SummaryQuery::from_form(&call.form).and_then(|query| {
        let summaries = stripe.read(|account, now| account.summaries(&id, &query, now))?;
        page(&format!("/v1/billing/meters/{id}/event_summaries"), summaries, &call.form)
    });
    call.read(stripe.take_read_fault(), answer).await
}

async fn create_customer(State(stripe): State<Stripe>, call: Call) -> Response {
    call.execute(&stripe, None, async |form| {
        stripe.change(|account, now| {
            let mut customer = Customer::new(account.next_id("cus"), now);
            customer.update(form)?;
            Ok(account.add_customer(customer)?.object())
        })
    })
    .await
}

async fn customer(State(stripe): State<Stripe>, Path(id): Path<String>, call: Call) -> Response {
    let answer = stripe.read(|account, _| account.find_customer(&id).map(Customer::object));
    call.read(stripe.take_read_fault(), answer).await
}

async fn update_customer(State(stripe): State<Stripe>, Path(id): Path<String>, call: Call) -> Response {
    call.execute(&stripe, None, async |form| {
        stripe.change(|account, _| {
            let customer = account.customer(&id)?;
            customer.update(form)?;
            Ok(customer.object())
        })
    })
    .await
}

async fn delete_customer(State(stripe): State<Stripe>, Path(id): Path<String>, call: Call) -> Response {
    call.execute(&stripe, None, async |_| {
        stripe.change(|account, _| account.customer(&id).map(|customer| customer.deleted = true))?;
        Ok(json!({ "id": id, "object": "customer", "deleted": true }))
    })
    .await
}

async fn list_customers(State(stripe): State<Stripe>, call: Call) -> Response {
    let answer = stripe.read(|account, _| {
        let wanted = call.form.get("email");
        let customers = account.customers.values().rev().filter(|customer| !customer.deleted);
        let customers =
            customers.filter(|customer| wanted.is_none_or(|email| customer.email.as_deref() == Some(email)));
        page("/v1/customers", customers.map(Customer::object).collect(), &call.form)
    });
    call.read(stripe.take_read_fault(), answer).await
}

async fn unknown_url(method: Method, uri: Uri) -> Response {
    let error = StripeError::UnknownUrl { method: method.to_string(), path: uri.path().to_owned() };
    render(error.status(), &error.body(), error.should_retry())
}

/// Cuts a page out of all objects, by `starting_after` and `limit`.
fn page(url: &str, objects: Vec<Value>, form: &Form) -> Result<Value, StripeError> {
    let limit = form.integer("limit")?.map_or(Ok(PAGE_DEFAULT), usize::try_from);
    let limit = limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let start = match form.get("starting_after") {
        None => 0,
        Some(last) => objects.iter().position(|object| object["id"] == last).map_or(0, |index| index + 1),
    };
    let has_more = objects.len() > start + limit;
    Ok(list(url, objects.into_iter().skip(start).take(limit).collect(), has_more))
}
