//! Plan rules beyond the monthly limit: overage, grace, overrides that end, caps, shares, loops.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use proto::{streams::Stream, v1};
use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use testkit::eventually;

use crate::harness::{Harness, OPERATOR, at, plan, usage};

/// After this time nothing is spent under a changed limit, however slow the machine is.
const CHANGED_HOLDS_WITHIN: Duration = Duration::from_millis(1_000);

/// An id that nobody has used.
fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn run(workflow: &str, id: &str) -> Value {
    json!({"tenant": "north", "id": id, "workflow": workflow})
}

async fn admit(world: &Harness, input: Value) -> Value {
    let (status, verdict) = world.ask(Method::POST, "/v1/admissions", Some(input)).await;
    assert_eq!(status, 200, "{verdict}");
    verdict
}

/// The outcome and the reason for a run of `w1`.
async fn verdict_of(world: &Harness, id: &str) -> String {
    told_of(world, "w1", id).await
}

async fn told_of(world: &Harness, workflow: &str, id: &str) -> String {
    let verdict = admit(world, run(workflow, id)).await;
    let outcome = if verdict["allowed"] == true { "allowed" } else { "refused" };
    format!("{outcome}: {}", verdict["reason"].as_str().unwrap())
}

async fn ask_for(world: &Harness, status: u16, id: &str) -> Response {
    let path = format!("/v1/admissions?status={status}");
    world.request(Method::POST, &path).bearer_auth(OPERATOR).json(&run("w1", id)).send().await.unwrap()
}

/// Many runs of one workflow, in one request. Returns how many were allowed.
async fn batch(world: &Harness, workflow: &str, ids: std::ops::Range<u32>) -> usize {
    let admissions: Vec<Value> = ids.map(|id| run(workflow, &format!("{workflow}-{id}"))).collect();
    let (status, body) =
        world.ask(Method::POST, "/v1/admissions/batch", Some(json!({"admissions": admissions}))).await;
    assert_eq!(status, 200, "{body}");
    body["verdicts"].as_array().unwrap().iter().filter(|verdict| verdict["allowed"] == true).count()
}

/// The tenant `north` on a plan with this limit and rule, and nothing counted yet.
async fn ruled(limit: u64, kind: &str, rule: Value) -> Harness {
    let world = Harness::start().await;
    put_plan(&world, limit, kind, rule).await;
    world.put("/v1/tenants/north", json!({"name": "north", "plan": "pro"})).await;
    world.counted(usage("north", 0, 1)).await;
    world
}

async fn put_plan(world: &Harness, limit: u64, kind: &str, rule: Value) {
    let mut ruled = plan(limit);
    ruled["limit_kind"] = json!(kind);
    ruled["admission"] = rule;
    world.put("/v1/plans/pro", ruled).await;
}

/// Sets the clock, and publishes the figures of a sweep at that instant with these ended and running runs.
async fn swept(world: &Harness, now: &str, revision: u64, ended: u64, under_way: u64) {
    world.bench.clock.set(now.parse().unwrap());
    let figures = v1::UsageCounted {
        as_of: at(now),
        complete_until: at(now),
        open_executions: under_way,
        ..usage("north", ended, revision)
    };
    world.counted(figures).await;
}

#[tokio::test]
async fn an_overage_has_a_cap_and_a_refusal_can_be_a_402() {
    let world = ruled(2, "soft", json!({"overage_max": 1})).await;
    assert_eq!(verdict_of(&world, "a").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "b").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "c").await, "allowed: over_soft_limit");
    assert_eq!(verdict_of(&world, "d").await, "refused: overage_reached");

    for (status, meant) in [(402, 402), (429, 429), (0, 200)] {
        assert_eq!(ask_for(&world, status, "e").await.status(), meant);
    }
    let refused = ask_for(&world, 402, "e").await;
    let said = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((said("ratelimit-limit"), said("ratelimit-remaining")), ("2".to_owned(), "0".to_owned()));
    // The limit resets in December, six and a half days from now.
    assert_eq!((said("ratelimit-reset"), said("retry-after")), ("561600".to_owned(), "561600".to_owned()));
    assert_eq!(ask_for(&world, 402, "a").await.status(), 200, "an allowed run stays allowed");
    world.finish().await;
}

