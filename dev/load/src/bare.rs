//! The ceiling of the limit check: the same framework, the same bodies, a counter for each tenant in memory, and nothing
//! else. No token, no tenant's terms, no ledger, no metrics.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use axum::{Json, Router, extract::State, http::StatusCode, routing};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;

const LIMIT: u64 = 1_000_000_000;

/// Arguments of `flowmeter-load bare`.
#[derive(Debug, Args)]
pub struct Bare {
    /// The address to listen on.
    #[arg(long)]
    listen: SocketAddr,
}

/// Runs by tenant.
type Used = Arc<Mutex<HashMap<String, u64>>>;

/// A request to the limit check.
#[derive(Debug, Deserialize)]
struct Input {
    tenant: String,
    id: String,
    #[expect(dead_code, reason = "read as the gateway reads it")]
    workflow: Option<String>,
    #[expect(dead_code, reason = "read as the gateway reads it")]
    mode: Option<String>,
}

/// Its answer.
#[derive(Debug, Serialize)]
struct Verdict {
    tenant: String,
    id: String,
    allowed: bool,
    reason: &'static str,
    message: String,
    over_limit: bool,
    used: u64,
    reserved: u64,
    limit: u64,
    remaining: u64,
    resets_at: &'static str,
    retry_at: Option<&'static str>,
    shadow: Option<&'static str>,
    outage: Outage,
    as_of: &'static str,
    lag_seconds: u64,
}

/// A part of the answer.
#[derive(Debug, Serialize)]
struct Outage {
    rule: &'static str,
    open_at_most_seconds: Option<u64>,
}

impl Bare {
    /// Serves until the process ends.
    pub async fn run(self) -> Result<Value> {
        let listener = TcpListener::bind(self.listen).await.context("cannot listen")?;
        let router = Router::new()
            .route("/v1/admissions", routing::post(decide))
            .route("/readyz", routing::get(async || StatusCode::OK))
            .with_state(Used::default());
        axum::serve(listener, router).await.context("cannot serve")?;
        Ok(Value::Null)
    }
}

async fn decide(State(used): State<Used>, Json(input): Json<Input>) -> Json<Verdict> {
    let used = {
        let mut all = used.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&input.tenant) {
            Some(used) => {
                *used += 1;
                *used
            }
            None => *all.entry(input.tenant.clone()).or_insert(1),
        }
    };
    let allowed = used <= LIMIT;
    Json(Verdict {
        tenant: input.tenant,
        id: input.id,
        allowed,
        reason: if allowed { "within_limit" } else { "limit_reached" },
        message: format!("Allowed: {used} of {LIMIT} executions are used."),
        over_limit: false,
        used,
        reserved: used,
        limit: LIMIT,
        remaining: LIMIT.saturating_sub(used),
        resets_at: "2026-12-01T00:00:00Z",
        retry_at: None,
        shadow: None,
        outage: Outage { rule: "open", open_at_most_seconds: None },
        as_of: "2026-11-24T12:00:00.123456Z",
        lag_seconds: 60,
    })
}
