//! Invalid messages lose nothing and stop nothing.

use proto::{
    streams::Stream,
    v1::{DeadLetter, UsageCounted},
};

use crate::harness::{Harness, november};

#[tokio::test]
async fn an_invalid_message_becomes_a_dead_letter() {
    let mut world = Harness::start().await;
    let mut dead = world.bench.topic::<DeadLetter>(Stream::Dead, "dead").await;
    let subject = world.bench.namespace().usage_counted("north");
    world.bench.publish_bytes(subject.clone(), b"not protobuf \xff\xff").await;
    assert!(dead.next().await.reason.contains("not a UsageCounted"));

    let without_totals = UsageCounted {
        tenant_id: "north".into(),
        period: Some(november().into()),
        revision: 1,
        ..UsageCounted::default()
    };
    world.bench.publish(subject, &without_totals).await;
    assert!(dead.next().await.reason.contains("totals"));

    world.counted("north", 2, 4).await;
    assert_eq!(world.next_reported().await.quantity, 4);
    world.finish().await;
}
