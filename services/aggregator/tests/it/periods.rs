//! Periods open, close once they are complete, and keep late executions.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proto::{
    streams::Stream,
    v1::{PeriodEvent, period_event::Event},
};
use testkit::Topic;

use crate::harness::{Harness, execution, executions, source, tenant, tenant_from};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn events(running: &Harness) -> Topic<PeriodEvent> {
    running.bench.topic(Stream::Periods, "usage.period").await
}

async fn next(events: &mut Topic<PeriodEvent>) -> Event {
    events.next().await.event.expect("an event")
}

#[tokio::test]
async fn a_period_closes_when_its_source_is_counted_past_the_end() {
    let mut running = Harness::start(None).await;
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
async fn an_incomplete_period_closes_after_the_grace_and_names_the_sources() {
    let mut running = Harness::start(None).await;
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
async fn an_execution_after_the_close_is_late_and_stays_in_its_period() {
    let mut running = Harness::start(None).await;
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
async fn a_sweep_completes_nothing_before_its_executions_are_counted() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    // The report of the sweep overtakes a batch that has yet to arrive.
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
async fn leap_days_and_clock_changes_leave_months_cut_at_the_tenants_midnight() {
    let mut running = Harness::start_with(None, &tenant_from("Europe/Madrid", 31)).await;
    running.bench.clock.set(at("2028-04-02T00:00:00Z"));
    let mut events = events(&running).await;
    let begins = |usage: &proto::v1::UsageCounted| usage.period.unwrap().start.unwrap().seconds;
    running.usage.next_where(|usage| begins(usage) == at("2028-03-30T22:00:00Z").as_second()).await;
    let edges = [
        ("2028-01-30T22:59:59.999999Z", 1),
        ("2028-01-30T23:00:00Z", 2),
        ("2028-02-10T12:00:00Z", 3),
        ("2028-02-28T22:59:59.999999Z", 4),
        ("2028-02-28T23:00:00Z", 5),
        ("2028-03-26T01:30:00Z", 6),
        ("2028-03-30T21:59:59.999999Z", 7),
        ("2028-03-30T22:00:00Z", 8),
    ];
    running.send(edges.iter().map(|(stopped_at, id)| execution(*id, stopped_at)).collect()).await;
    let mut closed = BTreeMap::new();
    while closed.len() < 3 {
        if let Event::Closed(event) = next(&mut events).await {
            let period = event.period.unwrap();
            if period.start.unwrap().seconds >= at("2027-01-01T00:00:00Z").as_second() {
                closed.insert(
                    period.start.unwrap().seconds,
                    (period.end.unwrap().seconds, event.totals.unwrap().counted),
                );
            }
        }
    }
    let second = |text| at(text).as_second();
    let expected = BTreeMap::from([
        (second("2027-12-30T23:00:00Z"), (second("2028-01-30T23:00:00Z"), 1)),
        (second("2028-01-30T23:00:00Z"), (second("2028-02-28T23:00:00Z"), 3)),
        (second("2028-02-28T23:00:00Z"), (second("2028-03-30T22:00:00Z"), 3)),
    ]);
    assert_eq!(closed, expected);
    assert_eq!(running.rebuilt().await, []);
    // One of them is the leap day, the first day of its period.
    let days: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT extract(epoch FROM day_start)::bigint, counted FROM usage_days ORDER BY day_start",
    )
    .fetch_all(running.bench.pool())
    .await
    .unwrap();
    let day = |text, count| (second(text), count);
    assert_eq!(
        days,
        [
            day("2028-01-29T23:00:00Z", 1),
            day("2028-01-30T23:00:00Z", 1),
            day("2028-02-09T23:00:00Z", 1),
            day("2028-02-27T23:00:00Z", 1),
            day("2028-02-28T23:00:00Z", 1),
            day("2028-03-25T23:00:00Z", 1),
            day("2028-03-29T22:00:00Z", 1),
            day("2028-03-30T22:00:00Z", 1),
        ]
    );
    running.bench.finish().await;
}

#[tokio::test]
async fn the_tenants_time_zone_bounds_the_month() {
    let mut running = Harness::start_with(None, &tenant("Europe/Madrid")).await;
    running.send(vec![execution(1, "2026-10-31T23:30:00Z")]).await;
    running.usage_where(|totals| totals.counted == 1).await;
    running.bench.finish().await;
}
