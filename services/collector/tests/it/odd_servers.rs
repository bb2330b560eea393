//! Servers that do not answer as n8n does, and what is in front of one: each is reported for what it is, and
//! what can be read is read.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use proto::v1::FailureReason;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::Harness;

/// A stand-in for n8n that answers three requests: the list, one execution, and the workflows.
#[derive(Clone)]
struct Odd {
    rows: Arc<Vec<Value>>,
    workflows: Arc<String>,
    next_cursor: Value,
    answer: Option<fn() -> Response>,
}

impl Odd {
    fn of(rows: Vec<Value>) -> Self {
        let workflows = Arc::new(json!({"data": [], "nextCursor": null}).to_string());
        Self { rows: Arc::new(rows), workflows, next_cursor: Value::Null, answer: None }
    }

    fn answering(answer: fn() -> Response) -> Self {
        Self { answer: Some(answer), ..Self::of(Vec::new()) }
    }

    /// Serves it, and returns its address.
    async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/api/v1/executions", get(list))
            .route("/api/v1/executions/{id}", get(one))
            .route("/api/v1/workflows", get(workflows))
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

async fn list(State(odd): State<Odd>, Query(query): Query<HashMap<String, String>>) -> Response {
    if let Some(answer) = odd.answer {
        return answer();
    }
    let status = query.get("status").map(String::as_str);
    let limit = query["limit"].parse().unwrap();
    let data: Vec<&Value> = odd
        .rows
        .iter()
        .filter(|row| status.is_none_or(|status| row["status"] == status))
        .take(limit)
        .collect();
    json_text(
        json!({"data": data, "nextCursor": if status.is_none() { odd.next_cursor } else { Value::Null }})
            .to_string(),
    )
}

async fn one(State(odd): State<Odd>, Path(id): Path<String>) -> Response {
    match odd.rows.iter().find(|row| row["id"] == id) {
        Some(row) => json_text(row.to_string()),
        None => {
            (StatusCode::NOT_FOUND, json_text(json!({"message": "Not Found"}).to_string())).into_response()
        }
    }
}

async fn workflows(State(odd): State<Odd>) -> Response {
    json_text(odd.workflows.to_string())
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text).into_response()
}

fn with_headers(status: StatusCode, headers: &[(HeaderName, &str)], body: &'static str) -> Response {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
    (status, headers, body).into_response()
}

fn row(id: &str) -> Value {
    json!({"id": id, "status": "success", "mode": "webhook", "workflowId": "w", "finished": true,
           "startedAt": "2026-11-24T11:58:00.000Z", "stoppedAt": "2026-11-24T11:58:01.000Z"})
}

fn with(id: &str, field: &str, value: Value) -> Value {
    let mut row = row(id);
    row[field] = value;
    row
}

/// Adds a source of this server.
async fn add(stage: &Harness, name: &str, odd: Odd) {
    let source = stage.source_at(name, &odd.serve().await, "key");
    stage.add(&source, 1).await;
}

#[tokio::test]
async fn what_is_in_front_of_n8n_is_reported_and_not_the_api_key() {
    let mut stage = Harness::start().await;
    let cases: [(&str, Odd, FailureReason, &[&str]); 7] = [
        (
            "moved",
            Odd::answering(|| {
                let to = "https://new.example/n8n/api/v1/executions?limit=1&secret=s";
                with_headers(StatusCode::MOVED_PERMANENTLY, &[(header::LOCATION, to)], "")
            }),
            FailureReason::Unreachable,
            &[
                "301",
                "moved to https://new.example/n8n/api/v1/executions",
                "address to https://new.example/n8n.",
            ],
        ),
        (
            "login",
            Odd::answering(|| {
                with_headers(StatusCode::FOUND, &[(header::LOCATION, "https://auth.example/login?rd=x")], "")
            }),
            FailureReason::Unreachable,
            &["302", "https://auth.example/login", "login page"],
        ),
        (
            "basic",
            Odd::answering(|| {
                let asks = (header::WWW_AUTHENTICATE, "Basic realm=\"n8n\"");
                let html = (header::CONTENT_TYPE, "text/html");
                with_headers(StatusCode::UNAUTHORIZED, &[asks, html], "<html>401</html>")
            }),
            FailureReason::Unauthorized,
            &["401", "proxy in front of n8n", "API key is not to blame"],
        ),
        (
            "challenge",
            Odd::answering(|| {
                let html = (header::CONTENT_TYPE, "text/html");
                with_headers(StatusCode::FORBIDDEN, &[html], "<html>Just a moment...</html>")
            }),
            FailureReason::Unauthorized,
            &["403", "proxy in front of n8n", "API key is not to blame"],
        ),
        (
            "no-api",
            Odd::answering(|| {
                (StatusCode::NOT_FOUND, json_text(json!({"message": "not found"}).to_string()))
                    .into_response()
            }),
            FailureReason::Unreadable,
            &["no public API", "N8N_PUBLIC_API_DISABLED"],
        ),
        (
            "packed",
            Odd::answering(|| {
                let json = (header::CONTENT_TYPE, "application/json");
                with_headers(StatusCode::OK, &[json, (header::CONTENT_ENCODING, "gzip")], "\u{1f}")
            }),
            FailureReason::Unreadable,
            &["encoding gzip", "not asked for"],
        ),
        (
            "stuck",
            Odd { next_cursor: json!("again"), ..Odd::of(vec![row("2"), row("1")]) },
            FailureReason::Unreadable,
            &["cursor was given again", "cache or proxy"],
        ),
    ];
    for (name, odd, reason, words) in cases {
        add(&stage, name, odd).await;
        let failing = stage.failing.next_where(|failing| failing.source_id == name).await;
        assert_eq!(failing.reason(), reason, "{name}: {}", failing.detail);
        for word in words {
            assert!(failing.detail.contains(word), "{name}: {word} is missing: {}", failing.detail);
        }
        assert!(
            !failing.detail.contains("secret") && !failing.detail.contains("Create an API key"),
            "{}",
            failing.detail
        );
    }
    stage.finish().await;
}

