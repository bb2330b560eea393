//! Whatever happens to an answer: each report counts once.

use sandbox::stripe::StripeFault;

use crate::harness::Harness;

/// Reports under a fault that hits the first call, and again without it.
async fn counts_once(fault: StripeFault) {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault(fault, Some(1));
    world.counted("north", 1, 40).await;
    assert_eq!(world.next_reported().await.reported_total, 40, "{fault:?}");
    world.advance(5);
    world.counted("north", 2, 42).await;
    assert_eq!(world.next_reported().await.reported_total, 42, "{fault:?}");
    world.stripe_holds("north", 42).await;
    assert_eq!(world.sandbox.stripe().meter_events().len(), 2, "{fault:?}");
    world.finish().await;
}

#[tokio::test]
async fn the_answer_never_comes() {
    counts_once(StripeFault::TimeoutAfter).await;
    counts_once(StripeFault::TimeoutBefore).await;
}

#[tokio::test]
async fn the_connection_is_cut() {
    counts_once(StripeFault::DropAfter).await;
    counts_once(StripeFault::DropBefore).await;
}

#[tokio::test]
async fn stripe_fails() {
    counts_once(StripeFault::Http500After).await;
    counts_once(StripeFault::Http500Before).await;
}

#[tokio::test]
async fn a_proxy_answers_with_html() {
    counts_once(StripeFault::Html502After).await;
    counts_once(StripeFault::Html502).await;
}

#[tokio::test]
async fn stripe_is_busy() {
    counts_once(StripeFault::RateLimit).await;
    counts_once(StripeFault::LockTimeout).await;
}

#[tokio::test]
async fn a_failure_is_not_retried_under_the_same_key() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault(StripeFault::Http500After, Some(1));
    world.counted("north", 1, 8).await;
    world.next_reported().await;
    let generation: i32 =
        sqlx::query_scalar("SELECT key_generation FROM reports").fetch_one(world.bench.pool()).await.unwrap();
    assert_eq!(generation, 2, "Stripe repeats a saved 500 under the old key");
    // The second attempt was refused as a duplicate, and that means accepted.
    assert_eq!(world.sandbox.stripe().meter_events().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn stripe_cannot_be_read_before_the_first_attempt() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault_reads(StripeFault::Html502, Some(1));
    world.counted("north", 1, 8).await;
    testkit::eventually("the report waits", || async {
        let reason: Option<Option<String>> = sqlx::query_scalar("SELECT reason FROM reports")
            .fetch_optional(world.bench.pool())
            .await
            .unwrap();
        reason.flatten().filter(|reason| reason.contains("cannot be read"))
    })
    .await;
    world.skip_pauses().await;
    assert_eq!(world.next_reported().await.quantity, 8);
    world.finish().await;
}
