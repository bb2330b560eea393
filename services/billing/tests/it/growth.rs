//! Settled reports are deleted after 400 days, nothing is reported twice because of it, and a round that
//! finds nothing costs the same however many reports there are.

use std::{ops::RangeInclusive, sync::Arc};

use billing::{Billing, Retention};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Counted, TestBed, eventually};

use crate::harness::Harness;

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

async fn number(pool: &PgPool, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(pool).await.unwrap()
}

fn retention(bench: &TestBed, pool: &PgPool) -> Retention {
    Retention { pool: pool.clone(), clock: Arc::new(bench.clock.clone()) }
}

/// Closed accounts of tenants with this name whose period ended at `end`, each with ten reports of 1 in this state.
fn accounts(name: &str, end: &str, state: &str, tenants: RangeInclusive<u32>) -> String {
    let (from, to) = (tenants.start(), tenants.end());
    format!(
        "INSERT INTO accounts (tenant_id, period_start, period_end, billable_total, reported_total, closed_at, next_seal_at)
         SELECT '{name}-' || n, timestamptz '{end}' - interval '30 days', '{end}', 10, 10, '{end}', '{end}'
         FROM generate_series({from}, {to}) AS n;
         INSERT INTO reports (identifier, tenant_id, period_start, period_end, version, customer_id, event_name, quantity, event_at,
             send_before, sealed_at, state)
         SELECT tenant_id || '-' || version, tenant_id, period_start, period_end, version, 'cus_' || tenant_id, 'executions', 1,
             period_start + version * interval '1 hour', period_end, period_end, '{state}'
         FROM accounts, generate_series(1, 10) AS version WHERE tenant_id LIKE '{name}-%'
         ON CONFLICT DO NOTHING;
         INSERT INTO drifts SELECT tenant_id, period_start, 'c', 'e', 1, 2, period_end FROM accounts WHERE tenant_id LIKE '{name}-%'
         ON CONFLICT DO NOTHING;"
    )
}

#[tokio::test]
async fn settled_reports_are_deleted_after_400_days_and_nothing_else_is() {
    let bench = TestBed::of::<Billing>("2026-11-24T12:00:00Z").await;
    let pool = bench.pool();
    // 400 days before now is 2025-10-20, 12:00.
    let (old, young) = ("2025-10-20T11:59Z", "2025-10-20T12:00Z");
    for (name, end, state) in [
        ("gone", old, "confirmed"),
        ("refused", old, "rejected"),
        ("young", young, "confirmed"),
        ("stuck", old, "stuck"),
        ("late", old, "late"),
        ("drifted", old, "accepted"),
        ("waits", old, "sealed"),
        ("owes", old, "confirmed"),
        ("open", old, "confirmed"),
    ] {
        run(pool, &accounts(name, end, state, 1..=7)).await;
    }
    run(pool, "UPDATE accounts SET billable_total = 11 WHERE tenant_id LIKE 'owes-%'").await;
    run(pool, "UPDATE accounts SET closed_at = NULL WHERE tenant_id LIKE 'open-%'").await;
    run(
        pool,
        "INSERT INTO senders VALUES ('cus_gone-1', 7, now() - interval '31 days'), ('cus_waits-1', 7, now() - interval '31 days'),
             ('cus_young-1', 7, now() - interval '29 days')",
    )
    .await;
    retention(&bench, pool).round().await.unwrap();
    let left: Vec<(String, i64)> =
        sqlx::query_as("SELECT split_part(tenant_id, '-', 1), count(*) FROM reports GROUP BY 1 ORDER BY 1")
            .fetch_all(pool)
            .await
            .unwrap();
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["drifted", "late", "open", "owes", "stuck", "waits", "young"]);
    assert!(left.iter().all(|(_, reports)| *reports == 70), "{left:?}");
    assert_eq!(number(pool, "SELECT count(*) FROM accounts").await, 63, "accounts stay for ever");
    let kept = "SELECT sum(archived_total)::bigint FROM accounts WHERE tenant_id LIKE 'gone-%'";
    assert_eq!(number(pool, kept).await, 70);
    assert_eq!(number(pool, "SELECT sum(archived_total)::bigint FROM accounts").await, 70);
    assert_eq!(number(pool, "SELECT count(*) FROM drifts").await, 7);
    let senders: Vec<String> =
        sqlx::query_scalar("SELECT customer_id FROM senders ORDER BY 1").fetch_all(pool).await.unwrap();
    assert_eq!(senders, ["cus_waits-1", "cus_young-1"]);
    bench.finish().await;
}

#[tokio::test]
async fn late_usage_of_a_period_whose_reports_are_gone_is_only_the_difference() {
    let mut world = Harness::start().await;
    world.now_is("2026-12-01T00:03:00Z");
    world.closed("north", 2, 15).await;
    world.next_reported().await;
    world.advance(10);
    world.reports_are("north", &["confirmed"]).await;
    world.now_is("2028-02-01T00:00:00Z");
    let settled = Retention { pool: world.bench.pool().clone(), clock: Arc::new(world.bench.clock.clone()) };
    eventually("a round has the lock", || async {
        settled.round().await.unwrap();
        world.states("north").await.is_empty().then_some(())
    })
    .await;
    // The end of the period again, as after a replay, and usage that was found late.
    world.closed("north", 2, 15).await;
    world.late("north", 3, 18).await;
    let failed = world.next_failed().await;
    assert_eq!(failed.quantity, 3);
    assert_eq!(world.sandbox.stripe().total("cus_north", crate::harness::METER), 15, "nothing is sent again");
    world.advance(60);
    world.late("north", 4, 20).await;
    assert_eq!(world.next_failed().await.quantity, 2, "and no drift was published in between");
    world.finish().await;
}

#[tokio::test]
async fn a_round_that_finds_nothing_costs_the_same_with_a_hundred_times_the_reports() {
    let bench = TestBed::of::<Billing>("2026-11-24T12:00:00Z").await;
    let counted = Counted::beside(bench.pool()).await;
    let mut reads = Vec::new();
    for tenants in [1..=20, 21..=2_000] {
        counted.run(&accounts("young", "2026-11-01Z", "confirmed", tenants)).await;
        counted.run("ANALYZE").await;
        let before = counted.rows().await;
        retention(&bench, &counted.pool).round().await.unwrap();
        reads.push(counted.rows().await - before);
    }
    assert!(reads[1] <= reads[0] * 2 + 1_000, "{reads:?} rows were read");
    counted.pool.close().await;
    bench.finish().await;
}

/// Rows read while ten reports are sealed, sent and published, beside this many accounts of ended periods.
async fn read_beside(accounts_kept: u32) -> i64 {
    let mut world = Harness::start().await;
    world.catalog_has("north", 1).await;
    let counted = Counted::beside(world.bench.pool()).await;
    counted.run(&accounts("old", "2026-10-01Z", "confirmed", 1..=accounts_kept)).await;
    counted.run("ANALYZE").await;
    let before = counted.rows().await;
    for revision in 1..=10 {
        world.counted("north", revision, revision * 10).await;
        assert_eq!(world.next_reported().await.reported_total, revision * 10);
        world.advance(5);
    }
    world.bench.restart().await;
    world.bench.pool().close().await;
    counted.await_alone().await;
    let read = counted.rows().await - before;
    counted.pool.close().await;
    world.finish().await;
    read
}

#[tokio::test]
async fn accounts_that_are_kept_for_ever_make_reporting_no_slower() {
    let (few, many) = (read_beside(20).await, read_beside(2_000).await);
    assert!(many <= few * 2 + 2_000, "{few} rows were read beside 20 accounts, {many} beside 2,000");
}
