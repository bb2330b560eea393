//! Between a period's end and its close.

use jiff::{SignedDuration, Timestamp};
use proto::{
    streams::Stream,
    v1::{self, ThresholdCrossed},
};

use crate::harness::{Harness, execution, executions, plan};

fn second(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn starts(period: Option<v1::Period>) -> i64 {
    period.expect("a period").start.unwrap().seconds
}

/// Start and counted executions of the periods that have ended.
fn ended(usage: &v1::UsageCounted) -> Vec<(i64, u64)> {
    usage.ended_periods.iter().map(|ended| (starts(ended.period), ended.totals.unwrap().counted)).collect()
}

async fn crossed(running: &Harness) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM crossings").fetch_one(running.bench.pool()).await.unwrap()
}

/// Seven executions of November are counted; then it is five past midnight.
async fn begin_december(limit: u64) -> Harness {
    let mut running = Harness::start(Some(limit)).await;
    running.send(executions(1..=7)).await;
    running.usage_where(|totals| totals.counted == 7).await;
    running.bench.clock.set("2026-12-01T00:05:00Z".parse().unwrap());
    running.usage.next_where(|usage| starts(usage.period) == second("2026-12-01T00:00:00Z")).await;
    running
}

#[tokio::test]
async fn runs_from_before_midnight_cross_the_thresholds_of_their_own_month() {
    let mut running = begin_december(10).await;
    let mut crossings = running.bench.topic::<ThresholdCrossed>(Stream::Thresholds, "usage.threshold").await;
    running.send(vec![execution(8, "2026-11-30T23:50:00Z")]).await;
    let first = crossings.next().await;
    running.send(vec![execution(9, "2026-11-30T23:51:00Z"), execution(10, "2026-11-30T23:52:00Z")]).await;
    let second_one = crossings.next().await;
    let brief =
        |crossed: &ThresholdCrossed| (starts(crossed.period), crossed.threshold_percent, crossed.used);
    let november = second("2026-11-01T00:00:00Z");
    assert_eq!((brief(&first), brief(&second_one)), ((november, 80, 8), (november, 100, 10)));
    running.send(vec![execution(11, "2026-11-30T23:53:00Z"), execution(12, "2026-12-01T00:01:00Z")]).await;
    running.usage.next_where(|usage| ended(usage) == [(november, 11)]).await;
    assert_eq!(crossed(&running).await, 2, "once for each threshold");
    running.bench.finish().await;
}

#[tokio::test]
async fn an_ended_period_is_published_until_it_closes() {
    let mut running = begin_december(1_000).await;
    let november = second("2026-11-01T00:00:00Z");
    running.send(vec![execution(8, "2026-11-30T23:50:00Z")]).await;
    let usage = running.usage.next_where(|usage| ended(usage) == [(november, 8)]).await;
    assert_eq!(usage.totals.unwrap().counted, 0);
    assert_eq!(usage.ended_periods[0].period.unwrap().end.unwrap().seconds, second("2026-12-01T00:00:00Z"));
    running.bench.clock.advance(SignedDuration::from_hours(6));
    running.usage.next_where(|usage| usage.ended_periods.is_empty()).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn a_plan_changed_after_midnight_warns_only_about_the_new_month() {
    let mut running = begin_december(1_000).await;
    let november = second("2026-11-01T00:00:00Z");
    running.bench.publish_entry(&plan(Some(8)), 2).await;
    running.usage.next_where(|usage| usage.limit == Some(8)).await;
    running.send(vec![execution(8, "2026-11-30T23:50:00Z")]).await;
    running.usage.next_where(|usage| ended(usage) == [(november, 8)]).await;
    assert_eq!(crossed(&running).await, 0, "8 of 1,000 in November");
    running.bench.finish().await;
}

#[tokio::test]
async fn past_months_of_a_new_source_cause_no_warnings() {
    let mut running = Harness::start(Some(5)).await;
    running.send((1..=20).map(|id| execution(id, "2026-09-20T12:00:00Z")).collect()).await;
    running.send(vec![execution(21, "2026-11-24T11:59:00Z")]).await;
    running.usage_where(|totals| totals.counted == 1).await;
    testkit::eventually("September is closed", || async {
        let closed: Option<i64> = sqlx::query_scalar(
            "SELECT counted FROM periods WHERE closed_at IS NOT NULL AND period_start = '2026-09-01T00:00:00Z'",
        )
        .fetch_optional(running.bench.pool())
        .await
        .unwrap();
        (closed? == 20).then_some(())
    })
    .await;
    assert_eq!(crossed(&running).await, 0);
    running.bench.finish().await;
}
