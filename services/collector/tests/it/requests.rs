//! What sweeps cost the source, and how often they come.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use jiff::SignedDuration;
use proto::instant;
use reqwest::header;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::harness::{Harness, STEP};

/// The newest one, four lists of open executions, one page of the list of all, the newest one again.
const QUIET_REQUESTS: usize = 7;

/// A proxy in front of the sandbox that counts requests.
struct Counter {
    url: String,
    requests: Arc<AtomicUsize>,
    server: JoinHandle<std::io::Result<()>>,
}

#[derive(Clone)]
struct Forward {
    to: String,
    requests: Arc<AtomicUsize>,
    http: reqwest::Client,
}

impl Counter {
    async fn before(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let state = Forward { to, requests: requests.clone(), http: reqwest::Client::new() };
        let router = Router::new().fallback(forward).with_state(state);
        Self { url, requests, server: tokio::spawn(axum::serve(listener, router).into_future()) }
    }

    /// Requests since the last time.
    fn take(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

async fn forward(State(forward): State<Forward>, request: Request) -> Response {
    forward.requests.fetch_add(1, Ordering::SeqCst);
    let url = format!("{}{}", forward.to, request.uri());
    let mut headers = request.headers().clone();
    headers.remove(header::HOST);
    let answer = forward.http.get(url).headers(headers).send().await.unwrap();
    let content_type = answer.headers()[header::CONTENT_TYPE].clone();
    let status = answer.status();
    (status, [(header::CONTENT_TYPE, content_type)], answer.bytes().await.unwrap()).into_response()
}

#[tokio::test]
async fn a_quiet_sweep_costs_the_same_few_requests_and_news_cost_their_pages() {
    let mut stage = Harness::start().await;
    let counter = Counter::before(stage.sandbox.n8n_url("north")).await;
    stage.run("north", 600);
    stage.add(&stage.source_at("north", &counter.url, "key-north"), 1).await;
    assert_eq!(stage.swept("north").await.executions.len(), 600);
    counter.take();
    for _ in 0..3 {
        assert!(stage.next_sweep("north").await.executions.is_empty());
        assert_eq!(counter.take(), QUIET_REQUESTS);
    }

    // Rows are read down to 200 ids below the last sweep's newest: 1,200 of them make five pages. The first one shows
    // no execution that is known, so one is asked for, to recognise the source.
    stage.run("north", 1_000);
    assert_eq!(stage.next_sweep("north").await.executions.len(), 1_000);
    assert_eq!(counter.take(), QUIET_REQUESTS + 4 + 1);

    // How many rows the source holds does not matter.
    assert!(stage.next_sweep("north").await.executions.is_empty());
    assert_eq!(counter.take(), QUIET_REQUESTS);
    stage.finish().await;
    counter.server.abort();
}

#[tokio::test]
async fn a_loss_is_announced_before_it_happens_and_the_next_sweep_comes_earlier() {
    let mut stage = Harness::start_with(|settings| settings.assumed_rows_kept = 350).await;
    stage.first_sweep("north").await;
    stage.run("north", 10);
    assert_eq!(stage.next_sweep("north").await.synced.loss_expected_at, None, "there was no rate before");

    stage.run("north", 250);
    let at_risk = stage.next_sweep("north").await;
    let expected = instant(at_risk.synced.loss_expected_at.as_ref(), "loss_expected_at").unwrap();
    let swept_at = instant(at_risk.synced.sweep_started_at.as_ref(), "sweep_started_at").unwrap().unwrap();
    // 250 in a step: 350 take 98 s.
    assert_eq!(expected, Some(swept_at + STEP * 350 / 250));

    // Half of that, and a tenth at most; by its own interval it would not be due before 54 s.
    stage.bench.clock.advance(SignedDuration::from_millis(53_950));
    let quiet = stage.swept("north").await;
    assert_eq!(quiet.synced.loss_expected_at, None);
    stage.finish().await;
}
