//! A broker or a database that was recreated or restored.

use jiff::Timestamp;
use proto::{streams::Stream, timestamp, v1};

use crate::harness::{Harness, executions};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn synced(running: &Harness, sweep: &str, complete_until: &str, through: u64, life: &str) {
    let message = v1::SourceSynced {
        source_id: "north-n8n".to_owned(),
        epoch: 1,
        complete_until: Some(timestamp(at(complete_until))),
        published_through: through,
        stream_life: life.to_owned(),
        sweep_started_at: Some(timestamp(at(sweep))),
        sweep_ended_at: Some(timestamp(at(sweep))),
        ..v1::SourceSynced::default()
    };
    running.bench.publish(running.bench.namespace().source_synced("north-n8n"), &message).await;
}

#[tokio::test]
async fn a_sequence_of_another_life_of_the_stream_proves_nothing() {
    let mut running = Harness::start(None).await;
    let sequence = running.send(executions(1..=3)).await;
    running.handled(sequence).await;
    let stream = Stream::executions_of("north-n8n");
    let life = running.bench.context.bus.life(stream).await.unwrap().id;

    synced(&running, "2026-11-24T11:00:05Z", "2026-11-24T11:00:00Z", sequence, "another").await;
    testkit::eventually("the message is stored", || async {
        let kept: String = sqlx::query_scalar("SELECT published_life FROM sources")
            .fetch_one(running.bench.pool())
            .await
            .unwrap();
        (kept == "another").then_some(())
    })
    .await;
    // The publisher checks it in each round.
    for last in 4..=6 {
        running.send(executions(last..=last)).await;
        let usage = running.usage_where(|totals| totals.counted == last).await;
        assert_eq!(usage.complete_until, None);
    }
    synced(&running, "2026-11-24T11:30:05Z", "2026-11-24T11:30:00Z", sequence, &life).await;
    let usage = running.usage.next_where(|usage| usage.complete_until.is_some()).await;
    assert_eq!(usage.complete_until, Some(timestamp(at("2026-11-24T11:30:00Z"))));
    running.bench.finish().await;
}

#[tokio::test]
async fn a_recreated_stream_is_read_without_a_restart() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    let bus = running.bench.context.bus.clone();
    let stream = Stream::executions_of("north-n8n");
    bus.jetstream().delete_stream(stream.name(bus.namespace())).await.unwrap();
    bus.ensure_all_streams().await.unwrap();
    let sequence = running.send(executions(3..=5)).await;
    running.usage_where(|totals| totals.counted == 5).await;
    let life = bus.life(stream).await.unwrap().id;
    synced(&running, "2026-11-24T11:30:05Z", "2026-11-24T11:30:00Z", sequence, &life).await;
    running.usage.next_where(|usage| usage.complete_until.is_some()).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn a_restored_database_publishes_larger_revisions_than_before() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.send(executions(4..=6)).await;
    let before = running.usage_where(|totals| totals.counted == 6).await;
    running.bench.restart().await;
    sqlx::query("UPDATE tenants SET revision = 1, published_revision = 1")
        .execute(running.bench.pool())
        .await
        .unwrap();
    running.start_service().await;
    // Readers of usage would ignore a lower one.
    let after = running.usage.next_where(|usage| usage.revision != before.revision).await;
    assert!(after.revision > before.revision, "{} after {}", after.revision, before.revision);
    running.bench.finish().await;
}

#[tokio::test]
async fn figures_that_the_broker_has_lost_are_published_again_at_startup() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.restart().await;
    let bus = running.bench.context.bus.clone();
    bus.jetstream().delete_stream(Stream::UsageState.name(bus.namespace())).await.unwrap();
    bus.ensure_all_streams().await.unwrap();
    running.usage = running.bench.topic(Stream::UsageState, "usage.counted").await;
    running.start_service().await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.finish().await;
}
