//! Executions that sources push.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use catalog::{Attribution, Scope, Source};
use collector::start_on;
use jiff::SignedDuration;
use proto::v1::{self, ExecutionStatus, Origin};
use reqwest::{Response, StatusCode, header};
use sandbox::n8n::{Start, Status, WorkflowChange};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::eventually;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::harness::Harness;

pub const TOKEN: &str = "fmp_north.0123456789012345678901234567890123456789012";

const EVENT_TYPE: &str = "io.flowmeter.execution.finished.v1";

/// A collector to push to.
pub struct Push {
    pub stage: Harness,
    url: String,
    revision: Cell<u64>,
    http: reqwest::Client,
}

impl Push {
    /// One that knows the source `north`.
    pub async fn start() -> Self {
        let stage = Harness::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/executions", listener.local_addr().unwrap());
        start_on(listener, stage.bench.context.clone(), stage.settings.clone()).unwrap();
        let push = Self { stage, url, revision: Cell::new(0), http: reqwest::Client::new() };
        push.know(push.source(TOKEN)).await;
        push
    }

    pub fn source(&self, token: &str) -> Source {
        let push_token_sha256 = Some(Sha256::digest(token.as_bytes()).into());
        Source { push_token_sha256, ..self.stage.source("north") }
    }

    /// Publishes the source, and waits until the collector's copy of the catalog has it.
    pub async fn know(&self, source: Source) {
        self.revision.set(self.revision.get() + 1);
        self.stage.add(&source, self.revision.get()).await;
        let pool = self.stage.bench.pool().clone();
        eventually("the catalog's copy has the source", || async {
            let found = catalog::store::find::<Source>(&pool, source.id.as_str()).await.unwrap();
            (found.as_ref() == Some(&source)).then_some(())
        })
        .await;
    }

    pub async fn send(&self, token: &str, content_type: &str, body: String) -> Response {
        let request = self.http.post(&self.url).bearer_auth(token);
        request.header(header::CONTENT_TYPE, content_type).body(body).send().await.unwrap()
    }

    pub async fn accepted(&self, content_type: &str, body: Value) -> Value {
        let response = self.send(TOKEN, content_type, body.to_string()).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        response.json().await.unwrap()
    }

    async fn status(&self, token: &str) -> u16 {
        self.send(token, "application/json", execution("1").to_string()).await.status().as_u16()
    }

    pub async fn finish(self) {
        self.stage.finish().await;
    }
}

pub fn execution(id: &str) -> Value {
    json!({"id": id, "workflow_id": "orderSync", "workflow_name": "Order sync", "status": "success",
           "mode": "webhook", "started_at": "2026-11-24T11:59:58Z", "stopped_at": "2026-11-24T11:59:59Z"})
}

fn event(data: Value) -> Value {
    json!({"specversion": "1.0", "id": "e", "source": "/n8n", "type": EVENT_TYPE, "data": data})
}

#[tokio::test]
async fn only_a_source_that_is_metered_may_push_and_only_with_its_own_token() {
    let push = Push::start().await;
    let anonymous = push.http.post(&push.url).json(&execution("1")).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(anonymous.headers()[header::WWW_AUTHENTICATE], "Bearer");
    for scheme in ["Basic", "Token", ""] {
        let sent = push.http.post(&push.url).header(header::AUTHORIZATION, format!("{scheme} {TOKEN}"));
        let refused = sent.json(&execution("1")).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{scheme:?} carries no token");
    }
    for token in
        ["nonsense", "fmp_north", "fmp_north.", "fmp_north.0123456789012345678901234567890123456789013"]
    {
        assert_eq!(push.status(token).await, 401, "{token}");
    }
    assert_eq!(push.status(&TOKEN.replace("north", "south")).await, 401, "there is no such source");
    assert_eq!(push.status(TOKEN).await, 202);

    push.know(push.source("another token")).await;
    assert_eq!(push.status(TOKEN).await, 401, "it was replaced");
    push.know(Source { push_token_sha256: None, ..push.source(TOKEN) }).await;
    assert_eq!(push.status(TOKEN).await, 401, "it was revoked");
    push.know(Source { paused: true, ..push.source("another token") }).await;
    assert_eq!(push.status(TOKEN).await, 401, "the answer reveals nothing about a source of others");
    push.know(Source { paused: true, ..push.source(TOKEN) }).await;
    assert_eq!(push.status(TOKEN).await, 403, "the source is paused");
    push.know(push.source(TOKEN)).await;
    assert_eq!(push.status(TOKEN).await, 202);
    push.finish().await;
}

