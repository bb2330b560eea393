//! What grows with time or with the input: publishing and recording cost the same however much there is, and
//! old data is removed.

use aggregator::{KeepFor, Retention};
use jiff::Timestamp;
use proto::{subjects::Question, v1};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use testkit::{Counted, eventually};

use crate::harness::{Harness, at, execution, executions};

/// The source was complete until here, three weeks before now, and has been broken since.
const BROKEN_SINCE: &str = "2026-11-02T00:30:00Z";

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect(statement);
}

async fn number(pool: &PgPool, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(pool).await.expect(statement)
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The first usage with this count and a watermark.
async fn complete(running: &mut Harness, counted: u64) -> v1::UsageCounted {
    let wanted = |usage: &v1::UsageCounted| {
        usage.complete_until.is_some()
            && usage.totals.as_ref().is_some_and(|totals| totals.counted == counted)
    };
    running.usage.next_where(wanted).await
}

/// Counted executions that stopped before the source broke, from the executions themselves.
const BEFORE: &str =
    "SELECT count(*) FROM executions WHERE counted AND NOT voided AND stopped_at < '2026-11-02T00:30:00Z'";

/// Rows that are read while twenty executions are recorded and published one by one, after `fill` has run.
async fn read_with(fill: &str, counted_more: u64) -> i64 {
    let mut running = Harness::start(None).await;
    let sequence = running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.synced("north-n8n", instant(BROKEN_SINCE), sequence).await;
    complete(&mut running, 3).await;
    let counted = Counted::beside(running.bench.pool()).await;
    counted.run(fill).await;
    let before = counted.rows().await;
    for id in 0..20_u64 {
        running.send(executions([500_000 + id])).await;
        let usage = complete(&mut running, counted_more + 4 + id).await;
        assert_eq!(usage.counted_complete, 0, "all of them stopped since");
    }
    running.bench.restart().await;
    running.bench.pool().close().await;
    counted.await_alone().await;
    let read = counted.rows().await - before;
    counted.pool.close().await;
    running.bench.finish().await;
    read
}

/// This many counted executions of a tenant since its source broke.
fn since(executions: u32) -> String {
    format!(
        "INSERT INTO executions (execution_id, stopped_at, recorded_at, period_start, source_number, epoch, month,
             workflow_number, tenant_number, status, mode, counted, late)
         SELECT 1000 + n, timestamptz '2026-11-03Z' + n * interval '1 minute', now(), '2026-11-01Z', sources.number, 1,
             '2026-11-01', workflows.number, tenants.number, 0, 2, true, false
         FROM tenants, sources, (SELECT min(number) AS number FROM workflows) AS workflows,
             generate_series(1, {executions}) AS n;
         INSERT INTO period_hours
         SELECT number, timestamptz '2026-11-01Z',
             date_trunc('hour', timestamptz '2026-11-03Z' + n * interval '1 minute', 'UTC'), count(*)
         FROM tenants, generate_series(1, {executions}) AS n GROUP BY 1, 2, 3;
         UPDATE periods SET counted = counted + {executions};
         ANALYZE;"
    )
}

#[tokio::test]
async fn a_source_broken_for_weeks_does_not_make_publishing_slower() {
    let (few, many) = (read_with(&since(200), 200).await, read_with(&since(20_000), 20_000).await);
    assert!(many <= few * 2 + 20_000, "{few} rows were read with 200 since, {many} with 20,000");
}

/// This many rows in each table that keeps its rows for ever, of the tenant and source in use.
fn kept_for_ever(rows: u32) -> String {
    format!(
        "INSERT INTO periods (tenant_number, period_start, period_end, opened_at, closed_at)
         SELECT number, start, start + interval '1 hour', start, start + interval '2 hours'
         FROM tenants, generate_series(1, {rows}) AS n, LATERAL (SELECT timestamptz '2025-11-01Z' - n * interval '1 hour' AS start) AS o;
         INSERT INTO calendars (tenant_number, place, effective_from, time_zone, anchor_day)
         SELECT number, 100000 + n, timestamptz '2060-01-01Z' + n * interval '1 day', 'UTC', 1
         FROM tenants, generate_series(1, {rows} / 100) AS n;
         INSERT INTO workflows (source_number, workflow_id, name, named_at)
         SELECT number, 'old-' || n, 'Old ' || n, timestamptz '2025-11-01Z' FROM sources, generate_series(1, {rows}) AS n;
         INSERT INTO workflow_usage (tenant_number, period_start, workflow_number, counted)
         SELECT tenants.number, timestamptz '2025-10-01Z' - (place / 50) * interval '1 month', old.number, 1
         FROM tenants, (SELECT number, row_number() OVER () AS place FROM workflows WHERE workflow_id LIKE 'old-%') AS old;
         INSERT INTO usage_days (tenant_number, day_start, counted, durations)
         SELECT number, timestamptz '2025-11-01Z' - n * interval '1 day', 1, '' FROM tenants, generate_series(1, {rows}) AS n;
         INSERT INTO corrections (correction_id, tenant_number, period_start, period_end, author, reason, corrected_at, quantity)
         SELECT 'old-' || n, number, timestamptz '2025-10-01Z', timestamptz '2025-11-01Z', 'operator', 'a test',
             timestamptz '2025-11-01Z', 1 FROM tenants, generate_series(1, {rows}) AS n;
         INSERT INTO retired_ids (source_number, epoch, chunk, ids)
         SELECT number, 1, 100000 + n, '' FROM sources, generate_series(1, {rows}) AS n;
         INSERT INTO catalog SELECT 'tenant', 'gone-' || n, 1, true, '' FROM generate_series(1, {rows}) AS n;
         ANALYZE;"
    )
}

