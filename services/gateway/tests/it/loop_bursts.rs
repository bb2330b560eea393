//! How many runs of a burst start if the plan refuses loops.

use jiff::SignedDuration;
use proto::{streams::Stream, v1};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::harness::{Harness, OPERATOR, answer, plan, usage};

/// The most runs in a minute that are not a loop, for a workflow without a history.
const MOST: usize = 60;

/// A tenant whose plan has this rule, and a limit that is far away.
async fn refusing(rule: Value) -> Harness {
    let world = Harness::start().await;
    let mut terms = plan(1_000_000);
    terms["admission"] = rule;
    world.put("/v1/plans/pro", terms).await;
    world.put("/v1/tenants/north", json!({"name": "north", "plan": "pro"})).await;
    world.counted(usage("north", 0, 1)).await;
    world
}

/// Many runs of one workflow at once. Returns how many may start.
async fn burst(world: &Harness, base: &str, workflow: &str, runs: usize) -> usize {
    let run = || json!({"tenant": "north", "id": uuid::Uuid::new_v4().to_string(), "workflow": workflow});
    let mut started = 0;
    let mut left = runs;
    while left > 0 {
        let size = left.min(80);
        left -= size;
        let admissions: Vec<Value> = (0..size).map(|_| run()).collect();
        let request = world.request_to(base, Method::POST, "/v1/admissions/batch").bearer_auth(OPERATOR);
        let (status, body) = answer(request.json(&json!({"admissions": admissions}))).await;
        assert_eq!(status, 200, "{body}");
        let verdicts = body["verdicts"].as_array().unwrap();
        started += verdicts.iter().filter(|verdict| verdict["allowed"] == true).count();
    }
    started
}

/// Other workflows ask until the replica holds units of the tenant.
async fn with_units_in_hand(world: &Harness, base: &str, workflow: &str) {
    let next = std::cell::Cell::new(0_u32);
    eventually("the replica holds units", || async {
        // Each burst from a workflow of its own, so that none has a rate far above the usual.
        let name = format!("{workflow}-{}", next.replace(next.get() + 1));
        burst(world, base, &name, 20).await;
        let held: i64 = sqlx::query_scalar("SELECT coalesce(sum(outstanding), 0)::bigint FROM leases")
            .fetch_one(world.bench.pool())
            .await
            .unwrap();
        (held > 500).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_a_burst_of_400_runs_60_start() {
    let world = refusing(json!({"loop_rule": "refuse"})).await;
    assert_eq!(burst(&world, world.base(), "w1", 400).await, MOST);
    // Other workflows are not affected, and the workflow may start again after a pause.
    assert_eq!(burst(&world, world.base(), "w2", 50).await, 50);
    world.bench.clock.advance(SignedDuration::from_secs(180));
    assert_eq!(burst(&world, world.base(), "w1", 50).await, 50);
    world.finish().await;
}

#[tokio::test]
async fn leased_units_let_no_more_runs_of_a_loop_start() {
    let world = refusing(json!({"loop_rule": "refuse"})).await;
    with_units_in_hand(&world, world.base(), "other").await;
    assert_eq!(burst(&world, world.base(), "w1", 400).await, MOST);
    world.finish().await;
}

#[tokio::test]
async fn two_gateways_let_at_most_an_eighth_more_runs_of_a_loop_start() {
    let world = refusing(json!({"loop_rule": "refuse"})).await;
    let second = world.replica().await;
    eventually("the second gateway has the figures", || async {
        let look = world.request_to(&second, Method::GET, "/v1/admissions/north").bearer_auth(OPERATOR);
        (answer(look).await.1["used"].is_u64()).then_some(())
    })
    .await;
    with_units_in_hand(&world, world.base(), "first").await;
    with_units_in_hand(&world, &second, "second").await;
    let (here, there) =
        tokio::join!(burst(&world, world.base(), "w1", 400), burst(&world, &second, "w1", 400));
    let started = here + there;
    assert!((MOST..=MOST + MOST / 8).contains(&started), "{started} of 800 started");
    world.finish().await;
}

#[tokio::test]
async fn the_event_has_the_number_of_started_runs_and_whether_others_are_refused() {
    for (rule, refusing_now, shadow) in [
        (json!({"loop_rule": "refuse"}), true, false),
        (json!({"loop_rule": "refuse", "shadow": true}), false, true),
        (json!({}), false, false),
    ] {
        let world = refusing(rule).await;
        let mut events = world.bench.topic::<v1::AdmissionEvent>(Stream::Admissions, "admission").await;
        burst(&world, world.base(), "w1", 80).await;
        let v1::admission_event::Event::LoopDetected(detected) = events.next().await.event.unwrap();
        assert_eq!((detected.refusing, detected.shadow), (refusing_now, shadow));
        assert_eq!(detected.usual_most, 60);
        if refusing_now {
            assert_eq!((detected.runs_per_minute, detected.started), (61, 60));
        }
        world.finish().await;
    }
}