#[tokio::test]
async fn every_form_is_published_before_it_is_answered() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    for (id, content_type, body) in [
        ("101", "application/json", execution("101")),
        ("102", "application/json; charset=utf-8", json!({"executions": [execution("102")]})),
        ("103", "application/cloudevents+json", event(execution("103"))),
        ("104", "application/cloudevents-batch+json", json!([event(execution("104"))])),
    ] {
        let answer = push.accepted(content_type, body).await;
        assert_eq!(answer, json!({"accepted": 1, "ignored": 0, "rejected": []}), "{content_type}");
        // The broker has it already: the count of its messages is read after the answer.
        assert!(push.stage.published().await.contains_key(&(1, id.parse().unwrap())), "{id}");
        let batch = push.stage.next_executions().await;
        assert_eq!((batch.source_id.as_str(), batch.epoch, batch.origin()), ("north", 1, Origin::Push));
        assert_eq!(batch.executions[0].execution_id, id);
        assert_eq!(batch.executions[0].workflow_name, "Order sync");
        assert_eq!(batch.executions[0].status(), ExecutionStatus::Success);
    }
    push.finish().await;
}

#[tokio::test]
async fn an_unreadable_execution_does_not_cost_the_others() {
    let mut push = Push::start().await;
    let with = |field: &str, value: Value| {
        let mut execution = execution("7");
        execution[field] = value;
        execution
    };
    let executions = [
        execution("201"),
        with("status", json!("suspended")),
        with("status", json!("waiting")),
        with("id", json!("x")),
        execution("202"),
    ];
    let answer = push.accepted("application/json", json!({ "executions": executions })).await;
    assert_eq!((&answer["accepted"], &answer["ignored"]), (&json!(2), &json!(1)));
    assert_eq!(answer["rejected"][0], json!({"index": 1, "reason": "unknown status \"suspended\""}));
    assert_eq!(answer["rejected"][1]["index"], 3);
    let batch = push.stage.next_executions().await;
    let ids: Vec<&str> = batch.executions.iter().map(|execution| execution.execution_id.as_str()).collect();
    assert_eq!(ids, ["201", "202"]);

    let odd = [
        with("started_at", json!("0001-01-01T00:00:00Z")),
        with("started_at", json!("-004713-01-01T00:00:00Z")),
        with("started_at", json!("2999-01-01T00:00:00Z")),
        with("stopped_at", json!("2999-01-01T00:00:00Z")),
        with("workflow_id", json!("a\u{0}b")),
        execution("203"),
    ];
    let answer = push.accepted("application/json", json!({ "executions": odd })).await;
    assert_eq!((&answer["accepted"], answer["rejected"].as_array().unwrap().len()), (&json!(1), 5));
    for (place, word) in [
        (0, "before there was n8n"),
        (1, "before"),
        (2, "a day ahead"),
        (3, "a day ahead"),
        (4, "workflow id"),
    ] {
        let reason = answer["rejected"][place]["reason"].as_str().unwrap();
        assert!(reason.contains(word), "{place}: {reason}");
    }

    let other = json!({"specversion": "1.0", "id": "e", "source": "/n8n", "type": "com.example.other"});
    let answer = push.accepted("application/cloudevents-batch+json", json!([other])).await;
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(0), &json!(0)));
    push.finish().await;
}

