//! Many tenants of one customer share its minutes, and none is late because of it.

use testkit::eventually;

use crate::harness::{Harness, METER};

/// Tenants of the one customer.
const TENANTS: u64 = 20;

#[tokio::test]
async fn twenty_tenants_of_one_customer_have_room_for_their_reports() {
    let world = Harness::start().await;
    world.now_is("2026-11-30T23:00:00Z");
    for tenant in 0..TENANTS {
        world.tenant(&format!("t{tenant}"), "cus_north", 1).await;
    }
    for tenant in 0..TENANTS {
        world.catalog_has(&format!("t{tenant}"), 1).await;
    }
    // New usage of each, every five minutes for an hour, and half an hour into the next period.
    let mut counted = 0;
    for step in 1..=18 {
        world.advance(5);
        counted += 3;
        for tenant in 0..TENANTS {
            let tenant = format!("t{tenant}");
            match step {
                ..=11 => world.counted(&tenant, step, counted).await,
                12..=17 => world.ended(&tenant, step, counted).await,
                _ => world.closed(&tenant, step, counted).await,
            }
        }
        eventually("the totals are on the books", || async {
            let known: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE billable_total = $1")
                .bind(i64::try_from(counted).unwrap())
                .fetch_one(world.bench.pool())
                .await
                .unwrap();
            (known == i64::try_from(TENANTS).unwrap()).then_some(())
        })
        .await;
    }
    world.stripe_holds("north", i64::try_from(counted * TENANTS).unwrap()).await;
    let events = world.sandbox.stripe().meter_events();
    let mut minutes: Vec<i64> = events.iter().map(|event| event.timestamp_s / 60).collect();
    minutes.sort_unstable();
    minutes.dedup();
    assert_eq!(minutes.len(), events.len(), "one event for a customer, meter and minute");
    for tenant in 0..TENANTS {
        let states = world.states(&format!("t{tenant}")).await;
        assert!(!states.iter().any(|state| state == "late"), "{states:?}");
    }
    assert_eq!(world.sandbox.stripe().total("cus_north", METER), i64::try_from(counted * TENANTS).unwrap());
    world.finish().await;
}
