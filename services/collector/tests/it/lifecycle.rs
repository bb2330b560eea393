//! Sources come, change and go; collectors stop, die and share.

use std::time::Duration;

use catalog::{Entry as _, Source};
use proto::{
    subjects::CatalogKind,
    v1::{self, CatalogEntry, catalog_entry},
};
use sandbox::n8n::{N8nFault, Runs};
use testkit::eventually;

use crate::harness::{Harness, STEP};

#[tokio::test]
async fn a_paused_or_removed_source_is_left_alone_and_continues_where_it_was() {
    let mut stage = Harness::start().await;
    stage.run("north", 3);
    stage.first_sweep("north").await;

    let paused = Source { paused: true, ..stage.source("north") };
    stage.add(&paused, 2).await;
    await_resting(&stage).await;
    stage.run("north", 1);
    stage.bench.clock.advance(STEP);
    // The other source shows that due ones were swept.
    stage.first_sweep("south").await;
    assert_eq!(stage.published().await.len(), 3);

    stage.add(&stage.source("north"), 3).await;
    assert_eq!(stage.swept("north").await.ids(), [4]);

    let wire = v1::Source { removed: true, ..stage.source("north").to_wire(4) };
    let removal = CatalogEntry { entry: Some(catalog_entry::Entry::Source(wire)) };
    let subject = stage.bench.namespace().catalog(CatalogKind::Source, "north");
    stage.bench.publish(subject, &removal).await;
    await_resting(&stage).await;
    stage.run("north", 1);
    stage.next_sweep("south").await;
    assert_eq!(stage.published().await.len(), 4);

    stage.add(&stage.source("north"), 5).await;
    assert_eq!(stage.swept("north").await.ids(), [5]);
    stage.finish().await;
}

async fn await_resting(stage: &Harness) {
    let pool = stage.bench.pool().clone();
    eventually("the source is inactive", || async {
        let active: bool = sqlx::query_scalar("SELECT active FROM sources WHERE source_id = 'north'")
            .fetch_one(&pool)
            .await
            .unwrap();
        (!active).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_sweep_loses_nothing_and_repeats_nothing() {
    let mut stage = Harness::start().await;
    stage.run("north", 2_000);
    stage.n8n("north").set_slowness(Duration::from_millis(200));
    stage.n8n("north").fault(N8nFault::Slow, None);
    stage.add(&stage.source("north"), 1).await;
    assert_eq!(stage.next_executions().await.executions.len(), 250);

    stage.bench.restart().await;
    let before = stage.published().await.len();
    assert!(before < 2_000, "the sweep was over before it was stopped: {before}");
    stage.n8n("north").clear_faults();
    stage.start_collector().await;
    // The broker knows the first pages again, so their batches come once.
    stage.swept_without_reading("north").await;
    let published = stage.published().await;
    assert_eq!(published.len(), 2_000);
    assert!(published.values().all(|times| *times == 1));
    stage.finish().await;
}

#[tokio::test]
async fn a_leased_source_is_left_to_its_collector_until_the_lease_runs_out() {
    let mut stage = Harness::start().await;
    stage.run("north", 3);
    stage.first_sweep("north").await;
    let pool = stage.bench.pool().clone();
    eventually("the sweep is committed, and another collector takes the source", || async {
        let lease = "UPDATE sources SET lease = gen_random_uuid(), leased_until = now() + interval '1 hour'
                     WHERE source_id = 'north' AND lease IS NULL";
        (sqlx::query(lease).execute(&pool).await.unwrap().rows_affected() == 1).then_some(())
    })
    .await;
    stage.run("north", 1);
    stage.bench.clock.advance(STEP);
    stage.first_sweep("south").await;
    stage.next_sweep("south").await;
    assert_eq!(stage.published().await.len(), 3);

    let expire = "UPDATE sources SET leased_until = now() - interval '1 second' WHERE source_id = 'north'";
    sqlx::query(expire).execute(&pool).await.unwrap();
    assert_eq!(stage.swept("north").await.ids(), [4]);
    stage.finish().await;
}

#[tokio::test]
async fn collectors_share_their_sources() {
    let stage = Harness::start().await;
    stage.start_collector().await;
    let names: Vec<String> = (1..=8).map(|number| format!("source-{number}")).collect();
    for name in &names {
        stage.n8n(name).run(&Runs::of("w").count(20)).unwrap();
        stage.add(&stage.source(name), 1).await;
    }
    let pool = stage.bench.pool().clone();
    for _ in 0..3 {
        let now = jiff_sqlx::ToSqlx::to_sqlx(metering::Clock::now(&stage.bench.clock));
        eventually("every source is swept", || async {
            let swept: i64 = sqlx::query_scalar("SELECT count(*) FROM sources WHERE swept_at >= $1")
                .bind(now)
                .fetch_one(&pool)
                .await
                .unwrap();
            (swept == 8).then_some(())
        })
        .await;
        stage.bench.clock.advance(STEP);
    }
    let published = stage.published().await;
    assert_eq!((published.len(), published.values().sum::<usize>()), (20, 8 * 20));
    stage.finish().await;
}
