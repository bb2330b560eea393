//! Whether a source's clock is right, whether one n8n uses its push token, and whether that n8n pushes for it
//! only.

use std::collections::BTreeMap;

use catalog::Source;
use jiff::{SignedDuration, Timestamp};
use proto::{instant, v1::SourceSynced};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    harness::Harness,
    push::{Push, TOKEN, execution},
};

const OTHER_TOKEN: &str = "fmp_south.0123456789012345678901234567890123456789012";

fn clock_wrong_since(synced: &SourceSynced) -> Option<Timestamp> {
    instant(synced.clock_wrong_since.as_ref(), "clock_wrong_since").unwrap()
}

fn skew_seconds(synced: &SourceSynced) -> f64 {
    let skew_ms = synced.clock_skew_ms.unwrap();
    f64::from(i32::try_from(skew_ms).unwrap()) / 1_000.0
}

fn set_clock(stage: &Harness, ahead_s: i64) {
    stage.n8n("north").configure(|config| config.clock_ahead_ms = ahead_s * 1_000);
}

#[tokio::test]
async fn a_poll_measures_the_clock_and_says_since_when_it_is_wrong() {
    let mut stage = Harness::start().await;
    let right = stage.first_sweep("north").await.synced;
    assert!(skew_seconds(&right).abs() <= 0.5, "{right:?}");
    assert_eq!(right.clock_wrong_since, None);

    for ahead_s in [300, -300] {
        set_clock(&stage, ahead_s);
        stage.bench.clock.advance(SignedDuration::from_secs(70));
        let began_at = stage.now();
        let wrong = stage.swept_without_reading("north").await;
        assert!((skew_seconds(&wrong) - ahead_s as f64).abs() <= 0.5, "{wrong:?}");
        assert_eq!(clock_wrong_since(&wrong), Some(began_at));
        let again = stage.next_sweep("north").await.synced;
        assert_eq!(clock_wrong_since(&again), Some(began_at), "since then, not since now");

        set_clock(&stage, 0);
        let mended = stage.next_sweep("north").await.synced;
        assert_eq!(mended.clock_wrong_since, None);
    }
    stage.finish().await;
}

/// What the hook sends: executions with the sender beside them.
fn body(id: &str, instance: &str, sent_at: Timestamp) -> Value {
    json!({"executions": [execution(id)], "instance": instance, "sent_at": sent_at.to_string()})
}

async fn push_as(push: &Push, token: &str, id: &str, instance: &str) {
    let body = body(id, instance, push.stage.now());
    let response = push.send(token, "application/json", body.to_string()).await;
    assert_eq!(response.status(), 202);
}

#[tokio::test]
async fn a_push_that_is_stamped_ahead_brings_the_warning_at_once() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    push.stage.bench.clock.advance(SignedDuration::from_secs(1));
    let ahead = push.stage.now() + SignedDuration::from_mins(5);
    let answer = push.accepted("application/json", body("1", "1f2e", ahead)).await;
    assert_eq!(answer["accepted"], 1);
    // Long before its next sweep is due. Its poll says that the clock is right, as a proxy would.
    let wrong = push.stage.swept_without_reading("north").await;
    assert_eq!(wrong.clock_skew_ms, Some(300_000));
    assert!(clock_wrong_since(&wrong).is_some());

    push.stage.bench.clock.advance(SignedDuration::from_mins(11));
    push_as(&push, TOKEN, "2", "1f2e").await;
    let mended = push.stage.swept_without_reading("north").await;
    assert_eq!((mended.clock_skew_ms, mended.clock_wrong_since), (Some(0), None));
    push.finish().await;
}