#[tokio::test]
async fn a_name_that_cannot_be_stored_is_repaired_and_its_neighbours_count() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    let named =
        |id: &str, name: &str| execution(id).to_string().replace("\"Order sync\"", &format!("\"{name}\""));
    let executions = [
        named("301", "Good"),
        named("302", r"Order\u0000sync"),
        named("303", r"Order sync \ud83e"),
        named("304", r"\u001b[2J\u202e"),
    ];
    let body = format!("{{\"executions\": [{}]}}", executions.join(","));
    let response = push.send(TOKEN, "application/json", body).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, json!({"accepted": 4, "ignored": 0, "rejected": []}));
    let batch = push.stage.next_executions().await;
    let names: Vec<_> = batch.executions.iter().map(|run| run.workflow_name.as_str()).collect();
    assert_eq!(names, ["Good", "Order\u{fffd}sync", "Order sync \u{fffd}", "\u{fffd}[2J\u{fffd}"]);
    push.finish().await;
}

#[tokio::test]
async fn an_event_in_binary_mode_is_read_as_one_and_a_foreign_one_refused() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    let send = |event_type: &'static str| {
        let request = push.http.post(&push.url).bearer_auth(TOKEN).json(&execution("401"));
        let headers =
            [("ce-specversion", "1.0"), ("ce-type", event_type), ("ce-id", "e"), ("ce-source", "/n8n")];
        headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)).send()
    };
    let answer: Value = send("com.example.other").await.unwrap().json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(0), &json!(0)));
    assert!(answer["rejected"][0]["reason"].as_str().unwrap().contains(EVENT_TYPE), "{answer}");
    assert!(push.stage.published().await.is_empty());
    let answer: Value = send(EVENT_TYPE).await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({"accepted": 1, "ignored": 0, "rejected": []}));
    assert_eq!(push.stage.next_executions().await.executions[0].execution_id, "401");
    push.finish().await;
}

#[tokio::test]
async fn a_request_is_bounded() {
    let push = Push::start().await;
    let refused = |content_type: &'static str, body: String| {
        let push = &push;
        async move { push.send(TOKEN, content_type, body).await.status().as_u16() }
    };
    let many = |count: u32| json!({"executions": (1..=count).map(|id| execution(&id.to_string())).collect::<Vec<_>>()});
    assert_eq!(refused("application/json", many(1_001).to_string()).await, 413);
    assert_eq!(refused("application/json", " ".repeat(1024 * 1024 + 1)).await, 413);
    assert_eq!(refused("application/json", "{".to_owned()).await, 400);
    assert_eq!(refused("application/cloudevents+json", "[]".to_owned()).await, 400);
    assert_eq!(refused("text/plain", execution("1").to_string()).await, 415);
    let packed = push.http.post(&push.url).bearer_auth(TOKEN).header(header::CONTENT_ENCODING, "gzip");
    let packed =
        packed.header(header::CONTENT_TYPE, "application/json").body(vec![0x1f, 0x8b]).send().await.unwrap();
    assert_eq!(packed.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(packed.headers()[header::ACCEPT_ENCODING], "identity");
    assert!(packed.text().await.unwrap().contains("Content-Encoding"));
    let get = push.http.get(&push.url).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(push.stage.published().await.is_empty(), "what is refused is not published");

    assert_eq!(push.accepted("application/json", many(1_000)).await["accepted"], 1_000);
    assert_eq!(push.stage.published().await.len(), 1_000);
    push.finish().await;
}

