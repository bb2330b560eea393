//! The limit check beyond the monthly limit: who may call it and how, caps, and shadow mode.

use std::time::Duration;

use jiff::SignedDuration;
use proto::{
    subjects::Question,
    v1::{self, admission_question::Subject},
};
use reqwest::{Method, header};
use serde_json::{Value, json};
use testkit::eventually;

use crate::harness::{Harness, OPERATOR, answer, plan, usage};

const PUSH_TOKEN: &str = "/v1/sources/north-n8n/push-token";

async fn admit(world: &Harness, input: Value) -> Value {
    let (status, verdict) = world.ask(Method::POST, "/v1/admissions", Some(input)).await;
    assert_eq!(status, 200, "{verdict}");
    verdict
}

fn verdict(answer: &Value) -> (bool, &str) {
    (answer["allowed"].as_bool().unwrap(), answer["reason"].as_str().unwrap())
}

/// Tenants on a plan with this rule, and nothing counted yet.
async fn ruled(limit: u64, rule: Value) -> Harness {
    let world = Harness::start().await;
    world.with_tenants(limit).await;
    let mut ruled = plan(limit);
    ruled["admission"] = rule;
    world.put("/v1/plans/pro", ruled).await;
    world.counted(usage("north", 0, 1)).await;
    world
}

