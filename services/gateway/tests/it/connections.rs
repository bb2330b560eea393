//! With one connection to Postgres, a request that holds it while waiting for another would never be
//! answered.

use gateway::Gateway;
use reqwest::{Method, header};
use serde_json::json;
use testkit::TestBed;

use crate::{
    auth::{is_sign_in, operations},
    harness::{Harness, NOW, OPERATOR, answer, plan, usage},
};

#[tokio::test]
async fn with_one_connection_every_operation_is_answered() {
    let world = Harness::on(TestBed::narrow::<Gateway>(NOW).await).await;
    world.with_tenants(100).await;
    let source =
        json!({"kind": "n8n", "tenant": "north", "base_url": "https://n8n.example", "api_key": "key"});
    world.put("/v1/sources/north", source).await;
    world.counted(usage("north", 7, 1)).await;
    let token = world.token_of("north").await;
    for (method, path) in operations("north") {
        // Questions to other services fail at once, as nobody answers; a stream has no end.
        if path == "/v1/events" || is_sign_in(&method, &path) {
            continue;
        }
        let body = match path.as_str() {
            _ if method == Method::DELETE => continue,
            "/v1/plans/north" => plan(50),
            "/v1/tenants/north" => json!({"name": "North", "plan": "pro"}),
            "/v1/sources/north" => {
                json!({"kind": "n8n", "tenant": "north", "base_url": "https://n8n.example"})
            }
            "/v1/admissions" => json!({"tenant": "north", "id": "run-1", "workflow": "w"}),
            "/v1/admissions/batch" => {
                json!({"admissions": [{"tenant": "north", "id": "run-2"}, {"tenant": "south", "id": "run-3"}]})
            }
            _ => json!({}),
        };
        let (status, body) = world.ask(method.clone(), &path, Some(body)).await;
        let asks_others =
            ["audit", "unmapped", "explain", "corrections", "series", "workflows", "statement", "comparison"];
        let is_asking = asks_others.iter().any(|part| path.contains(part));
        assert!(status < 500 || is_asking, "{method} {path}: {status} {body}");
    }
    let capped =
        json!({"name": "Pro", "monthly_limit": 100, "admission": {"tenant_caps": {"per_minute": 5}}});
    world.put("/v1/plans/pro", capped).await;
    let runs = (0..20).map(|run| {
        let body = json!({"tenant": "north", "id": format!("capped-{run}"), "workflow": "w"});
        async { world.ask_as(&token, Method::POST, "/v1/admissions", Some(body)).await }
    });
    for (status, verdict) in futures_util::future::join_all(runs).await {
        assert_eq!(status, 200, "{verdict}");
    }
    let sign_in =
        world.request(Method::POST, "/v1/session").json(&json!({"token": OPERATOR})).send().await.unwrap();
    let cookie =
        sign_in.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let session = world.request(Method::GET, "/v1/session").header(header::COOKIE, cookie);
    assert_eq!(answer(session).await.0, 200);
    for path in ["/v1/sources/north", "/v1/plans/north", "/v1/tenants/north"] {
        assert_eq!(world.ask(Method::DELETE, path, None).await.0, 204, "{path}");
    }
    world.finish().await;
}