#[tokio::test]
async fn a_grace_begins_when_the_limit_is_reached_and_ends() {
    let world = ruled(1, "hard", json!({"grace": "1h"})).await;
    assert_eq!(verdict_of(&world, "a").await, "allowed: within_limit");
    swept(&world, "2026-11-24T12:10:00Z", 2, 1, 0).await;
    assert_eq!(verdict_of(&world, "b").await, "allowed: grace");
    swept(&world, "2026-11-24T13:09:50Z", 3, 2, 0).await;
    assert_eq!(verdict_of(&world, "c").await, "allowed: grace");
    swept(&world, "2026-11-24T13:10:00Z", 4, 3, 0).await;
    assert_eq!(verdict_of(&world, "d").await, "refused: limit_reached");

    // A raised limit may be reached again, with a new grace.
    put_plan(&world, 5, "hard", json!({"grace": "1h"})).await;
    assert_eq!(verdict_of(&world, "e").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "f").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "g").await, "allowed: grace");
    world.finish().await;
}

#[tokio::test]
async fn an_override_ends_at_its_instant_for_leased_units_too() {
    let world = ruled(10, "hard", json!({})).await;
    let raised = json!({"name": "north", "plan": "pro", "limit_override": 100_000,
                        "limit_override_until": "2026-11-24T12:00:05Z"});
    world.put("/v1/tenants/north", raised).await;
    eventually("the gateway holds units", || async {
        for _ in 0..10 {
            assert_eq!(verdict_of(&world, &fresh()).await, "allowed: within_limit");
        }
        (outstanding(&world).await > 10).then_some(())
    })
    .await;
    // A second later, so that more than the plan's own limit is used.
    world.bench.clock.advance(SignedDuration::from_secs(1));
    batch(&world, "w1", 0..20).await;
    world.bench.clock.set("2026-11-24T12:00:05Z".parse().unwrap());
    let refused = admit(&world, run("w1", "late")).await;
    assert_eq!((&refused["reason"], &refused["limit"]), (&json!("limit_reached"), &json!(10)));
    world.finish().await;
}

/// Units that were granted and are neither tallied nor returned.
async fn outstanding(world: &Harness) -> i64 {
    sqlx::query_scalar("SELECT coalesce(sum(outstanding), 0)::bigint FROM leases")
        .fetch_one(world.bench.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn used_up_caps_by_minute_and_by_day_let_runs_start_one_by_one() {
    let caps = json!({"tenant_caps": {"per_minute": 2, "per_day": 4}, "workflow_caps": {"per_day": 3}});
    let world = ruled(1_000, "hard", caps).await;
    assert_eq!(verdict_of(&world, "a").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "b").await, "allowed: within_limit");
    let refused = ask_for(&world, 429, "c").await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()[header::RETRY_AFTER]),
        (429, &"30".parse().unwrap())
    );
    assert_eq!(verdict_of(&world, "c").await, "refused: tenant_minute_cap");
    world.bench.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(verdict_of(&world, "d").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "e").await, "refused: workflow_day_cap");
    assert_eq!(told_of(&world, "w2", "f").await, "allowed: within_limit", "a refused run takes no cell");
    world.bench.clock.advance(SignedDuration::from_secs(60));
    let refused = admit(&world, run("w2", "g")).await;
    assert_eq!(refused["reason"], "tenant_day_cap");
    // Four a day are one every six hours, from the first one on.
    assert_eq!(refused["retry_at"], "2026-11-24T18:00:00Z");
    swept(&world, "2026-11-24T18:00:00Z", 2, 4, 0).await;
    assert_eq!(told_of(&world, "w2", "h").await, "allowed: within_limit");
    assert_eq!(told_of(&world, "w2", "i").await, "refused: tenant_day_cap");
    world.finish().await;
}

#[tokio::test]
async fn concurrent_runs_are_capped_until_a_sweep_finds_that_some_have_ended() {
    let caps = json!({"tenant_caps": {"concurrent": 3}, "workflow_caps": {"concurrent": 2}});
    let world = ruled(1_000, "hard", caps).await;
    assert_eq!(verdict_of(&world, "a").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "b").await, "allowed: within_limit");
    assert_eq!(verdict_of(&world, "c").await, "refused: workflow_concurrent_cap");
    assert_eq!(told_of(&world, "w2", "d").await, "allowed: within_limit");
    assert_eq!(told_of(&world, "w3", "e").await, "refused: tenant_concurrent_cap");
    swept(&world, "2026-11-24T12:10:00Z", 2, 1, 2).await;
    assert_eq!(told_of(&world, "w3", "f").await, "allowed: within_limit");
    assert_eq!(told_of(&world, "w4", "g").await, "refused: tenant_concurrent_cap");
    world.finish().await;
}

