//! The limit check.

use jiff::SignedDuration;
use proto::v1;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::harness::{Harness, OPERATOR, answer, at, plan, usage};

async fn admit(world: &Harness, id: &str) -> Value {
    let (status, verdict) =
        world.ask(Method::POST, "/v1/admissions", Some(json!({"tenant": "north", "id": id}))).await;
    assert_eq!(status, 200, "{verdict}");
    verdict
}

fn verdict(answer: &Value) -> (bool, &str) {
    (answer["allowed"].as_bool().unwrap(), answer["reason"].as_str().unwrap())
}

#[tokio::test]
async fn of_two_hundred_concurrent_runs_a_limit_of_fifty_allows_fifty() {
    let world = Harness::start().await;
    world.with_tenants(50).await;
    world.counted(usage("north", 0, 1)).await;
    let requests = (0..200).map(|number| {
        let world = &world;
        async move { admit(world, &format!("run-{number}")).await }
    });
    let verdicts = futures_util::future::join_all(requests).await;
    assert_eq!(verdicts.iter().filter(|verdict| verdict["allowed"] == true).count(), 50);
    let mut remaining: Vec<u64> = verdicts
        .iter()
        .filter(|verdict| verdict["allowed"] == true)
        .map(|verdict| verdict["remaining"].as_u64().unwrap())
        .collect();
    remaining.sort_unstable();
    assert_eq!(remaining, (0..50).collect::<Vec<_>>());

    // The same ids again: the same answers, and nothing more is reserved.
    for (number, before) in verdicts.iter().enumerate().take(20) {
        assert_eq!(admit(&world, &format!("run-{number}")).await, *before);
    }
    let look = world.get("/v1/admissions/north").await;
    assert_eq!((&look["used"], &look["reserved"], &look["allowed"]), (&json!(50), &json!(50), &json!(false)));
    world.finish().await;
}

#[tokio::test]
async fn a_raised_limit_holds_at_once_and_refused_runs_never_count() {
    let world = Harness::start().await;
    world.with_tenants(1).await;
    world.counted(usage("north", 1, 1)).await;
    for id in ["a", "b", "c"] {
        assert_eq!(verdict(&admit(&world, id).await), (false, "limit_reached"));
    }
    world.put("/v1/tenants/north", json!({"name": "North", "plan": "pro", "limit_override": 3})).await;
    let allowed = admit(&world, "d").await;
    assert_eq!((verdict(&allowed), &allowed["used"]), ((true, "within_limit"), &json!(2)));
    assert_eq!(verdict(&admit(&world, "a").await), (false, "limit_reached"), "an id keeps its answer");
    assert_eq!(verdict(&admit(&world, "e").await), (true, "within_limit"));
    assert_eq!(verdict(&admit(&world, "f").await), (false, "limit_reached"));

    // A sweep that has seen both runs replaces their reservations.
    world.bench.clock.advance(SignedDuration::from_mins(10));
    let swept = v1::UsageCounted {
        as_of: at("2026-11-24T12:10:00Z"),
        complete_until: at("2026-11-24T12:09:55Z"),
        counted_complete: 2,
        open_executions: 1,
        ..usage("north", 2, 2)
    };
    world.counted(swept).await;
    let look = world.get("/v1/admissions/north").await;
    assert_eq!((&look["used"], &look["reserved"]), (&json!(3), &json!(0)));
    world.finish().await;
}

#[tokio::test]
async fn soft_limits_and_uncounted_modes_are_allowed() {
    let world = Harness::start().await;
    world.with_tenants(1).await;
    world.put("/v1/tenants/north", json!({"name": "North", "plan": "pro", "language": "es"})).await;
    world.counted(usage("north", 1, 1)).await;
    let manual = json!({"tenant": "north", "id": "m", "mode": "manual", "workflow": "w1"});
    let (_, free) = world.ask(Method::POST, "/v1/admissions", Some(manual)).await;
    assert_eq!((verdict(&free), &free["reserved"]), ((true, "not_counted"), &json!(0)));
    let refused = admit(&world, "a").await;
    assert_eq!(verdict(&refused), (false, "limit_reached"));
    assert!(refused["message"].as_str().unwrap().starts_with("Rechazada"), "{refused}");

    let mut soft = plan(1);
    soft["limit_kind"] = json!("soft");
    world.put("/v1/plans/pro", soft).await;
    let over = admit(&world, "b").await;
    assert_eq!((verdict(&over), &over["over_limit"]), ((true, "over_soft_limit"), &json!(true)));
    world.put("/v1/plans/pro", json!({"name": "Pro"})).await;
    let unlimited = admit(&world, "c").await;
    assert_eq!((verdict(&unlimited), &unlimited["remaining"]), ((true, "no_limit"), &Value::Null));
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_without_figures_has_its_limit() {
    let world = Harness::start().await;
    world.with_tenants(3).await;
    for id in ["a", "b", "c"] {
        assert_eq!(verdict(&admit(&world, id).await), (true, "metering_stale"));
    }
    let refused = admit(&world, "d").await;
    assert_eq!(verdict(&refused), (false, "limit_unsettled"));
    assert!(!refused["retry_at"].is_null(), "the first figures may end it");
    world.counted(usage("north", 3, 1)).await;
    assert_eq!(verdict(&admit(&world, "e").await), (false, "limit_reached"));
    world.finish().await;
}

#[tokio::test]
async fn stale_metering_follows_the_plan() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let blind = admit(&world, "a").await;
    assert_eq!((verdict(&blind), &blind["used"]), ((true, "metering_stale"), &Value::Null));
    world.counted(usage("north", 5, 1)).await;
    assert_eq!(verdict(&admit(&world, "b").await), (true, "within_limit"));
    world.bench.clock.advance(SignedDuration::from_mins(30));
    let stale = admit(&world, "c").await;
    assert_eq!((verdict(&stale), &stale["lag_seconds"]), ((true, "metering_stale"), &json!(1_860)));
    let mut closed = plan(100);
    closed["outage_rule"] = json!("closed");
    world.put("/v1/plans/pro", closed).await;
    assert_eq!(verdict(&admit(&world, "d").await), (false, "metering_stale"));
    world.finish().await;
}

