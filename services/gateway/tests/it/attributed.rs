//! The limit check of a source that several tenants share: the source's own list decides the tenant of a run.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::SignedDuration;
use messaging::ask::{self, Answerer, Refusal};
use proto::{subjects::Question, v1};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::harness::{Harness, usage};

/// A collector that knows the tags of some workflows.
#[derive(Clone, Default)]
struct Collector {
    tags: Arc<Mutex<HashMap<String, &'static str>>>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Answerer for Collector {
    type Question = v1::PlacementQuestion;
    type Answer = v1::PlacementAnswer;

    async fn answer(&self, question: v1::PlacementQuestion) -> Result<v1::PlacementAnswer, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let tag = self.tags.lock().unwrap().get(&question.workflow_id).copied();
        let workflow = tag.map(|tag| v1::Workflow { tags: vec![tag.into()], ..v1::Workflow::default() });
        Ok(v1::PlacementAnswer { workflow })
    }
}

impl Collector {
    /// Starts one and waits until it answers.
    async fn start(world: &Harness) -> Self {
        let collector = Self::default();
        let context = &world.bench.context;
        let (bus, shutdown) = (context.bus.clone(), context.tasks.shutdown());
        let answers = Arc::new(collector.clone());
        context.tasks.spawn(ask::answer(bus.clone(), Question::Placement, answers, shutdown));
        eventually("the collector answers", || async {
            let question = v1::PlacementQuestion::default();
            let wait = Duration::from_secs(5);
            bus.ask::<v1::PlacementAnswer>(Question::Placement, &question, wait).await.ok()
        })
        .await;
        collector.asked.store(0, Ordering::SeqCst);
        collector
    }

    fn tag(&self, workflow: &str, tag: &'static str) {
        self.tags.lock().unwrap().insert(workflow.into(), tag);
    }
}

/// North and south share a source by tag; workflows without a tag are north's.
async fn shared(world: &Harness) -> String {
    world.with_tenants(100).await;
    let source = json!({"kind": "n8n", "base_url": "https://n8n.example", "api_key": "key", "tenant": "north",
        "attributions": [{"tenant": "south", "tag": "south"}, {"tenant": "north", "tag": "north"}]});
    world.put("/v1/sources/shared", source).await;
    let (status, issued) = world.ask(Method::POST, "/v1/sources/shared/push-token", None).await;
    assert_eq!(status, 201, "{issued}");
    issued["token"].as_str().unwrap().to_owned()
}

async fn run(world: &Harness, token: &str, id: &str, workflow: &str, tags: &[&str]) -> (String, bool) {
    let asked = json!({"id": id, "workflow": workflow, "mode": "webhook", "tags": tags});
    let (status, verdict) = world.ask_as(token, Method::POST, "/v1/admissions", Some(asked)).await;
    assert_eq!(status, 200, "{verdict}");
    (verdict["tenant"].as_str().unwrap_or("nobody").to_owned(), verdict["allowed"] == Value::Bool(true))
}

fn of(tenant: &str, allowed: bool) -> (String, bool) {
    (tenant.to_owned(), allowed)
}

#[tokio::test]
async fn a_limit_holds_for_a_tenant_by_tag_even_if_the_request_names_no_tags() {
    let world = Harness::start().await;
    let token = shared(&world).await;
    let collector = Collector::start(&world).await;
    collector.tag("orders", "south");
    world.counted(usage("south", 99, 1)).await;
    world.counted(usage("north", 0, 1)).await;
    assert_eq!(run(&world, &token, "run-1", "orders", &[]).await, of("south", true));
    assert_eq!(run(&world, &token, "run-2", "orders", &[]).await, of("south", false));
    // Naming another tenant's tag neither charges that tenant nor evades the right one's limit.
    assert_eq!(run(&world, &token, "run-3", "orders", &["north"]).await, of("south", false));
    assert_eq!(collector.asked.load(Ordering::SeqCst), 1, "an answer is cached");
    world.finish().await;
}

#[tokio::test]
async fn a_retagged_workflow_changes_its_tenant_and_an_unknown_one_follows_the_hint() {
    let world = Harness::start().await;
    let token = shared(&world).await;
    let collector = Collector::start(&world).await;
    assert_eq!(run(&world, &token, "run-1", "orders", &["south"]).await, of("south", true));
    assert_eq!(run(&world, &token, "run-2", "orders", &[]).await, of("north", true));
    // The collector has read the list.
    collector.tag("orders", "south");
    world.bench.clock.advance(SignedDuration::from_secs(5));
    assert_eq!(run(&world, &token, "run-3", "orders", &["north"]).await, of("south", true));
    collector.tag("orders", "north");
    assert_eq!(run(&world, &token, "run-4", "orders", &["south"]).await, of("south", true));
    world.bench.clock.advance(SignedDuration::from_secs(30));
    assert_eq!(run(&world, &token, "run-5", "orders", &["south"]).await, of("north", true));
    world.finish().await;
}

#[tokio::test]
async fn without_an_answer_the_requests_own_tags_decide() {
    let world = Harness::start().await;
    let token = shared(&world).await;
    assert_eq!(run(&world, &token, "run-1", "orders", &["south"]).await, of("south", true));
    assert_eq!(run(&world, &token, "run-2", "orders", &[]).await, of("north", true));
    world.finish().await;
}
