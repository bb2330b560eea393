//! What operations see of a service: `/healthz` (alive), `/readyz` (database and broker answer), `/metrics`.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use messaging::Bus;
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::Tasks;

/// A database that does not answer by then counts as away.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often what was measured is added up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} (ops.listen); is the port taken?")]
pub struct OpsError {
    listen: SocketAddr,
    source: std::io::Error,
}

#[derive(Clone)]
struct Ops {
    pool: PgPool,
    bus: Bus,
    metrics: PrometheusHandle,
}

/// Serves until shutdown.
pub async fn start(
    listen: SocketAddr,
    pool: PgPool,
    bus: Bus,
    metrics: PrometheusHandle,
    tasks: &Tasks,
) -> Result<(), OpsError> {
    let listener = TcpListener::bind(listen).await.map_err(|source| OpsError { listen, source })?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|State(ops): State<Ops>| async move { ops.metrics.render() }))
        .with_state(Ops { pool, bus, metrics: metrics.clone() });
    tasks.spawn(keep_small(metrics, tasks.shutdown()));
    let shutdown = tasks.shutdown();
    tasks.spawn_fallible("ops", async move {
        axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
    });
    Ok(())
}

/// Samples of histograms are kept one by one until they are read or this is done; nobody may read them.
async fn keep_small(metrics: PrometheusHandle, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        metrics.run_upkeep();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(UPKEEP_INTERVAL) => {}
        }
    }
}

async fn ready(State(ops): State<Ops>) -> (StatusCode, &'static str) {
    if !ops.bus.is_connected() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the broker is away\n");
    }
    let answer = timeout(READY_TIMEOUT, sqlx::query("SELECT 1").execute(&ops.pool)).await;
    match answer {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the database is away\n"),
    }
}
