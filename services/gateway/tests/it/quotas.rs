//! One caller that sends too much is refused, and the others are served.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use messaging::ask::{self, Answerer, Refusal};
use proto::{subjects::Question, v1};
use reqwest::{Method, header};
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, watch},
};

use crate::harness::{Harness, OPERATOR, answer};

/// An aggregator with four connections for questions: each question of `north` holds one until `open`.
struct Slow {
    connections: Semaphore,
    open: watch::Receiver<bool>,
}

#[async_trait]
impl Answerer for Slow {
    type Question = v1::ExplainQuestion;
    type Answer = v1::ExplainAnswer;

    async fn answer(&self, question: v1::ExplainQuestion) -> Result<v1::ExplainAnswer, Refusal> {
        let _connection = self.connections.acquire().await.map_err(Refusal::unavailable)?;
        if question.tenant_id == "north" {
            let _ = self.open.clone().wait_for(|open| *open).await;
        }
        Ok(v1::ExplainAnswer { totals: Some(v1::Totals::default()), ..v1::ExplainAnswer::default() })
    }
}

const EXPLAIN_NORTH: &str = "/v1/tenants/north/usage/explain";
const EXPLAIN_SOUTH: &str = "/v1/tenants/south/usage/explain";

#[tokio::test]
async fn a_caller_with_too_many_questions_is_refused_and_others_are_answered() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let (north, south) = (world.token_of("north").await, world.token_of("south").await);
    let (open, opened) = watch::channel(false);
    let context = &world.bench.context;
    let slow = Arc::new(Slow { connections: Semaphore::new(4), open: opened });
    let shutdown = context.tasks.shutdown();
    context.tasks.spawn(ask::answer(context.bus.clone(), Question::Explain, slow, shutdown));
    eventually("the aggregator listens", || async {
        (world.ask_as(&south, Method::GET, EXPLAIN_SOUTH, None).await.0 == 200).then_some(())
    })
    .await;

    let asked = (0..24).map(|_| world.request(Method::GET, EXPLAIN_NORTH).bearer_auth(&north).send());
    let mut asked: FuturesUnordered<_> = asked.collect();
    // Three have a place, twelve wait for one.
    for _ in 15..24 {
        let response = asked.next().await.unwrap().unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
    // The others of `north` wait or hold connections of the aggregator now.
    let others = (0..3).map(|_| world.ask_as(&south, Method::GET, EXPLAIN_SOUTH, None));
    let operator = world.ask(Method::GET, EXPLAIN_SOUTH, None);
    let (others, operator) = tokio::join!(join_all(others), operator);
    for (status, body) in others.into_iter().chain([operator]) {
        assert_eq!(status, 200, "{body}");
    }
    open.send(true).unwrap();
    while let Some(response) = asked.next().await {
        assert_eq!(response.unwrap().status(), 200, "those that waited are answered");
    }
    world.finish().await;
}

#[tokio::test]
async fn one_callers_listeners_leave_places_for_others() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let (north, south) = (world.token_of("north").await, world.token_of("south").await);
    let listen = |token: String| world.request(Method::GET, "/v1/events").bearer_auth(token).send();
    let mut open = Vec::new();
    for _ in 0..100 {
        let response = listen(north.clone()).await.unwrap();
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    assert_eq!(listen(north.clone()).await.unwrap().status(), 429);
    assert_eq!(listen(south).await.unwrap().status(), 200);
    assert_eq!(listen(OPERATOR.to_owned()).await.unwrap().status(), 200);
    open.clear();
    eventually("a place is free again", || async {
        (listen(north.clone()).await.unwrap().status() == 200).then_some(())
    })
    .await;
    world.finish().await;
}

/// A sign-in whose body never arrives.
async fn stuck_sign_in(world: &Harness) -> TcpStream {
    let mut stream = TcpStream::connect(world.base().trim_start_matches("http://")).await.unwrap();
    let head = "POST /v1/session HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn stuck_sign_ins_hold_few_places_and_not_for_long() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let mut stuck = Vec::new();
    for _ in 0..600 {
        stuck.push(stuck_sign_in(&world).await);
    }
    let mut last = stuck.pop().unwrap();
    let mut said = [0; 12];
    tokio::time::timeout(Duration::from_secs(5), last.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(&said, b"HTTP/1.1 429");
    // Without the bound they would take all 512 places of the gateway.
    assert_eq!(world.ask(Method::GET, "/v1/usage", None).await.0, 200);
    let sign_in = || async {
        let body = serde_json::json!({"token": OPERATOR});
        (answer(world.request(Method::POST, "/v1/session").json(&body)).await.0 == 200).then_some(())
    };
    eventually("somebody can sign in again", sign_in).await;
    drop(stuck);
    world.finish().await;
}
