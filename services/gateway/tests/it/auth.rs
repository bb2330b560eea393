//! Who may call what.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use jiff::SignedDuration;
use reqwest::{Method, header};
use serde_json::{Value, json};
use testkit::eventually;

use crate::harness::{Harness, OPERATOR, answer};

/// Every operation of the document, with `id` in place of its parameter.
pub fn operations(id: &str) -> Vec<(Method, String)> {
    let document = serde_json::to_value(gateway::openapi()).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) {
                found.push((method, path.replace("{id}", id).replace("{tenant}", id)));
            }
        }
    }
    found
}

pub fn is_sign_in(method: &Method, path: &str) -> bool {
    *method == Method::POST && path == "/v1/session"
}

#[test]
fn the_document_lists_every_route() {
    let listed: BTreeSet<String> =
        operations("x").into_iter().map(|(method, path)| format!("{method} {path}")).collect();
    let expected = [
        "DELETE /v1/plans/x",
        "GET /v1/plans/x",
        "PUT /v1/plans/x",
        "GET /v1/plans",
        "DELETE /v1/tenants/x",
        "GET /v1/tenants/x",
        "PUT /v1/tenants/x",
        "GET /v1/tenants",
        "DELETE /v1/sources/x",
        "GET /v1/sources/x",
        "PUT /v1/sources/x",
        "GET /v1/sources",
        "GET /v1/sources/x/gaps",
        "GET /v1/sources/x/audit",
        "POST /v1/sources/x/audit",
        "GET /v1/unmapped",
        "POST /v1/sources/x/push-token",
        "DELETE /v1/sources/x/push-token",
        "GET /v1/usage",
        "GET /v1/usage/x",
        "GET /v1/usage/x/periods",
        "GET /v1/tenants/x/usage/series",
        "GET /v1/tenants/x/usage/workflows",
        "GET /v1/tenants/x/usage/statement",
        "GET /v1/tenants/x/usage/comparison",
        "GET /v1/tenants/x/usage/explain",
        "GET /v1/tenants/x/corrections",
        "POST /v1/tenants/x/corrections",
        "POST /v1/tenants/x/periods/end",
        "POST /v1/admissions",
        "POST /v1/admissions/batch",
        "GET /v1/admissions/x",
        "GET /v1/tenants/x/admissions/shadow",
        "GET /v1/tenants/x/refusals",
        "POST /v1/tokens",
        "GET /v1/tokens",
        "DELETE /v1/tokens/x",
        "POST /v1/session",
        "GET /v1/session",
        "DELETE /v1/session",
        "GET /v1/events",
    ];
    assert_eq!(listed, expected.into_iter().map(str::to_owned).collect());
}

#[tokio::test]
async fn nothing_is_open_without_a_token() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    for (method, path) in operations("north") {
        let body = if is_sign_in(&method, &path) { json!({"token": "wrong"}) } else { json!({}) };
        // 401, not 404: the route of the document exists.
        let (status, answered) = answer(world.request(method.clone(), &path).json(&body)).await;
        assert_eq!((status, &answered["error"]["code"]), (401, &json!("unauthorized")), "{method} {path}");
        for wrong in
            ["fm_0123456789012345678901234567890123456789012", "wrong", "", OPERATOR.trim_end_matches('y')]
        {
            let (status, _) = world.ask_as(wrong, method.clone(), &path, Some(body.clone())).await;
            assert_eq!(status, 401, "{method} {path} with {wrong:?}");
        }
        let basic = world.request(method.clone(), &path).basic_auth("operator", Some(OPERATOR)).json(&body);
        assert_eq!(answer(basic).await.0, 401, "{method} {path} with Basic");
    }
    let document = answer(world.request(Method::GET, "/openapi.json")).await.1;
    assert_eq!(document["paths"], serde_json::to_value(gateway::openapi()).unwrap()["paths"]);
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_sees_only_itself() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let token = world.token_of("north").await;
    let own =
        ["/v1/usage", "/v1/usage/north", "/v1/usage/north/periods", "/v1/admissions/north", "/v1/session"];
    for path in own {
        let (status, body) = world.ask_as(&token, Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(!body.to_string().contains("south"), "{path}: {body}");
    }
    let check = json!({"tenant": "north", "id": "run-1"});
    assert_eq!(world.ask_as(&token, Method::POST, "/v1/admissions", Some(check)).await.0, 200);
    let foreign = json!({"tenant": "south", "id": "run-1"});
    let batch = json!({"admissions": [foreign.clone()]});
    assert_eq!(world.ask_as(&token, Method::POST, "/v1/admissions", Some(foreign)).await.0, 403);
    assert_eq!(world.ask_as(&token, Method::POST, "/v1/admissions/batch", Some(batch)).await.0, 403);
    let unknown = json!({"tenant": "nobody", "id": "run-1"});
    assert_eq!(world.ask_as(&token, Method::POST, "/v1/admissions", Some(unknown)).await.0, 403);
    for (method, path) in operations("south") {
        let shared = ["/v1/usage", "/v1/events", "/v1/session", "/v1/admissions", "/v1/admissions/batch"];
        if shared.contains(&path.as_str()) {
            continue;
        }
        let (status, body) = world.ask_as(&token, method.clone(), &path, Some(json!({}))).await;
        assert_eq!(status, 403, "{method} {path}: {body}");
    }
    // The refusal does not reveal which tenants exist.
    assert_eq!(world.ask_as(&token, Method::GET, "/v1/usage/nobody", None).await.0, 403);
    world.finish().await;
}

