//! Migration of data from earlier versions.

use gateway::MIGRATOR;
use jiff_sqlx::Timestamp;
use sqlx::{
    migrate::{Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use testkit::TestBed;
use uuid::Uuid;

use crate::harness::NOW;

/// The last migration with which runs were found by tenant and id.
const BEFORE_KEYS: i64 = 1021;

/// The key of the tenant `north` and the id `run-1`.
const KEY: &str = "89477cde-bf6e-3252-8eb7-6ed22cb40eec";

const ROWS: &str = "
INSERT INTO admissions (tenant, id, admitted_at, reserved, allowed, reason, workflow, mode, used_units, reserved_units,
    limit_units, resets_at)
SELECT 'north', 'run-' || number, timestamptz '2026-11-24T11:59:58Z' + number * interval '1 s', number < 4, number < 4,
    'within_limit', CASE WHEN number > 1 THEN 'w1' END, 'webhook', number, number, 100, '2026-12-01T00:00:00Z'
FROM generate_series(1, 4) AS number;
INSERT INTO tallies (tenant, slot, units)
SELECT tenant, floor(extract(epoch FROM admitted_at) / 5)::bigint, count(*) FROM admissions WHERE reserved GROUP BY 1, 2;
";

fn migrations(up_to: i64) -> Migrator {
    let all = [&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR];
    let all = all.into_iter().flat_map(|migrator| migrator.migrations.iter().cloned());
    Migrator::with_migrations(all.filter(|migration| migration.version <= up_to).collect::<Vec<Migration>>())
}

#[tokio::test]
async fn runs_of_an_earlier_version_are_found_by_key_and_counted_by_workflow() {
    let bench = TestBed::of::<gateway::Gateway>(NOW).await;
    let options: PgConnectOptions = bench.database_url.parse().unwrap();
    let options = options.options([("search_path", "upgraded")]);
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    sqlx::query("CREATE SCHEMA upgraded").execute(&pool).await.unwrap();
    migrations(BEFORE_KEYS).run(&pool).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&pool).await.unwrap();
    migrations(i64::MAX).run(&pool).await.unwrap();

    let found: (String, bool, bool, String, Option<String>, i64, i64, Timestamp) = sqlx::query_as(
        "SELECT tenant, allowed, reserved, reason, workflow, used_units, limit_units, admitted_at
         FROM find_admissions(ARRAY[$1])",
    )
    .bind(Uuid::parse_str(KEY).unwrap())
    .fetch_one(&pool)
    .await
    .unwrap();
    let (tenant, allowed, reserved, reason, workflow, used, limit, admitted_at) = found;
    assert_eq!((tenant.as_str(), allowed, reserved, reason.as_str()), ("north", true, true, "within_limit"));
    assert_eq!((workflow, used, limit), (None, 1, 100));
    assert_eq!(admitted_at.to_jiff(), "2026-11-24T11:59:59Z".parse().unwrap());

    let figures = async |by_slot: &'static str| {
        sqlx::query_as::<_, (Uuid, i64)>(by_slot).fetch_all(&pool).await.unwrap()
    };
    let tallied = figures("SELECT replica, units FROM tallies ORDER BY slot").await;
    assert_eq!(tallied, [(Uuid::nil(), 1), (Uuid::nil(), 2)]);
    let tallied = figures("SELECT replica, units FROM workflow_tallies ORDER BY slot").await;
    assert_eq!(tallied, [(Uuid::nil(), 2)], "one names no workflow, one was refused");
    pool.close().await;
    bench.finish().await;
}
