//! Plans, tenants and sources: stored, published, removed.

use catalog::sealing::{OpeningKey, Sealed};
use proto::{
    streams::Stream,
    v1::{self, catalog_entry::Entry},
};
use reqwest::{Method, header};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Harness, OPERATOR, answer, plan, usage};

const SECRET: &str = "n8n-key-of-north";

fn source() -> Value {
    json!({"tenant": "north", "kind": "n8n", "base_url": "https://n8n.north.example", "api_key": SECRET, "poll_interval": "10m"})
}

fn plan_of(message: v1::CatalogEntry) -> v1::Plan {
    match message.entry {
        Some(Entry::Plan(plan)) => plan,
        other => panic!("not a plan: {other:?}"),
    }
}

#[tokio::test]
async fn a_change_is_published_once_and_an_equal_put_changes_nothing() {
    let world = Harness::start().await;
    let mut events = world.bench.topic::<v1::CatalogEntry>(Stream::Catalog, "catalog").await;
    assert_eq!(world.put("/v1/plans/pro", plan(100)).await["revision"], 1);
    assert_eq!(plan_of(events.next().await).revision, 1);
    assert_eq!(world.put("/v1/plans/pro", plan(100)).await["revision"], 1);
    assert_eq!(world.put("/v1/plans/pro", plan(200)).await["revision"], 2);
    // The next message is the second revision: the equal put has published nothing.
    let second = plan_of(events.next().await);
    assert_eq!((second.revision, second.monthly_limit), (2, Some(200)));
    assert_eq!(world.get("/v1/plans/pro").await["monthly_limit"], 200);
    assert_eq!(world.get("/v1/plans").await["plans"].as_array().unwrap().len(), 1);

    assert_eq!(world.ask(Method::DELETE, "/v1/plans/pro", None).await.0, 204);
    let gone = plan_of(events.next().await);
    assert_eq!((gone.revision, gone.removed), (3, true));
    assert_eq!(world.ask(Method::GET, "/v1/plans/pro", None).await.0, 404);
    assert_eq!(world.ask(Method::DELETE, "/v1/plans/pro", None).await.0, 404);
    assert_eq!(world.put("/v1/plans/pro", plan(100)).await["revision"], 4, "revisions only grow");
    world.finish().await;
}

#[tokio::test]
async fn concurrent_changes_never_share_a_revision() {
    let world = Harness::start().await;
    let changes = (0..8).map(|limit| {
        let world = &world;
        async move { world.put("/v1/plans/pro", plan(limit)).await["revision"].as_u64().unwrap() }
    });
    let mut revisions = futures_util::future::join_all(changes).await;
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=8).collect::<Vec<_>>());
    world.finish().await;
}

