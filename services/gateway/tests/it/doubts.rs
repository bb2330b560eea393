//! A refusal that may be false requests a sweep.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use messaging::ask::{self, Answerer, Refusal};
use metering::Clock;
use proto::{subjects::Question, v1};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;
use tokio::{sync::mpsc, time::timeout};

use crate::harness::{Harness, usage};

/// A collector that reports the tenants whose sources it was asked to sweep.
struct Collector(mpsc::UnboundedSender<String>);

#[async_trait]
impl Answerer for Collector {
    type Question = v1::SweepQuestion;
    type Answer = ();

    async fn answer(&self, question: v1::SweepQuestion) -> Result<(), Refusal> {
        self.0.send(question.tenant_id).map_err(|_| Refusal::unavailable("nobody listens".to_owned()))
    }
}

/// The sweeps that a collector was asked for.
struct Asked(mpsc::UnboundedReceiver<String>);

impl Asked {
    /// Starts a collector and waits until it answers.
    async fn of(world: &Harness) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let context = &world.bench.context;
        let (bus, shutdown) = (context.bus.clone(), context.tasks.shutdown());
        context.tasks.spawn(ask::answer(bus.clone(), Question::Sweep, Arc::new(Collector(sender)), shutdown));
        let mut asked = Self(asked);
        eventually("the collector answers", || async {
            let question = v1::SweepQuestion { tenant_id: "nobody".into() };
            bus.ask::<()>(Question::Sweep, &question, Duration::from_secs(5)).await.ok()
        })
        .await;
        assert_eq!(asked.next().await, "nobody");
        asked
    }

    /// The tenant of the next requested sweep.
    async fn next(&mut self) -> String {
        timeout(Duration::from_secs(30), self.0.recv()).await.expect("nobody was asked").unwrap()
    }
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// A sweep that ends now has found this many runs of the tenant.
async fn sweep(world: &Harness, tenant: &str, counted: u64) {
    let now = world.bench.clock.now();
    let at = Some(proto::timestamp(now));
    let revision = u64::try_from(now.duration_since(Timestamp::UNIX_EPOCH).as_secs()).unwrap();
    world
        .counted(v1::UsageCounted { as_of: at, complete_until: at, ..usage(tenant, counted, revision) })
        .await;
}

async fn ask(world: &Harness, tenant: &str, id: &str) -> Value {
    let body = json!({ "tenant": tenant, "id": id });
    let (status, verdict) = world.ask(Method::POST, "/v1/admissions", Some(body)).await;
    assert_eq!(status, 200, "{verdict}");
    verdict
}

async fn is_allowed(world: &Harness, tenant: &str, id: &str) -> bool {
    ask(world, tenant, id).await["allowed"].as_bool().unwrap()
}

/// The status and the reason for a caller that asks for 402 as the status of a refusal.
async fn refused_with_402(world: &Harness, id: &str) -> (u16, Value) {
    let body = json!({ "tenant": "north", "id": id });
    let (status, mut verdict) = world.ask(Method::POST, "/v1/admissions?status=402", Some(body)).await;
    (status, verdict["reason"].take())
}

