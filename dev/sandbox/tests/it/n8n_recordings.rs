//! The stand-in's answers have the fields, the types and, for errors, the exact words of the recorded ones.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use sandbox::n8n::{Mode, Runs, Start, Status, Version, Wait};
use serde_json::Value;

use crate::harness::{Answer, Harness, recording};

/// The fields of an object and the JSON type of each.
fn shape(value: &Value) -> BTreeMap<&str, &'static str> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    value.as_object().unwrap().iter().map(|(key, value)| (key.as_str(), kind(value))).collect()
}

fn assert_same_shape(what: &str, ours: &Value, recorded: &Value) {
    assert_eq!(shape(ours), shape(recorded), "{what}");
}

/// Asserts equal words where the words matter: enumerations, not ids and times.
fn assert_same_words(what: &str, ours: &Value, recorded: &Value, fields: &[&str]) {
    for field in fields {
        assert_eq!(ours[field], recorded[field], "{what}: {field}");
    }
}

async fn single(bench: &Harness, id: u64) -> Value {
    bench.n8n(&format!("/executions/{id}")).await.json()
}

/// An execution of each kind that was recorded, and the recording.
async fn executions_like_the_recorded_ones(bench: &Harness) -> Vec<(&'static str, Value)> {
    let n8n = bench.sandbox.n8n("north");
    let run = |mode, status| n8n.run(&Runs::of("w1").mode(mode).status(status)).unwrap()[0];
    let start = || n8n.start(&Start::of("w1")).unwrap();

    let waiting = start();
    n8n.wait(waiting, Wait::lasting(SignedDuration::from_secs(100))).unwrap();
    let waited = start();
    n8n.wait(waited, Wait::lasting(SignedDuration::from_secs(100))).unwrap();
    n8n.resume(waited).unwrap();
    n8n.finish(waited, Status::Success).unwrap();
    let retried = run(Mode::Webhook, Status::Error);
    n8n.retry(retried, Status::Success).unwrap();
    let failed = run(Mode::Webhook, Status::Error);
    let retry_failed = n8n.retry(failed, Status::Error).unwrap();
    let canceled = start();
    n8n.finish(canceled, Status::Canceled).unwrap();

    let ids = [
        ("exec-success", run(Mode::Webhook, Status::Success)),
        ("exec-error", run(Mode::Webhook, Status::Error)),
        ("exec-crashed", run(Mode::Webhook, Status::Crashed)),
        ("exec-canceled", run(Mode::Webhook, Status::Canceled)),
        ("exec-canceled-running", canceled),
        ("exec-manual", run(Mode::Manual, Status::Success)),
        ("exec-child", run(Mode::Integrated, Status::Success)),
        ("exec-parent", run(Mode::Webhook, Status::Success)),
        ("exec-error-handler", run(Mode::Error, Status::Success)),
        ("exec-schedule", run(Mode::Trigger, Status::Success)),
        ("exec-running", start()),
        ("exec-new", n8n.start(&Start::of("w1").queued()).unwrap()),
        ("exec-waiting", waiting),
        ("exec-wait-long-done", waited),
        ("exec-wait-short-done", waited),
        ("exec-retried-original", retried),
        ("exec-retry-failed", retry_failed),
    ];
    let mut made = Vec::new();
    for (name, id) in ids {
        made.push((name, single(bench, id).await));
    }
    made
}

#[tokio::test]
async fn every_kind_of_execution_looks_as_recorded() {
    let bench = Harness::new().await;
    for (name, ours) in executions_like_the_recorded_ones(&bench).await {
        let recorded = &recording(&format!("n8n/{name}.json"))["body"];
        assert_same_shape(name, &ours, recorded);
        assert_same_words(name, &ours, recorded, &["finished", "mode", "status", "storedAt"]);
    }
}

#[tokio::test]
async fn the_old_line_looks_as_recorded() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.configure(|config| config.version = Version::V1_123);
    let ids = n8n.run(&Runs::of("w1").count(8)).unwrap();

    let recorded = &recording("n8n/v1-exec-success.json")["body"];
    assert_same_shape("v1-exec-success", &single(&bench, ids[0]).await, recorded);

    let recorded = &recording("n8n/v1-list-limit3.json")["body"];
    let ours = bench.n8n("/executions?limit=3").await.json();
    assert_same_shape("v1-list-limit3", &ours, recorded);
    assert_same_shape("v1-list-limit3 row", &ours["data"][1], &recorded["data"][1]);
}