#[tokio::test]
async fn one_workflow_cannot_use_more_than_its_share_of_the_limit() {
    let world = ruled(10, "hard", json!({"workflow_share_percent": 50})).await;
    assert_eq!(batch(&world, "w1", 0..8).await, 5);
    let refused = admit(&world, run("w1", "more")).await;
    assert_eq!(
        (&refused["reason"], &refused["remaining"]),
        (&json!("workflow_share_used"), &json!(5)),
        "{refused}"
    );
    assert_eq!(refused["retry_at"], "2026-12-01T00:00:00Z");
    assert_eq!(batch(&world, "w2", 0..8).await, 5);
    assert_eq!(told_of(&world, "w3", "a").await, "refused: limit_reached");
    world.finish().await;
}

#[tokio::test]
async fn a_share_added_to_a_plan_includes_runs_allowed_in_memory_before() {
    let world = ruled(1_000, "hard", json!({})).await;
    assert_eq!(batch(&world, "w1", 0..50).await, 50);
    eventually("the gateway holds units", || async {
        assert_eq!(told_of(&world, "w2", &fresh()).await, "allowed: within_limit");
        (outstanding(&world).await > 0).then_some(())
    })
    .await;
    assert_eq!(batch(&world, "w1", 50..100).await, 50);
    put_plan(&world, 1_000, "hard", json!({"workflow_share_percent": 10})).await;
    assert_eq!(verdict_of(&world, "more").await, "refused: workflow_share_used");
    assert_eq!(told_of(&world, "w3", "other").await, "allowed: within_limit");
    world.finish().await;
}

#[tokio::test]
async fn a_loop_is_reported_once_and_refused_only_if_the_plan_says_so() {
    let world = ruled(100_000, "hard", json!({})).await;
    let mut events = world.bench.topic::<v1::AdmissionEvent>(Stream::Admissions, "admission").await;
    assert_eq!(batch(&world, "w1", 0..90).await, 90);
    let mut next = async || match events.next().await.event.unwrap() {
        v1::admission_event::Event::LoopDetected(detected) => detected,
    };
    let detected = next().await;
    assert_eq!((detected.tenant_id.as_str(), detected.workflow_id.as_str()), ("north", "w1"));
    assert!(detected.runs_per_minute > 60 && !detected.refusing, "{detected:?}");
    assert_eq!(batch(&world, "w1", 100..190).await, 90, "a loop that is only reported is not refused");

    put_plan(&world, 100_000, "hard", json!({"loop_rule": "refuse"})).await;
    eventually("the first workflow is refused", || async {
        (verdict_of(&world, &fresh()).await == "refused: loop_detected").then_some(())
    })
    .await;
    assert_eq!(told_of(&world, "w2", "other").await, "allowed: within_limit");
    batch(&world, "w2", 0..90).await;
    let detected = next().await;
    assert_eq!(
        (detected.workflow_id.as_str(), detected.refusing),
        ("w2", true),
        "the first was reported once"
    );
    // Leased units are spent first, up to a few thousand; in batches, so that this does not take as many
    // requests.
    let next = Cell::new(1_000);
    let more = || {
        let from = next.replace(next.get() + 90);
        batch(&world, "w2", from..from + 90)
    };
    eventually("the second workflow is refused", || async { (more().await == 0).then_some(()) }).await;
    // After a pause of minutes the loop has stopped.
    world.bench.clock.advance(SignedDuration::from_secs(180));
    assert_eq!(told_of(&world, "w2", "later").await, "allowed: within_limit");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_lowered_by_another_gateway_ends_spending_in_memory_within_a_second() {
    let world = ruled(100_000, "hard", json!({})).await;
    let second = world.replica().await;
    eventually("the gateway holds units", || async {
        assert_eq!(verdict_of(&world, &fresh()).await, "allowed: within_limit");
        (outstanding(&world).await > 0).then_some(())
    })
    .await;
    let lowered =
        world.request_to(&second, Method::PUT, "/v1/plans/pro").bearer_auth(OPERATOR).json(&plan(1));
    assert_eq!(lowered.send().await.unwrap().status(), 200);
    let lowered_at = Instant::now();
    eventually("a second has passed and nothing is spent any more", || async {
        let sent_at = Instant::now();
        let refused = verdict_of(&world, &fresh()).await == "refused: limit_reached";
        let sent_after = sent_at.duration_since(lowered_at);
        assert!(refused || sent_after < CHANGED_HOLDS_WITHIN, "allowed {sent_after:?} after the change");
        (refused && sent_after > CHANGED_HOLDS_WITHIN).then_some(())
    })
    .await;
    world.finish().await;
}
