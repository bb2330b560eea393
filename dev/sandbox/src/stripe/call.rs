//! One call to Stripe: who makes it, whether it was made before, and how much of the answer arrives.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Stripe;
use super::error::StripeError;
use super::fault::{Delivery, HANG, StripeFault};
use super::form::Form;
use super::idempotency::Begun;
use crate::connection::Connection;

/// An authenticated call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) form: Form,
    path: String,
    idempotency_key: Option<String>,
    version: Option<HeaderValue>,
    connection: Option<Connection>,
}

impl FromRequest<Stripe> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, stripe: &Stripe) -> Result<Self, Response> {
        let headers = request.headers().clone();
        authenticate(&headers, stripe.read(|account, _| account.settings.key.clone()).as_deref())
            .map_err(|error| render(error.status(), &error.body(), error.should_retry()))?;
        let path = request.uri().path().to_owned();
        let connection =
            request.extensions().get::<ConnectInfo<Connection>>().map(|ConnectInfo(it)| it.clone());
        let form = if request.method() == Method::POST {
            let body = Bytes::from_request(request, &()).await.map_err(|error| error.into_response())?;
            Form::parse(&body)
        } else {
            Form::parse(request.uri().query().unwrap_or_default().as_bytes())
        };
        let idempotency_key =
            headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let version = headers.get("stripe-version").cloned();
        Ok(Self { form, path, idempotency_key, version, connection })
    }
}

impl Call {
    /// Executes the call unless its idempotency key has an answer already, keeps the answer, and then sends as much of it
    /// as the fault allows. The answer is kept before it is sent: that makes a retry safe.
    pub(crate) async fn execute(
        self,
        stripe: &Stripe,
        fault: Option<StripeFault>,
        effect: impl AsyncFnOnce(&Form) -> Result<Value, StripeError>,
    ) -> Response {
        let fingerprint = self.form.fingerprint(&self.path);
        let key = self.idempotency_key.clone();
        let in_flight = match &key {
            None => None,
            Some(key) => {
                match stripe.change(|account, now| account.idempotency.begin(key, &fingerprint, now)) {
                    Err(error) => return self.refuse(&error),
                    Ok(Begun::Replay(status, body)) => {
                        let mut answer = self.render(status, &body, None);
                        answer.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
                        return answer;
                    }
                    Ok(Begun::Execute) => Some(InFlight { stripe: stripe.clone(), key: key.clone() }),
                }
            }
        };
        let delivery = fault.map_or(Delivery::Whole, StripeFault::delivery);
        let outcome = match (fault.is_none_or(StripeFault::has_effect), delivery) {
            (true, Delivery::ServerError) => effect(&self.form).await.and(Err(StripeError::Api)),
            (true, _) => effect(&self.form).await,
            (false, Delivery::RateLimited) => Err(StripeError::RateLimited),
            (false, Delivery::Locked) => Err(StripeError::LockTimeout),
            (false, _) => Err(StripeError::Api),
        };
        let never_reached =
            fault.is_some_and(|fault| !fault.has_effect()) && delivery != Delivery::ServerError;
        let (status, body, should_retry, is_saved) = match outcome {
            Ok(body) => (StatusCode::OK, body, None, true),
            Err(error) => (error.status(), error.body(), error.should_retry(), error.is_saved()),
        };
        if let (Some(key), true, false) = (&key, is_saved, never_reached) {
            stripe.change(|account, now| {
                account.idempotency.save(key, &fingerprint, status, body.clone(), now);
            });
        }
        // The work is done; only its answer may hang, and a retry with the same key must not get a 409 then.
        drop(in_flight);
        self.deliver(delivery, status, &body, should_retry).await
    }

    /// Answers a call that changes nothing, so that a fault can only hide the answer.
    pub(crate) async fn read(
        self,
        fault: Option<StripeFault>,
        answer: Result<Value, StripeError>,
    ) -> Response {
        let delivery = fault.map_or(Delivery::Whole, StripeFault::delivery);
        let answer = match delivery {
            Delivery::ServerError => Err(StripeError::Api),
            Delivery::RateLimited => Err(StripeError::RateLimited),
            Delivery::Locked => Err(StripeError::LockTimeout),
            Delivery::Whole | Delivery::ProxyPage | Delivery::Hang | Delivery::Cut => answer,
        };
        match answer {
            Ok(body) => self.deliver(delivery, StatusCode::OK, &body, None).await,
            Err(error) => self.deliver(delivery, error.status(), &error.body(), error.should_retry()).await,
        }
    }

    fn refuse(&self, error: &StripeError) -> Response {
        self.render(error.status(), &error.body(), error.should_retry())
    }

    async fn deliver(
        &self,
        delivery: Delivery,
        status: StatusCode,
        body: &Value,
        should_retry: Option<bool>,
    ) -> Response {
        match delivery {
            Delivery::ProxyPage => {
                let page = "<html><head><title>502 Bad Gateway</title></head><body></body></html>";
                return (StatusCode::BAD_GATEWAY, Html(page)).into_response();
            }
            Delivery::Hang => {
                tokio::time::sleep(HANG).await;
                self.cut();
            }
            Delivery::Cut => self.cut(),
            Delivery::Whole | Delivery::ServerError | Delivery::RateLimited | Delivery::Locked => {}
        }
        self.render(status, body, should_retry)
    }

    fn cut(&self) {
        if let Some(connection) = &self.connection {
            connection.cut();
        }
    }

    fn render(&self, status: StatusCode, body: &Value, should_retry: Option<bool>) -> Response {
        let mut answer = render(status, body, should_retry);
        if let Some(version) = &self.version {
            answer.headers_mut().insert("stripe-version", version.clone());
        }
        let key = self.idempotency_key.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(key)) = key {
            answer.headers_mut().insert("idempotency-key", key);
        }
        answer
    }
}

/// Ends the key's call even when the client has hung up and the handler is dropped.
struct InFlight {
    stripe: Stripe,
    key: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.stripe.change(|account, _| account.idempotency.end(&self.key));
    }
}

fn authenticate(headers: &HeaderMap, only: Option<&str>) -> Result<(), StripeError> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or(StripeError::NoKey)?;
    let let_in = match only {
        Some(key) => given == key,
        None => given.starts_with("sk_") || given.starts_with("rk_"),
    };
    if let_in { Ok(()) } else { Err(StripeError::InvalidKey(masked(given))) }
}

/// A key as Stripe repeats it: the kind in front stays, the rest does not.
fn masked(key: &str) -> String {
    let shown: String = key.chars().take(3).collect();
    format!("{shown}{}", "*".repeat(key.chars().count().saturating_sub(3).min(20)))
}

pub(crate) fn render(status: StatusCode, body: &Value, should_retry: Option<bool>) -> Response {
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    let request_id = format!("req_{:014}", REQUESTS.fetch_add(1, Ordering::Relaxed));
    let body = serde_json::to_string_pretty(body).unwrap_or_default();
    let mut answer = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Ok(request_id) = HeaderValue::from_str(&request_id) {
        answer.headers_mut().insert("request-id", request_id);
    }
    if let Some(should_retry) = should_retry {
        let value = HeaderValue::from_static(if should_retry { "true" } else { "false" });
        answer.headers_mut().insert("stripe-should-retry", value);
    }
    answer
}

pub(crate) fn list(url: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({ "object": "list", "data": data, "has_more": has_more, "url": url })
}