#[tokio::test]
async fn nothing_is_accepted_that_the_broker_does_not_have() {
    let push = Push::start().await;
    let bus = push.stage.bench.context.bus.clone();
    let stream = proto::streams::Stream::executions_of("north").name(bus.namespace());
    bus.jetstream().delete_stream(&stream).await.unwrap();
    let response = push.send(TOKEN, "application/json", execution("1").to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    bus.ensure_streams().await.unwrap();
    assert_eq!(push.status(TOKEN).await, 202);
    assert_eq!(push.stage.published().await.len(), 1);

    push.stage.bench.context.pool.close().await;
    let response = push.send(TOKEN, "application/json", execution("2").to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    push.finish().await;
}

#[tokio::test]
async fn an_execution_that_is_pushed_and_then_polled_is_one() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    let ids = push.stage.run("north", 5);
    // As n8n itself spells them.
    let list = format!("{}/api/v1/executions", push.stage.sandbox.n8n_url("north"));
    let list = push.http.get(list).header("X-N8N-API-KEY", "key-north").send().await.unwrap();
    let rows = list.json::<Value>().await.unwrap()["data"].take();
    assert_eq!(push.accepted("application/json", json!({ "executions": rows })).await["accepted"], 5);
    let pushed = push.stage.next_executions().await;
    let polled = push.stage.next_sweep("north").await;
    assert_eq!(polled.ids(), ids);
    assert_eq!((pushed.epoch, polled.synced.epoch), (1, 1));
    let keys: BTreeSet<_> = push.stage.published().await.into_keys().collect();
    assert_eq!(keys, ids.into_iter().map(|id| (1, id)).collect());
    push.finish().await;
}

#[tokio::test]
async fn a_push_postpones_the_next_sweep_but_not_for_long() {
    let mut push = Push::start().await;
    push.stage.swept("north").await;
    let pool = push.stage.bench.pool().clone();
    let due_in = async || {
        let seconds = "SELECT extract(epoch FROM next_sweep_at - swept_at)::float8 FROM sources
                       WHERE source_id = 'north' AND lease IS NULL";
        eventually("the sweep is committed", || async {
            sqlx::query_scalar::<_, f64>(seconds).fetch_optional(&pool).await.unwrap()
        })
        .await
    };
    assert!((54.0..=66.0).contains(&due_in().await), "its own interval");

    push.stage.bench.clock.advance(SignedDuration::from_secs(50));
    push.accepted("application/json", execution("1")).await;
    assert!((due_in().await - 110.0).abs() < 0.001, "an interval after the push");
    for _ in 0..3 {
        push.accepted("application/json", execution("1")).await;
    }
    push.stage.bench.clock.advance(SignedDuration::from_secs(59));
    push.accepted("application/json", execution("1")).await;
    assert!((due_in().await - 110.0).abs() < 0.001, "noted once a minute");

    // It has stopped pushing.
    push.stage.bench.clock.advance(SignedDuration::from_secs(1));
    push.stage.swept("north").await;
    assert!((54.0..=66.0).contains(&due_in().await), "its own interval again");
    push.finish().await;
}

#[tokio::test]
async fn a_pushed_execution_carries_what_is_known_and_asks_for_what_is_not() {
    let mut push = Push::start().await;
    let tenant = metering::TenantId::parse("south").unwrap();
    let attribution = Attribution { tenant, scope: Scope::Tag("south".into()), from: None };
    let tagged = WorkflowChange::of("orderSync").named("Order sync").tagged(["south"]);
    push.stage.n8n("north").change_workflow(&tagged).unwrap();
    let poll_interval = Some(Duration::from_secs(3_600));
    push.know(Source { attributions: vec![attribution], poll_interval, ..push.source(TOKEN) }).await;
    eventually("the workflow is known", || async {
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM workflows")
            .fetch_one(push.stage.bench.pool())
            .await
            .unwrap();
        (known == 1).then_some(())
    })
    .await;
    let mut nameless = execution("1");
    nameless.as_object_mut().unwrap().remove("workflow_name");
    push.accepted("application/json", nameless).await;
    let batch = push.stage.next_executions().await;
    assert_eq!(batch.executions[0].workflow_name, "Order sync");
    assert_eq!((batch.workflows.len(), batch.workflows[0].tags.join(",")), (1, "south".into()));

    // Long before the next sweep is due, but not within a minute of the last.
    push.stage.n8n("north").change_workflow(&WorkflowChange::of("newOne").tagged(["south"])).unwrap();
    let mut unknown = execution("2");
    unknown["workflow_id"] = json!("newOne");
    push.accepted("application/json", unknown.clone()).await;
    assert!(push.stage.next_executions().await.workflows.is_empty());
    push.stage.bench.clock.advance(SignedDuration::from_secs(61));
    push.accepted("application/json", unknown).await;
    push.stage.swept_without_reading("north").await;
    assert_eq!(push.stage.next_workflows().await[0].workflow_id, "newOne");
    push.finish().await;
}

#[tokio::test]
async fn ids_far_beyond_what_the_source_has_shown_are_left_to_the_poll() {
    let mut push = Push::start().await;
    push.stage.swept("north").await;
    let answer =
        |accepted: u32, ignored: u32| json!({"accepted": accepted, "ignored": ignored, "rejected": []});
    let both = |one: &str, other: &str| json!({"executions": [execution(one), execution(other)]});
    let made_up = both("10000001", "9223372036854775807");
    assert_eq!(push.accepted("application/json", made_up).await, answer(0, 2));
    assert_eq!(push.accepted("application/json", both("7", "10000001")).await, answer(1, 1));
    sqlx::query("UPDATE sources SET floor = 5000000").execute(push.stage.bench.pool()).await.unwrap();
    assert_eq!(push.accepted("application/json", both("15000000", "15000001")).await, answer(1, 1));
    push.finish().await;
}

#[tokio::test]
async fn a_refusal_is_believed_if_its_own_data_say_so() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    let n8n = push.stage.n8n("north");
    // One was refused, and takes no time; one has run and failed; and nobody claims that the third was
    // refused.
    let refused = n8n.start(&Start::of("orderSync")).unwrap();
    n8n.finish(refused, Status::Error).unwrap();
    let failed = n8n.start(&Start::of("orderSync")).unwrap();
    let unclaimed = n8n.start(&Start::of("orderSync")).unwrap();
    n8n.finish(unclaimed, Status::Error).unwrap();
    push.stage.bench.clock.advance(SignedDuration::from_secs(5));
    n8n.finish(failed, Status::Error).unwrap();
    for id in [refused, failed] {
        let mut claim = execution(&id.to_string());
        claim["status"] = json!("canceled");
        claim["refused"] = json!(true);
        push.accepted("application/json", claim).await;
        let batch = push.stage.next_executions().await;
        assert_eq!((batch.origin(), batch.executions[0].status()), (Origin::Push, ExecutionStatus::Canceled));
    }
    let sweep = push.stage.next_sweep("north").await;
    let status = |id: u64| {
        let shown = sweep.executions.iter().find(|execution| execution.execution_id == id.to_string());
        shown.map(v1::Execution::status)
    };
    assert_eq!(status(refused), Some(ExecutionStatus::Canceled));
    assert_eq!(status(failed), Some(ExecutionStatus::Error), "it has run, whatever the push says");
    assert_eq!(status(unclaimed), Some(ExecutionStatus::Error));
    push.finish().await;
}

