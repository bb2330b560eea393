//! Sources of tenants near their limit are swept at once, and more often.

use jiff::SignedDuration;
use proto::v1::{Totals, UsageCounted};
use testkit::eventually;

use crate::stage::{STEP, Stage};

/// A quarter of the tests' interval, with its jitter.
const NEAR_STEP: SignedDuration = SignedDuration::from_secs(17);

async fn count(stage: &Stage, tenant: &str, counted: u64, limit: Option<u64>) {
    let totals = Some(Totals { counted, ..Totals::default() });
    let usage = UsageCounted { tenant_id: tenant.into(), totals, limit, ..UsageCounted::default() };
    stage.bench.publish(stage.bench.namespace().usage_counted(tenant), &usage).await;
}

async fn await_near(stage: &Stage, tenants: i64) {
    let pool = stage.bench.pool().clone();
    eventually("it is kept who is near a limit", || async {
        let near = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM tenants_near_limit");
        (near.fetch_one(&pool).await.unwrap() == tenants).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_source_is_swept_at_once_and_more_often_near_a_limit_and_as_before_when_it_is_raised() {
    let mut stage = Stage::start().await;
    stage.run("north", 3);
    stage.first_sweep("north").await;

    // Nothing is due; coming near makes it so.
    stage.bench.clock.advance(SignedDuration::from_secs(1));
    count(&stage, "north", 80, Some(100)).await;
    stage.swept("north").await;
    for id in 4..=6 {
        stage.run("north", 1);
        stage.bench.clock.advance(NEAR_STEP);
        assert_eq!(stage.swept("north").await.ids(), [id]);
    }

    count(&stage, "north", 80, Some(1_000)).await;
    await_near(&stage, 0).await;
    // The sweep that is due soon is still that of before; the one after it has its whole interval.
    stage.bench.clock.advance(STEP);
    stage.swept("north").await;
    let pool = stage.bench.pool().clone();
    let now = jiff_sqlx::ToSqlx::to_sqlx(metering::Clock::now(&stage.bench.clock));
    eventually("the next sweep is an interval away", || async {
        let later =
            "SELECT next_sweep_at >= $1 + interval '50 seconds' FROM sources WHERE source_id = 'north'";
        let later: bool = sqlx::query_scalar(later).bind(now).fetch_one(&pool).await.unwrap();
        later.then_some(())
    })
    .await;
    stage.finish().await;
}

#[tokio::test]
async fn another_tenants_limit_and_a_missing_one_change_nothing() {
    let mut stage = Stage::start().await;
    stage.run("north", 3);
    stage.first_sweep("north").await;
    count(&stage, "south", 90, Some(100)).await;
    count(&stage, "north", 90, None).await;
    await_near(&stage, 1).await;
    let due: i64 = sqlx::query_scalar("SELECT changes FROM sources WHERE source_id = 'north'")
        .fetch_one(stage.bench.pool())
        .await
        .unwrap();
    assert_eq!(due, 0);
    stage.finish().await;
}
