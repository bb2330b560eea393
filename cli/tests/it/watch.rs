//! `flowmeter watch` on the real broker.

use std::process::Stdio;

use proto::v1;
use serde_json::Value;
use testkit::PATIENCE;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{Child, Command},
    time::timeout,
};

use crate::command::{bench, complaint, flowmeter_on};

async fn line<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> String {
    timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap()
}

/// Starts watching and returns when it is subscribed.
async fn watching(mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text = line(&mut BufReader::new(child.stderr.take().unwrap()).lines()).await;
    assert!(text.starts_with("Watching"), "{text}");
    child
}

fn counted(counted: u64) -> v1::UsageCounted {
    v1::UsageCounted {
        tenant_id: "north".into(),
        revision: counted,
        totals: Some(v1::Totals { counted, ..v1::Totals::default() }),
        ..v1::UsageCounted::default()
    }
}

fn crossed(threshold_percent: u32) -> v1::ThresholdCrossed {
    v1::ThresholdCrossed {
        crossing_id: format!("crossing-{threshold_percent}"),
        tenant_id: "north".into(),
        rule: "monthly-executions".into(),
        threshold_percent,
        limit: 100,
        used: 80,
        ..v1::ThresholdCrossed::default()
    }
}

#[tokio::test]
async fn the_state_comes_first_and_then_new_events() {
    let bench = bench().await;
    let subject = |tenant| bench.namespace().usage_counted(tenant);
    bench.publish(subject("north"), &counted(1)).await;
    bench.publish(subject("north"), &counted(2)).await;
    bench.publish(bench.namespace().usage_threshold("north"), &crossed(50)).await;

    let arguments = ["watch", "counted", "threshold", "--json", "--count", "2"];
    let mut child = watching(flowmeter_on(&bench, &arguments)).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&line(&mut lines).await).unwrap();
    assert_eq!((&first["topic"], &first["totals"]["counted"]), (&"usage.counted".into(), &2.into()));

    bench.publish(bench.namespace().usage_threshold("north"), &crossed(80)).await;
    let second: Value = serde_json::from_str(&line(&mut lines).await).unwrap();
    assert_eq!(second["crossing_id"], "crossing-80", "the crossing of 50 % was before");
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
    bench.finish().await;
}

#[tokio::test]
async fn history_begins_with_what_is_kept() {
    let bench = bench().await;
    bench.publish(bench.namespace().usage_threshold("north"), &crossed(50)).await;
    let child = watching(flowmeter_on(&bench, &["watch", "threshold", "--history", "--count", "1"])).await;
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("50 % of monthly-executions reached: 80 of 100"), "{text}");
    bench.finish().await;
}

#[tokio::test]
async fn history_with_a_count_ends_when_fewer_are_kept() {
    let bench = bench().await;
    bench.publish(bench.namespace().usage_threshold("north"), &crossed(50)).await;
    for topics in [&["threshold", "counted"][..], &["counted"][..], &[][..]] {
        let arguments = [&["watch"][..], topics, &["--history", "--count", "9"][..]].concat();
        let child = watching(flowmeter_on(&bench, &arguments)).await;
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
        let lines = String::from_utf8(output.stdout).unwrap().lines().count();
        assert_eq!(lines, usize::from(topics != ["counted"]), "{topics:?}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn a_namespace_without_streams_is_reported() {
    let bench = bench().await;
    let mut command = flowmeter_on(&bench, &["watch", "counted"]);
    command.env("FLOWMETER_NAMESPACE", "nobody");
    let error = complaint(command).await;
    assert!(error.contains("have the services been started once?"), "{error}");
    bench.finish().await;
}
