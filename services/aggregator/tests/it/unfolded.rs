//! Workflows in published usage while changes are pending, and changes logged by the previous version.

use proto::v1;
use sqlx::{Connection, PgConnection};

use crate::harness::{Harness, executions};

/// Holds the folder's turn, so that changes stay pending.
async fn hold_folds(running: &Harness) -> PgConnection {
    let options = running.bench.pool().connect_options();
    let mut held = PgConnection::connect_with(&options).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(hashtext(current_schema() || '.folder'))")
        .execute(&mut held)
        .await
        .unwrap();
    held
}

async fn number(running: &Harness, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(running.bench.pool()).await.expect(statement)
}

async fn folded(running: &Harness) {
    testkit::eventually("everything is folded", || async {
        let waiting = "SELECT count(*) FROM rollup_log WHERE NOT folded";
        (number(running, waiting).await == 0).then_some(())
    })
    .await;
}

fn of_workflows(usage: &v1::UsageCounted) -> u64 {
    usage.workflows.iter().map(|workflow| workflow.totals.unwrap().counted).sum()
}

const USED: &str = "SELECT coalesce(sum(counted), 0)::bigint FROM workflow_usage";

#[tokio::test]
async fn workflows_add_up_to_the_total_while_changes_are_pending() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=10)).await;
    running.usage_where(|totals| totals.counted == 10).await;
    folded(&running).await;
    let held = hold_folds(&running).await;
    running.send(executions(11..=14)).await;
    running.usage_where(|totals| totals.counted == 14).await;
    running.send(executions(15..=15)).await;
    let usage = running.usage_where(|totals| totals.counted == 15).await;
    assert_eq!(number(&running, USED).await, 10, "the rest is pending");
    assert_eq!(of_workflows(&usage), 15);
    assert_eq!(usage.workflows.len(), 3, "each once");
    held.close().await.unwrap();
    folded(&running).await;
    assert_eq!(number(&running, USED).await, 15);
    running.send(executions(16..=16)).await;
    assert_eq!(of_workflows(&running.usage_where(|totals| totals.counted == 16).await), 16);
    running.bench.finish().await;
}

#[tokio::test]
async fn workflow_figures_added_by_the_previous_version_are_not_added_again() {
    let mut running = Harness::start(None).await;
    let held = hold_folds(&running).await;
    running.send(executions(1..=10)).await;
    running.usage_where(|totals| totals.counted == 10).await;
    // As that version wrote them: the workflows at once, and no mark in the log.
    for statement in [
        "UPDATE rollup_log SET workflows_added = DEFAULT",
        "INSERT INTO workflow_usage (tenant_number, period_start, workflow_number, counted, success, duration_ms)
         SELECT tenant_number, period_start, workflow_number, count(*), count(*), 40 * count(*) FROM executions GROUP BY 1, 2, 3",
    ] {
        sqlx::query(statement).execute(running.bench.pool()).await.expect(statement);
    }
    running.send(executions(11..=12)).await;
    assert_eq!(of_workflows(&running.usage_where(|totals| totals.counted == 12).await), 12);
    held.close().await.unwrap();
    folded(&running).await;
    assert_eq!(number(&running, USED).await, 12);
    assert_eq!(running.rebuilt().await, [], "with their durations");
    running.bench.finish().await;
}