#[tokio::test]
async fn a_token_is_shown_once_and_is_refused_once_revoked() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let (_, made) = world.ask(Method::POST, "/v1/tokens", Some(json!({}))).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!((made["kind"].as_str(), &made["tenant"]), (Some("operator"), &Value::Null));
    assert_eq!(world.ask_as(token, Method::GET, "/v1/plans", None).await.0, 200);
    assert!(!world.get("/v1/tokens").await.to_string().contains(token));
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT hash FROM tokens").fetch_all(world.bench.pool()).await.unwrap();
    assert!(kept.iter().all(|hash| hash.len() == 32));

    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(world.ask(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(world.ask_as(token, Method::GET, "/v1/plans", None).await.0, 401);
    assert_eq!(world.ask(Method::DELETE, &path, None).await.0, 204, "a repeat changes nothing");
    assert_eq!(world.ask(Method::DELETE, "/v1/tokens/nonsense", None).await.0, 404);
    let unknown = world.ask(Method::POST, "/v1/tokens", Some(json!({"tenant": "nobody"}))).await;
    assert_eq!((unknown.0, &unknown.1["error"]["field"]), (422, &json!("tenant")));
    world.finish().await;
}

#[tokio::test]
async fn removing_a_tenant_revokes_its_tokens() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let token = world.token_of("north").await;
    assert_eq!(world.ask(Method::DELETE, "/v1/tenants/north", None).await.0, 204);
    world.put("/v1/tenants/north?restore=true", json!({"name": "North", "plan": "pro"})).await;
    assert_eq!(world.ask_as(&token, Method::GET, "/v1/usage/north", None).await.0, 401);
    world.finish().await;
}

#[tokio::test]
async fn a_token_created_while_its_tenant_is_removed_is_revoked_too() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    // Creating a token blocks after the tenant was looked up and before the token is stored.
    let mut gate = world.bench.pool().begin().await.unwrap();
    for statement in [
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$",
        "CREATE TRIGGER wait BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION wait()",
    ] {
        sqlx::query(statement).execute(world.bench.pool()).await.unwrap();
    }
    sqlx::query("SELECT pg_advisory_xact_lock(4711)").execute(&mut *gate).await.unwrap();
    let waiting = async |count: i64| {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let found: i64 = sqlx::query_scalar(waiting).fetch_one(world.bench.pool()).await.ok()?;
        (found >= count).then_some(())
    };
    let making = world.ask(Method::POST, "/v1/tokens", Some(json!({"tenant": "north"})));
    let removed = AtomicBool::new(false);
    let removing = async {
        eventually("the token is about to be stored", || waiting(1)).await;
        let status = world.ask(Method::DELETE, "/v1/tenants/north", None).await.0;
        removed.store(true, Ordering::SeqCst);
        status
    };
    let opening = async {
        eventually("the removal is done or waits", || async {
            if removed.load(Ordering::SeqCst) { Some(()) } else { waiting(2).await }
        })
        .await;
        gate.rollback().await.unwrap();
    };
    let ((status, made), removal, ()) = tokio::join!(making, removing, opening);
    assert_eq!((status, removal), (201, 204), "{made}");
    let token = made["token"].as_str().unwrap();
    world.put("/v1/tenants/north?restore=true", json!({"name": "North", "plan": "pro"})).await;
    assert_eq!(world.ask_as(token, Method::GET, "/v1/usage/north", None).await.0, 401);
    world.finish().await;
}