#[tokio::test]
async fn two_n8n_with_one_token_are_reported_and_a_replaced_one_is_not() {
    let mut push = Push::start().await;
    push.stage.swept_without_reading("north").await;
    let minute = SignedDuration::from_secs(61);
    // Main, worker and webhook processes of one n8n, which then is replaced by another.
    for id in ["1", "2", "3"] {
        push_as(&push, TOKEN, id, "first").await;
    }
    push.stage.bench.clock.advance(minute);
    push_as(&push, TOKEN, "4", "second").await;
    push.stage.bench.clock.advance(minute);
    push_as(&push, TOKEN, "5", "second").await;
    let replaced = push.stage.next_sweep("north").await.synced;
    assert_eq!((replaced.token_shared_since, replaced.instances.len()), (None, 0));

    // The first is there after all.
    push.stage.bench.clock.advance(minute);
    push_as(&push, TOKEN, "6", "first").await;
    let shared = push.stage.swept_without_reading("north").await;
    assert!(shared.token_shared_since.is_some());
    assert_eq!(shared.instances, ["first", "second"]);

    // An hour later only one pushes.
    push.stage.bench.clock.advance(SignedDuration::from_mins(61));
    push_as(&push, TOKEN, "7", "first").await;
    let mended = push.stage.swept_without_reading("north").await;
    assert_eq!((mended.token_shared_since, mended.instances.len()), (None, 0));
    push.finish().await;
}

/// Awaits a sweep of each source that began now, on the clock, in whichever order they end.
async fn both_swept(stage: &mut Harness) -> BTreeMap<String, SourceSynced> {
    let now = stage.now();
    let mut swept = BTreeMap::new();
    while swept.len() < 2 {
        let synced = stage.next_synced().await;
        let began_at = instant(synced.sweep_started_at.as_ref(), "sweep_started_at").unwrap();
        if began_at >= Some(now) {
            swept.insert(synced.source_id.clone(), synced);
        }
    }
    swept
}

#[tokio::test]
async fn one_n8n_that_pushes_for_two_sources_is_reported_for_both() {
    let mut push = Push::start().await;
    let push_token_sha256 = Some(Sha256::digest(OTHER_TOKEN.as_bytes()).into());
    push.know(Source { push_token_sha256, ..push.stage.source("south") }).await;
    both_swept(&mut push.stage).await;
    let minute = SignedDuration::from_secs(61);
    // One that has moved from one source to the other is counted once.
    for (token, id) in [(TOKEN, "1"), (OTHER_TOKEN, "2"), (OTHER_TOKEN, "3")] {
        push.stage.bench.clock.advance(minute);
        push_as(&push, token, id, "moved").await;
    }
    push.stage.bench.clock.advance(SignedDuration::from_secs(200));
    for (source, moved) in both_swept(&mut push.stage).await {
        assert_eq!(moved.counted_twice_since, None, "{source}");
    }
    for round in ["1", "2", "3"] {
        push.stage.bench.clock.advance(minute);
        push_as(&push, TOKEN, round, "1f2e").await;
        push_as(&push, OTHER_TOKEN, round, "1f2e").await;
    }
    push.stage.bench.clock.advance(SignedDuration::from_secs(200));
    let swept = both_swept(&mut push.stage).await;
    for (source, other) in [("north", "south"), ("south", "north")] {
        let synced = &swept[source];
        assert!(synced.counted_twice_since.is_some(), "{source}");
        assert_eq!(synced.same_instance_sources, [other]);
        assert_eq!(synced.token_shared_since, None, "each has its own token");
    }
    push.finish().await;
}

#[tokio::test]
async fn made_up_instances_are_bounded_and_forgotten() {
    let push = Push::start().await;
    for number in 0..30 {
        push_as(&push, TOKEN, "1", &format!("made-up-{number}")).await;
    }
    let count = async || -> i64 {
        let pool = push.stage.bench.pool();
        sqlx::query_scalar("SELECT count(*) FROM source_instances").fetch_one(pool).await.unwrap()
    };
    assert_eq!(count().await, 8);
    push.stage.bench.clock.advance(SignedDuration::from_hours(25));
    let expiry = collector::Expiry {
        pool: push.stage.bench.pool().clone(),
        clock: std::sync::Arc::new(push.stage.bench.clock.clone()),
    };
    expiry.round().await.unwrap();
    assert_eq!(count().await, 0);
    push.finish().await;
}
