//! Sources of tenants near their limit are swept soon, and more often.

use std::time::Duration;

use jiff::SignedDuration;
use messaging::ask::AskError;
use proto::{
    subjects::Question,
    v1::{SweepQuestion, Totals, UsageCounted},
};
use testkit::eventually;

use crate::harness::{Harness, STEP};

/// A quarter of the tests' interval, with its jitter.
const NEAR_STEP: SignedDuration = SignedDuration::from_secs(17);

/// How soon a sweep comes.
const SOON: SignedDuration = SignedDuration::from_secs(15);

async fn count(stage: &Harness, tenant: &str, counted: u64, limit: Option<u64>) {
    let totals = Some(Totals { counted, ..Totals::default() });
    let usage = UsageCounted { tenant_id: tenant.into(), totals, limit, ..UsageCounted::default() };
    stage.bench.publish(stage.bench.namespace().usage_counted(tenant), &usage).await;
}

async fn await_near(stage: &Harness, tenants: i64) {
    let pool = stage.bench.pool().clone();
    eventually("the tenants near their limit are stored", || async {
        let near = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM tenants_near_limit");
        (near.fetch_one(&pool).await.unwrap() == tenants).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_source_near_a_limit_is_swept_soon_and_often_until_the_limit_is_raised() {
    let mut stage = Harness::start().await;
    stage.run("north", 3);
    first_sweep(&mut stage).await;

    // Nothing is due for a while; coming near changes that, but does not make it due in the middle of a burst.
    stage.bench.clock.advance(SignedDuration::from_secs(1));
    count(&stage, "north", 80, Some(100)).await;
    await_near(&stage, 1).await;
    assert!(!is_due_in(&stage, SOON - SignedDuration::from_secs(1)).await);
    stage.bench.clock.advance(SOON);
    stage.swept("north").await;
    for id in 4..=6 {
        stage.run("north", 1);
        stage.bench.clock.advance(NEAR_STEP);
        assert_eq!(stage.swept("north").await.ids(), [id]);
    }

    count(&stage, "north", 80, Some(1_000)).await;
    await_near(&stage, 0).await;
    // The next sweep is still due soon; the one after it has its whole interval.
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

/// The first sweep of north, to its commit.
async fn first_sweep(stage: &mut Harness) {
    stage.first_sweep("north").await;
    let stage = &*stage;
    eventually("the sweep is committed", || async { (!is_due_in(stage, SOON).await).then_some(()) }).await;
}

/// Whether north is to be swept within this time.
async fn is_due_in(stage: &Harness, time: SignedDuration) -> bool {
    let at = jiff_sqlx::ToSqlx::to_sqlx(metering::Clock::now(&stage.bench.clock) + time);
    let due = "SELECT next_sweep_at <= $1 FROM sources WHERE source_id = 'north'";
    sqlx::query_scalar(due).bind(at).fetch_one(stage.bench.pool()).await.unwrap()
}

async fn ask_for_a_sweep(stage: &Harness, tenant: &str) -> Result<(), AskError> {
    let question = SweepQuestion { tenant_id: tenant.into() };
    stage.bench.context.bus.ask(Question::Sweep, &question, Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_tenants_sources_are_swept_soon_when_a_refusal_asks_for_it() {
    let mut stage = Harness::start().await;
    stage.run("north", 3);
    first_sweep(&mut stage).await;
    ask_for_a_sweep(&stage, "south").await.unwrap();
    assert!(!is_due_in(&stage, SOON).await, "another tenant's");
    ask_for_a_sweep(&stage, "north").await.unwrap();
    assert!(is_due_in(&stage, SOON).await);
    assert!(!is_due_in(&stage, SOON - SignedDuration::from_secs(1)).await);
    stage.run("north", 1);
    stage.bench.clock.advance(SOON);
    assert_eq!(stage.swept("north").await.ids(), [4]);
    assert!(matches!(ask_for_a_sweep(&stage, "no tenant's id").await, Err(AskError::Refused { .. })));
    stage.finish().await;
}

#[tokio::test]
async fn another_tenants_limit_and_a_missing_one_change_nothing() {
    let mut stage = Harness::start().await;
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
