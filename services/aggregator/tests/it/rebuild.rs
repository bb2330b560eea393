//! Rebuilding the figures from the executions, while recording goes on.

use aggregator::{Difference, Rebuild};
use proto::{
    subjects::Question,
    v1::{self, ExecutionStatus, correction_question::Change},
};

use crate::harness::{Harness, at, execution, executions};

async fn rebuild(running: &Harness) -> Vec<Difference> {
    let context = &running.bench.context;
    let rebuild =
        Rebuild { pool: context.pool.clone(), bus: context.bus.clone(), clock: context.clock.clone() };
    let mut differences = Vec::new();
    rebuild.run(|difference| differences.push(difference.clone())).await.expect("rebuilt");
    differences
}

async fn execute(running: &Harness, statement: &'static str) {
    sqlx::query(statement).execute(running.bench.pool()).await.expect(statement);
}

/// Sums of `counted`, `error` and `duration_ms` in each table of figures.
async fn sums(running: &Harness) -> [(i64, i64, i64); 5] {
    let sum = |table: &'static str| async move {
        sqlx::query_as::<_, (i64, i64, i64)>(sqlx::AssertSqlSafe(format!(
            "SELECT coalesce(sum(counted), 0)::bigint, coalesce(sum(error), 0)::bigint,
                    coalesce(sum(duration_ms), 0)::bigint FROM {table}"
        )))
        .fetch_one(running.bench.pool())
        .await
        .expect(table)
    };
    [
        sum("periods").await,
        sum("usage_hours").await,
        sum("usage_days").await,
        sum("workflow_usage").await,
        sum("workflow_days").await,
    ]
}

fn some_errors(ids: std::ops::Range<u64>) -> Vec<v1::Execution> {
    let mut batch = executions(ids.clone());
    batch.extend(ids.step_by(10).map(|id| execution(id + 1_000_000, "2026-11-20T08:00:00Z")));
    batch.iter_mut().step_by(7).for_each(|one| one.status = ExecutionStatus::Error.into());
    batch
}

#[tokio::test]
async fn correct_figures_stay_as_they_are() {
    let mut running = Harness::start(Some(1_000)).await;
    running.send(some_errors(0..100)).await;
    running.usage_where(|totals| totals.counted == 110).await;
    let before = running.snapshot().await;
    assert_eq!(rebuild(&running).await, []);
    assert_eq!(running.snapshot().await, before);
    running.bench.finish().await;
}

