//! Old data of sources is deleted, and a round that finds nothing costs the same however many rows there are.

use std::sync::Arc;

use collector::{Collector, Expiry};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Counted, TestBed};

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

fn expiry(bench: &TestBed, pool: &PgPool) -> Expiry {
    Expiry { pool: pool.clone(), clock: Arc::new(bench.clock.clone()) }
}

const SOURCE: &str =
    "INSERT INTO sources (source_id, active, next_sweep_at, epoch, floor) VALUES ('north', false, 'infinity', 2, 7);
     INSERT INTO epochs VALUES ('north', 2, '2020-01-01');
     INSERT INTO tracked_executions VALUES ('north', 7, 'open', '2020-01-01', NULL);";

fn rows(name: &str, read_at: &str, found_at: &str, from: u32, to: u32) -> String {
    format!(
        "INSERT INTO workflows (source_id, workflow_id, read_at) SELECT 'north', '{name}-' || n, '{read_at}'
         FROM generate_series({from}, {to}) AS n;
         INSERT INTO unreadable_rows SELECT 'north', '{name}-' || n, '{found_at}' FROM generate_series({from}, {to}) AS n;
         ANALYZE;"
    )
}

#[tokio::test]
async fn old_workflows_and_unreadable_rows_are_deleted_and_nothing_else_is() {
    let bench = TestBed::of::<Collector>("2026-11-24T12:00:00Z").await;
    run(bench.pool(), SOURCE).await;
    run(bench.pool(), &rows("old", "2025-10-20T11:59Z", "2026-10-25T11:59Z", 1, 2_500)).await;
    run(bench.pool(), &rows("young", "2025-10-20T12:00Z", "2026-10-25T12:00Z", 1, 70)).await;
    expiry(&bench, bench.pool()).round().await.unwrap();
    let left: Vec<(String, i64)> = sqlx::query_as(
        "SELECT 'epochs', count(*) FROM epochs UNION ALL SELECT 'sources', count(*) FROM sources
         UNION ALL SELECT 'tracked', count(*) FROM tracked_executions
         UNION ALL SELECT 'workflows', count(*) FROM workflows WHERE workflow_id LIKE 'young-%'
         UNION ALL SELECT 'unreadable', count(*) FROM unreadable_rows WHERE digest LIKE 'young-%'
         UNION ALL SELECT 'old', count(*) FROM workflows WHERE workflow_id LIKE 'old-%'
         UNION ALL SELECT 'old', count(*) FROM unreadable_rows WHERE digest LIKE 'old-%'",
    )
    .fetch_all(bench.pool())
    .await
    .unwrap();
    let counts: Vec<i64> = left.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [1, 1, 1, 70, 70, 0, 0], "{left:?}");
    bench.finish().await;
}

#[tokio::test]
async fn a_round_that_finds_nothing_costs_the_same_with_a_hundred_times_the_rows() {
    let bench = TestBed::of::<Collector>("2026-11-24T12:00:00Z").await;
    let counted = Counted::beside(bench.pool()).await;
    counted.run(SOURCE).await;
    let mut reads = Vec::new();
    for (from, to) in [(1, 200), (201, 20_000)] {
        counted.run(&rows("young", "2026-11-20T12:00Z", "2026-11-20T12:00Z", from, to)).await;
        let before = counted.rows().await;
        expiry(&bench, &counted.pool).round().await.unwrap();
        reads.push(counted.rows().await - before);
    }
    assert!(reads[1] <= reads[0] * 2 + 1_000, "{reads:?} rows were read");
    counted.pool.close().await;
    bench.finish().await;
}
