//! Periods open, close on completeness, and keep what comes late.

use jiff::{SignedDuration, Timestamp};
use proto::{
    streams::Stream,
    v1::{PeriodEvent, period_event::Event},
};
use testkit::Topic;

use crate::support::{Running, execution, executions, source, tenant};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn events(running: &Running) -> Topic<PeriodEvent> {
    running.bench.topic(Stream::Periods, "usage.period").await
}

async fn next(events: &mut Topic<PeriodEvent>) -> Event {
    events.next().await.event.expect("an event")
}

#[tokio::test]
async fn a_period_closes_when_its_source_is_counted_past_the_end() {
    let mut running = Running::start(None).await;
    let mut events = events(&running).await;
    let sequence = running.send(executions(1..=3)).await;
    assert!(matches!(next(&mut events).await, Event::Opened(_)));
    running.synced("north-n8n", at("2026-11-24T11:59:59Z"), sequence).await;
    let usage = running.usage.next_where(|usage| usage.complete_until.is_some()).await;
    assert_eq!((usage.counted_complete, usage.open_executions), (3, 2));

    running.bench.clock.set(at("2026-12-01T00:10:00Z"));
    let sequence = running
        .send(vec![execution(4, "2026-11-30T23:59:59.999Z"), execution(5, "2026-12-01T00:00:00Z")])
        .await;
    running.synced("north-n8n", at("2026-12-01T00:09:55Z"), sequence).await;
    let closed = loop {
        if let Event::Closed(closed) = next(&mut events).await {
            break closed;
        }
    };
    assert_eq!(closed.totals.unwrap().counted, 4);
    assert!(closed.incomplete_sources.is_empty());
    assert_eq!(closed.workflows.len(), 2 + 1);
    running.usage_where(|totals| totals.counted == 1).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn without_completeness_it_closes_after_the_grace_and_says_who_was_incomplete() {
    let mut running = Running::start(None).await;
    running.bench.publish_entry(&source("north-two"), 1).await;
    let mut events = events(&running).await;
    let sequence = running.send(executions(1..=3)).await;
    next(&mut events).await;
    running.bench.clock.set(at("2026-12-01T05:59:59Z"));
    running.synced("north-n8n", at("2026-12-01T05:00:00Z"), sequence).await;
    running
        .usage
        .next_where(|usage| usage.sources.iter().any(|source| source.complete_until.is_some()))
        .await;
    // The new period opens by itself; the old one may not close yet.
    assert!(matches!(next(&mut events).await, Event::Opened(_)));
    running.bench.clock.advance(SignedDuration::from_secs(2));
    let Event::Closed(closed) = next(&mut events).await else { panic!("not closed") };
    assert_eq!(closed.incomplete_sources, ["north-two"]);
    running.bench.finish().await;
}

#[tokio::test]
async fn what_comes_after_the_close_is_late_and_stays_in_its_period() {
    let mut running = Running::start(None).await;
    let mut events = events(&running).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.clock.set(at("2026-12-01T07:00:00Z"));
    while !matches!(next(&mut events).await, Event::Closed(_)) {}
    running.send(vec![execution(4, "2026-11-30T10:00:00Z")]).await;
    let late = loop {
        if let Event::Late(late) = next(&mut events).await {
            break late;
        }
    };
    let totals = late.totals.unwrap();
    assert_eq!((totals.counted, totals.late), (4, 1));
    assert_eq!(late.period.unwrap().end.unwrap().seconds, at("2026-12-01T00:00:00Z").as_second());
    running.bench.finish().await;
}

#[tokio::test]
async fn a_sweep_is_not_believed_before_its_executions_are_counted() {
    let mut running = Running::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    // The marker overtakes a batch that has yet to come.
    running.synced("north-n8n", at("2026-11-24T11:59:59Z"), 2).await;
    running.bench.publish_entry(&tenant("UTC"), 2).await;
    let usage = running.usage.next().await;
    assert_eq!(usage.complete_until, None);
    running.send(executions(4..=6)).await;
    let usage = running.usage.next_where(|usage| usage.complete_until.is_some()).await;
    assert_eq!(usage.counted_complete, 6);
    running.bench.finish().await;
}

#[tokio::test]
async fn the_tenants_time_zone_cuts_the_month() {
    let mut running = Running::start(None).await;
    running.bench.publish_entry(&tenant("Europe/Madrid"), 2).await;
    running
        .usage
        .next_where(|usage| {
            usage.period.unwrap().start.unwrap().seconds == at("2026-10-31T23:00:00Z").as_second()
        })
        .await;
    running.send(vec![execution(1, "2026-10-31T23:30:00Z")]).await;
    running.usage_where(|totals| totals.counted == 1).await;
    running.bench.finish().await;
}
