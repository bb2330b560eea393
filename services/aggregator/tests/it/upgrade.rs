//! Upgrades from what earlier versions have left behind.

use aggregator::{Aggregator, MIGRATOR};
use async_nats::jetstream::stream::Config;
use catalog::Entry;
use prost::Message;
use proto::{
    streams::{ExecutionsBefore, Stream},
    subjects::PARTITIONS,
    v1,
};
use sqlx::{
    PgPool,
    migrate::{Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use testkit::{TestBed, eventually};

use crate::harness::{Harness, NOW, execution, executions, plan, source, tenant};

#[tokio::test]
async fn executions_in_the_former_single_stream_are_counted() {
    let bench = TestBed::of::<Aggregator>(NOW).await;
    let bus = bench.context.bus.clone();
    let (namespace, jetstream) = (bus.namespace().clone(), bus.jetstream());
    // As the previous version left it.
    for partition in 0..PARTITIONS {
        jetstream.delete_stream(Stream::Executions(partition).name(&namespace)).await.unwrap();
    }
    let before = Config {
        name: ExecutionsBefore.name(&namespace),
        subjects: vec![format!("{namespace}.v1.executions.>")],
        ..Config::default()
    };
    jetstream.create_stream(before.clone()).await.unwrap();
    let usage = bench.topic(Stream::UsageState, "usage.counted").await;
    let mut running = Harness { bench, usage };
    running.send(executions(1..=3)).await;
    bus.ensure_streams().await.unwrap();
    running.send(executions(3..=4)).await;
    running.start_service().await;
    running.bench.publish_entry(&plan(None), 1).await;
    running.bench.publish_entry(&tenant("UTC"), 1).await;
    running.bench.publish_entry(&source("north-n8n"), 1).await;
    running.usage_where(|totals| totals.counted == 4).await;
    bus.ensure_streams().await.expect("again, with the old stream there");
    bus.jetstream().delete_stream(&before.name).await.unwrap();
    bus.ensure_streams().await.expect("and without it");
    running.send(executions(5..=5)).await;
    running.usage_where(|totals| totals.counted == 5).await;
    running.bench.finish().await;
}

/// The last version that kept executions in one table.
const BEFORE_MONTHS: i64 = 1032;

fn migrations(up_to: i64) -> Migrator {
    let all = [&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR];
    let all = all.into_iter().flat_map(|migrator| migrator.migrations.iter().cloned());
    Migrator::with_migrations(all.filter(|migration| migration.version <= up_to).collect::<Vec<Migration>>())
}

/// Two tenants, one of them in another time zone, and three sources, of which `gone` is no longer in the
/// catalog. 900 executions in ten weeks, each 1 s long; every fourth crashed, two were voided.
const ROWS: &str = "
INSERT INTO tenants (tenant_id, plan_id) VALUES ('north', 'pro'), ('south', 'pro');
INSERT INTO sources (source_id, tenant_number, active)
    VALUES ('north-n8n', 1, true), ('gone', 1, false), ('south-n8n', 2, true);
INSERT INTO workflows (source_number, workflow_id, name)
    SELECT source, 'w' || workflow, 'Workflow ' || workflow
    FROM generate_series(1, 3) AS source, generate_series(0, 2) AS workflow;
INSERT INTO executions (source_number, epoch, execution_id, tenant_number, workflow_id, status, mode, counted, late,
    started_at, stopped_at, period_start, recorded_at, voided)
SELECT 1 + n % 3, 1 + n / 450, n, tenant, 'w' || n / 3 % 3, n % 4, n % 9, n % 9 < 5, n % 50 = 0, stopped_at - interval '1 s',
    stopped_at, date_trunc('month', stopped_at AT TIME ZONE zone) AT TIME ZONE zone, stopped_at, n IN (9, 400)
FROM (SELECT n, CASE n % 3 WHEN 2 THEN 2 ELSE 1 END AS tenant, CASE n % 3 WHEN 2 THEN 'Europe/Madrid' ELSE 'UTC' END AS zone,
          CASE n WHEN 3 THEN '2026-09-30T23:59:59.999999Z' WHEN 6 THEN '2026-10-01T00:00:00Z' WHEN 5 THEN '2026-09-30T22:00:00Z'
              ELSE '2026-09-15T00:00:00.000001Z'::timestamptz + n * interval '110 min' END AS stopped_at
      FROM generate_series(0, 899) AS n) AS runs;
INSERT INTO periods (tenant_number, period_start, period_end, opened_at, closed_at, counted, uncounted, success, error, crashed,
    canceled, duration_ms, late, voided)
SELECT tenant_number, period_start, (period_start AT TIME ZONE zone + interval '1 month') AT TIME ZONE zone, period_start,
    CASE WHEN period_start < '2026-10-30' THEN timestamptz '2026-11-01T06:00:00Z' END,
    count(*) FILTER (WHERE ok AND counted), count(*) FILTER (WHERE ok AND NOT counted),
    count(*) FILTER (WHERE ok AND counted AND status = 0), count(*) FILTER (WHERE ok AND counted AND status = 1),
    count(*) FILTER (WHERE ok AND counted AND status = 2), count(*) FILTER (WHERE ok AND counted AND status = 3),
    1000 * count(*) FILTER (WHERE ok AND counted), count(*) FILTER (WHERE ok AND counted AND late), count(*) FILTER (WHERE voided)
FROM (SELECT *, NOT voided AS ok, CASE tenant_number WHEN 2 THEN 'Europe/Madrid' ELSE 'UTC' END AS zone FROM executions) AS runs
GROUP BY tenant_number, period_start, zone;
INSERT INTO workflow_usage (tenant_number, period_start, workflow_number, counted, uncounted, success, error, crashed, canceled,
    duration_ms, late, voided)
SELECT tenant_number, period_start, number,
    count(*) FILTER (WHERE ok AND counted), count(*) FILTER (WHERE ok AND NOT counted),
    count(*) FILTER (WHERE ok AND counted AND status = 0), count(*) FILTER (WHERE ok AND counted AND status = 1),
    count(*) FILTER (WHERE ok AND counted AND status = 2), count(*) FILTER (WHERE ok AND counted AND status = 3),
    1000 * count(*) FILTER (WHERE ok AND counted), count(*) FILTER (WHERE ok AND counted AND late), count(*) FILTER (WHERE voided)
FROM (SELECT *, NOT voided AS ok FROM executions) AS runs JOIN workflows USING (source_number, workflow_id)
GROUP BY tenant_number, period_start, number;
INSERT INTO corrections (correction_id, tenant_number, period_start, period_end, author, reason, corrected_at, source_number,
    epoch, execution_id)
SELECT 'v' || execution_id, tenant_number, period_start, period_end, 'operator', 'a test', period_end, source_number, epoch,
    execution_id FROM executions JOIN periods USING (tenant_number, period_start) WHERE executions.voided;
CREATE TABLE executions_as_they_were AS SELECT * FROM executions;
CREATE TABLE periods_as_they_were AS SELECT * FROM periods;
CREATE TABLE workflow_usage_as_it_was AS SELECT * FROM workflow_usage;
";

async fn put<E: Entry>(pool: &PgPool, entry: &E) {
    sqlx::query("INSERT INTO catalog (kind, id, revision, removed, value) VALUES ($1, $2, 1, false, $3)")
        .bind(E::KIND.as_str())
        .bind(entry.id())
        .bind(entry.to_wire(1).encode_to_vec())
        .execute(pool)
        .await
        .unwrap();
}

/// A database of the last version without monthly tables, migrated to this version.
async fn upgraded(bench: &TestBed) -> PgPool {
    let options: PgConnectOptions = bench.database_url.parse().unwrap();
    let options = options.options([("search_path", "upgraded")]);
    let pool = PgPoolOptions::new().max_connections(6).connect_with(options).await.unwrap();
    sqlx::query("CREATE SCHEMA upgraded").execute(&pool).await.unwrap();
    migrations(BEFORE_MONTHS).run(&pool).await.unwrap();
    put(&pool, &plan(None)).await;
    put(&pool, &tenant("UTC")).await;
    put(&pool, &south()).await;
    put(&pool, &source("north-n8n")).await;
    put(&pool, &southern()).await;
    sqlx::raw_sql(ROWS).execute(&pool).await.unwrap();
    migrations(i64::MAX).run(&pool).await.unwrap();
    pool
}

fn south() -> catalog::Tenant {
    catalog::Tenant { id: metering::TenantId::parse("south").unwrap(), ..tenant("Europe/Madrid") }
}

fn southern() -> catalog::Source {
    catalog::Source { tenant: Some(metering::TenantId::parse("south").unwrap()), ..source("south-n8n") }
}

async fn number(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.expect(statement)
}

/// The executions of a source in [`ROWS`], as the source shows them.
async fn shown(pool: &PgPool, source: &str) -> Vec<(u32, v1::Execution)> {
    let rows: Vec<(i32, i64, String)> = sqlx::query_as(
        "SELECT epoch, execution_id, to_char(stopped_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
         FROM executions_as_they_were JOIN sources ON number = source_number WHERE source_id = $1",
    )
    .bind(source)
    .fetch_all(pool)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(epoch, id, at)| (epoch.unsigned_abs(), execution(id.unsigned_abs(), &at)))
        .collect()
}

#[tokio::test]
async fn executions_and_figures_of_one_table_are_complete_by_month() {
    let mut bench = TestBed::of::<Aggregator>(NOW).await;
    let pool = upgraded(&bench).await;
    assert_eq!(number(&pool, "SELECT count(*) FROM executions").await, 900);
    // Joined by everything that must not have changed.
    let same = "SELECT count(*) FROM executions AS now JOIN (SELECT number, workflow_id FROM workflows) AS known ON number = workflow_number
        JOIN executions_as_they_were AS old USING (source_number, epoch, execution_id, tenant_number, workflow_id, status, mode,
            counted, late, started_at, stopped_at, period_start, recorded_at, voided)
        WHERE month = date_trunc('month', stopped_at AT TIME ZONE 'UTC') AND now.tableoid::regclass::text =
            'executions_' || to_char(stopped_at AT TIME ZONE 'UTC', 'YYYY_MM')";
    assert_eq!(number(&pool, same).await, 900);
    let usage = "(SELECT tenant_number, period_start, workflow_number, counted, uncounted, success, error, crashed, canceled,
        duration_ms, late, voided, adjusted FROM workflow_usage)";
    let periods = "(SELECT tenant_number, period_start, period_end, opened_at, closed_at, counted, uncounted, success, error,
        crashed, canceled, duration_ms, late, voided, adjusted FROM periods)";
    for (table, before) in [
        (periods, "(SELECT tenant_number, period_start, period_end, opened_at, closed_at, counted, uncounted, success, error,
            crashed, canceled, duration_ms, late, voided, adjusted FROM periods_as_they_were)"),
        (usage, "(SELECT tenant_number, period_start, workflow_number, counted, uncounted, success, error, crashed, canceled,
            duration_ms, late, voided, adjusted FROM workflow_usage_as_it_was)"),
    ] {
        let different = format!(
            "SELECT count(*) FROM (({table} EXCEPT {before}) UNION ALL ({before} EXCEPT {table})) AS d"
        );
        let different: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(different)).fetch_one(&pool).await.unwrap();
        assert_eq!(different, 0, "{table}");
    }
    let placed: Vec<(String, bool, String)> = sqlx::query_as(
        "SELECT source_id, placement IS NOT NULL, tenant_id FROM sources JOIN source_tenants ON source_number = sources.number
         JOIN tenants ON tenants.number = tenant_number ORDER BY source_id",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let place = |source: &str, is_placed, tenant: &str| (source.to_owned(), is_placed, tenant.to_owned());
    assert_eq!(
        placed,
        [place("gone", false, "north"), place("north-n8n", true, "north"), place("south-n8n", true, "south")]
    );

    // This version works with it: repeats are repeats, crashes can be resolved, figures add up.
    bench.use_pool(&pool);
    let usage = bench.topic(Stream::UsageState, "usage.counted").await;
    let running = Harness { bench, usage };
    let counted = running.snapshot().await.0;
    running.start_service().await;
    let differences = running.rebuilt().await;
    let never_there = ["hour", "day", "durations"];
    assert!(differences.iter().all(|one| never_there.contains(&one.figure)), "{differences:?}");
    for source in ["north-n8n", "gone", "south-n8n"] {
        for epoch in [1, 2] {
            let of_epoch = shown(&pool, source).await.into_iter().filter(|(of, _)| *of == epoch);
            running.send_from(source, epoch, of_epoch.map(|(_, execution)| execution).collect()).await;
        }
    }
    eventually("crashes are resolved", || async {
        let crashed = "SELECT count(*) FROM executions WHERE status = 2";
        (number(&pool, crashed).await == 0).then_some(())
    })
    .await;
    running.send(vec![execution(1_000, "2026-10-05T12:00:00Z")]).await;
    eventually("a late one is counted", || async {
        (running.snapshot().await == (counted + 1, 0)).then_some(())
    })
    .await;
    assert_eq!(number(&pool, "SELECT count(*) FROM executions").await, 901);
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}
