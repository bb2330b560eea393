//! A fake gateway: it keeps what is put, and answers as the real one would.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, task::JoinHandle};

use crate::command::flowmeter;

const TOKEN: &str = "operator-token-of-the-test";

/// The fake gateway.
pub struct Gateway {
    kept: Kept,
    address: String,
    server: JoinHandle<()>,
}

/// What it keeps, by path, exactly as it was sent.
type Kept = Arc<Mutex<BTreeMap<String, Value>>>;

impl Gateway {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let kept = Kept::default();
        let item = get(read).put(write);
        let router = Router::new()
            .route("/v1/plans/{id}", item.clone())
            .route("/v1/tenants/{id}", item.clone())
            .route("/v1/sources/{id}", item)
            .route("/v1/admissions/{tenant}", get(judge))
            .route("/readyz", get(|| async { "ready" }))
            .with_state(Arc::clone(&kept));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { kept, address, server }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was put to a path.
    pub fn kept(&self, path: &str) -> Option<Value> {
        self.kept.lock().unwrap().get(path).cloned()
    }

    /// The command line as its operator.
    pub fn flowmeter(&self, arguments: &[&str]) -> Command {
        let mut command = flowmeter(arguments);
        command.env("FLOWMETER_URL", &self.address).env("FLOWMETER_TOKEN", TOKEN);
        command
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn refuse(status: StatusCode, message: &str, field: Option<&str>) -> Response {
    let error = json!({ "code": "for_programs", "message": message, "field": field });
    (status, Json(json!({ "error": error }))).into_response()
}

fn is_known(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

async fn read(State(kept): State<Kept>, uri: axum::http::Uri, headers: HeaderMap) -> Response {
    if !is_known(&headers) {
        return refuse(StatusCode::UNAUTHORIZED, "unknown token", None);
    }
    match kept.lock().unwrap().get(uri.path()) {
        Some(value) => Json(value.clone()).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "there is no such thing", None),
    }
}

async fn write(State(kept): State<Kept>, uri: axum::http::Uri, Json(body): Json<Value>) -> Response {
    let mut kept = kept.lock().unwrap();
    let plan = body.get("plan").and_then(Value::as_str);
    if let Some(plan) = plan.filter(|plan| !kept.contains_key(&format!("/v1/plans/{plan}"))) {
        let message = format!("there is no such thing as {plan:?}");
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, &message, Some("plan"));
    }
    // A tenant with this id was removed before.
    if uri.path() == "/v1/tenants/former" && uri.query() != Some("restore=true") {
        return refuse(StatusCode::CONFLICT, "tenant former was removed", None);
    }
    kept.insert(uri.path().to_owned(), body.clone());
    Json(body).into_response()
}

/// Only `north` may run.
async fn judge(Path(tenant): Path<String>) -> Json<Value> {
    let allowed = tenant == "north";
    let reason = if allowed { "within_limit" } else { "limit_reached" };
    Json(json!({
        "tenant": tenant, "id": null, "allowed": allowed, "reason": reason, "message": "A sentence.",
        "over_limit": false, "used": 5, "reserved": 0, "limit": 10, "remaining": 5,
        "resets_at": "2026-12-01T00:00:00Z", "as_of": "2026-11-24T12:00:00Z", "lag_seconds": 4,
    }))
}
