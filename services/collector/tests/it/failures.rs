//! A failing source is reported, and harms no other.

use std::time::Duration;

use catalog::{
    Source,
    sealing::{KeyPair, SealingKey},
};
use jiff::SignedDuration;
use proto::v1::FailureReason;
use sandbox::n8n::N8nFault;
use tokio::time::Instant;

use crate::harness::Harness;

#[tokio::test]
async fn each_failure_is_published_with_its_reason() {
    let mut stage = Harness::start().await;
    for (revision, (fault, reason, words)) in (1..).zip([
        (N8nFault::Unauthorized, FailureReason::Unauthorized, "API key"),
        (N8nFault::Html, FailureReason::Unreadable, "starting up or the address is wrong"),
        (N8nFault::NotFoundHtml, FailureReason::Unreadable, "starting up or the address is wrong"),
        (N8nFault::BigPage, FailureReason::TooLarge, "8388608 bytes"),
        (N8nFault::Http500, FailureReason::Unreadable, "Internal server error"),
        (N8nFault::RateLimit, FailureReason::RateLimited, "limit"),
    ]) {
        stage.run("north", 1);
        stage.n8n("north").clear_faults();
        stage.n8n("north").fault(fault, None);
        // A new revision makes the source due at once. Time passes, or the same failure would be the same message.
        stage.bench.clock.advance(SignedDuration::from_secs(1));
        stage.add(&stage.source("north"), revision).await;
        let failing = stage.failing.next_where(|failing| failing.reason() == reason).await;
        assert!(failing.detail.contains(words), "{fault:?}: {}", failing.detail);
        assert_eq!(failing.consecutive_failures, 1);
    }
    stage.finish().await;
}

#[tokio::test]
async fn failures_are_counted_until_a_sweep_succeeds() {
    let mut stage = Harness::start().await;
    stage.run("north", 3);
    stage.n8n("north").fault(N8nFault::Html, None);
    stage.add(&stage.source("north"), 1).await;
    let first = stage.failing.next().await;
    for failures in 2..=3 {
        // Longer than any pause of a source with this interval.
        stage.bench.clock.advance(SignedDuration::from_mins(4));
        let failing = stage.failing.next_where(|failing| failing.consecutive_failures == failures).await;
        assert_eq!(failing.failing_since, first.failing_since);
    }
    stage.n8n("north").clear_faults();
    stage.bench.clock.advance(SignedDuration::from_mins(4));
    assert_eq!(stage.swept("north").await.ids(), [1, 2, 3]);

    stage.n8n("north").fault(N8nFault::Html, None);
    stage.bench.clock.advance(crate::harness::STEP);
    let again = stage.failing.next_where(|failing| failing.consecutive_failures == 1).await;
    assert_ne!(again.failing_since, first.failing_since);
    stage.finish().await;
}

#[tokio::test]
async fn a_key_that_was_sealed_for_another_collector_is_reported() {
    let mut stage = Harness::start().await;
    let foreign = SealingKey::parse(&KeyPair::generate().public).unwrap();
    let source = Source { api_key: foreign.seal(&"key-north".into()), ..stage.source("north") };
    stage.add(&source, 1).await;
    let failing = stage.failing.next().await;
    assert_eq!(failing.reason(), FailureReason::SecretUnreadable);
    stage.finish().await;
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let mut stage = Harness::start_with(|settings| settings.allow_private_addresses = false).await;
    let by_ip = stage.source("north");
    let by_name = Source {
        base_url: by_ip.base_url.as_str().replace("127.0.0.1", "localhost").parse().unwrap(),
        ..stage.source("south")
    };
    for source in [by_ip, by_name] {
        stage.add(&source, 1).await;
        let id = source.id.to_string();
        let failing = stage.failing.next_where(|failing| failing.source_id == id).await;
        assert_eq!(failing.reason(), FailureReason::Unreachable);
        assert!(failing.detail.contains("allow_private_addresses"), "{}", failing.detail);
    }
    stage.finish().await;
}

#[tokio::test]
async fn a_bad_source_does_not_delay_another() {
    let mut stage = Harness::start_with(|settings| settings.concurrency = 2).await;
    stage.n8n("south").set_slowness(Duration::from_secs(60));
    stage.n8n("south").fault(N8nFault::Slow, None);
    stage.add(&stage.source("south"), 1).await;
    stage.run("north", 5);

    let began_at = Instant::now();
    assert_eq!(stage.first_sweep("north").await.ids(), [1, 2, 3, 4, 5]);
    stage.run("north", 1);
    assert_eq!(stage.next_sweep("north").await.ids(), [6]);
    assert!(began_at.elapsed() < stage.settings.request_timeout, "it waited for the slow source");
    stage.finish().await;
}

#[tokio::test]
async fn a_source_that_does_not_answer_is_given_up_in_time() {
    let mut stage =
        Harness::start_with(|settings| settings.request_timeout = Duration::from_millis(300)).await;
    stage.n8n("north").fault(N8nFault::Slow, None);
    stage.add(&stage.source("north"), 1).await;
    let failing = stage.failing.next().await;
    assert_eq!(failing.reason(), FailureReason::Unreachable);
    assert!(failing.detail.contains("300ms"), "{}", failing.detail);
    stage.finish().await;
}
