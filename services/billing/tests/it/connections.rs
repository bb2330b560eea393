//! Connections to Postgres: nobody holds one while waiting for another.

use crate::harness::Harness;

#[tokio::test]
async fn with_one_connection_a_month_is_reported_closed_and_late_usage_is_found() {
    let mut world = Harness::narrow().await;
    for (revision, counted) in [(1, 30), (2, 45)] {
        world.counted("north", revision, counted).await;
        world.counted("south", revision, counted * 2).await;
        let mut reported = [world.next_reported().await, world.next_reported().await];
        reported.sort_by(|left, right| left.tenant_id.cmp(&right.tenant_id));
        assert_eq!(reported.map(|report| report.reported_total), [counted, counted * 2]);
        world.advance(5);
    }
    world.tenant("north", "cus_typo", 2).await;
    world.catalog_has("north", 2).await;
    world.counted("north", 3, 50).await;
    world.reports_are("north", &["accepted", "accepted", "rejected"]).await;
    assert_eq!(world.next_failed_after_reports().await.quantity, 5);

    // Past the invoice's grace: nothing more is sent for November.
    world.now_is("2026-12-01T03:00:00Z");
    world.closed("south", 3, 90).await;
    world.late("south", 4, 93).await;
    let late = loop {
        let failed = world.next_failed_after_reports().await;
        if failed.tenant_id == "south" {
            break failed;
        }
    };
    assert_eq!(late.quantity, 3);
    world.billable_is("south", 93).await;
    world.stripe_holds("south", 90).await;
    world.finish().await;
}
