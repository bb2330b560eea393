//! A removed tenant: its executions are counted, published and readable.

use catalog::{ArchivedTenant, CatalogKind};
use proto::{
    streams::Stream,
    subjects::Question,
    v1::{self, CatalogEntry, PeriodEvent, catalog_entry, period_event::Event},
};

use crate::harness::{Harness, at, executions, tenant};

async fn archive(running: &Harness) {
    let archived = ArchivedTenant::new(tenant("UTC"), 9, running.now());
    let entry = CatalogEntry { entry: Some(catalog_entry::Entry::Tenant(archived.to_wire())) };
    running.bench.publish(running.bench.namespace().catalog(CatalogKind::Tenant, "north"), &entry).await;
    testkit::eventually("the tenant is archived", || async {
        let found = catalog::store::find_archived(running.bench.pool(), "north").await.unwrap();
        found.is_some().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_archived_tenants_executions_are_counted_published_and_readable() {
    let mut running = Harness::start(Some(100)).await;
    let mut events = running.bench.topic::<PeriodEvent>(Stream::Periods, "usage.period").await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    archive(&running).await;
    // In flight when the tenant was removed.
    running.send(executions(4..=5)).await;
    let usage = running.usage_where(|totals| totals.counted == 5).await;
    assert_eq!((usage.plan_id.as_str(), usage.time_zone.as_str()), ("pro", "UTC"));

    let question = v1::UsageQuestion {
        tenant_id: "north".into(),
        span: Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") }),
        grain: v1::Grain::Day.into(),
        ..v1::UsageQuestion::default()
    };
    running
        .usage_answer(&question, |answer| {
            answer.slices.iter().filter_map(|slice| slice.totals.as_ref()).map(|t| t.counted).sum::<u64>()
                == 5
        })
        .await;
    let end = v1::PeriodEndQuestion {
        end_id: "e1".into(),
        tenant_id: "north".into(),
        author: "ops".into(),
        reason: "a mistake".into(),
    };
    assert!(running.ask::<v1::PeriodEnd>(Question::EndPeriod, &end).await.is_err(), "tenant is archived");

    // Its last period closes with what was counted, and no next one is opened.
    running.bench.clock.set("2027-01-20T00:00:00Z".parse().unwrap());
    loop {
        match events.next().await.event.unwrap() {
            Event::Closed(closed) => {
                assert_eq!((closed.totals.unwrap().counted, closed.time_zone.as_str()), (5, "UTC"));
                break;
            }
            Event::Opened(opened) => assert_eq!(opened.period.unwrap().start, at("2026-11-01T00:00:00Z")),
            Event::Late(late) => panic!("{late:?}"),
        }
    }
    let periods: i64 =
        sqlx::query_scalar("SELECT count(*) FROM periods").fetch_one(running.bench.pool()).await.unwrap();
    assert_eq!(periods, 1);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_period_keeps_the_time_zone_it_was_opened_with() {
    let mut running = Harness::start(Some(100)).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.publish_entry(&tenant("Europe/Madrid"), 2).await;
    running.send(executions(4..=4)).await;
    let usage = running.usage_where(|totals| totals.counted == 4).await;
    assert_eq!(usage.time_zone, "UTC", "the new zone applies from the next period");
    running.bench.finish().await;
}
