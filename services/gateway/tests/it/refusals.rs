//! Refused runs as figures: each counted once, by tenant, reason, workflow and day.

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Harness, Killable, OPERATOR, answer, plan, usage};

fn run(workflow: Option<&str>, id: &str) -> Value {
    json!({"tenant": "north", "id": id, "workflow": workflow})
}

/// Asks a gateway for these runs in one request. Returns whether each is allowed.
async fn ask(world: &Harness, base: &str, runs: &[Value]) -> Vec<bool> {
    let request = world.request_to(base, Method::POST, "/v1/admissions/batch").bearer_auth(OPERATOR);
    let (status, body) = answer(request.json(&json!({"admissions": runs}))).await;
    assert_eq!(status, 200, "{body}");
    body["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["allowed"] == true).collect()
}

/// Each row: reason, workflow, refused, would be refused.
fn rows(refusals: &Value) -> Vec<(&str, &str, u64, u64)> {
    refusals["rows"].as_array().unwrap().iter().map(row).collect()
}

fn row(row: &Value) -> (&str, &str, u64, u64) {
    let runs = |of: &str| row[of].as_u64().unwrap();
    let who = |of: &str| row[of].as_str().unwrap_or("-");
    (who("reason"), who("workflow"), runs("refused"), runs("would_be_refused"))
}

/// `north` and `south` with a limit of 0.
async fn refusing() -> Harness {
    let world = Harness::start().await;
    world.with_tenants(0).await;
    world.counted(usage("north", 0, 1)).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refused_run_is_counted_once_even_if_it_is_repeated() {
    let world = refusing().await;
    let runs: Vec<Value> = [Some("w1"), Some("w1"), Some("w2"), None, Some("w1")]
        .into_iter()
        .enumerate()
        .map(|(id, workflow)| run(workflow, &format!("run-{id}")))
        .collect();
    let killed = Killable::start(&world).await;
    assert_eq!(ask(&world, &killed.base, &runs[..3]).await, [false; 3]);
    killed.kill();
    // The runs are repeated at other gateways, as if the answers were lost.
    let second = world.replica().await;
    for base in [world.base(), &second, world.base()] {
        assert_eq!(ask(&world, base, &runs).await, [false; 5]);
    }
    let shown = world.get("/v1/tenants/north/refusals").await;
    let expected =
        [("limit_reached", "w1", 3, 0), ("limit_reached", "-", 1, 0), ("limit_reached", "w2", 1, 0)];
    assert_eq!(rows(&shown), expected);
    assert_eq!(shown["totals"], json!({"refused": 5, "would_be_refused": 0}));
    assert_eq!(shown["omitted"], json!({"refused": 0, "would_be_refused": 0}));
    assert_eq!(
        (&shown["from"], &shown["to"]),
        (&json!("2026-11-01T00:00:00Z"), &json!("2026-11-24T13:00:00Z")),
        "whole hours"
    );
    world.finish().await;
}

#[tokio::test]
async fn refusals_of_a_plan_in_shadow_mode_are_counted_separately() {
    let world = refusing().await;
    assert_eq!(ask(&world, world.base(), &[run(Some("w1"), "a")]).await, [false]);
    let mut watching = plan(0);
    watching["admission"] = json!({"shadow": true});
    world.put("/v1/plans/pro", watching).await;
    let runs = [run(Some("w1"), "b"), run(Some("w1"), "c"), run(Some("w1"), "b")];
    assert_eq!(ask(&world, world.base(), &runs).await, [true; 3]);
    let shown = world.get("/v1/tenants/north/refusals").await;
    assert_eq!(rows(&shown), [("limit_reached", "w1", 1, 2)]);
    assert_eq!(shown["totals"], json!({"refused": 1, "would_be_refused": 2}));
    world.finish().await;
}

#[tokio::test]
async fn made_up_workflows_share_one_row_of_their_hour() {
    let world = refusing().await;
    for from in [0, 60, 120] {
        let runs: Vec<Value> =
            (from..from + 60).map(|id| run(Some(&format!("made-up-{id}")), &format!("run-{id}"))).collect();
        ask(&world, world.base(), &runs).await;
    }
    // A workflow that has a row keeps it.
    ask(&world, world.base(), &[run(Some("made-up-0"), "again")]).await;
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM refusals").fetch_one(world.bench.pool()).await.unwrap();
    assert_eq!(kept, 101);
    let shown = world.get("/v1/tenants/north/refusals?group=workflow").await;
    let further: Vec<_> =
        shown["rows"].as_array().unwrap().iter().filter(|row| row["is_further"] == true).collect();
    assert_eq!((further.len(), row(further[0])), (1, ("-", "-", 80, 0)));
    assert!(rows(&shown).contains(&("-", "made-up-0", 2, 0)), "{shown}");
    assert_eq!(shown["totals"]["refused"], 181);

    world.bench.clock.advance(SignedDuration::from_hours(1));
    ask(&world, world.base(), &[run(Some("made-up-170"), "next-hour")]).await;
    let shown = world.get("/v1/tenants/north/refusals?group=workflow").await;
    assert!(rows(&shown).contains(&("-", "made-up-170", 1, 0)), "the next hour has rows of its own");
    world.finish().await;
}

#[tokio::test]
async fn refusals_are_shown_by_day_and_as_csv_to_their_tenant_only() {
    let world = refusing().await;
    ask(&world, world.base(), &[run(Some("=w1"), "a"), run(Some("=w1"), "b")]).await;
    world.bench.clock.set("2026-11-25T06:30:00Z".parse().unwrap());
    ask(&world, world.base(), &[run(Some("w2"), "c")]).await;
    let days = world.get("/v1/tenants/north/refusals?group=day").await;
    let shown: Vec<_> =
        days["rows"].as_array().unwrap().iter().map(|row| (&row["day"], &row["refused"])).collect();
    assert_eq!(shown, [(&json!("2026-11-24"), &json!(2)), (&json!("2026-11-25"), &json!(1))]);
    let second = world.get("/v1/tenants/north/refusals?group=reason&from=2026-11-25").await;
    assert_eq!(rows(&second), [("limit_reached", "-", 1, 0)]);

    let own = world.token_of("north").await;
    let csv = world.request(Method::GET, "/v1/tenants/north/refusals?format=csv").bearer_auth(&own);
    let csv = csv.send().await.unwrap();
    assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    let text = csv.text().await.unwrap();
    assert!(text.contains(",limit_reached,'=w1,,2,0\r\n") && text.ends_with(",(total),3,0\r\n"), "{text}");

    let path = "/v1/tenants/south/refusals";
    assert_eq!(world.ask_as(&own, Method::GET, path, None).await.0, 403);
    assert_eq!(rows(&world.get(path).await), [], "each tenant has its own refusals");
    for (query, status) in [
        ("from=2026-11-20&to=2026-11-10", 422),
        ("from=2020-01-01", 422),
        ("from=yesterday", 422),
        ("group=month", 400),
    ] {
        let path = format!("/v1/tenants/north/refusals?{query}");
        assert_eq!(world.ask(Method::GET, &path, None).await.0, status, "{query}");
    }
    world.finish().await;
}
