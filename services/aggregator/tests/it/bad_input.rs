//! Bad input loses nothing, and the rest goes on.

use prost::Message;
use proto::{
    streams::Stream,
    v1::{DeadLetter, ExecutionBatch, ExecutionStatus},
};

use crate::support::{Running, execution, executions};

#[tokio::test]
async fn what_is_not_a_message_becomes_a_dead_letter_and_the_next_one_counts() {
    let mut running = Running::start(None).await;
    let mut dead = running.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    let subject = running.bench.namespace().executions("north-n8n");
    running.bench.publish_bytes(subject.clone(), b"<html>not protobuf</html>").await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    let letter = dead.next().await;
    assert_eq!(letter.original_subject, subject);
    assert_eq!(letter.original_payload.as_ref(), b"<html>not protobuf</html>");
    assert!(letter.reason.contains("not a ExecutionBatch"), "{}", letter.reason);
    running.bench.finish().await;
}

#[tokio::test]
async fn one_bad_execution_is_put_aside_and_its_neighbours_count() {
    let mut running = Running::start(None).await;
    let mut dead = running.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    let mut batch = executions(1..=5);
    batch[1].execution_id = "not-a-number".into();
    batch[2].status = ExecutionStatus::Unspecified.into();
    batch[3] = execution(4, "2027-11-24T12:00:00Z");
    running.send(batch).await;
    running.usage_where(|totals| totals.counted == 2).await;
    let letter = dead.next().await;
    let aside = ExecutionBatch::decode(letter.original_payload).unwrap();
    assert_eq!(aside.executions.len(), 3);
    assert!(letter.reason.contains("3 of 5"), "{}", letter.reason);
    running.bench.finish().await;
}

#[tokio::test]
async fn an_unknown_source_is_a_dead_letter_that_counts_when_replayed() {
    let mut running = Running::start(None).await;
    let mut dead = running.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    running.send_from("stranger", 1, executions(1..=2)).await;
    running.send(executions(1..=1)).await;
    running.usage_where(|totals| totals.counted == 1).await;
    let letter = dead.next().await;
    assert!(letter.reason.contains("stranger") && letter.reason.contains("catalog"), "{}", letter.reason);
    assert!(letter.deliveries > 1);
    running.bench.publish_entry(&crate::support::source("stranger"), 1).await;
    running.bench.publish_bytes(letter.original_subject, &letter.original_payload).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.finish().await;
}
