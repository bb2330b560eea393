//! What a tenant owes goes to where it is owed, whatever happens to the tenant.

use sandbox::stripe::StripeFault;

use crate::harness::{Harness, METER, at};

/// Ten are reported, and four more are counted and not sealed yet.
async fn four_are_owed() -> Harness {
    let mut world = Harness::start().await;
    world.counted("north", 1, 10).await;
    world.next_reported().await;
    world.counted("north", 2, 14).await;
    world.billable_is("north", 14).await;
    world
}

#[tokio::test]
async fn a_deleted_tenant_is_billed_for_what_it_has_used() {
    let mut world = four_are_owed().await;
    world.remove_tenant("north", 2).await;
    assert_eq!(world.next_reported().await.reported_total, 14);
    world.stripe_holds("north", 14).await;
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_that_was_deleted_in_the_ended_period_owes_its_last_figures() {
    let mut world = four_are_owed().await;
    world.now_is("2026-12-01T00:03:00Z");
    world.remove_tenant("north", 2).await;
    world.catalog_has("north", 2).await;
    world.closed("north", 3, 17).await;
    world.stripe_holds("north", 17).await;
    world.next_reported().await;
    world.finish().await;
}

#[tokio::test]
async fn a_plan_without_a_meter_does_not_waive_earlier_usage() {
    let mut world = four_are_owed().await;
    world.plan_named("free", "", 1).await;
    world.tenant_on("free", "north", "cus_north", 2).await;
    assert_eq!(world.next_reported().await.reported_total, 14);
    // What is used on the free plan is free.
    world.advance(10);
    world.counted("north", 3, 90).await;
    world.billable_is("north", 90).await;
    world.now_is("2026-12-01T02:00:00Z");
    world.closed("south", 1, 3).await;
    assert_eq!(world.next_failed().await.tenant_id, "south");
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), 14);
    world.finish().await;
}

#[tokio::test]
async fn a_plan_that_loses_its_meter_does_not_waive_earlier_usage() {
    let mut world = four_are_owed().await;
    world.plan("", 2).await;
    assert_eq!(world.next_reported().await.reported_total, 14);
    world.stripe_holds("north", 14).await;
    world.finish().await;
}

#[tokio::test]
async fn usage_from_before_a_new_customer_goes_to_the_old_one() {
    let world = four_are_owed().await;
    world.sandbox.stripe().add_customer("cus_other").unwrap();
    world.tenant("north", "cus_other", 2).await;
    world.catalog_has("north", 2).await;
    world.counted("north", 3, 20).await;
    world.stripe_holds("north", 14).await;
    world.advance(10);
    world.stripe_holds("other", 6).await;
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), 14);
    world.finish().await;
}

#[tokio::test]
async fn a_total_counted_before_a_change_is_owed_to_the_old_customer() {
    let world = four_are_owed().await;
    world.sandbox.stripe().add_customer("cus_other").unwrap();
    world.now_is("2026-11-24T12:02:00Z");
    world.tenant("north", "cus_other", 2).await;
    world.catalog_has("north", 2).await;
    // It was counted before the change and arrives after it.
    world.counted_at(at("2026-11-24T12:01:00Z"), "north", 3, 16).await;
    world.billable_is("north", 16).await;
    world.now_is("2026-11-24T12:20:00Z");
    world.stripe_holds("north", 16).await;
    world.counted("north", 4, 19).await;
    world.billable_is("north", 19).await;
    world.advance(10);
    world.stripe_holds("other", 3).await;
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), 16);
    world.finish().await;
}

#[tokio::test]
async fn what_a_deleted_tenant_owes_is_announced_if_it_cannot_be_sent() {
    let mut world = four_are_owed().await;
    world.sandbox.stripe().fault(StripeFault::RateLimit, None);
    world.remove_tenant("north", 2).await;
    world.reports_are("north", &["accepted", "sealed"]).await;
    world.now_is("2026-12-01T03:00:00Z");
    world.skip_pauses().await;
    let failed = world.next_failed().await;
    assert_eq!(failed.quantity, 4);
    assert!(failed.reason.contains("cus_north"), "{}", failed.reason);
    world.finish().await;
}