#[tokio::test]
async fn a_source_asks_with_its_push_token_for_its_own_runs_only() {
    let world = ruled(100, json!({})).await;
    let source = json!({"tenant": "north", "kind": "n8n", "base_url": "https://n8n.north.example", "api_key": "key-of-north"});
    world.put("/v1/sources/north-n8n", source).await;
    let (status, body) = world.ask(Method::POST, PUSH_TOKEN, None).await;
    assert_eq!(status, 201, "{body}");
    let token = body["token"].as_str().unwrap().to_owned();
    let ask = |token: String, input: Value| {
        let world = &world;
        async move { world.ask_as(&token, Method::POST, "/v1/admissions", Some(input)).await }
    };

    for own in [json!({"id": "a"}), json!({"id": "b", "source": "north-n8n", "workflow": "w1"})] {
        let (status, allowed) = ask(token.clone(), own).await;
        assert_eq!(
            (status, &allowed["tenant"], verdict(&allowed)),
            (200, &json!("north"), (true, "within_limit"))
        );
    }
    for other in [json!({"id": "c", "tenant": "north"}), json!({"id": "c", "source": "south-n8n"})] {
        assert_eq!(ask(token.clone(), other).await.0, 403);
    }
    assert_eq!(ask(format!("{token}x"), json!({"id": "c"})).await.0, 401);
    let look = world.ask_as(&token, Method::GET, "/v1/admissions/north", None).await;
    assert_eq!(look.0, 401, "a push token gives no other access");

    assert_eq!(world.ask(Method::DELETE, PUSH_TOKEN, None).await.0, 204);
    eventually("the token is refused", || async {
        (ask(token.clone(), json!({"id": "d"})).await.0 == 401).then_some(())
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn a_batch_is_decided_run_by_run_and_is_bounded() {
    let world = ruled(2, json!({})).await;
    let batch = |ids: Vec<String>| {
        let admissions: Vec<Value> = ids.into_iter().map(|id| json!({"tenant": "north", "id": id})).collect();
        json!({"admissions": admissions})
    };
    let ask = async |input: Value| world.ask(Method::POST, "/v1/admissions/batch", Some(input)).await;
    let ids = ["a", "b", "c", "a"].map(str::to_owned).to_vec();
    let (status, body) = ask(batch(ids.clone())).await;
    assert_eq!(status, 200, "{body}");
    let verdicts = body["verdicts"].as_array().unwrap();
    let listed: Vec<&str> = verdicts.iter().map(|verdict| verdict["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids);
    assert_eq!(verdicts[0], verdicts[3], "the same id gets the same answer");
    let allowed = verdicts[..3].iter().filter(|verdict| verdict["allowed"] == true).count();
    assert_eq!(allowed, 2, "{body}");
    assert_eq!(ask(batch((0..101).map(|id| format!("run-{id}")).collect())).await.0, 422);
    world.finish().await;
}

#[tokio::test]
async fn a_cap_of_a_workflow_holds_on_every_gateway() {
    let world = ruled(1_000, json!({"workflow_caps": {"per_minute": 2}})).await;
    let second = world.replica().await;
    let run = |workflow: &str, id: &str| json!({"tenant": "north", "id": id, "workflow": workflow});
    let elsewhere = |input: Value| {
        world.request_to(&second, Method::POST, "/v1/admissions").bearer_auth(OPERATOR).json(&input)
    };
    eventually("the second gateway has the figures", || async {
        let look = world.request_to(&second, Method::GET, "/v1/admissions/north").bearer_auth(OPERATOR);
        (answer(look).await.1["used"] == 0).then_some(())
    })
    .await;
    assert_eq!(verdict(&admit(&world, run("w1", "a")).await), (true, "within_limit"));
    assert_eq!(verdict(&answer(elsewhere(run("w1", "b"))).await.1), (true, "within_limit"));
    assert_eq!(verdict(&admit(&world, run("w1", "c")).await), (false, "workflow_minute_cap"));
    let refused = elsewhere(run("w1", "d")).send().await.unwrap();
    assert_eq!(refused.headers()[header::RETRY_AFTER], "30");
    assert_eq!(verdict(&refused.json::<Value>().await.unwrap()), (false, "workflow_minute_cap"));
    assert_eq!(verdict(&admit(&world, run("w2", "e")).await), (true, "within_limit"));
    world.bench.clock.advance(SignedDuration::from_secs(30));
    assert_eq!(verdict(&admit(&world, run("w1", "f")).await), (true, "within_limit"));
    assert_eq!(verdict(&admit(&world, run("w1", "g")).await), (false, "workflow_minute_cap"));
    world.finish().await;
}

#[tokio::test]
async fn a_plan_in_shadow_mode_refuses_nothing_and_reports_it() {
    let world = ruled(1, json!({"shadow": true})).await;
    assert_eq!(verdict(&admit(&world, json!({"tenant": "north", "id": "a"})).await), (true, "within_limit"));
    for id in ["b", "c"] {
        let watched = admit(&world, json!({"tenant": "north", "id": id, "workflow": "w1"})).await;
        assert_eq!(
            (verdict(&watched), &watched["shadow"]["reason"]),
            ((true, "shadow"), &json!("limit_reached"))
        );
    }
    let report = world.get("/v1/tenants/north/admissions/shadow").await;
    assert_eq!(report["refusals"], json!([{"reason": "limit_reached", "workflow": "w1", "runs": 2}]));
    world.finish().await;
}

#[tokio::test]
async fn a_question_on_the_bus_gets_the_same_answer_as_the_api() {
    let world = ruled(1, json!({})).await;
    let ask = async |id: &str| {
        let question = v1::AdmissionQuestion {
            subject: Some(Subject::TenantId("north".to_owned())),
            admission_id: id.to_owned(),
            ..v1::AdmissionQuestion::default()
        };
        let bus = &world.bench.context.bus;
        bus.ask::<v1::AdmissionAnswer>(Question::Admission, &question, Duration::from_secs(10)).await.ok()
    };
    let first = eventually("somebody answers", || ask("a")).await;
    assert_eq!(
        (first.allowed, first.reason.as_str(), first.used, first.limit),
        (true, "within_limit", Some(1), Some(1))
    );
    let refused = ask("b").await.unwrap();
    assert_eq!((refused.allowed, refused.reason.as_str()), (false, "limit_reached"));
    assert_eq!(verdict(&admit(&world, json!({"tenant": "north", "id": "a"})).await), (true, "within_limit"));
    assert_eq!(
        verdict(&admit(&world, json!({"tenant": "north", "id": "b"})).await),
        (false, "limit_reached")
    );
    world.finish().await;
}
