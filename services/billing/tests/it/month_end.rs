//! The end of a period: usage counted in time is on the invoice, and only the rest is late.

use testkit::eventually;

use crate::harness::{Harness, METER};

impl Harness {
    /// Waits until everything billing knows of the tenant's November is reported.
    async fn all_reported(&self, tenant: &str, total: u64) {
        self.billable_is(tenant, i64::try_from(total).unwrap()).await;
        self.stripe_holds(tenant, i64::try_from(total).unwrap()).await;
        eventually("Stripe's answer is recorded", || async {
            let open =
                self.states(tenant).await.iter().any(|state| !["accepted", "late"].contains(&state.as_str()));
            (!open).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_ended_period_is_reported_until_its_invoice_may_be_final() {
    let mut world = Harness::start().await;
    world.now_is("2026-11-30T23:57:00Z");
    world.counted("north", 1, 100).await;
    world.all_reported("north", 100).await;

    // One source is not counted past the end: the period does not close for six hours.
    for (revision, now, counted) in [
        (2, "2026-12-01T00:05:00Z", 110),
        (3, "2026-12-01T00:20:00Z", 117),
        (4, "2026-12-01T00:52:30Z", 119),
        (5, "2026-12-01T00:53:59Z", 123),
    ] {
        world.now_is(now);
        world.ended("north", revision, counted).await;
        world.all_reported("north", counted).await;
    }
    // Counted a second before the deadline, and looked at after it.
    world.now_is("2026-12-01T00:54:59Z");
    world.ended("north", 6, 128).await;
    world.billable_is("north", 128).await;
    world.now_is("2026-12-01T00:55:10Z");
    world.all_reported("north", 128).await;

    world.now_is("2026-12-01T00:56:00Z");
    world.ended("north", 7, 130).await;
    world.billable_is("north", 130).await;
    world.now_is("2026-12-01T06:00:00Z");
    world.closed("north", 8, 133).await;
    let late = world.next_failed_after_reports().await;
    assert_eq!(late.quantity, 5, "only what was counted after the deadline is late");
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), 128);
    world.finish().await;
}

#[tokio::test]
async fn a_tenants_totals_of_two_periods_are_kept_apart() {
    let world = Harness::start().await;
    world.now_is("2026-11-30T23:50:00Z");
    world.counted("north", 1, 10).await;
    world.all_reported("north", 10).await;
    world.now_is("2026-12-01T00:10:00Z");
    world.ended("north", 2, 14).await;
    world.all_reported("north", 14).await;
    let periods: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT billable_total, reported_total FROM accounts WHERE tenant_id = 'north' ORDER BY period_start",
    )
    .fetch_all(world.bench.pool())
    .await
    .unwrap();
    assert_eq!(periods, [(14, 14), (0, 0)]);
    let in_november =
        world.sandbox.stripe().meter_events().iter().all(|event| event.timestamp_s < 1_796_083_200);
    assert!(in_november, "November's usage is reported in November");
    world.finish().await;
}

#[tokio::test]
async fn usage_that_a_backlog_held_up_is_still_in_time() {
    let mut world = Harness::start().await;
    world.now_is("2026-12-01T00:50:00Z");
    // Counted at 00:50, and read when the service is running again.
    world.bench.restart().await;
    world.ended("north", 1, 40).await;
    world.now_is("2026-12-01T00:56:00Z");
    world.serve().await;
    world.all_reported("north", 40).await;
    world.finish().await;
}

#[tokio::test]
async fn late_usage_of_a_period_that_never_closes_is_announced() {
    let mut world = Harness::start().await;
    world.now_is("2026-12-01T01:30:00Z");
    world.ended("north", 1, 7).await;
    world.billable_is("north", 7).await;
    world.now_is("2026-12-12T00:00:00Z");
    let late = world.next_failed().await;
    assert_eq!(late.quantity, 7);
    world.finish().await;
}
