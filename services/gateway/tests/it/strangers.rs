//! What a tenant must not see of others, and of the operator.

use std::sync::Arc;

use async_trait::async_trait;
use messaging::ask::{self, Answerer, Refusal};
use proto::{
    subjects::Question,
    v1::{self, correction_question::Change},
};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    auth::operations,
    harness::{Harness, NOW, at, november, usage},
};

/// A source of both tenants, by tag.
fn shared() -> Value {
    json!({"kind": "n8n", "base_url": "https://n8n.example", "api_key": "key", "attributions": [
        {"tenant": "north", "tag": "n"}, {"tenant": "south", "tag": "s"}]})
}

#[tokio::test]
async fn an_answer_does_not_reveal_whether_something_of_others_exists() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/plans/gold", json!({"name": "Gold"})).await;
    let own =
        json!({"kind": "n8n", "tenant": "south", "base_url": "https://n8n.south.example", "api_key": "key"});
    world.put("/v1/sources/south-n8n", own).await;
    world.put("/v1/sources/shared", shared()).await;
    world.counted(usage("south", 7, 1)).await;
    let (_, made) = world.ask(Method::POST, "/v1/tokens", Some(json!({"tenant": "south"}))).await;
    let token = world.token_of("north").await;
    // These paths are the caller's own; the limit check is tested below.
    let own_paths = ["/v1/usage", "/v1/events", "/v1/session", "/v1/admissions", "/v1/admissions/batch"];
    let alike = |one: (u16, Value), there: &str, other: (u16, Value), nowhere: &str| {
        let said = one.1.to_string().replace(there, nowhere);
        assert_eq!((one.0, said), (other.0, other.1.to_string()), "{there}");
    };
    let mut asked = 0;
    for there in ["south", "south-n8n", "shared", "gold", made["id"].as_str().unwrap()] {
        let nowhere = "a-name-that-nobody-has";
        for ((method, one), (_, other)) in operations(there).into_iter().zip(operations(nowhere)) {
            if own_paths.contains(&one.as_str()) {
                continue;
            }
            for query in ["", "?period=2026-11-01", "?grain=day&source=south-n8n&workflow=w"] {
                let body = Some(json!({}));
                let one = world.ask_as(&token, method.clone(), &format!("{one}{query}"), body.clone()).await;
                assert!((400..500).contains(&one.0), "{method} {there}: {}", one.1);
                let other = world.ask_as(&token, method.clone(), &format!("{other}{query}"), body).await;
                alike(one, there, other, nowhere);
                asked += 1;
            }
        }
    }
    assert!(asked > 300, "{asked}");
    for (field, there) in [("tenant", "south"), ("source", "south-n8n"), ("source", "shared")] {
        let nowhere = "a-name-that-nobody-has";
        let check = |name: &str| Some(json!({field: name, "id": "run-1", "workflow": "w", "tags": ["s"]}));
        let one = world.ask_as(&token, Method::POST, "/v1/admissions", check(there)).await;
        assert_eq!(one.0, 403, "{there}: {}", one.1);
        alike(
            one,
            there,
            world.ask_as(&token, Method::POST, "/v1/admissions", check(nowhere)).await,
            nowhere,
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn the_limit_check_does_not_reveal_running_executions_of_a_shared_source() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/sources/shared", shared()).await;
    let counted = v1::UsageCounted { open_executions: 40, counted_complete: 10, ..usage("north", 12, 1) };
    world.counted(counted).await;
    let token = world.token_of("north").await;
    let look = async |token: Option<&str>| {
        let (status, shown) = match token {
            Some(token) => world.ask_as(token, Method::GET, "/v1/admissions/north", None).await,
            None => world.ask(Method::GET, "/v1/admissions/north", None).await,
        };
        assert_eq!(status, 200, "{shown}");
        (shown["used"].as_u64(), shown["remaining"].as_u64(), shown["message"].as_str().unwrap().to_owned())
    };
    let (used, remaining, message) = look(Some(&token)).await;
    assert_eq!((used, remaining), (Some(12), Some(88)), "{message}");
    assert!(!message.contains("50"), "{message}");
    assert_eq!(look(None).await.0, Some(50), "the operator sees what counts against the limit");

    let run = Some(json!({"tenant": "north", "id": "run-1"}));
    let (_, verdict) = world.ask_as(&token, Method::POST, "/v1/admissions", run).await;
    assert_eq!((&verdict["allowed"], &verdict["used"]), (&json!(true), &json!(12)), "{verdict}");

    // The limit is reached by running executions: the refusal says so, but not how many of them are others'.
    world.put("/v1/plans/pro", json!({"name": "Pro", "monthly_limit": 30, "limit_kind": "hard"})).await;
    let run = Some(json!({"tenant": "north", "id": "run-2"}));
    let (_, verdict) = world.ask_as(&token, Method::POST, "/v1/admissions", run).await;
    assert_eq!((&verdict["allowed"], &verdict["used"]), (&json!(false), &json!(30)), "{verdict}");

    // Of a source of its own it sees everything.
    world.put("/v1/plans/pro", json!({"name": "Pro", "monthly_limit": 100})).await;
    let own = json!({"kind": "n8n", "tenant": "north", "base_url": "https://n8n.example"});
    world.put("/v1/sources/shared", own).await;
    assert_eq!(look(Some(&token)).await.0, Some(51));
    world.finish().await;
}

/// An aggregator with two corrections: one with an internal reason, one with a public reason.
struct Corrected;

#[async_trait]
impl Answerer for Corrected {
    type Question = v1::ExplainQuestion;
    type Answer = v1::ExplainAnswer;

    async fn answer(&self, _: v1::ExplainQuestion) -> Result<v1::ExplainAnswer, Refusal> {
        let correction = |reason: &str, reason_is_public| v1::Correction {
            correction: Some(v1::CorrectionQuestion {
                correction_id: format!("ticket of {reason}"),
                tenant_id: "north".into(),
                author: "ana@operator.example".into(),
                reason: reason.into(),
                reason_is_public,
                change: Some(Change::AdjustCount(v1::AdjustCount {
                    period_start: at("2026-11-01T00:00:00Z"),
                    period_at: None,
                    quantity: -5,
                })),
            }),
            period: november(),
            corrected_at: at(NOW),
        };
        Ok(v1::ExplainAnswer {
            totals: Some(v1::Totals::default()),
            corrections: vec![correction("internal", false), correction("goodwill", true)],
            ..v1::ExplainAnswer::default()
        })
    }
}

#[tokio::test]
async fn a_tenant_sees_its_corrections_and_their_amounts_but_not_the_author() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let context = &world.bench.context;
    let shutdown = context.tasks.shutdown();
    context.tasks.spawn(ask::answer(context.bus.clone(), Question::Explain, Arc::new(Corrected), shutdown));
    let path = "/v1/tenants/north/usage/explain";
    let for_operator = eventually("the aggregator answers", || async {
        let (status, body) = world.ask(Method::GET, path, None).await;
        (status == 200).then_some(body)
    })
    .await;
    let internal = &for_operator["corrections"][0];
    assert_eq!(
        (&internal["author"], &internal["reason"]),
        (&json!("ana@operator.example"), &json!("internal"))
    );

    let token = world.token_of("north").await;
    let (_, for_tenant) = world.ask_as(&token, Method::GET, path, None).await;
    let text = for_tenant.to_string();
    assert!(!text.contains("ana@") && !text.contains("internal"), "{text}");
    let [internal, public] = for_tenant["corrections"].as_array().unwrap().as_slice() else {
        panic!("{text}")
    };
    assert_eq!((&internal["adjusted"], &internal["corrected_at"]), (&json!(-5), &json!(NOW)));
    assert_eq!(
        (&internal["id"], &internal["author"], &internal["reason"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&public["reason"], &public["author"]), (&json!("goodwill"), &Value::Null));
    world.finish().await;
}
