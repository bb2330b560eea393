//! Mails are deleted after 400 days, and a round that finds nothing costs the same however many there are.

use std::sync::Arc;

use alerts::{Alerts, Retention};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Counted, TestBed};

use crate::harness::NOON;

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

async fn count(pool: &PgPool, table: &str, condition: &str) -> i64 {
    let statement = format!("SELECT count(*) FROM {table} WHERE {condition}");
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(pool).await.unwrap()
}

fn retention(bench: &TestBed, pool: &PgPool) -> Retention {
    Retention { pool: pool.clone(), clock: Arc::new(bench.clock.clone()) }
}

/// Crossings and notices with these numbers, each with a mail in this state and facts, of this instant.
fn mailed(name: &str, at: &str, state: &str, rows: std::ops::RangeInclusive<u32>) -> String {
    let (from, to) = (rows.start(), rows.end());
    let sent_at = if state == "sent" { "now()" } else { "NULL" };
    format!(
        "INSERT INTO crossings SELECT '{name}-' || n, 'north', 'North', 'en', 'UTC', 80, 8, 10, 'hard', '{at}', '{at}', '{at}',
             'https://usage.example.com', '{at}' FROM generate_series({from}, {to}) AS n;
         INSERT INTO notices (notice_id, topic, subject, facts, value, first_at, last_at, due_at, sealed_at, language, dashboard_url)
         SELECT '{name}-' || n, 'dead', 'billing', 1, '', '{at}', '{at}', '{at}', '{at}', 'en', 'https://usage.example.com'
         FROM generate_series({from}, {to}) AS n;
         INSERT INTO facts SELECT '{name}-' || n || '-' || fact, '{name}-' || n FROM generate_series({from}, {to}) AS n,
             generate_series(1, 3) AS fact;
         INSERT INTO notifications (crossing_id, recipient, message_id, state, due_at, sent_at)
         SELECT '{name}-' || n, 'ops@north.example', 'c-{name}-' || n, '{state}', '{at}', {sent_at} FROM generate_series({from}, {to}) AS n;
         INSERT INTO notifications (notice_id, recipient, message_id, state, due_at, sent_at)
         SELECT '{name}-' || n, 'ops@north.example', 'n-{name}-' || n, '{state}', '{at}', {sent_at} FROM generate_series({from}, {to}) AS n;
         INSERT INTO sweeps SELECT '{name}-' || n, '{at}' FROM generate_series({from}, {to}) AS n;"
    )
}

#[tokio::test]
async fn mails_are_deleted_after_400_days_and_nothing_else_is() {
    let bench = TestBed::of::<Alerts>(NOON).await;
    let pool = bench.pool();
    // NOON less 400 days is 2025-10-20, 12:00.
    run(pool, &mailed("old", "2025-10-20T11:59Z", "sent", 1..=500)).await;
    run(pool, &mailed("young", "2025-10-20T12:00Z", "sent", 1..=500)).await;
    run(pool, &mailed("waits", "2025-10-20T11:59Z", "retrying", 1..=10)).await;
    run(
        pool,
        "INSERT INTO notices (notice_id, topic, subject, facts, value, first_at, last_at, due_at)
         VALUES ('open', 'gap', 'n8n', 1, '', '2025-01-01', '2025-01-01', '2025-01-01')",
    )
    .await;
    retention(&bench, pool).round().await.unwrap();
    for (table, left) in [("crossings", 510), ("notices", 511), ("facts", 1_530), ("notifications", 1_020)] {
        assert_eq!(count(pool, table, "true").await, left, "{table}");
    }
    assert_eq!(count(pool, "crossings", "crossing_id LIKE 'old%'").await, 0);
    assert_eq!(count(pool, "notices", "notice_id LIKE 'old%'").await, 0);
    assert_eq!(count(pool, "sweeps", "true").await, 500, "sources without a successful sweep for so long");
    bench.finish().await;
}

#[tokio::test]
async fn an_empty_round_reads_no_more_with_a_hundred_times_as_many_mails() {
    let bench = TestBed::of::<Alerts>(NOON).await;
    let counted = Counted::beside(bench.pool()).await;
    let mut reads = Vec::new();
    for rows in [1..=50, 51..=5_000] {
        counted.run(&mailed("young", "2026-11-20T12:00Z", "sent", rows)).await;
        counted.run("ANALYZE").await;
        let before = counted.rows().await;
        retention(&bench, &counted.pool).round().await.unwrap();
        reads.push(counted.rows().await - before);
    }
    assert!(reads[1] <= reads[0] * 2 + 1_000, "{reads:?} rows were read");
    counted.pool.close().await;
    bench.finish().await;
}
