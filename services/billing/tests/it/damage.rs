//! A row that cannot be read does not hold up the others.

use crate::harness::Harness;

/// No tenant has such an id.
const DAMAGED_ACCOUNT: &str =
    "INSERT INTO accounts (tenant_id, period_start, period_end, billable_total, revision, next_seal_at)
     VALUES ('no tenant', '2026-11-01', '2026-12-01', 5, 1, '2026-11-02')";

#[tokio::test]
async fn a_damaged_account_does_not_keep_others_from_being_sealed() {
    let mut world = Harness::start().await;
    sqlx::query(DAMAGED_ACCOUNT).execute(world.bench.pool()).await.unwrap();
    world.counted("north", 1, 10).await;
    assert_eq!(world.next_reported().await.reported_total, 10);
    world.finish().await;
}

#[tokio::test]
async fn a_damaged_report_does_not_keep_others_from_being_sent() {
    let mut world = Harness::start().await;
    sqlx::query(DAMAGED_ACCOUNT).execute(world.bench.pool()).await.unwrap();
    sqlx::query(
        "INSERT INTO reports (identifier, tenant_id, period_start, period_end, version, customer_id, event_name,
                              quantity, event_at, send_before, sealed_at, state)
         VALUES ('no-tenant-1', 'no tenant', '2026-11-01', '2026-12-01', 1, 'cus_other', 'executions', 5,
                 '2026-11-24 11:00', '2026-12-01', '2026-11-24 12:00', 'sealed')",
    )
    .execute(world.bench.pool())
    .await
    .unwrap();
    world.counted("north", 1, 10).await;
    assert_eq!(world.next_reported().await.reported_total, 10);
    world.finish().await;
}
