//! A 200 is a promise; the summary of the closed period is the proof.

use jiff::SignedDuration;
use sandbox::stripe::StripeFault;
use testkit::eventually;

use crate::harness::Harness;

#[tokio::test]
async fn a_period_that_agrees_is_confirmed() {
    let mut world = Harness::start().await;
    world.counted("north", 1, 10).await;
    world.next_reported().await;
    world.now_is("2026-12-01T00:03:00Z");
    world.closed("north", 2, 15).await;
    world.next_reported().await;
    assert_eq!(world.states("north").await, ["accepted", "accepted"]);
    world.advance(10);
    world.reports_are("north", &["confirmed", "confirmed"]).await;
    world.finish().await;
}

#[tokio::test]
async fn drift_is_published_once_per_difference() {
    let mut world = Harness::start().await;
    world.counted("north", 1, 10).await;
    world.next_reported().await;
    // Stripe answers 200, and counts nothing.
    world.sandbox.stripe().delete_customer("cus_north").unwrap();
    world.now_is("2026-12-01T00:03:00Z");
    world.closed("north", 2, 15).await;
    world.next_reported().await;
    world.advance(10);
    eventually("it waits for a summary that is behind", || async {
        let waits: bool = sqlx::query_scalar("SELECT check_at > '2026-12-01T00:13:00Z' FROM accounts")
            .fetch_one(world.bench.pool())
            .await
            .unwrap();
        waits.then_some(())
    })
    .await;
    world.advance(30);
    let drift = world.next_drift().await;
    assert_eq!((drift.billable, drift.stripe_total), (15, 10));

    world.advance(60);
    eventually("it was compared again", || async {
        let again: bool = sqlx::query_scalar("SELECT check_at > '2026-12-01T02:00:00Z' FROM accounts")
            .fetch_one(world.bench.pool())
            .await
            .unwrap();
        again.then_some(())
    })
    .await;
    let published: i64 =
        sqlx::query_scalar("SELECT count(*) FROM drifts").fetch_one(world.bench.pool()).await.unwrap();
    assert_eq!(published, 1);
    assert_eq!(world.states("north").await, ["accepted", "accepted"]);
    world.finish().await;
}

#[tokio::test]
async fn a_summary_that_is_behind_is_waited_for() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().set_summary_delay(SignedDuration::from_mins(15));
    world.now_is("2026-12-01T00:03:00Z");
    world.closed("north", 1, 15).await;
    world.next_reported().await;
    for _ in 0..4 {
        world.advance(5);
        world.counted("south", 1, 1).await;
    }
    world.reports_are("north", &["confirmed"]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_summary_that_cannot_be_read_is_read_again() {
    let mut world = Harness::start().await;
    world.now_is("2026-12-01T00:03:00Z");
    world.closed("north", 1, 15).await;
    world.next_reported().await;
    world.sandbox.stripe().fault_reads(StripeFault::Http500Before, Some(1));
    world.advance(10);
    eventually("the comparison was put off", || async {
        let put_off: bool = sqlx::query_scalar("SELECT check_at > '2026-12-01T00:13:00Z' FROM accounts")
            .fetch_one(world.bench.pool())
            .await
            .unwrap();
        put_off.then_some(())
    })
    .await;
    world.advance(1);
    world.reports_are("north", &["confirmed"]).await;
    world.finish().await;
}
