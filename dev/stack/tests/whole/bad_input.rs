//! Bad input loses nothing and holds up nobody.

use proto::v1;
use serde_json::{Value, json};

use crate::harness::{Harness, Runs, SOURCE, TENANT};

fn fault(bench: &Harness, instance: &str, kind: &str) {
    bench.sandbox().post(&format!("/control/n8n/{instance}/fault"), &json!({ "kind": kind })).unwrap();
}

fn await_failing(bench: &Harness, source: &str, reason: &str) {
    let detail = bench.until(&format!("{source} failing as {reason}"), || {
        let shown = bench.gateway().get(&format!("/v1/sources/{source}")).unwrap();
        let failing = shown.pointer("/status/failing").filter(|failing| failing["reason"] == reason)?;
        failing["detail"].as_str().map(str::to_owned)
    });
    assert!(!detail.is_empty(), "{source}: a person needs to read what to do");
}

fn await_healthy(bench: &Harness, source: &str) {
    bench.until(&format!("{source} healthy"), || {
        let shown = bench.gateway().get(&format!("/v1/sources/{source}")).unwrap();
        shown.pointer("/status/failing").filter(|failing| failing.is_null()).cloned()
    });
}

/// Everything else continues: the good source is counted exactly.
fn the_rest_goes_on(bench: &Harness, counted_before: u64) -> u64 {
    bench.run(SOURCE, Runs::good(10));
    let counted = bench.await_counted(TENANT, counted_before + 10);
    assert_eq!(counted, counted_before + 10);
    counted
}

#[test]
fn a_source_with_bad_answers_is_reported_as_failing_and_recovers() {
    let bench = Harness::with_tenant("bad-answers", 100_000);
    let counted = the_rest_goes_on(&bench, 0);
    bench.put_tenant("south");
    for (source, kind, reason) in [
        ("html-n8n", "html", "unreadable"),
        ("page-n8n", "big_page", "too_large"),
        ("denied-n8n", "unauthorized", "unauthorized"),
    ] {
        bench.put_n8n(source, "south");
        bench.run(source, Runs::good(5));
        fault(&bench, source, kind);
        await_failing(&bench, source, reason);
    }
    bench.put_n8n("key-n8n", "south");
    bench.run("key-n8n", Runs::good(5));
    bench.put_source("key-n8n", "south", "another-key");
    await_failing(&bench, "key-n8n", "unauthorized");

    the_rest_goes_on(&bench, counted);

    for source in ["html-n8n", "page-n8n", "denied-n8n"] {
        fault(&bench, source, "none");
    }
    // Writes each key again, as a person would: this ends the back-off.
    for source in ["html-n8n", "page-n8n", "denied-n8n", "key-n8n"] {
        bench.put_source(source, "south", &format!("key-{source}"));
        await_healthy(&bench, source);
    }
    assert_eq!(bench.await_counted("south", 20), 20);
    bench.finish();
}

#[test]
fn a_row_of_unknown_status_is_kept_and_replayed() {
    let bench = Harness::with_tenant("bad-row", 100_000);
    bench.put_tenant("south");
    bench.put_n8n("odd-n8n", "south");
    bench.await_sweep_of("odd-n8n");
    fault(&bench, "odd-n8n", "unknown_status");
    bench.run("odd-n8n", Runs::good(5));
    let letter = bench.await_dead_letter("the unknown status", |letter| letter["service"] == "collector");
    assert!(letter["reason"].as_str().unwrap().contains("status"), "{letter}");
    the_rest_goes_on(&bench, 0);

    fault(&bench, "odd-n8n", "none");
    bench.flowmeter(&["dead", "replay", "--all"]);
    assert_eq!(bench.await_counted("south", 5), 5);
    bench.finish();
}

#[test]
fn an_unprocessable_message_is_kept_with_its_reason_and_replayed() {
    let bench = Harness::with_tenant("bad-message", 100_000);
    let counted = the_rest_goes_on(&bench, 0);

    let executions_of = |source: &str| bench.namespace().executions(source);
    bench.publish(executions_of(SOURCE), b"this is no protobuf".to_vec());
    bench.publish(
        executions_of("later-n8n"),
        prost::Message::encode_to_vec(&batch_of("later-n8n", bench.now())),
    );

    let about = |source: &str| {
        let subject = executions_of(source);
        move |letter: &Value| letter["service"] == "aggregator" && letter["subject"] == subject
    };
    let undecodable = bench.await_dead_letter("bytes that do not decode", about(SOURCE));
    let unknown = bench.await_dead_letter("an unknown source", about("later-n8n"));
    assert!(unknown["reason"].as_str().unwrap().contains("later-n8n"), "{unknown}");
    assert!(!undecodable["reason"].as_str().unwrap().is_empty(), "{undecodable}");
    let counted = the_rest_goes_on(&bench, counted);

    // Once the cause is fixed, a replay counts it: nothing was lost.
    bench.put_tenant("south");
    bench.put_n8n("later-n8n", "south");
    bench.await_sweep_of("later-n8n");
    bench.flowmeter(&["dead", "replay", &unknown["sequence"].to_string()]);
    assert_eq!(bench.await_counted("south", 1), 1);

    // A replayed message that cannot be decoded becomes a dead letter again: a replay never loses it.
    bench.flowmeter(&["dead", "replay", &undecodable["sequence"].to_string()]);
    let again = bench.await_dead_letter("the same bytes", about(SOURCE));
    assert_ne!(again["sequence"], undecodable["sequence"]);
    the_rest_goes_on(&bench, counted);
    bench.finish();
}

fn batch_of(source: &str, now: jiff::Timestamp) -> v1::ExecutionBatch {
    let now = Some(proto::timestamp(now));
    v1::ExecutionBatch {
        workflows: Vec::new(),
        source_id: source.to_owned(),
        epoch: 1,
        received_at: now,
        origin: v1::Origin::Push.into(),
        executions: vec![v1::Execution {
            execution_id: "1".to_owned(),
            workflow_id: "orderSync".to_owned(),
            status: v1::ExecutionStatus::Success.into(),
            mode: v1::ExecutionMode::Webhook.into(),
            started_at: now,
            stopped_at: now,
            ..v1::Execution::default()
        }],
    }
}
