//! What operations see of a service: `/healthz` (alive), `/readyz` (started, database and broker answer; warnings),
//! `/metrics`. Served from the start: a service that waits for its database is alive and says what it waits
//! for.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use messaging::{Bus, Waits};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{Rounds, Tasks, Warnings};

/// A database that does not answer by then counts as unavailable.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval for merging histogram samples.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} (ops.listen); is the port taken?")]
pub struct OpsError {
    listen: SocketAddr,
    source: std::io::Error,
}

/// What `/readyz` checks.
#[derive(Clone, Default)]
pub struct Readiness {
    waits: Waits,
    warnings: Warnings,
    started: Arc<OnceLock<(PgPool, Bus)>>,
}

impl Readiness {
    /// What the process waits for.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// What works only in part.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Everything has been started; from now on the pool and the bus decide.
    pub fn started(&self, pool: PgPool, bus: Bus) {
        let _ = self.started.set((pool, bus));
    }
}

#[derive(Clone)]
struct Ops {
    readiness: Readiness,
    metrics: PrometheusHandle,
}

/// Serves until shutdown.
pub async fn start(
    listen: SocketAddr,
    readiness: Readiness,
    metrics: PrometheusHandle,
    tasks: &Tasks,
) -> Result<(), OpsError> {
    let listener = TcpListener::bind(listen).await.map_err(|source| OpsError { listen, source })?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(Ops { readiness, metrics: metrics.clone() });
    tasks.spawn(keep_small(metrics, tasks.shutdown()));
    let shutdown = tasks.shutdown();
    tasks.spawn_fallible("ops", async move {
        axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
    });
    Ok(())
}

/// Histogram samples are kept one by one until they are scraped or merged here; maybe nobody scrapes them.
async fn keep_small(metrics: PrometheusHandle, shutdown: CancellationToken) {
    let mut rounds = Rounds::new(UPKEEP_INTERVAL, shutdown);
    while rounds.next().await {
        metrics.run_upkeep();
    }
}

async fn show_metrics(State(ops): State<Ops>) -> String {
    crate::measures::measure_process();
    ops.metrics.render()
}

async fn ready(State(ops): State<Ops>) -> (StatusCode, String) {
    let warnings = ops.readiness.warnings.lines();
    match look(&ops.readiness).await {
        Ok(()) => (StatusCode::OK, format!("ready\n{warnings}")),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n{warnings}")),
    }
}

async fn look(readiness: &Readiness) -> Result<(), String> {
    if let Some(reason) = readiness.waits.reason() {
        return Err(format!("waiting for {reason}"));
    }
    let Some((pool, bus)) = readiness.started.get() else { return Err("starting".to_owned()) };
    if !bus.is_connected() {
        return Err("the broker is unavailable".to_owned());
    }
    match timeout(READY_TIMEOUT, sqlx::query("SELECT 1").execute(pool)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err("the database is unavailable".to_owned()),
    }
}
