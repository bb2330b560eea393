//! The database: one schema per service, migrated at start.

use secrecy::ExposeSecret;
use sqlx::{
    AssertSqlSafe, PgPool,
    migrate::{MigrateError, Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};

use crate::DatabaseSettings;

/// A request waits this long for a free connection before it fails; the caller then retries.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is not one.
    #[error("database.url is not a Postgres address")]
    Address(#[source] sqlx::Error),
    /// No connection, or the schema cannot be made.
    #[error("cannot open the database; is Postgres running, and may this user create the schema {schema}?")]
    Open {
        /// The service's schema.
        schema: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// A migration failed; the ones before it stay.
    #[error("cannot migrate the schema {schema}")]
    Migrate {
        /// The service's schema.
        schema: &'static str,
        /// Why.
        source: MigrateError,
    },
}

/// Connects with `schema` as the only search path, and brings the schema up to date with all `migrators`.
pub async fn open(
    schema: &'static str,
    settings: &DatabaseSettings,
    migrators: &[&Migrator],
) -> Result<PgPool, DatabaseError> {
    let options = PgConnectOptions::from_str(settings.url.expose_secret())
        .map_err(DatabaseError::Address)?
        .options([("search_path", schema)])
        .application_name(schema);
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(|source| DatabaseError::Open { schema, source })?;
    // The name is one of our own constants.
    create_schema(&pool, schema).await.map_err(|source| DatabaseError::Open { schema, source })?;
    let migrations: Vec<Migration> =
        migrators.iter().flat_map(|migrator| migrator.migrations.iter().cloned()).collect();
    Migrator::with_migrations(migrations)
        .run(&pool)
        .await
        .map_err(|source| DatabaseError::Migrate { schema, source })?;
    Ok(pool)
}

/// The bounds of a pool for one kind of work.
#[derive(Debug, Clone, Copy)]
pub struct PoolBounds {
    /// Its connections.
    pub connections_max: u32,
    /// How long a request waits for a free connection.
    pub acquire_timeout: Duration,
    /// The database ends a statement after this time, where there is such a bound.
    pub statement_timeout: Option<Duration>,
}

impl PoolBounds {
    /// So many connections, with the patience of a service's common pool.
    pub fn of(connections_max: u32) -> Self {
        Self { connections_max, acquire_timeout: ACQUIRE_TIMEOUT, statement_timeout: None }
    }
}

/// Another pool into the same schema, for one kind of work: what is slow there does not take the connections of the rest. It
/// connects when it is first used.
pub fn pool_beside(pool: &PgPool, bounds: PoolBounds) -> PgPool {
    let mut options = pool.connect_options().as_ref().clone();
    if let Some(timeout) = bounds.statement_timeout {
        options = options.options([("statement_timeout", format!("{}ms", timeout.as_millis()))]);
    }
    PgPoolOptions::new()
        .max_connections(bounds.connections_max)
        .acquire_timeout(bounds.acquire_timeout)
        .connect_lazy_with(options)
}

async fn create_schema(pool: &PgPool, schema: &'static str) -> Result<(), sqlx::Error> {
    // Two replicas that start together would collide inside CREATE SCHEMA IF NOT EXISTS.
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))").bind(schema).execute(&mut *transaction).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}")))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
