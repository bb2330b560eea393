//! `flowmeter dead` on the real broker.

use messaging::dead::{self, Dead};
use prost::Message;
use proto::{streams::Stream, v1};
use serde_json::Value;
use testkit::TestBed;

use crate::command::{bench, complaint, flowmeter_on, printed};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn batch() -> v1::ExecutionBatch {
    v1::ExecutionBatch { source_id: "north-n8n".into(), epoch: 1, ..v1::ExecutionBatch::default() }
}

/// A letter of the service `operator`, written as services write them.
async fn bury(bench: &TestBed, subject: String, payload: Vec<u8>) {
    let letter = Dead {
        letter_id: format!("dead:test:{}", payload.len()),
        original_subject: subject,
        original_payload: payload.into(),
        original_headers: vec![v1::Header { name: "traceparent".into(), value: TRACE.into() }],
        reason: "there is no tenant of source north-n8n".into(),
        failed_at: "2026-11-24T12:00:00Z".parse().unwrap(),
        deliveries: 8,
    };
    dead::publish(&bench.context.bus, letter).await.unwrap();
}

async fn listed(bench: &TestBed) -> Vec<Value> {
    let lines = printed(flowmeter_on(bench, &["dead", "list", "--json"])).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_letter_is_listed_shown_replayed_and_removed() {
    let bench = bench().await;
    let subject = bench.namespace().executions("north-n8n");
    bury(&bench, subject.clone(), batch().encode_to_vec()).await;

    let list = printed(flowmeter_on(&bench, &["dead", "list"])).await;
    assert!(list.contains("there is no tenant") && list.contains(&subject), "{list}");
    let shown = printed(flowmeter_on(&bench, &["dead", "show", "1"])).await;
    assert!(shown.contains("source_id: \"north-n8n\"") && shown.contains(TRACE), "{shown}");

    printed(flowmeter_on(&bench, &["dead", "replay", "1"])).await;
    let stream =
        bench.context.bus.jetstream().get_stream(Stream::executions_of("north-n8n").name(bench.namespace()));
    let replayed = stream.await.unwrap().get_raw_message(1).await.unwrap();
    assert_eq!(replayed.subject.as_str(), subject);
    assert_eq!(v1::ExecutionBatch::decode(replayed.payload).unwrap(), batch());
    assert_eq!(replayed.headers.get("traceparent").unwrap().as_str(), TRACE);
    assert!(replayed.headers.get("Nats-Msg-Id").unwrap().as_str().starts_with("replay:1:"));

    let list = printed(flowmeter_on(&bench, &["dead", "list"])).await;
    assert_eq!(list, "No dead letters.\n");
    let error = complaint(flowmeter_on(&bench, &["dead", "replay", "1"])).await;
    assert!(error.contains("there is no dead letter 1"), "{error}");
    bench.finish().await;
}

#[tokio::test]
async fn all_letters_of_one_service_are_replayed() {
    let bench = bench().await;
    let subject = bench.namespace().executions("north-n8n");
    bury(&bench, subject.clone(), batch().encode_to_vec()).await;
    bury(&bench, subject.clone(), b"<html>".to_vec()).await;
    let other = v1::DeadLetter { service: "billing".into(), ..v1::DeadLetter::default() };
    bench.publish(bench.namespace().dead("billing"), &other).await;

    let text = printed(flowmeter_on(&bench, &["dead", "replay", "--all", "--service", "operator"])).await;
    assert!(text.ends_with("2 replayed\n"), "{text}");
    let left = listed(&bench).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["service"], "billing");
    let none = printed(flowmeter_on(&bench, &["dead", "list", "--service", "alerts"])).await;
    assert_eq!(none, "No dead letters.\n");
    bench.finish().await;
}

#[tokio::test]
async fn a_kept_letter_can_be_replayed_again() {
    let bench = bench().await;
    bury(&bench, bench.namespace().executions("north-n8n"), batch().encode_to_vec()).await;
    for _ in 0..2 {
        printed(flowmeter_on(&bench, &["dead", "replay", "1", "--keep"])).await;
    }
    assert_eq!(listed(&bench).await.len(), 1);
    let stream =
        bench.context.bus.jetstream().get_stream(Stream::executions_of("north-n8n").name(bench.namespace()));
    assert_eq!(stream.await.unwrap().cached_info().state.messages, 2, "the second replay was no repeat");
    bench.finish().await;
}

#[tokio::test]
async fn a_letter_from_elsewhere_is_kept_and_reported() {
    let bench = bench().await;
    bury(&bench, "other.v1.usage.counted.north".into(), Vec::new()).await;
    bench.publish_bytes(bench.namespace().dead("operator"), b"\xff").await;

    let error = complaint(flowmeter_on(&bench, &["dead", "replay", "1"])).await;
    assert!(error.contains("not a subject of this namespace"), "{error}");
    let output = flowmeter_on(&bench, &["dead", "list", "--json"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("Dead letter 2 cannot be read"), "{text}");
    assert_eq!(listed(&bench).await.len(), 1, "a damaged letter does not hide the others");
    bench.finish().await;
}