#[tokio::test]
async fn rows_kept_for_ever_make_counting_and_publishing_no_slower() {
    let (few, many) = (read_with(&kept_for_ever(200), 0).await, read_with(&kept_for_ever(20_000), 0).await);
    assert!(many <= few * 2 + 20_000, "{few} rows were read with 200 in each table, {many} with 20,000");
}

/// This many removed tenants and sources, the sources with published executions that will never be counted.
fn removed(rows: u32) -> String {
    format!(
        "INSERT INTO tenants (tenant_id, plan_id, revision, published_revision)
         SELECT 'gone-' || n, 'pro', 5, 5 FROM generate_series(1, {rows}) AS n;
         INSERT INTO sources (source_id, active, complete_until, published_through, published_life)
         SELECT 'gone-' || n, false, timestamptz '2025-11-01Z' + n * interval '1 second', 900000000, 'another'
         FROM generate_series(1, {rows}) AS n;
         INSERT INTO source_tenants (source_number, tenant_number)
         SELECT sources.number, tenants.number FROM sources JOIN tenants ON tenant_id = source_id;
         ANALYZE;"
    )
}

#[tokio::test]
async fn removed_tenants_and_sources_make_counting_and_publishing_no_slower() {
    let (few, many) = (read_with(&removed(200), 0).await, read_with(&removed(20_000), 0).await);
    assert!(many <= few * 2 + 20_000, "{few} rows were read with 200 removed, {many} with 20,000");
}

#[tokio::test]
async fn the_complete_count_is_exact_within_an_hour_and_while_changes_are_pending() {
    let mut running = Harness::start(None).await;
    let stopped = [
        "2026-11-01T10:00:00Z",
        "2026-11-02T00:00:00Z",
        "2026-11-02T00:29:59.999Z",
        "2026-11-02T00:30:00Z",
        "2026-11-02T00:59:59Z",
        "2026-11-02T01:00:00Z",
        "2026-11-20T01:00:00Z",
    ];
    let first = |from: u64| stopped.iter().zip(from..).map(|(at, id)| execution(id, at)).collect::<Vec<_>>();
    let sequence = running.send(first(1)).await;
    running.usage_where(|totals| totals.counted == 7).await;
    running.synced("north-n8n", instant(BROKEN_SINCE), sequence).await;
    assert_eq!(complete(&mut running, 7).await.counted_complete, 3);

    // Nothing is folded from here on; later everything is.
    let options = running.bench.pool().connect_options();
    let mut held = PgConnection::connect_with(&options).await.unwrap();
    let turn = "SELECT pg_advisory_lock(hashtext(current_schema() || '.folder'))";
    sqlx::query(turn).execute(&mut held).await.unwrap();
    running.send(first(11)).await;
    assert_eq!(complete(&mut running, 14).await.counted_complete, 6);
    held.close().await.unwrap();
    eventually("everything is folded", || async {
        let waiting = "SELECT count(*) FROM rollup_log WHERE NOT folded";
        (number(running.bench.pool(), waiting).await == 0).then_some(())
    })
    .await;
    running.send(first(21)).await;
    assert_eq!(complete(&mut running, 21).await.counted_complete, 9);
    assert_eq!(number(running.bench.pool(), BEFORE).await, 9);
    assert_eq!(running.rebuilt().await, []);

    run(
        running.bench.pool(),
        "UPDATE period_hours SET counted = counted + 1 WHERE hour_start = '2026-11-20T01:00Z'",
    )
    .await;
    let put_right = running.rebuilt().await;
    assert_eq!(put_right.len(), 1, "{put_right:?}");
    assert_eq!((put_right[0].stored, put_right[0].rebuilt), (4, 3));
    running.bench.finish().await;
}

#[tokio::test]
async fn ids_far_apart_are_known_after_a_restart() {
    let mut running = Harness::start(None).await;
    // Each in a chunk of its own: more chunks than one statement reads.
    let batch = || executions((0..100).map(|n| 1 + n * 70_000));
    running.send(batch()).await;
    running.usage_where(|totals| totals.counted == 100).await;
    running.restart().await;
    let mut again = batch();
    again.push(execution(2, "2026-11-24T11:59:00Z"));
    let sequence = running.send(again).await;
    running.handled(sequence).await;
    assert_eq!(running.snapshot().await, (101, 0));
    running.bench.finish().await;
}

