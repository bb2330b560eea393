//! A broker that was created anew or restored, and a collector whose cursors refer to the one before.

use messaging::Bus;
use proto::streams::Stream;

use crate::harness::Harness;

async fn life(bus: &Bus) -> String {
    bus.life(Stream::executions_of("north")).await.unwrap().id
}

#[tokio::test]
async fn a_stream_created_anew_gets_everything_again_and_completeness_goes_on() {
    let mut stage = Harness::start().await;
    stage.run("north", 300);
    let first = stage.first_sweep("north").await;
    let bus = stage.bench.context.bus.clone();
    assert_eq!(first.synced.stream_life, life(&bus).await);

    let stream = Stream::executions_of("north").name(bus.namespace());
    bus.jetstream().delete_stream(&stream).await.unwrap();
    bus.ensure_all_streams().await.unwrap();
    stage.bench.clock.advance(crate::harness::STEP);
    let synced = stage.swept_without_reading("north").await;
    let published = stage.published().await;
    assert_eq!(published.len(), 300, "what nobody had read is not lost");
    assert_ne!(synced.stream_life, first.synced.stream_life);
    assert_eq!(synced.stream_life, life(&bus).await);
    let last = bus.life(Stream::executions_of("north")).await.unwrap().last_sequence;
    assert!((1..=last).contains(&synced.published_through), "{} of {last}", synced.published_through);

    stage.bench.clock.advance(crate::harness::STEP);
    let next = stage.swept_without_reading("north").await;
    assert_eq!(next.executions_published, 0, "once is enough");
    assert_eq!(next.stream_life, synced.stream_life);
    stage.finish().await;
}

/// A sweep after the stream was set back, as the cursor sees it: it refers to more messages than there are,
/// or to another message.
async fn a_sweep_after(set_back: &str) {
    let mut stage = Harness::start().await;
    stage.run("north", 300);
    let first = stage.first_sweep("north").await;
    sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE sources SET {set_back}")))
        .execute(stage.bench.pool())
        .await
        .unwrap();
    stage.bench.clock.advance(crate::harness::STEP);
    let synced = stage.swept_without_reading("north").await;
    let bus = stage.bench.context.bus.clone();
    let found = bus.life(Stream::executions_of("north")).await.unwrap();
    assert_ne!(found.id, first.synced.stream_life, "the stream is marked for everybody");
    assert_eq!(synced.stream_life, found.id);
    assert!(synced.published_through <= found.last_sequence, "completeness is frozen");
    // Rows at the floor may come twice: in the live part of the sweep, and when everything is read again.
    assert!(synced.executions_published >= 300, "{}", synced.executions_published);
    stage.finish().await;
}

#[tokio::test]
async fn a_stream_that_has_not_come_as_far_again_is_another_one() {
    a_sweep_after("published_through = 1000, anchor_sequence = 1000").await;
}

#[tokio::test]
async fn a_stream_with_another_message_at_the_anchor_is_another_one() {
    a_sweep_after("anchor_taken_at_ns = anchor_taken_at_ns - 1000").await;
}

#[tokio::test]
async fn a_cursor_that_was_frozen_before_lives_were_known_continues() {
    a_sweep_after("published_through = 1000, stream_life = NULL, anchor_sequence = NULL").await;
}

#[tokio::test]
async fn a_stream_that_another_sweep_has_marked_is_another_one() {
    let mut stage = Harness::start().await;
    stage.run("north", 300);
    stage.first_sweep("north").await;
    // As a sweep of another source of the partition does: what this cursor refers to is still there.
    let bus = stage.bench.context.bus.clone();
    let stream = Stream::executions_of("north");
    let before = bus.life(stream).await.unwrap();
    let marked = bus.begin_life(stream, &before, "marked").await.unwrap();
    stage.bench.clock.advance(crate::harness::STEP);
    let synced = stage.swept_without_reading("north").await;
    assert_eq!(synced.stream_life, marked.id);
    assert!(synced.executions_published >= 300, "{}", synced.executions_published);
    stage.finish().await;
}