#[tokio::test]
async fn a_refusal_can_be_a_429_and_headers_have_the_same_figures() {
    let world = Harness::start().await;
    world.with_tenants(1).await;
    world.counted(usage("north", 0, 1)).await;
    let check = |path: &str, id: &str| {
        world
            .request(Method::POST, path)
            .bearer_auth(OPERATOR)
            .json(&json!({"tenant": "north", "id": id}))
            .send()
    };
    let first = check("/v1/admissions?status=1", "a").await.unwrap();
    assert_eq!(first.status(), 200);
    assert_eq!(
        (&first.headers()["ratelimit-limit"], &first.headers()["ratelimit-remaining"]),
        (&"1".parse().unwrap(), &"0".parse().unwrap())
    );
    // Six and a half days until December.
    assert_eq!(first.headers()["ratelimit-reset"], "561600");
    assert_eq!(check("/v1/admissions?status=1", "b").await.unwrap().status(), 429);
    assert_eq!(check("/v1/admissions", "b").await.unwrap().status(), 200);
    assert_eq!(check("/v1/admissions?status=2", "b").await.unwrap().status(), 400);
    let (status, unknown) =
        world.ask(Method::POST, "/v1/admissions", Some(json!({"tenant": "nobody", "id": "a"}))).await;
    assert_eq!((status, verdict(&unknown)), (200, (false, "unknown_tenant")));
    let bad = world.ask(Method::POST, "/v1/admissions", Some(json!({"tenant": "north", "id": ""}))).await;
    assert_eq!((bad.0, &bad.1["error"]["field"]), (422, &json!("id")));
    world.finish().await;
}

#[tokio::test]
async fn a_new_period_has_its_whole_limit() {
    let world = Harness::start().await;
    world.with_tenants(2).await;
    world.counted(usage("north", 2, 1)).await;
    assert_eq!(verdict(&admit(&world, "a").await), (false, "limit_reached"));
    let before_midnight = v1::UsageCounted {
        as_of: at("2026-11-30T23:59:00Z"),
        complete_until: at("2026-11-30T23:59:00Z"),
        ..usage("north", 2, 2)
    };
    world.counted(before_midnight).await;
    world.bench.clock.set("2026-12-01T00:01:00Z".parse().unwrap());
    let shown = world.get("/v1/usage/north").await;
    assert_eq!(
        (&shown["state"], &shown["counted"]),
        (&json!("unknown"), &Value::Null),
        "unknown is not zero"
    );
    for id in ["b", "c"] {
        assert_eq!(verdict(&admit(&world, id).await), (true, "within_limit"));
    }
    let refused = admit(&world, "d").await;
    assert_eq!(
        (verdict(&refused), &refused["resets_at"]),
        ((false, "limit_reached"), &json!("2027-01-01T00:00:00Z"))
    );
    world.finish().await;
}

#[tokio::test]
async fn two_gateways_share_one_ledger_and_one_catalog() {
    let world = Harness::start().await;
    world.with_tenants(20).await;
    world.counted(usage("north", 0, 1)).await;
    let second = world.replica().await;
    let see = |path: &'static str| answer(world.request_to(&second, Method::GET, path).bearer_auth(OPERATOR));
    eventually("the second gateway has the figures", || async {
        (see("/v1/usage/north").await.1["counted"] == 0).then_some(())
    })
    .await;
    let requests = (0..60).map(|number| {
        let base = if number % 2 == 0 { second.as_str() } else { world.base() };
        let body = json!({"tenant": "north", "id": format!("run-{number}")});
        answer(world.request_to(base, Method::POST, "/v1/admissions").bearer_auth(OPERATOR).json(&body))
    });
    let verdicts = futures_util::future::join_all(requests).await;
    assert_eq!(verdicts.iter().filter(|(_, verdict)| verdict["allowed"] == true).count(), 20);

    // A change on the first holds on the second: at once in the limit check, within a moment in the shown
    // usage.
    world.put("/v1/plans/pro", plan(21)).await;
    assert_eq!(see("/v1/admissions/north").await.1["allowed"], true);
    eventually("the second gateway shows the limit", || async {
        (see("/v1/usage/north").await.1["limit"] == 21).then_some(())
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn old_verdicts_are_deleted() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.counted(usage("north", 0, 1)).await;
    admit(&world, "old").await;
    world.bench.clock.set("2026-12-24T12:00:00Z".parse().unwrap());
    admit(&world, "recent").await;
    world.bench.clock.set("2027-02-05T12:00:00Z".parse().unwrap());
    let Harness { mut bench, .. } = world;
    bench.restart().await;
    let world = Harness::on(bench).await;
    eventually("November is gone and December is not", || async {
        let kept: Vec<String> = sqlx::query_scalar("SELECT left(admitted_at::text, 7) FROM admissions")
            .fetch_all(world.bench.pool())
            .await
            .unwrap();
        (kept == ["2026-12"]).then_some(())
    })
    .await;
    world.finish().await;
}
