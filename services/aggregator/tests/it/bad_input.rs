//! Bad input loses nothing, and everything else continues.

use async_nats::jetstream::AckKind;
use futures_util::StreamExt;
use prost::Message;
use proto::{
    consumers::Consumer,
    streams::Stream,
    subjects::partition,
    v1::{self, DeadLetter, ExecutionBatch, ExecutionStatus},
};

use crate::harness::{Harness, execution, executions, source};

impl Harness {
    /// While the service is stopped: takes the first message of the partition this many times, and gives it
    /// back.
    async fn deliver_in_vain(&self, source_id: &str, times: usize) {
        let consumer = Consumer::aggregator_executions(partition(source_id));
        let consumer = messaging::consume::open(&self.bench.context.bus, consumer).await.unwrap();
        for _ in 0..times {
            let one = consumer.batch().max_messages(1).expires(testkit::PATIENCE);
            let mut messages = one.messages().await.unwrap();
            let message = messages.next().await.expect("a message").unwrap();
            message.ack_with(AckKind::Nak(None)).await.unwrap();
        }
    }

    /// Waits until a message has been tried and given back with a delay.
    async fn refused(&self, sequence: u64, source_id: &str) {
        testkit::eventually("the message is tried again", || async {
            let consumer = Consumer::aggregator_executions(partition(source_id));
            let mut consumer = messaging::consume::open(&self.bench.context.bus, consumer).await.ok()?;
            let info = consumer.info().await.ok()?;
            (info.num_redelivered > 0 && info.delivered.stream_sequence >= sequence).then_some(())
        })
        .await;
    }

