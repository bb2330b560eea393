//! Crashes, and unknown outcomes that last longer than Stripe remembers.

use metering::Clock;
use sandbox::stripe::StripeFault;
use testkit::eventually;

use crate::harness::Harness;

/// What a SIGKILL leaves behind between the call and the record of its answer.
async fn as_if_killed_while_sending(world: &Harness) {
    let statements = [
        "UPDATE reports SET state = 'sending', settled_at = NULL",
        "UPDATE senders SET lease_until = clock_timestamp() + interval '1 second'",
    ];
    for statement in statements {
        sqlx::query(statement).execute(world.bench.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn a_crash_after_the_call_counts_once() {
    let mut world = Harness::start().await;
    world.counted("north", 1, 25).await;
    world.next_reported().await;
    world.bench.restart().await;
    as_if_killed_while_sending(&world).await;
    world.serve().await;
    world.reports_are("north", &["accepted"]).await;
    assert_eq!(world.sandbox.stripe().meter_events().len(), 1);
    world.stripe_holds("north", 25).await;
    world.finish().await;
}

#[tokio::test]
async fn a_crash_before_the_call_loses_nothing() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault(StripeFault::RateLimit, None);
    world.counted("north", 1, 25).await;
    world.reports_are("north", &["sealed"]).await;
    world.bench.restart().await;
    as_if_killed_while_sending(&world).await;
    sqlx::query("UPDATE reports SET fence = 1, first_attempt_at = '2026-11-24T12:00:00Z'")
        .execute(world.bench.pool())
        .await
        .unwrap();
    world.sandbox.stripe().clear_faults();
    world.serve().await;
    assert_eq!(world.next_reported().await.quantity, 25);
    assert_eq!(world.sandbox.stripe().meter_events().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn two_senders_send_once() {
    let mut world = Harness::start().await;
    // A second replica on the same books.
    world.serve().await;
    for round in 1..=4 {
        world.counted("north", round, round * 10).await;
        world.counted("south", round, round * 3).await;
        world.next_reported().await;
        world.next_reported().await;
        world.advance(5);
    }
    world.stripe_holds("north", 40).await;
    world.stripe_holds("south", 12).await;
    assert_eq!(world.sandbox.stripe().meter_events().len(), 8);
    world.finish().await;
}

#[tokio::test]
async fn a_sender_that_lost_its_lease_decides_nothing() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault(StripeFault::TimeoutAfter, Some(1));
    world.counted("north", 1, 17).await;
    world.reports_are("north", &["sending"]).await;
    // Another replica takes over while the call hangs, and stops at once.
    sqlx::query(
        "UPDATE senders SET fence = fence + 1, lease_until = clock_timestamp() + interval '1 second'",
    )
    .execute(world.bench.pool())
    .await
    .unwrap();
    assert_eq!(world.next_reported().await.quantity, 17);
    let (attempts, fence): (i32, i64) =
        sqlx::query_as("SELECT attempts, fence FROM reports").fetch_one(world.bench.pool()).await.unwrap();
    assert_eq!((attempts, fence), (2, 3), "the first sender's result was not taken");
    assert_eq!(world.sandbox.stripe().meter_events().len(), 1);
    world.finish().await;
}

/// A report whose outcome has been unknown for a day.
async fn in_doubt_for_a_day(fault: StripeFault) -> Harness {
    let world = Harness::start().await;
    world.sandbox.stripe().fault(fault, Some(1));
    // Later attempts do not get through.
    world.sandbox.stripe().fault(StripeFault::DropBefore, None);
    world.counted("north", 1, 33).await;
    world.reports_are("north", &["unknown"]).await;
    world.advance(24 * 60 + 1);
    world.sandbox.stripe().clear_faults();
    world.skip_pauses().await;
    world
}

#[tokio::test]
async fn after_a_day_the_receipt_shows_that_a_report_arrived() {
    let mut world = in_doubt_for_a_day(StripeFault::TimeoutAfter).await;
    assert_eq!(world.next_reported().await.quantity, 33);
    assert_eq!(world.sandbox.stripe().meter_events().len(), 1, "Stripe no longer knows the identifier");
    world.finish().await;
}

#[tokio::test]
async fn after_a_day_a_lasting_absence_allows_a_resend() {
    let mut world = in_doubt_for_a_day(StripeFault::TimeoutBefore).await;
    eventually("the receipt was found empty", || async {
        let absent: bool = sqlx::query_scalar("SELECT absent_since IS NOT NULL FROM reports")
            .fetch_one(world.bench.pool())
            .await
            .unwrap();
        absent.then_some(())
    })
    .await;
    assert_eq!(world.states("north").await, ["unknown"]);
    world.advance(10);
    assert_eq!(world.next_reported().await.quantity, 33);
    assert_eq!(world.sandbox.stripe().meter_events().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_receipt_that_shows_something_else_needs_an_operator() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault(StripeFault::TimeoutAfter, Some(1));
    world.sandbox.stripe().fault(StripeFault::DropBefore, None);
    world.counted("north", 1, 33).await;
    world.reports_are("north", &["unknown"]).await;
    // Somebody else reports into the same minute.
    let stray = world.bench.clock.now().as_second() - 5 * 60;
    world.sandbox.stripe().clear_faults();
    world.stray_event("cus_north", 2, stray, "stray-key").await;
    world.advance(24 * 60 + 1);
    world.skip_pauses().await;
    let failed = world.next_failed().await;
    assert!(failed.reason.contains("35"), "{}", failed.reason);
    world.reports_are("north", &["stuck"]).await;
    world.finish().await;
}

#[tokio::test]
async fn nothing_is_sent_when_the_invoice_may_be_final() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault(StripeFault::RateLimit, None);
    world.counted("north", 1, 6).await;
    // No attempt may be under way when the time passes, so the next one has to wait.
    eventually("an attempt has failed", || async {
        let held = "UPDATE reports SET not_before = now() + interval '1 hour'
             WHERE state = 'sealed' AND attempts > 0 AND reason IS NOT NULL";
        let held = sqlx::query(held).execute(world.bench.pool()).await.unwrap();
        (held.rows_affected() == 1).then_some(())
    })
    .await;
    world.now_is("2026-12-01T00:58:00Z");
    world.sandbox.stripe().clear_faults();
    world.skip_pauses().await;
    let failed = world.next_failed().await;
    assert!(failed.reason.contains("invoice item for 6"), "{}", failed.reason);
    world.reports_are("north", &["late"]).await;
    assert!(world.sandbox.stripe().meter_events().is_empty());
    world.finish().await;
}