#[tokio::test]
async fn runs_that_may_be_counted_twice_request_one_sweep_which_frees_them() {
    let world = Harness::start().await;
    let mut asked = Asked::of(&world).await;
    world.with_tenants(3).await;
    for tenant in ["north", "south"] {
        sweep(&world, tenant, 0).await;
    }
    world.bench.clock.advance(seconds(30));

    // A sweep in the middle of a burst sees runs that were allowed just before it: they are counted twice.
    assert!(is_allowed(&world, "north", "a").await && is_allowed(&world, "north", "b").await);
    world.bench.clock.advance(seconds(1));
    sweep(&world, "north", 2).await;
    for id in ["c", "d", "c"] {
        let refused = ask(&world, "north", id).await;
        assert_eq!(refused["reason"], "limit_unsettled");
        assert_eq!(refused["retry_at"], "2026-11-24T12:00:51Z", "after the requested sweep");
    }
    assert_eq!(
        refused_with_402(&world, "c").await,
        (429, "limit_unsettled".into()),
        "the limit may not be used up"
    );
    assert_eq!(asked.next().await, "north");

    // The requested sweep: the unit is free again, and the next refusal is true.
    world.bench.clock.advance(seconds(15));
    sweep(&world, "north", 2).await;
    world.bench.clock.advance(seconds(5));
    assert!(is_allowed(&world, "north", "e").await);
    let refused = ask(&world, "north", "f").await;
    assert_eq!((&refused["allowed"], &refused["retry_at"]), (&json!(false), &json!("2026-12-01T00:00:00Z")));

    // One request for each watermark: nothing was requested meanwhile.
    world.bench.clock.advance(seconds(1));
    sweep(&world, "north", 3).await;
    assert!(!is_allowed(&world, "north", "g").await);
    assert_eq!(asked.next().await, "north");
    for id in ["a", "b", "c"] {
        assert!(is_allowed(&world, "south", id).await);
    }
    sweep(&world, "south", 3).await;
    assert!(!is_allowed(&world, "south", "d").await);
    assert_eq!(asked.next().await, "south");
    world.finish().await;
}

#[tokio::test]
async fn runs_whose_executions_are_counted_are_not_counted_twice() {
    let world = Harness::start().await;
    world.with_tenants(3).await;
    sweep(&world, "north", 0).await;
    world.bench.clock.advance(seconds(30));
    let admitted = ask(&world, "north", "a").await;
    assert!(is_allowed(&world, "north", "b").await);
    let admitted_at: Timestamp = admitted["admitted_at"].as_str().unwrap().parse().unwrap();
    world.bench.clock.advance(seconds(1));
    let now = world.bench.clock.now();
    let slot = v1::SettledSlot { slot: admitted_at.as_second().div_euclid(5), executions: 2 };
    let swept = v1::UsageCounted {
        as_of: Some(proto::timestamp(now)),
        complete_until: Some(proto::timestamp(now)),
        settled: vec![slot],
        ..usage("north", 2, now.as_second().unsigned_abs())
    };
    world.counted(swept).await;
    world.bench.clock.advance(seconds(10));
    let last = ask(&world, "north", "c").await;
    assert_eq!((&last["allowed"], &last["used"], &last["reserved"]), (&json!(true), &json!(3), &json!(1)));

    // The limit is known to be used up: the refusal is final, without a hint to retry soon.
    assert_eq!(refused_with_402(&world, "d").await, (402, "limit_reached".into()));
    let refused = ask(&world, "north", "d").await;
    assert_eq!((&refused["reason"], &refused["admitted_at"]), (&json!("limit_reached"), &json!(null)));
    assert_eq!(refused["retry_at"], "2026-12-01T00:00:00Z");
    world.finish().await;
}

#[tokio::test]
async fn a_run_that_spans_a_sweep_is_not_counted_twice() {
    let world = Harness::start().await;
    world.with_tenants(3).await;
    sweep(&world, "north", 0).await;
    let earlier = world.bench.clock.now();
    world.bench.clock.advance(seconds(30));
    assert!(is_allowed(&world, "north", "a").await);
    world.bench.clock.advance(seconds(1));
    // The sweep finds it running, and its unit is younger than the sweep's margin.
    let now = world.bench.clock.now();
    let running = v1::UsageCounted {
        as_of: Some(proto::timestamp(now)),
        complete_until: Some(proto::timestamp(now)),
        open_executions: 1,
        earlier_complete_until: Some(proto::timestamp(earlier)),
        earlier_open: 0,
        ..usage("north", 0, now.as_second().unsigned_abs())
    };
    world.counted(running).await;
    let shown = world.ask(Method::GET, "/v1/admissions/north", None).await.1;
    assert_eq!(shown["used"], 1, "{shown}");
    for id in ["b", "c"] {
        assert!(is_allowed(&world, "north", id).await, "{id}");
    }
    let refused = ask(&world, "north", "d").await;
    assert_eq!((&refused["allowed"], &refused["used"]), (&json!(false), &json!(3)));
    world.finish().await;
}