    /// Makes the broker forget what was acknowledged in a partition, as if no acknowledgement had arrived.
    async fn forget_acknowledged(&self, source_id: &str) {
        let bus = &self.bench.context.bus;
        let stream = Stream::executions_of(source_id).name(bus.namespace());
        let stream = bus.jetstream().get_stream(stream).await.unwrap();
        let name = Consumer::aggregator_executions(partition(source_id)).name();
        stream.delete_consumer(&name).await.unwrap();
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_become_a_dead_letter_and_the_next_one_counts() {
    let mut running = Harness::start(None).await;
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
async fn invalid_executions_become_a_dead_letter_and_their_neighbours_count() {
    let mut running = Harness::start(None).await;
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
async fn a_message_of_an_unknown_source_is_a_dead_letter_and_counts_on_replay() {
    let mut running = Harness::start(None).await;
    let mut dead = running.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    running.send_from("stranger", 1, executions(1..=2)).await;
    running.send(executions(1..=1)).await;
    running.usage_where(|totals| totals.counted == 1).await;
    let letter = dead.next().await;
    assert!(letter.reason.contains("stranger") && letter.reason.contains("catalog"), "{}", letter.reason);
    assert!(letter.deliveries > 1);
    running.bench.publish_entry(&source("stranger"), 1).await;
    running.bench.publish_bytes(letter.original_subject, &letter.original_payload).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn a_message_waits_for_its_source_however_often_it_is_redelivered() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=1)).await;
    running.usage_where(|totals| totals.counted == 1).await;
    running.bench.restart().await;
    running.send_from("later", 1, executions(1..=2)).await;
    running.deliver_in_vain("later", 12).await;
    // As in production: longer than this test lasts.
    running.bench.context.bus = running.bench.context.bus.clone().with_patience(messaging::PATIENCE);
    running.start_service().await;
    // Its neighbour on the same partition is not held up.
    let neighbour =
        (0..).map(|number| format!("n{number}")).find(|id| partition(id) == partition("later")).unwrap();
    running.bench.publish_entry(&source(&neighbour), 1).await;
    running.send_from(&neighbour, 1, executions(1..=1)).await;
    running.usage_where(|totals| totals.counted == 2).await;
    running.bench.publish_entry(&source("later"), 1).await;
    running.usage_where(|totals| totals.counted == 4).await;
    let name = Stream::Dead.name(running.bench.namespace());
    let dead = running.bench.context.bus.jetstream().get_stream(name).await.unwrap();
    assert_eq!(dead.cached_info().state.messages, 0, "no message was given up");
    running.bench.finish().await;
}

#[tokio::test]
async fn a_redelivered_message_has_no_second_dead_letter_but_a_replayed_one_has() {
    let mut running = Harness::start(None).await;
    let mut dead = running.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    let hopeless =
        ExecutionBatch { source_id: "north-n8n".into(), epoch: u32::MAX, ..ExecutionBatch::default() };
    let subject = running.bench.namespace().executions("north-n8n");
    let sequence = running.bench.publish(subject.clone(), &hopeless).await;
    assert_eq!(dead.next().await.deliveries, 1);
    running.handled(sequence).await;
    // Killed between the letter and the acknowledgement: it is redelivered.
    running.bench.restart().await;
    running.forget_acknowledged("north-n8n").await;
    running.deliver_in_vain("north-n8n", 2).await;
    running.start_service().await;
    running.handled(sequence).await;
    running.bench.publish(subject, &hopeless).await;
    assert_eq!(dead.next().await.deliveries, 1, "the letter of the replay, not of the third delivery");
    running.bench.finish().await;
}

#[tokio::test]
async fn invalid_executions_have_one_dead_letter_even_if_the_rest_has_to_wait() {
    let mut running = Harness::start(None).await;
    let mut dead = running.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    running.bench.context.bus = running.bench.context.bus.clone().with_patience(messaging::PATIENCE);
    running.restart().await;
    let mut batch = executions(1..=3);
    batch[0].execution_id = "not-a-number".into();
    let sequence = running.send_from("later", 1, batch).await;
    running.refused(sequence, "later").await;
    let name = Stream::Dead.name(running.bench.namespace());
    let letters = running.bench.context.bus.jetstream().get_stream(name).await.unwrap();
    assert_eq!(letters.cached_info().state.messages, 0, "it waits as a whole");
    running.bench.publish_entry(&source("later"), 1).await;
    running.usage_where(|totals| totals.counted == 2).await;
    assert!(dead.next().await.reason.contains("1 of 3"));
    running.bench.finish().await;
}

#[tokio::test]
async fn bad_texts_and_instants_of_a_foreign_publisher_affect_only_themselves() {
    let mut running = Harness::start(None).await;
    let mut dead = running.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    let mut batch = executions(1..=9);
    batch[1].workflow_id = "a\0b".into();
    batch[2].retry_of = "a\0b".into();
    batch[3].execution_id = "4\0".into();
    for (place, seconds) in [(4, -300_000_000_000), (5, -62_135_596_800), (6, 32_503_680_000)] {
        batch[place].started_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    }
    batch[7].workflow_name = "Order\0sync\u{1b}[2J".into();
    batch[7].workflow_id = "named".into();
    let facts = v1::Workflow {
        workflow_id: "w0".into(),
        name: "Ship\0ment".into(),
        project_id: "a\0b".into(),
        tags: vec!["so\0uth".into(), "east".into()],
        read_at: Some(prost_types::Timestamp { seconds: -300_000_000_000, nanos: 0 }),
    };
    let message = ExecutionBatch {
        source_id: "north-n8n".into(),
        epoch: 1,
        received_at: Some(prost_types::Timestamp { seconds: -300_000_000_000, nanos: 0 }),
        executions: batch,
        workflows: vec![facts],
        ..ExecutionBatch::default()
    };
    running.bench.publish(running.bench.namespace().executions("north-n8n"), &message).await;
    running.usage_where(|totals| totals.counted == 3).await;
    let letter = dead.next().await;
    assert!(letter.reason.contains("6 of 9"), "{}", letter.reason);
    let name = |id: &'static str| {
        let pool = running.bench.pool().clone();
        async move {
            let name = "SELECT name FROM workflows WHERE workflow_id = $1";
            sqlx::query_scalar::<_, Option<String>>(name).bind(id).fetch_one(&pool).await.unwrap()
        }
    };
    assert_eq!(name("named").await.as_deref(), Some("Order\u{fffd}sync\u{fffd}[2J"));
    assert_eq!(name("w0").await.as_deref(), Some("Ship\u{fffd}ment"));
    let tags: Vec<String> = sqlx::query_scalar("SELECT tags FROM workflows WHERE workflow_id = 'w0'")
        .fetch_one(running.bench.pool())
        .await
        .unwrap();
    assert_eq!(tags, ["east"]);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_month_with_saturated_run_times_still_accepts_executions() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    let pool = running.bench.pool().clone();
    let folded = || async {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM rollup_log WHERE NOT folded")
            .fetch_one(&pool)
            .await
            .unwrap();
        (left == 0).then_some(())
    };
    testkit::eventually("the roll-ups are up to date", folded).await;
    for table in ["periods", "usage_hours", "usage_days", "workflow_days", "workflow_usage"] {
        let full = format!("UPDATE {table} SET duration_ms = 9223372036854775807");
        sqlx::query(sqlx::AssertSqlSafe(full)).execute(running.bench.pool()).await.unwrap();
    }
    running.send(executions(4..=6)).await;
    let usage = running.usage_where(|totals| totals.counted == 6).await;
    assert_eq!(usage.totals.unwrap().duration_ms, i64::MAX.unsigned_abs());
    testkit::eventually("the roll-ups are up to date", folded).await;
    running.bench.finish().await;
}
