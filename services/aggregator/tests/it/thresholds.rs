//! One crossing per tenant, period, rule and threshold.

use proto::{streams::Stream, v1::ThresholdCrossed};

use crate::harness::{Harness, executions, plan};

fn brief(crossed: &ThresholdCrossed) -> (u32, u64, u64) {
    (crossed.threshold_percent, crossed.limit, crossed.used)
}

/// Waits until this many crossings have been rearmed.
async fn rearmed(running: &Harness, expected: i64) {
    testkit::eventually("the thresholds are rearmed", || async {
        let rearmed: i64 = sqlx::query_scalar("SELECT count(*) FROM crossings WHERE rearmed_at IS NOT NULL")
            .fetch_one(running.bench.pool())
            .await
            .ok()?;
        (rearmed == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_threshold_is_published_once_whatever_is_repeated() {
    let running = Harness::start(Some(100)).await;
    let mut crossings = running.bench.topic::<ThresholdCrossed>(Stream::Thresholds, "usage.threshold").await;
    running.send(executions(1..=79)).await;
    running.send(executions(75..=80)).await;
    let crossed = crossings.next().await;
    assert_eq!(brief(&crossed), (80, 100, 80));
    assert_eq!(crossed.rule, "monthly-executions");
    running.send(executions(1..=99)).await;
    running.send(executions(80..=130)).await;
    assert_eq!(brief(&crossings.next().await), (100, 100, 130));
    running.bench.finish().await;
}

#[tokio::test]
async fn a_step_over_both_thresholds_publishes_both() {
    let running = Harness::start(Some(10)).await;
    let mut crossings = running.bench.topic::<ThresholdCrossed>(Stream::Thresholds, "usage.threshold").await;
    running.send(executions(1..=20)).await;
    for percent in [80, 100] {
        let crossed = crossings.next().await;
        assert_eq!(brief(&crossed), (percent, 10, 20));
        assert_eq!(crossed.highest_percent, 100, "the highest of the change");
    }
    running.bench.finish().await;
}

#[tokio::test]
async fn a_raised_limit_rearms_thresholds_that_are_no_longer_crossed() {
    let mut running = Harness::start(Some(100)).await;
    let mut crossings = running.bench.topic::<ThresholdCrossed>(Stream::Thresholds, "usage.threshold").await;
    running.send(executions(1..=100)).await;
    let first = crossings.next().await;
    crossings.next().await;
    // 100 of 110: below 100 %, still above 80 %.
    running.bench.publish_entry(&plan(Some(110)), 2).await;
    rearmed(&running, 1).await;
    running.send(executions(101..=110)).await;
    assert_eq!(brief(&crossings.next().await), (100, 110, 110));
    // 110 of 1,000: both are rearmed.
    running.bench.publish_entry(&plan(Some(1_000)), 3).await;
    rearmed(&running, 3).await;
    running.restart().await;
    running.send(executions(111..=800)).await;
    let again = crossings.next().await;
    assert_eq!(brief(&again), (80, 1_000, 800));
    assert_ne!(again.crossing_id, first.crossing_id);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_lowered_limit_is_crossed_without_a_new_execution() {
    let mut running = Harness::start(Some(100)).await;
    let mut crossings = running.bench.topic::<ThresholdCrossed>(Stream::Thresholds, "usage.threshold").await;
    running.send(executions(1..=50)).await;
    running.usage_where(|totals| totals.counted == 50).await;
    running.bench.publish_entry(&plan(Some(60)), 2).await;
    assert_eq!(brief(&crossings.next().await), (80, 60, 50));
    running.bench.finish().await;
}
