//! What a sender of meter events has to survive, and what the account holds afterwards.

use std::time::Duration;

use sandbox::stripe::StripeFault;

use crate::harness::{Harness, send};

const FORM: &str =
    "event_name=executions&identifier=e1&payload[stripe_customer_id]=cus_north&payload[value]=5";

async fn bench() -> Harness {
    let bench = Harness::new().await;
    bench.sandbox.stripe().add_customer("cus_north").unwrap();
    bench.sandbox.stripe().add_meter("executions").unwrap();
    bench
}

/// How long the sender waits for an answer that will not come: longer than a busy machine needs to record an event.
const SENDER_PATIENCE: Duration = Duration::from_secs(1);

/// Sends the event under a key, and returns the status if an answer came.
async fn attempt(bench: &Harness, key: &str) -> Option<u16> {
    let call = bench.stripe_call("/billing/meter_events", FORM).header("idempotency-key", key);
    call.send().await.ok().map(|response| response.status().as_u16())
}

/// The same, by a sender that soon gives up.
async fn hasty_attempt(bench: &Harness, key: &str) -> Option<u16> {
    tokio::time::timeout(SENDER_PATIENCE, attempt(bench, key)).await.ok().flatten()
}

fn total(bench: &Harness) -> i64 {
    bench.sandbox.stripe().total("cus_north", "executions")
}

#[tokio::test]
async fn after_a_lost_answer_a_retry_with_the_same_key_counts_once() {
    for (fault, recorded) in [
        (StripeFault::TimeoutAfter, 5),
        (StripeFault::TimeoutBefore, 0),
        (StripeFault::DropAfter, 5),
        (StripeFault::DropBefore, 0),
    ] {
        let bench = bench().await;
        bench.sandbox.stripe().fault(fault, Some(1));
        assert_eq!(hasty_attempt(&bench, "k1").await, None, "{fault:?}");
        assert_eq!(total(&bench), recorded, "{fault:?}");
        assert_eq!(attempt(&bench, "k1").await, Some(200), "{fault:?}");
        assert_eq!(total(&bench), 5, "{fault:?}");
    }
}

#[tokio::test]
async fn a_500_is_kept_for_its_key_and_a_new_key_gets_through() {
    for (fault, recorded, then) in [(StripeFault::Http500After, 5, 400), (StripeFault::Http500Before, 0, 200)]
    {
        let bench = bench().await;
        bench.sandbox.stripe().fault(fault, Some(1));
        assert_eq!(attempt(&bench, "k1").await, Some(500), "{fault:?}");
        assert_eq!(attempt(&bench, "k1").await, Some(500), "{fault:?}: saved");
        assert_eq!(total(&bench), recorded, "{fault:?}");
        assert_eq!(attempt(&bench, "k2").await, Some(then), "{fault:?}");
        assert_eq!(total(&bench), 5, "{fault:?}");
    }
}

#[tokio::test]
async fn a_proxy_page_says_nothing_about_the_effect() {
    for (fault, recorded) in [(StripeFault::Html502, 0), (StripeFault::Html502After, 5)] {
        let bench = bench().await;
        bench.sandbox.stripe().fault(fault, Some(1));
        let answer = send(bench.stripe_call("/billing/meter_events", FORM)).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (502, "text/html; charset=utf-8"));
        assert_eq!(total(&bench), recorded);
    }
}

#[tokio::test]
async fn a_429_has_no_effect_and_does_not_use_up_the_key() {
    for fault in [StripeFault::RateLimit, StripeFault::LockTimeout] {
        let bench = bench().await;
        bench.sandbox.stripe().fault(fault, Some(2));
        assert_eq!(attempt(&bench, "k1").await, Some(429));
        assert_eq!(attempt(&bench, "k1").await, Some(429));
        assert_eq!(total(&bench), 0);
        assert_eq!(attempt(&bench, "k1").await, Some(200));
    }
}

#[tokio::test]
async fn reads_have_their_own_faults() {
    let bench = bench().await;
    bench.sandbox.stripe().fault_reads(StripeFault::Http500Before, Some(1));
    assert_eq!(attempt(&bench, "k1").await, Some(200));
    assert_eq!(bench.stripe_get("/billing/meters").await.status, 500);
    assert_eq!(bench.stripe_get("/billing/meters").await.status, 200);
}
