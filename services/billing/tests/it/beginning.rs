//! Billing of a tenant begins once, and usage from before is never billed.

use metering::Period;
use testkit::eventually;

use crate::harness::{Harness, METER, at};

fn month(start: &str, end: &str) -> Period {
    Period { start: at(start), end: at(end) }
}

#[tokio::test]
async fn usage_from_before_billing_began_is_never_billed_nor_announced() {
    let mut world = Harness::start().await;
    // A new tenant whose n8n still shows three months from before it was a customer.
    let before = [
        month("2026-08-01T00:00:00Z", "2026-09-01T00:00:00Z"),
        month("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z"),
        month("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
    ];
    for (revision, period) in (1..).zip(before) {
        world.closed_in(period, "north", revision, 30).await;
    }
    world.counted("north", 4, 12).await;
    // The first event there is: nothing was announced about the months before.
    assert_eq!(world.next_reported().await.reported_total, 12);
    eventually("the months before are settled", || async {
        let settled: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE waived")
            .fetch_one(world.bench.pool())
            .await
            .unwrap();
        (settled == 3).then_some(())
    })
    .await;
    world.advance(5);
    world.counted("north", 5, 13).await;
    assert_eq!(world.next_reported().await.reported_total, 13);
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), 13);
    assert_eq!(world.states("north").await.len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_customer_added_after_a_period_has_ended_is_not_billed_for_it() {
    let mut world = Harness::start().await;
    world.tenant("east", "", 1).await;
    world.counted("east", 1, 5).await;
    world.billable_is("east", 5).await;
    world.now_is("2026-12-01T00:10:00Z");
    world.sandbox.stripe().add_customer("cus_east").unwrap();
    world.tenant("east", "cus_east", 2).await;
    world.catalog_has("east", 2).await;
    world.closed("east", 2, 9).await;
    world.now_is("2026-12-01T02:00:00Z");
    world.closed("north", 1, 3).await;
    // It is north's, which is too late; east's November is not announced.
    assert_eq!(world.next_failed().await.tenant_id, "north");
    assert!(world.states("east").await.is_empty());
    assert_eq!(world.sandbox.stripe().total("cus_east", METER), 0);
    world.finish().await;
}

#[tokio::test]
async fn the_beginning_of_billing_survives_a_restart() {
    let mut world = Harness::start().await;
    world.catalog_has("north", 1).await;
    world.now_is("2026-12-01T00:30:00Z");
    world.restart().await;
    world.closed("north", 1, 8).await;
    assert_eq!(world.next_reported().await.quantity, 8, "billing began in November");
    world.finish().await;
}