#[tokio::test]
async fn references_must_exist_and_are_not_removed() {
    let world = Harness::start().await;
    let homeless =
        world.ask(Method::PUT, "/v1/tenants/north", Some(json!({"name": "North", "plan": "pro"}))).await;
    assert_eq!((homeless.0, &homeless.1["error"]["field"]), (422, &json!("plan")));
    let orphan = world.ask(Method::PUT, "/v1/sources/north-n8n", Some(source())).await;
    assert_eq!((orphan.0, &orphan.1["error"]["field"]), (422, &json!("tenant")));

    world.with_tenants(100).await;
    world.put("/v1/sources/north-n8n", source()).await;
    let (status, used) = world.ask(Method::DELETE, "/v1/plans/pro", None).await;
    let message = used["error"]["message"].as_str().unwrap();
    assert!(status == 409 && message.contains("tenant north") && message.contains("tenant south"), "{used}");
    let (status, used) = world.ask(Method::DELETE, "/v1/tenants/north", None).await;
    assert!(
        status == 409 && used["error"]["message"].as_str().unwrap().contains("source north-n8n"),
        "{used}"
    );
    for path in ["/v1/sources/north-n8n", "/v1/tenants/north", "/v1/tenants/south", "/v1/plans/pro"] {
        assert_eq!(world.ask(Method::DELETE, path, None).await.0, 204, "{path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn the_id_of_a_removed_tenant_is_reused_only_for_the_same_customer() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.counted(usage("north", 42, 1)).await;
    assert_eq!(world.ask(Method::DELETE, "/v1/tenants/north", None).await.0, 204);
    let another = json!({"name": "Another", "plan": "pro"});
    let (status, refused) = world.ask(Method::PUT, "/v1/tenants/north", Some(another.clone())).await;
    let error = &refused["error"];
    assert_eq!((status, &error["code"]), (409, &json!("removed")), "{refused}");
    assert!(error["message"].as_str().unwrap().contains("--restore north"), "{refused}");
    assert_eq!(world.ask(Method::GET, "/v1/tenants/north", None).await.0, 404, "nothing was changed");
    assert_eq!(world.get("/v1/usage/north").await["archived"], true, "its figures stay readable");

    let restored = world.put("/v1/tenants/north?restore=true", another.clone()).await;
    assert_eq!((&restored["name"], &restored["revision"]), (&json!("Another"), &json!(3)));
    assert_eq!(world.get("/v1/usage/north").await["counted"], 42, "the same customer has its figures");
    assert_eq!(
        world.put("/v1/tenants/north", another).await["revision"],
        3,
        "it exists: no `restore` needed"
    );
    let east = json!({"name": "East", "plan": "pro"});
    assert_eq!(world.put("/v1/tenants/east?restore=true", east).await["revision"], 1, "a new one is new");
    world.finish().await;
}

#[tokio::test]
async fn an_api_key_is_sealed_and_never_returned() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let mut events = world.bench.topic::<v1::CatalogEntry>(Stream::Catalog, "catalog.source").await;
    let put = world.put("/v1/sources/north-n8n", source()).await;
    let (message, payload) = events.next_with_payload().await;
    let Some(Entry::Source(wire)) = message.entry else { panic!("not a source") };
    let opener = OpeningKey::parse(&world.keys.secret).unwrap();
    let opened = opener.open(&Sealed::from_bytes(wire.sealed_api_key.clone())).unwrap();
    assert_eq!(opened.expose_secret(), SECRET);

    let is_clear = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    assert!(!is_clear(&payload));
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT value FROM catalog").fetch_all(world.bench.pool()).await.unwrap();
    assert!(!kept.iter().any(|value| is_clear(value)));
    for shown in [put, world.get("/v1/sources/north-n8n").await, world.get("/v1/sources").await] {
        assert!(
            !is_clear(shown.to_string().as_bytes()) && shown.to_string().contains("has_api_key"),
            "{shown}"
        );
    }

    // Without a key everything but the key changes, and an equal value changes nothing; a given key is always
    // a change.
    let mut without_key = source();
    without_key.as_object_mut().unwrap().remove("api_key");
    assert_eq!(world.put("/v1/sources/north-n8n", without_key.clone()).await["revision"], 1);
    without_key["paused"] = json!(true);
    assert_eq!(world.put("/v1/sources/north-n8n", without_key.clone()).await["revision"], 2);
    let Some(Entry::Source(second)) = events.next().await.entry else { panic!("not a source") };
    assert_eq!((second.sealed_api_key, second.paused), (wire.sealed_api_key, true));
    assert_eq!(world.put("/v1/sources/north-n8n", source()).await["revision"], 3);

    without_key["base_url"] = json!("https://elsewhere.example");
    let (status, moved) = world.ask(Method::PUT, "/v1/sources/north-n8n", Some(without_key)).await;
    assert_eq!((status, &moved["error"]["field"]), (422, &json!("api_key")));
    world.finish().await;
}

#[tokio::test]
async fn all_bad_input_gets_the_same_shape_of_error() {
    let world = Harness::start().await;
    let put = |body: &str| {
        world
            .request(Method::PUT, "/v1/plans/pro")
            .bearer_auth(OPERATOR)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_owned())
    };
    let form = world
        .request(Method::PUT, "/v1/plans/pro")
        .bearer_auth(OPERATOR)
        .header(header::CONTENT_TYPE, "text/plain")
        .body("{}");
    for (request, status, code) in [
        (put("{"), 400, "invalid_json"),
        (put(r#"{"name": "Pro", "limit": 5}"#), 422, "invalid_value"),
        (put(r#"{"name": "Pro", "monthly_limit": -1}"#), 422, "invalid_value"),
        (put(r#"{"name": "Pro", "thresholds_percent": [0]}"#), 422, "invalid_value"),
        (put(&format!(r#"{{"name": "{}"}}"#, "x".repeat(300_000))), 413, "too_large"),
        (form, 415, "unsupported_media_type"),
        (
            world.request(Method::PUT, "/v1/plans/Bad.Id").bearer_auth(OPERATOR).json(&plan(1)),
            422,
            "invalid_value",
        ),
        (world.request(Method::PATCH, "/v1/plans/pro").bearer_auth(OPERATOR), 405, "method_not_allowed"),
        (world.request(Method::GET, "/v1/plans/none").bearer_auth(OPERATOR), 404, "not_found"),
    ] {
        let (answered, body) = answer(request).await;
        assert_eq!((answered, body["error"]["code"].as_str()), (status, Some(code)), "{body}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    assert_eq!(world.get("/v1/plans").await["plans"], json!([]));
    world.finish().await;
}

#[tokio::test]
async fn a_push_token_is_shown_once_and_the_catalog_has_its_hash() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let path = "/v1/sources/north-n8n/push-token";
    assert_eq!(world.ask(Method::POST, path, None).await.0, 404);
    assert_eq!(world.put("/v1/sources/north-n8n", source()).await["has_push_token"], false);
    let mut events = world.bench.topic::<v1::CatalogEntry>(Stream::Catalog, "catalog.source").await;
    events.next().await;
    let tenant = world.token_of("north").await;
    assert_eq!(world.ask_as(&tenant, Method::POST, path, None).await.0, 403);

    let mut tokens = Vec::new();
    for revision in [2, 3] {
        let (status, body) = world.ask(Method::POST, path, None).await;
        assert_eq!(status, 201, "{body}");
        let token = body["token"].as_str().unwrap().to_owned();
        assert!(token.starts_with("fmp_north-n8n.") && token.len() == 14 + 43, "{token}");
        let Some(Entry::Source(wire)) = events.next().await.entry else { panic!("not a source") };
        assert_eq!(wire.revision, revision);
        assert_eq!(wire.push_token_sha256, Sha256::digest(token.as_bytes()).to_vec());
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);

    // A change of the source keeps it, and it is never shown again.
    let mut paused = source();
    paused["paused"] = json!(true);
    let shown = world.put("/v1/sources/north-n8n", paused).await;
    assert_eq!(shown["has_push_token"], true);
    assert!(!shown.to_string().contains("fmp_"), "{shown}");
    let Some(Entry::Source(wire)) = events.next().await.entry else { panic!("not a source") };
    assert_eq!(wire.push_token_sha256, Sha256::digest(tokens[1].as_bytes()).to_vec());

    assert_eq!(world.ask(Method::DELETE, path, None).await.0, 204);
    let Some(Entry::Source(wire)) = events.next().await.entry else { panic!("not a source") };
    assert_eq!((wire.revision, wire.push_token_sha256.is_empty()), (5, true));
    assert_eq!(world.ask(Method::DELETE, path, None).await.0, 204, "already revoked");
    assert_eq!(world.get("/v1/sources/north-n8n").await["revision"], 5);
    world.finish().await;
}

#[tokio::test]
async fn a_shared_source_keeps_its_tenants_and_hides_them_from_each_other() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let shared = |tenant: &str| {
        json!({"kind": "n8n", "base_url": "https://n8n.example", "api_key": SECRET, "attributions": [
            {"tenant": "north", "project": "p1", "from": "2026-11-01T00:00:00Z"}, {"tenant": tenant, "tag": "t"}]})
    };
    let (status, answer) = world.ask(Method::PUT, "/v1/sources/shared", Some(shared("nobody"))).await;
    assert_eq!((status, &answer["error"]["field"]), (422, &json!("attributions")));
    let put = world.put("/v1/sources/shared", shared("south")).await;
    assert_eq!((&put["tenant"], &put["attributions"]), (&Value::Null, &shared("south")["attributions"]));
    let (status, used) = world.ask(Method::DELETE, "/v1/tenants/south", None).await;
    assert!(status == 409 && used.to_string().contains("source shared"), "{used}");

    let failing = v1::SourceFailing {
        source_id: "shared".into(),
        reason: v1::FailureReason::Unreachable.into(),
        detail: "workflow of south".into(),
        failed_at: crate::harness::at("2026-11-24T12:00:00Z"),
        ..v1::SourceFailing::default()
    };
    world.bench.publish(world.bench.namespace().source_failing("shared"), &failing).await;
    let freshness = v1::SourceFreshness {
        source_id: "shared".into(),
        open_executions: 7,
        ..v1::SourceFreshness::default()
    };
    world
        .counted(v1::UsageCounted { sources: vec![freshness], open_executions: 7, ..usage("north", 5, 1) })
        .await;
    testkit::eventually("the failure is shown", || async {
        world.get("/v1/usage/north").await["sources"][0]["failing"].is_object().then_some(())
    })
    .await;
    assert_eq!(world.get("/v1/usage/north").await["open_executions"], 7, "the operator sees all of it");
    let north = world.token_of("north").await;
    for path in ["/v1/usage", "/v1/usage/north"] {
        let (status, shown) = world.ask_as(&north, Method::GET, path, None).await;
        assert_eq!(status, 200);
        let text = shown.to_string();
        assert!(text.contains("unreachable") && !text.contains("south") && !text.contains(":7"), "{text}");
    }
    assert_eq!(world.ask_as(&north, Method::GET, "/v1/unmapped", None).await.0, 403);
    assert_eq!(world.ask_as(&north, Method::GET, "/v1/sources/shared/audit", None).await.0, 403);
    world.finish().await;
}

#[tokio::test]
async fn an_audit_is_shown_as_the_collector_reports_it() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/sources/north-n8n", source()).await;
    assert_eq!(world.ask(Method::GET, "/v1/sources/north-n8n/audit", None).await.0, 404);
    let begin = world.ask(Method::POST, "/v1/sources/north-n8n/audit", None).await;
    assert_eq!(begin.0, 503, "no collector answers: {}", begin.1);
    let audit = v1::SourceAudit {
        source_id: "north-n8n".into(),
        audit_id: "a1".into(),
        started_at: crate::harness::at("2026-11-24T11:59:00Z"),
        ended_at: crate::harness::at("2026-11-24T12:00:00Z"),
        listed: 3,
        equal: 2,
        differences: vec![v1::AuditDifference {
            epoch: 1,
            execution_id: 17,
            finding: v1::AuditFinding::NotRecorded.into(),
            detail: "success at 11:58".into(),
        }],
        differences_total: 1,
        ..v1::SourceAudit::default()
    };
    world.bench.publish(world.bench.namespace().source_audit("north-n8n"), &audit).await;
    let shown = testkit::eventually("the audit is shown", || async {
        let (status, shown) = world.ask(Method::GET, "/v1/sources/north-n8n/audit", None).await;
        (status == 200).then_some(shown)
    })
    .await;
    assert_eq!((&shown["state"], &shown["differences"][0]["execution"]), (&json!("done"), &json!("17")));
    world.finish().await;
}

#[tokio::test]
async fn a_recipient_that_no_mail_server_accepts_is_refused_by_name() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    for bad in
        ["ops@@at.example", "ops@at2.example@", "ops.@dot.example", "a..b@dot.example", "ops@-dot.example"]
    {
        let tenant = json!({"name": "North", "plan": "pro", "alert_recipients": ["ok@dot.example", bad]});
        let (status, refusal) = world.ask(Method::PUT, "/v1/tenants/north", Some(tenant)).await;
        assert_eq!((status, &refusal["error"]["field"]), (422, &json!("alert_recipients")), "{refusal}");
        assert!(refusal["error"]["message"].as_str().unwrap().contains(bad), "{refusal}");
    }
    let tenant = json!({"name": "North", "plan": "pro", "alert_recipients": ["ops@bücher.example"]});
    assert_eq!(world.ask(Method::PUT, "/v1/tenants/north", Some(tenant)).await.0, 200);
    world.finish().await;
}
