//! Who applies a service's migrations, and which binaries may run on its schema. Releases are played by lists of migrations.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use async_trait::async_trait;
use chassis::{Context, DatabaseError, DatabaseSettings, Migrations, Service, Validate};
use serde::Deserialize;
use sqlx::{
    PgPool,
    migrate::{Migration, MigrationType, Migrator},
};
use testkit::TestBed;

const NOW: &str = "2026-11-24T12:00:00Z";

/// Older than every release below: it has only the chassis' own table.
struct Tester;

#[derive(Deserialize)]
struct NoSettings {}

impl Validate for NoSettings {
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

#[async_trait]
impl Service for Tester {
    const NAME: &'static str = "tester";
    type Settings = NoSettings;

    fn migrators() -> Vec<&'static Migrator> {
        Vec::new()
    }

    async fn start(_: Context, _: NoSettings) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A release with these migrations, numbered from 1001.
fn release(statements: &[&'static str]) -> Migrator {
    let numbered = statements.iter().zip(1001..);
    let migrations = numbered.map(|(sql, version)| {
        let sql = sqlx::SqlSafeStr::into_sql_str(*sql);
        Migration::new(version, format!("step {version}").into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

const TABLE: &str = "CREATE TABLE things (id bigint PRIMARY KEY, name text)";
const COLUMN: &str = "ALTER TABLE things ADD COLUMN colour text";
const BREAKING: &str = "SELECT need_migration(1002, '0.9.0'); ALTER TABLE things DROP COLUMN name";
const SLOW: &str = "SELECT pg_sleep(0.5); CREATE TABLE once (id bigint)";

async fn bed() -> (TestBed, DatabaseSettings) {
    let bed = TestBed::of::<Tester>(NOW).await;
    let settings = settings(&bed, Migrations::Apply);
    (bed, settings)
}

fn settings(bed: &TestBed, migrations: Migrations) -> DatabaseSettings {
    DatabaseSettings { url: bed.database_url.clone().into(), connections_max: 2, migrations }
}

async fn open(settings: &DatabaseSettings, release: &Migrator) -> Result<PgPool, DatabaseError> {
    chassis::open_database("widgets", settings, &[release]).await
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn two_migrations_at_once_apply_each_migration_once() {
    let (bed, settings) = bed().await;
    let release = release(&[TABLE, SLOW, COLUMN]);
    let releases = [&release];
    let migrate = || chassis::migrate_database("widgets", &settings, &releases);
    let (first, second, third) = tokio::join!(migrate(), migrate(), migrate());
    let mut applied = [first.unwrap(), second.unwrap(), third.unwrap()];
    applied.sort_unstable();
    assert_eq!(applied, [0, 0, 4], "one of them applies all, with the chassis' own");
    let pool = open(&settings, &release).await.unwrap();
    assert_eq!(count(&pool, "SELECT count(*) FROM _sqlx_migrations").await, 4);
    pool.close().await;
    bed.finish().await;
}

#[tokio::test]
async fn a_service_that_only_checks_waits_until_the_task_has_migrated() {
    let (bed, settings) = bed().await;
    let checks = self::settings(&bed, Migrations::Check);
    let (old, new) = (release(&[TABLE]), release(&[TABLE, COLUMN]));
    let missing = open(&checks, &old).await.unwrap_err();
    assert!(!missing.is_final() && missing.to_string().contains("flowmeter-widgets migrate"), "{missing}");
    assert_eq!(chassis::migrate_database("widgets", &checks, &[&old]).await.unwrap(), 2);
    open(&checks, &old).await.unwrap().close().await;
    let behind = open(&checks, &new).await.unwrap_err();
    assert!(matches!(behind, DatabaseError::Behind { missing: 1, .. }), "{behind}");
    open(&settings, &new).await.unwrap().close().await;
    open(&checks, &new).await.unwrap().close().await;
    bed.finish().await;
}

#[tokio::test]
async fn a_service_that_only_checks_waits_for_a_running_migration() {
    let (bed, settings) = bed().await;
    let checks = self::settings(&bed, Migrations::Check);
    let (old, new) = (release(&[TABLE]), release(&[TABLE, SLOW]));
    open(&settings, &old).await.unwrap().close().await;
    let migrating = async { chassis::migrate_database("widgets", &settings, &[&new]).await.unwrap() };
    let watching = async {
        loop {
            match open(&checks, &new).await {
                Err(DatabaseError::Migrating { .. }) => return true,
                Err(error) => assert!(!error.is_final(), "{error}"),
                Ok(_) => return false,
            }
        }
    };
    let (applied, has_seen) = tokio::join!(migrating, watching);
    assert!(has_seen && applied == 1);
    bed.finish().await;
}

#[tokio::test]
async fn an_older_binary_runs_on_a_newer_schema_that_leaves_room_for_it() {
    let (bed, settings) = bed().await;
    let (old, new) = (release(&[TABLE]), release(&[TABLE, COLUMN]));
    open(&settings, &new).await.unwrap().close().await;
    for migrations in [Migrations::Apply, Migrations::Check] {
        let pool = open(&self::settings(&bed, migrations), &old).await.unwrap();
        sqlx::query("INSERT INTO things (id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    }
    let pool = open(&settings, &new).await.unwrap();
    assert_eq!(count(&pool, "SELECT count(*) FROM things WHERE colour IS NULL").await, 1);
    pool.close().await;
    bed.finish().await;
}

#[tokio::test]
async fn a_needed_migration_waits_for_older_processes_and_keeps_them_out_afterwards() {
    let (bed, settings) = bed().await;
    let (old, expanded, contracted) =
        (release(&[TABLE]), release(&[TABLE, COLUMN]), release(&[TABLE, COLUMN, BREAKING]));
    let running_old = open(&settings, &old).await.unwrap();
    let running_expanded = open(&settings, &expanded).await.unwrap();
    let held = open(&settings, &contracted).await.unwrap_err();
    assert!(!held.is_final(), "it is tried again: {held}");
    let text = chain(&held);
    assert!(text.contains("stop them first") && text.contains("0.9.0"), "{text}");
    assert_eq!(count(&running_old, "SELECT count(name) FROM things").await, 0, "nothing has changed");
    running_old.close().await;
    // The release that knows the needed migration may go on running.
    let running = open(&settings, &contracted).await.unwrap();
    assert_eq!(count(&running_expanded, "SELECT count(colour) FROM things").await, 0);
    open(&settings, &expanded).await.unwrap().close().await;
    for migrations in [Migrations::Apply, Migrations::Check] {
        let refused = open(&self::settings(&bed, migrations), &old).await.unwrap_err();
        assert!(refused.is_final() && refused.to_string().contains("needs Flowmeter 0.9.0"), "{refused}");
    }
    running.close().await;
    running_expanded.close().await;
    bed.finish().await;
}

#[tokio::test]
async fn a_released_migration_with_another_text_is_refused() {
    let (bed, settings) = bed().await;
    open(&settings, &release(&[TABLE])).await.unwrap().close().await;
    let edited = release(&["CREATE TABLE things (id bigint PRIMARY KEY)"]);
    for migrations in [Migrations::Apply, Migrations::Check] {
        let refused = open(&self::settings(&bed, migrations), &edited).await.unwrap_err();
        assert!(refused.is_final(), "{refused}");
    }
    bed.finish().await;
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
