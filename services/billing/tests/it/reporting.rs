//! Counted usage reaches Stripe, once.

use crate::harness::{Harness, METER, at};

#[tokio::test]
async fn usage_reaches_stripe_in_deltas() {
    let mut world = Harness::start().await;
    world.counted("north", 1, 120).await;
    world.stripe_holds("north", 120).await;
    let first = world.next_reported().await;
    assert_eq!((first.quantity, first.reported_total), (120, 120));

    world.advance(5);
    world.counted("north", 2, 150).await;
    world.stripe_holds("north", 150).await;
    let second = world.next_reported().await;
    assert_eq!((second.quantity, second.reported_total), (30, 150));
    assert_ne!(first.identifier, second.identifier);

    let events = world.sandbox.stripe().meter_events();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].timestamp_s, at("2026-11-24T11:55:00Z").as_second());
    assert_eq!(events[0].identifier, first.identifier);
    world.finish().await;
}

#[tokio::test]
async fn totals_may_arrive_twice_and_in_any_order() {
    let world = Harness::start().await;
    world.counted("north", 3, 30).await;
    world.stripe_holds("north", 30).await;
    for (revision, counted) in [(1, 10), (3, 30), (2, 20)] {
        world.counted("north", revision, counted).await;
    }
    world.counted("south", 1, 1).await;
    world.stripe_holds("south", 1).await;
    world.advance(5);
    world.counted("north", 4, 41).await;
    world.stripe_holds("north", 41).await;
    assert_eq!(world.states("north").await.len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_correction_is_reported_as_a_negative_delta() {
    let mut world = Harness::start().await;
    world.counted("north", 1, 50).await;
    world.next_reported().await;
    world.advance(5);
    world.counted("north", 2, 45).await;
    let correction = world.next_reported().await;
    assert_eq!((correction.quantity, correction.reported_total), (-5, 45));
    world.stripe_holds("north", 45).await;
    world.finish().await;
}

#[tokio::test]
async fn a_closed_period_is_reported_at_once_inside_its_bounds() {
    let mut world = Harness::start().await;
    world.now_is("2026-11-30T23:58:00Z");
    world.counted("north", 1, 10).await;
    world.next_reported().await;
    // Less than an interval later.
    world.now_is("2026-12-01T00:01:00Z");
    world.closed("north", 2, 13).await;
    assert_eq!(world.next_reported().await.reported_total, 13);
    // Found within the window: still on this invoice, in a minute of its own.
    world.late("north", 3, 14).await;
    assert_eq!(world.next_reported().await.reported_total, 14);
    world.stripe_holds("north", 14).await;

    let instants: Vec<i64> =
        world.sandbox.stripe().meter_events().iter().map(|event| event.timestamp_s).collect();
    let expected = ["2026-11-30T23:53:00Z", "2026-11-30T23:56:00Z", "2026-11-30T23:55:59Z"];
    assert_eq!(instants, expected.map(|instant| at(instant).as_second()));
    world.finish().await;
}

#[tokio::test]
async fn usage_found_after_the_window_is_announced_and_not_sent() {
    let mut world = Harness::start().await;
    world.counted("north", 1, 10).await;
    world.next_reported().await;
    world.now_is("2026-12-01T00:02:00Z");
    world.closed("north", 2, 10).await;
    world.now_is("2026-12-01T06:00:00Z");
    world.late("north", 3, 12).await;
    let late = world.next_failed().await;
    assert_eq!(late.quantity, 2);
    assert!(late.reason.contains("invoice item for 2 executions to cus_north"), "{}", late.reason);
    world.advance(10);
    world.reports_are("north", &["confirmed", "late"]).await;
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), 10);
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_without_a_customer_is_not_billed_until_it_has_one() {
    let world = Harness::start().await;
    world.tenant("south", "", 2).await;
    world.catalog_has("south", 2).await;
    world.counted("south", 1, 5).await;
    world.billable_is("south", 5).await;
    world.counted("north", 1, 7).await;
    world.stripe_holds("north", 7).await;
    assert!(world.states("south").await.is_empty());

    world.tenant("south", "cus_south", 3).await;
    world.stripe_holds("south", 5).await;
    world.finish().await;
}

#[tokio::test]
async fn a_sealed_report_cannot_be_changed() {
    let mut world = Harness::start().await;
    world.counted("north", 1, 5).await;
    world.next_reported().await;
    let changed = sqlx::query("UPDATE reports SET quantity = 6").execute(world.bench.pool()).await;
    assert!(changed.unwrap_err().to_string().contains("is sealed"));
    world.finish().await;
}

#[tokio::test]
async fn two_tenants_of_one_customer_share_no_minute() {
    let world = Harness::start().await;
    world.tenant("south", "cus_north", 2).await;
    world.catalog_has("south", 2).await;
    world.counted("north", 1, 5).await;
    world.counted("south", 1, 6).await;
    world.stripe_holds("north", 11).await;
    let events = world.sandbox.stripe().meter_events();
    assert_ne!(events[0].timestamp_s / 60, events[1].timestamp_s / 60);
    world.finish().await;
}