#[tokio::test]
async fn pushes_of_one_source_that_do_not_end_leave_places_for_the_others() {
    let push = Push::start().await;
    let other = "fmp_south.0123456789012345678901234567890123456789012";
    let push_token_sha256 = Some(Sha256::digest(other.as_bytes()).into());
    push.know(Source { push_token_sha256, ..push.stage.source("south") }).await;
    let address = push.url.split('/').nth(2).unwrap();
    let mut stuck = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/executions HTTP/1.1\r\nHost: collector\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    eventually("one more of it is refused", || async { (push.status(TOKEN).await == 429).then_some(()) })
        .await;
    assert_eq!(push.status(other).await, 202);
    drop(stuck);
    eventually("its places are free again", || async { (push.status(TOKEN).await == 202).then_some(()) })
        .await;
    push.finish().await;
}

#[tokio::test]
async fn the_poll_publishes_again_what_was_pushed() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    push.stage.run("north", 1);
    let shown = push.stage.n8n("north").executions().pop().unwrap();
    let pushed = json!({"id": shown.id.to_string(), "workflow_id": shown.workflow, "workflow_name": "Order sync", "status": shown.status, "mode": shown.mode,
        "started_at": shown.started_at, "stopped_at": shown.stopped_at});
    push.stage.bench.clock.advance(SignedDuration::from_secs(10));
    push.accepted("application/json", pushed).await;
    let claimed = push.stage.next_executions().await;
    assert_eq!(claimed.origin(), Origin::Push);
    // Within the time in which the broker drops repeats: only what the poll says confirms it.
    let sweep = push.stage.next_sweep("north").await;
    assert_eq!(
        sweep.executions, claimed.executions,
        "word for word: only its origin distinguishes the poll's message"
    );
    let ids: Vec<&str> = sweep.executions.iter().map(|execution| execution.execution_id.as_str()).collect();
    assert_eq!(ids, [shown.id.to_string()]);
    push.finish().await;
}