/// Signs in and returns the cookie, as a browser sends it back.
async fn sign_in(world: &Harness, token: &str) -> String {
    let response =
        world.request(Method::POST, "/v1/session").json(&json!({"token": token})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.contains(token));
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_has_the_rights_of_its_token_and_ends_with_it() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let (_, made) = world.ask(Method::POST, "/v1/tokens", Some(json!({}))).await;
    let cookie = sign_in(&world, made["token"].as_str().unwrap()).await;
    let with = |method: Method, path: &str| world.request(method, path).header(header::COOKIE, &cookie);

    let (status, who) = answer(with(Method::GET, "/v1/session")).await;
    assert_eq!(
        (status, who["kind"].as_str(), who["expires_at"].as_str()),
        (200, Some("operator"), Some("2026-11-25T00:00:00Z"))
    );
    let body = json!({"name": "Free"});
    let (status, refused) = answer(with(Method::PUT, "/v1/plans/free").json(&body)).await;
    assert_eq!((status, refused["error"]["code"].as_str()), (403, Some("csrf_header_missing")));
    let (status, _) =
        answer(with(Method::PUT, "/v1/plans/free").header("X-Flowmeter", "1").json(&body)).await;
    assert_eq!(status, 200);

    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(world.ask(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(answer(with(Method::GET, "/v1/session")).await.0, 401, "the session ends with its token");
    world.finish().await;
}

#[tokio::test]
async fn a_session_ends_by_signing_out_and_by_expiry() {
    let world = Harness::start().await;
    let cookie = sign_in(&world, OPERATOR).await;
    let with = |method: Method| world.request(method, "/v1/session").header(header::COOKIE, &cookie);
    assert_eq!(answer(with(Method::DELETE).header("X-Flowmeter", "1")).await.0, 204);
    assert_eq!(answer(with(Method::GET)).await.0, 401);

    let cookie = sign_in(&world, OPERATOR).await;
    let with = |method: Method| world.request(method, "/v1/session").header(header::COOKIE, &cookie);
    assert_eq!(answer(with(Method::GET)).await.0, 200);
    world.bench.clock.advance(SignedDuration::from_hours(12));
    assert_eq!(answer(with(Method::GET)).await.0, 401);
    world.finish().await;
}

#[tokio::test]
async fn the_dashboard_needs_no_token_and_has_strict_headers() {
    let world = Harness::start().await;
    let response = world.request(Method::GET, "/").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
    let known = world.request(Method::GET, "/").header(header::IF_NONE_MATCH, &headers[header::ETAG]);
    assert_eq!(known.send().await.unwrap().status(), 304);
    for path in ["/app.js", "/style.css"] {
        assert_eq!(world.request(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    for path in ["/nothing.js", "/..%2fCargo.toml", "/v1/nothing"] {
        let (status, body) = answer(world.request(Method::GET, path)).await;
        assert_eq!((status, body["error"]["code"].as_str()), (404, Some("not_found")), "{path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_nul_in_a_path_a_query_or_a_body_is_a_bad_request() {
    let world = Harness::start().await;
    for (method, path) in operations("a%00b") {
        let path = if path.contains("%00") { path } else { format!("{path}?q=a%00b") };
        let (status, body) = world.ask(method.clone(), &path, None).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("invalid_request")), "{method} {path}");
    }
    for (method, path) in [
        (Method::PUT, "/v1/plans/x"),
        (Method::PUT, "/v1/tenants/x"),
        (Method::PUT, "/v1/sources/x"),
        (Method::POST, "/v1/tokens"),
        (Method::POST, "/v1/tenants/x/corrections"),
        (Method::POST, "/v1/session"),
        (Method::POST, "/v1/admissions"),
        (Method::POST, "/v1/admissions/batch"),
    ] {
        let body = json!({"id": "x", "name": "a\u{0}b", "reason": "a\u{0}b"});
        let (status, body) = world.ask(method.clone(), path, Some(body)).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("invalid_request")), "{method} {path}");
    }
    world.finish().await;
}