#[tokio::test]
async fn only_crossings_and_hours_of_old_periods_are_removed() {
    let running = Harness::start(None).await;
    running.send(executions(1..=1)).await;
    eventually("a period is open", || async {
        (number(running.bench.pool(), "SELECT count(*) FROM periods").await == 1).then_some(())
    })
    .await;
    running.bench.context.tasks.stop().await;
    let pool = running.bench.pool();
    run(
        pool,
        "INSERT INTO periods (tenant_number, period_start, period_end, opened_at, closed_at)
         SELECT number, start, start + interval '1 month', start, closed_at FROM tenants,
             (VALUES (timestamptz '2025-08-01Z', timestamptz '2025-09-01Z'), ('2025-09-01Z', '2025-10-01Z'),
                     ('2025-07-01Z', NULL), ('2026-10-01Z', '2026-11-01Z')) AS periods (start, closed_at);
         INSERT INTO crossings (crossing_id, tenant_number, period_start, rule, threshold_percent, arming, limit_executions,
             used, crossed_at, rearmed_at)
         SELECT gen_random_uuid(), tenant_number, period_start, 'monthly', 80, n, 10, 8, period_start, period_start
         FROM periods, generate_series(1, 1500) AS n;
         INSERT INTO period_hours SELECT tenant_number, period_start, period_start + n * interval '1 hour', 1
         FROM periods, generate_series(100, 199) AS n;
         INSERT INTO admitted (source_number, epoch, execution_id, slot)
         SELECT number, 1, n, extract(epoch FROM timestamptz '2026-11-24T12:00:00Z')::bigint / 5 - n
         FROM sources, generate_series(1, 3000) AS n;",
    )
    .await;
    let retention = Retention {
        pool: pool.clone(),
        clock: running.bench.context.clock.clone(),
        executions_kept: KeepFor::Forever,
        hours_kept: KeepFor::Forever,
    };
    eventually("a round gets the turn", || async {
        retention.round().await.unwrap();
        let old = "SELECT count(*) FROM crossings WHERE period_start = '2025-08-01Z'";
        (number(pool, old).await == 0).then_some(())
    })
    .await;
    let admitted = "SELECT count(*) FROM admitted";
    assert_eq!(number(pool, admitted).await, 720, "claims of the last hour");
    let left =
        "SELECT count(*) FROM crossings WHERE period_start IN ('2025-07-01Z', '2026-10-01Z', '2026-11-01Z')";
    assert_eq!(number(pool, left).await, 4_500, "of an open period, however old, and of younger ones");
    let hours = "SELECT count(*) FROM period_hours WHERE period_start < '2026-11-01Z'";
    assert_eq!(number(pool, hours).await, 400, "what comes after an open period waits for it");
    run(pool, "UPDATE periods SET closed_at = '2026-11-20Z' WHERE period_start = '2025-07-01Z'").await;
    retention.round().await.unwrap();
    assert_eq!(number(pool, hours).await, 0);
    let open = "SELECT count(*) FROM period_hours WHERE period_start = '2026-11-01Z'";
    assert!(number(pool, open).await >= 100, "the open period keeps its own");
    running.bench.finish().await;
}

#[tokio::test]
async fn workflow_days_are_removed_with_hours_and_tenant_days_stay() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    let pool = running.bench.pool();
    run(
        pool,
        "INSERT INTO workflow_days (tenant_number, workflow_number, day_start, counted)
         SELECT tenants.number, n, day, 1 FROM tenants, generate_series(100, 149) AS n,
             unnest(ARRAY[timestamptz '2025-10-19Z', '2025-10-20Z']) AS day;
         INSERT INTO usage_days (tenant_number, day_start, counted, durations) SELECT number, '2025-10-19Z', 1, '' FROM tenants;",
    )
    .await;
    let retention = Retention {
        pool: pool.clone(),
        clock: running.bench.context.clock.clone(),
        executions_kept: KeepFor::Forever,
        hours_kept: KeepFor::days(400),
    };
    let old = "SELECT count(*) FROM workflow_days WHERE day_start = '2025-10-19Z'";
    eventually("a round gets the turn", || async {
        retention.round().await.unwrap();
        (number(pool, old).await == 0).then_some(())
    })
    .await;
    assert_eq!(number(pool, "SELECT count(*) FROM workflow_days WHERE day_start = '2025-10-20Z'").await, 50);
    assert_eq!(number(pool, "SELECT count(*) FROM usage_days WHERE day_start = '2025-10-19Z'").await, 1);
    let question = v1::UsageQuestion {
        tenant_id: "north".into(),
        grain: v1::Grain::Day.into(),
        span: Some(v1::Period { start: at("2025-10-19T00:00:00Z"), end: at("2025-10-21T00:00:00Z") }),
        source_id: "north-n8n".into(),
        workflow_id: "w1".into(),
    };
    let refused = running.ask::<v1::UsageAnswer>(Question::Usage, &question).await.unwrap_err();
    assert!(refused.to_string().contains("since 2025-10-20"), "not known is not zero: {refused}");
    running.bench.finish().await;
}
