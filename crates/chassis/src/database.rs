//! The database: one schema per service, migrated at start.

use secrecy::ExposeSecret;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    migrate::{MigrateError, Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};
use tokio::time::timeout;

use crate::DatabaseSettings;

/// A request waits this long for a free connection before it fails; the caller then retries.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Without a first connection by then, the database counts as unavailable.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is malformed.
    #[error(
        "database.url is not a Postgres address; percent-encode `#`, `/`, `?`, `@` and `%` in user and password"
    )]
    Address(#[source] sqlx::Error),
    /// No connection in time.
    #[error("no answer from Postgres within {PROBE_TIMEOUT:?}")]
    Silent,
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

impl DatabaseError {
    /// Whether waiting cannot help: a wrong address, a refused login, missing rights, a migration that fails
    /// by itself. A database that does not exist is waited for, because a restore recreates it.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Silent => false,
            Self::Open { source, .. } => is_refused(source),
            Self::Migrate { source, .. } => match source {
                MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                    !is_passing(source)
                }
                _ => true,
            },
        }
    }
}

/// The server is up and refuses us: login refused (class 28), missing rights (42501), a wrong setting.
fn is_refused(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Configuration(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("28") || code == "42501")
        }
        _ => false,
    }
}

/// The connection, the server or another session is the cause, not the statement.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection, rollback by another, out of resources, object in use, intervention (shutdown, starting), system.
            ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
        }),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
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
    // The pool would retry until its time-out and then report only that.
    timeout(PROBE_TIMEOUT, PgConnection::connect_with(&options))
        .await
        .map_err(|_| DatabaseError::Silent)?
        .map_err(|source| DatabaseError::Open { schema, source })?
        .close()
        .await
        .map_err(|source| DatabaseError::Open { schema, source })?;
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
    /// The database ends a statement after this time, if set.
    pub statement_timeout: Option<Duration>,
}

impl PoolBounds {
    /// This many connections, with the acquire time-out of a service's common pool.
    pub fn of(connections_max: u32) -> Self {
        Self { connections_max, acquire_timeout: ACQUIRE_TIMEOUT, statement_timeout: None }
    }
}

/// Another pool into the same schema, for one kind of work: if it is slow, it does not take the connections
/// of the rest. It connects when it is first used.
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
    // The right to create one is checked even if it exists, and a role that was given its schema needs no such right.
    let exists: bool =
        sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL").bind(schema).fetch_one(pool).await?;
    if exists {
        return Ok(());
    }
    // Two replicas that start together would collide inside CREATE SCHEMA IF NOT EXISTS.
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))").bind(schema).execute(&mut *transaction).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}")))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> DatabaseSettings {
        DatabaseSettings { url: url.into(), connections_max: 2 }
    }

    #[tokio::test]
    async fn an_unavailable_database_is_waited_for_and_a_wrong_address_is_not() {
        // Nothing listens on port 1.
        let away = open("tester", &settings("postgres://u@127.0.0.1:1/x"), &[]).await.unwrap_err();
        assert!(!away.is_final(), "{away}");
        let wrong = open("tester", &settings("postgres://u:a#b@h/x"), &[]).await.unwrap_err();
        assert!(wrong.is_final() && wrong.to_string().contains("percent-encode"), "{wrong}");
    }
}
