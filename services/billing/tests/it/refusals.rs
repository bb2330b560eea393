//! What Stripe refuses is reported, and holds up nobody else.

use billing::identifier::Identifier;
use metering::{Clock, TenantId};
use sandbox::stripe::StripeFault;
use testkit::eventually;

use crate::harness::{Harness, METER, november};

async fn paused(world: &Harness, scope: &str) -> String {
    eventually(&format!("{scope} is paused"), || async {
        sqlx::query_scalar("SELECT reason FROM pauses WHERE scope = $1")
            .bind(scope)
            .fetch_optional(world.bench.pool())
            .await
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn usage_of_an_unknown_customer_is_announced_and_reported_once_corrected() {
    let mut world = Harness::start().await;
    world.tenant("north", "cus_typo", 2).await;
    world.catalog_has("north", 2).await;
    world.counted("north", 1, 30).await;
    let failed = world.next_failed().await;
    assert_eq!(failed.quantity, 30);
    assert!(failed.reason.contains("cus_typo"), "{}", failed.reason);
    world.reports_are("north", &["rejected"]).await;
    assert!(world.sandbox.stripe().meter_events().is_empty(), "Stripe would have answered 200 and lost it");

    world.tenant("north", "cus_north", 3).await;
    assert_eq!(world.next_reported().await.reported_total, 30);
    world.stripe_holds("north", 30).await;
    world.reports_are("north", &["rejected", "accepted"]).await;
    world.finish().await;
}

#[tokio::test]
async fn one_bad_customer_holds_nobody_up() {
    let mut world = Harness::start().await;
    world.tenant("north", "cus_typo", 2).await;
    world.catalog_has("north", 2).await;
    for round in 1..=3 {
        world.counted("north", round, round * 10).await;
        world.counted("south", round, round * 7).await;
        world.stripe_holds("south", i64::try_from(round * 7).unwrap()).await;
        world.advance(5);
    }
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), 0);
    assert_eq!(world.first_failed().await.tenant_id, "north");
    world.finish().await;
}

#[tokio::test]
async fn a_wrong_key_pauses_everything_until_it_is_corrected() {
    let mut world = Harness::prepare().await.with_key(Some("sk_test_wrong"));
    world.sandbox.stripe().set_key(Some("sk_test_right".to_owned()));
    world.sandbox.stripe().add_customer("cus_north").unwrap();
    world.sandbox.stripe().add_meter(METER).unwrap();
    world.plan(METER, 1).await;
    world.tenant("north", "cus_north", 1).await;
    world.serve().await;
    world.counted("north", 1, 12).await;
    let reason = paused(&world, "account").await;
    assert!(!reason.contains("wrong"), "the key is shown: {reason}");
    world.reports_are("north", &["sealed"]).await;

    world = world.with_key(Some("sk_test_right"));
    world.restart().await;
    assert_eq!(world.next_reported().await.quantity, 12);
    world.finish().await;
}

#[tokio::test]
async fn a_missing_meter_pauses_that_meter_only() {
    let mut world = Harness::start().await;
    world.plan("runs", 2).await;
    world.catalog_has("pro", 2).await;
    world.counted("north", 1, 9).await;
    paused(&world, "meter:runs").await;
    world.reports_are("north", &["sealed"]).await;

    world.plan(METER, 3).await;
    world.counted("south", 1, 4).await;
    world.stripe_holds("south", 4).await;

    world.sandbox.stripe().add_meter("runs").unwrap();
    world.skip_pauses().await;
    world.next_reported().await;
    assert_eq!(world.next_reported().await.quantity, 9);
    assert_eq!(world.sandbox.stripe().total("cus_north", "runs"), 9, "sealed for that meter, sent to it");
    world.finish().await;
}

#[tokio::test]
async fn a_sealed_report_keeps_its_customer() {
    let mut world = Harness::start().await;
    world.sandbox.stripe().fault(StripeFault::Http500Before, Some(1));
    world.counted("north", 1, 5).await;
    world.reports_are("north", &["unknown"]).await;
    world.sandbox.stripe().add_customer("cus_other").unwrap();
    world.tenant("north", "cus_other", 2).await;
    assert_eq!(world.next_reported().await.quantity, 5);
    world.stripe_holds("north", 5).await;
    world.advance(5);
    world.counted("north", 2, 8).await;
    assert_eq!(world.next_reported().await.reported_total, 8);
    assert_eq!(world.sandbox.stripe().total("cus_other", METER), 3);
    world.finish().await;
}

#[tokio::test]
async fn without_a_key_usage_is_recorded_and_reported_later() {
    let mut world = Harness::prepare().await.with_key(None);
    world.sandbox.stripe().add_customer("cus_north").unwrap();
    world.sandbox.stripe().add_meter(METER).unwrap();
    world.plan(METER, 1).await;
    world.tenant("north", "cus_north", 1).await;
    world.serve().await;
    world.counted("north", 1, 12).await;
    world.billable_is("north", 12).await;
    assert!(world.states("north").await.is_empty());

    world = world.with_key(Some("sk_test_right"));
    world.restart().await;
    assert_eq!(world.next_reported().await.quantity, 12);
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_was_used_for_something_else_needs_an_operator() {
    let mut world = Harness::start().await;
    let north = TenantId::parse("north").unwrap();
    let identifier = Identifier::of("test", METER, &north, november(), 1);
    let now = world.bench.clock.now().as_second();
    world.stray_event("cus_south", 1, now, &format!("{identifier}-1")).await;
    world.counted("north", 1, 5).await;
    let failed = world.next_failed().await;
    assert_eq!(failed.identifier, identifier.as_str());
    world.reports_are("north", &["stuck"]).await;
    // Nothing is guessed; later usage is reported.
    world.advance(5);
    world.counted("north", 2, 8).await;
    assert_eq!(world.next_reported().await.quantity, 3);
    world.finish().await;
}