#[tokio::test]
async fn a_source_with_foreign_ids_is_refused_without_a_dead_letter_for_each_run() {
    let mut stage = Harness::start().await;
    let uuid = "0198f0aa-7c1e-7b3a-9d2e-1f2e3d4c5b6a";
    add(&stage, "first", Odd::of(vec![row(uuid), row("2"), row("1")])).await;
    let failing = stage.failing.next_where(|failing| failing.source_id == "first").await;
    assert_eq!(failing.reason(), FailureReason::Unreadable);
    for word in [uuid, "not a decimal number", "nothing of this source is counted"] {
        assert!(failing.detail.contains(word), "{word} is missing: {}", failing.detail);
    }
    add(&stage, "mixed", Odd::of(vec![row("2"), row("v2_01J8ZQ4Y"), row("1")])).await;
    let failing = stage.failing.next_where(|failing| failing.source_id == "mixed").await;
    assert!(failing.detail.contains("v2_01J8ZQ4Y"), "{}", failing.detail);
    let name = proto::streams::Stream::Dead.name(stage.bench.namespace());
    let dead = stage.bench.context.bus.jetstream().get_stream(name).await.unwrap();
    assert_eq!(dead.cached_info().state.messages, 0, "no run has a dead letter of its own");
    stage.finish().await;
}

#[tokio::test]
async fn a_malformed_element_of_a_list_does_not_cost_the_others() {
    let mut stage = Harness::start().await;
    let rows = vec![
        row("9"),
        with("8", "startedAt", json!("-004713-01-01T00:00:00.000Z")),
        with("7", "startedAt", json!("2999-01-01T00:00:00.000Z")),
        with("6", "stoppedAt", json!("0001-01-01T00:00:00.000Z")),
        Value::Null,
        json!({"id": "18446744073709551615"}),
        with("5", "workflowId", json!("a\0b")),
        with("4", "workflowId", json!("halved")),
        row("3"),
    ];
    let workflows = r#"{"data": [
        {"id": "w", "name": "Order\u0000sync", "tags": [{"name": "so\u0000uth"}, {"name": "east"}]},
        {"id": "halved", "name": "Order sync \ud83e", "tags": null},
        {"id": "nameless", "name": null}, null, 7, {"name": "no id"}
    ], "nextCursor": null}"#;
    add(&stage, "north", Odd { workflows: Arc::new(workflows.to_owned()), ..Odd::of(rows) }).await;
    let published = stage.next_workflows().await;
    let published: Vec<_> =
        published.iter().map(|one| (one.workflow_id.as_str(), one.name.as_str())).collect();
    assert_eq!(published, [("halved", "Order sync \u{fffd}"), ("nameless", ""), ("w", "Order\u{fffd}sync")]);
    let sweep = stage.swept("north").await;
    assert_eq!(sweep.ids(), [3, 4, 9]);
    let names: Vec<_> = sweep.executions.iter().map(|run| run.workflow_name.as_str()).collect();
    assert_eq!(names, ["Order\u{fffd}sync", "Order sync \u{fffd}", "Order\u{fffd}sync"]);
    // No start far ahead holds the epoch back: the next one begins after the latest published start.
    let latest: bool = sqlx::query_scalar("SELECT latest_start < '2026-11-25' FROM sources")
        .fetch_one(stage.bench.pool())
        .await
        .unwrap();
    assert!(latest);
    stage.finish().await;
}