#[tokio::test]
async fn lists_look_as_recorded() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").count(904)).unwrap();
    n8n.run(&Runs::of("w1").mode(Mode::Trigger)).unwrap();

    let queries = [
        ("list-limit2", "/executions?limit=2"),
        ("list-limit2-page2", "/executions?limit=2&cursor=eyJsYXN0SWQiOiI5MDQiLCJsaW1pdCI6Mn0="),
        ("list-limit250", "/executions?limit=250"),
        ("list-last-page", "/executions?cursor=eyJsYXN0SWQiOiIzIiwibGltaXQiOjI1MH0="),
    ];
    for (name, query) in queries {
        let recorded = &recording(&format!("n8n/{name}.json"))["body"];
        let ours = bench.n8n(query).await.json();
        assert_same_shape(name, &ours, recorded);
        // Both instances have the ids 1 to 905 without a gap, so pages and cursors are identical.
        assert_eq!(ours["nextCursor"], recorded["nextCursor"], "{name}");
        let ids = |list: &Value| -> Vec<Value> {
            list["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect()
        };
        assert_eq!(ids(&ours), ids(recorded), "{name}");
        assert_same_shape(name, &ours["data"][0], &recorded["data"][0]);
    }
}

#[tokio::test]
async fn included_data_looks_as_recorded() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    let id = n8n.run(&Runs::of("w1")).unwrap()[0];

    let recorded = &recording("n8n/exec-success-includeData.json")["body"];
    let ours = bench.n8n(&format!("/executions/{id}?includeData=true")).await.json();
    assert_same_shape("exec-success-includeData", &ours, recorded);
    assert_same_shape("workflowData", &ours["workflowData"], &recorded["workflowData"]);

    let recorded = &recording("n8n/list-includeData-1.json")["body"];
    let ours = bench.n8n("/executions?limit=1&includeData=true").await.json();
    assert_same_shape("list-includeData-1", &ours["data"][0], &recorded["data"][0]);
}

#[tokio::test]
async fn open_executions_are_listed_as_recorded() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.start(&Start::of("w1").queued()).unwrap();
    let waiting = n8n.start(&Start::of("w1")).unwrap();
    n8n.wait(waiting, Wait::lasting(SignedDuration::from_secs(60))).unwrap();
    n8n.start(&Start::of("w1")).unwrap();
    for status in ["new", "waiting", "running"] {
        let recorded = &recording(&format!("n8n/list-status-{status}.json"))["body"];
        let ours = bench.n8n(&format!("/executions?status={status}")).await.json();
        assert_eq!(ours["data"].as_array().map(Vec::len), Some(1), "{status}");
        assert_same_shape(status, &ours, recorded);
        assert_same_shape(status, &ours["data"][0], &recorded["data"][0]);
        assert_same_words(status, &ours["data"][0], &recorded["data"][0], &["status", "finished"]);
    }
}

#[tokio::test]
async fn workflows_look_as_recorded() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    for workflow in ["w1", "w2", "w3"] {
        n8n.run(&Runs::of(workflow)).unwrap();
    }
    let recorded = &recording("n8n/workflows-list.json")["body"];
    let ours = bench.n8n("/workflows?limit=2").await.json();
    assert_same_shape("workflows-list", &ours, recorded);
    assert_eq!(ours["nextCursor"], recorded["nextCursor"]);
    assert_same_shape("workflow", &ours["data"][0], &recorded["data"][0]);
    assert_same_shape("version", &ours["data"][0]["activeVersion"], &recorded["data"][0]["activeVersion"]);

    let next = ours["nextCursor"].as_str().unwrap();
    let rest = bench.n8n(&format!("/workflows?cursor={next}")).await.json();
    assert_eq!(rest["data"][0]["id"], "w3");
    assert_eq!(rest["nextCursor"], Value::Null);
}

#[tokio::test]
async fn errors_match_the_recorded_ones_exactly() {
    let bench = Harness::new().await;
    bench.sandbox.n8n("north").run(&Runs::of("w1").count(3)).unwrap();
    let names = [
        "err-bad-cursor",
        "err-bad-id",
        "err-cursor-nonnumeric-lastid",
        "err-limit-abc",
        "err-limit-minus1",
        "err-not-found",
        "err-startedafter",
        "err-status",
        "err-unknown-path",
    ];
    for name in names {
        let recorded = recording(&format!("n8n/{name}.json"));
        let path = recorded["request"].as_str().unwrap().strip_prefix("GET /api/v1").unwrap();
        assert_recorded(name, &bench.n8n(path).await, &recorded);
    }
    let recorded = recording("n8n/err-bad-key.json");
    let url = format!("{}/api/v1/executions", bench.sandbox.n8n_url("north"));
    let wrong_key = bench.get(url).header("X-N8N-API-KEY", "wrong");
    assert_recorded("err-bad-key", &crate::harness::send(wrong_key).await, &recorded);
}

fn assert_recorded(name: &str, ours: &Answer, recorded: &Value) {
    assert_eq!(u64::from(ours.status), recorded["status"].as_u64().unwrap(), "{name}");
    assert_eq!(ours.json(), recorded["body"], "{name}");
    assert_eq!(ours.content_type, "application/json; charset=utf-8", "{name}");
}