#[tokio::test]
async fn damaged_figures_are_corrected_and_published() {
    let mut running = Harness::start(Some(100)).await;
    running.send(some_errors(0..50)).await;
    running.usage_where(|totals| totals.counted == 55).await;
    let adjust = v1::CorrectionQuestion {
        correction_id: "a1".into(),
        tenant_id: "north".into(),
        author: "operator".into(),
        reason: "a test run".into(),
        reason_is_public: false,
        change: Some(Change::AdjustCount(v1::AdjustCount {
            period_start: at("2026-11-01T00:00:00Z"),
            quantity: 5,
            period_at: None,
        })),
    };
    running.ask::<v1::Correction>(Question::Correct, &adjust).await.unwrap();
    assert_eq!(rebuild(&running).await, []);
    execute(&running, "UPDATE periods SET counted = 12, error = 0").await;
    execute(&running, "DELETE FROM usage_days").await;
    execute(&running, "UPDATE workflow_usage SET counted = counted + 1 WHERE workflow_number = 1").await;
    let differences = rebuild(&running).await;
    let period = differences.iter().find(|one| one.figure == "period").expect("the period differs");
    assert_eq!((period.stored, period.rebuilt), (7, 55), "{period}");
    assert_eq!(differences.len(), 4, "a period, two days and a workflow: {differences:?}");
    let usage = running.usage_where(|totals| totals.counted == 60).await;
    assert_eq!(usage.totals.unwrap().error, 8);
    assert_eq!(rebuild(&running).await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_rebuild_during_recording_loses_and_repeats_nothing() {
    let mut running = Harness::start(None).await;
    running.send(some_errors(0..500)).await;
    running.usage_where(|totals| totals.counted == 550).await;
    for statement in [
        "UPDATE periods SET counted = counted * 2, error = 1, duration_ms = 0",
        "UPDATE usage_hours SET counted = counted - 3",
        "DELETE FROM usage_days",
        "DELETE FROM workflow_usage WHERE workflow_number = 2",
        "UPDATE workflow_days SET error = error + 5",
        "UPDATE workflow_usage SET durations = ''",
        "UPDATE workflow_days SET durations = ''",
    ] {
        execute(&running, statement).await;
    }
    // Every second one is a crash first, and is resolved while the rebuild runs.
    let recording = async {
        let mut last = 0;
        for first in (500..1_200).step_by(50) {
            let mut batch = some_errors(first..first + 50);
            let better = batch.clone();
            batch.iter_mut().step_by(2).for_each(|one| one.status = ExecutionStatus::Crashed.into());
            running.send(batch).await;
            last = running.send(better).await;
        }
        running.handled(last).await;
    };
    let rebuilding = async {
        for _ in 0..5 {
            rebuild(&running).await;
        }
    };
    tokio::join!(recording, rebuilding);
    assert_eq!(rebuild(&running).await, [], "nothing is left to correct");
    let all = sums(&running).await;
    let truth: (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE status = 1),
                (sum(extract(epoch FROM stopped_at - started_at)) * 1000)::bigint
         FROM executions WHERE counted",
    )
    .fetch_one(running.bench.pool())
    .await
    .unwrap();
    assert_eq!(all, [truth; 5]);
    running.bench.finish().await;
}

#[tokio::test]
async fn figures_whose_executions_are_no_longer_kept_stay() {
    let mut running = Harness::start(None).await;
    running.send(vec![execution(1, "2026-10-20T08:00:00Z"), execution(2, "2026-11-20T08:00:00Z")]).await;
    running.usage_where(|totals| totals.counted == 1).await;
    assert_eq!(rebuild(&running).await, []);
    execute(&running, "DELETE FROM executions WHERE stopped_at < '2026-11-01T00:00:00Z'").await;
    execute(&running, "UPDATE executions_kept SET since = '2026-11-01T00:00:00Z'").await;
    execute(&running, "UPDATE usage_hours SET counted = 7").await;
    let differences = rebuild(&running).await;
    assert_eq!(differences.len(), 1, "only November can be rebuilt: {differences:?}");
    assert_eq!(running.snapshot().await, (2, 0));
    let question = v1::ExplainQuestion {
        tenant_id: "north".into(),
        period_start: at("2026-10-01T00:00:00Z"),
        count_max: 10,
        ..v1::ExplainQuestion::default()
    };
    let refused = running.ask::<v1::ExplainAnswer>(Question::Explain, &question).await.unwrap_err();
    assert!(refused.to_string().contains("since 2026-11-01"), "{refused}");
    running.bench.finish().await;
}

#[tokio::test]
async fn instants_finer_than_the_databases_precision_give_the_same_figures() {
    let mut running = Harness::start(None).await;
    let mut run = execution(1, "2026-11-20T08:00:00.001Z");
    // 0.9991 ms, and 1 ms once stored.
    run.started_at = at("2026-11-20T08:00:00.0000009Z");
    let mut last = execution(2, "2026-10-31T23:59:59.999999999Z");
    last.started_at = at("2026-10-31T23:59:59.9989999Z");
    running.send(vec![run, last]).await;
    running.usage_where(|totals| totals.counted == 1).await;
    assert_eq!(rebuild(&running).await, []);
    assert_eq!(sums(&running).await, [(2, 0, 2); 5]);
    running.bench.finish().await;
}
