//! The database: one schema per service, migrated at start or by the task `migrate`.

use secrecy::ExposeSecret;
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};
use tokio::time::timeout;

use crate::{
    DatabaseSettings, Migrations,
    database_error::{DatabaseError, PROBE_TIMEOUT},
    schema::Schema,
};

/// A request waits this long for a free connection before it fails; the caller then retries.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects with `schema` as the only search path. Brings the schema up to date with all `migrators`, or checks that it is,
/// as the settings say.
pub async fn open(
    schema: &'static str,
    settings: &DatabaseSettings,
    migrators: &[&Migrator],
) -> Result<PgPool, DatabaseError> {
    let migrations = Schema::new(schema, migrators);
    let options = connect_options(&migrations, settings)?;
    let mut connection = connect(schema, &options).await?;
    match settings.migrations {
        Migrations::Apply => migrations.migrate(&mut connection).await.map(drop)?,
        Migrations::Check => migrations.check(&mut connection).await?,
    }
    connection.close().await.map_err(|source| DatabaseError::Open { schema, source })?;
    PgPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(|source| DatabaseError::Open { schema, source })
}

/// Brings the schema up to date, whatever the settings say about a start. Returns how many migrations were applied.
pub async fn migrate(
    schema: &'static str,
    settings: &DatabaseSettings,
    migrators: &[&Migrator],
) -> Result<usize, DatabaseError> {
    let migrations = Schema::new(schema, migrators);
    let mut connection = connect(schema, &connect_options(&migrations, settings)?).await?;
    let applied = migrations.migrate(&mut connection).await?;
    connection.close().await.map_err(|source| DatabaseError::Open { schema, source })?;
    Ok(applied)
}

fn connect_options(schema: &Schema, settings: &DatabaseSettings) -> Result<PgConnectOptions, DatabaseError> {
    let options = PgConnectOptions::from_str(settings.url.expose_secret()).map_err(DatabaseError::Address)?;
    Ok(options.options([("search_path", schema.name())]).application_name(&schema.application_name()))
}

/// One connection first: a pool would retry until its time-out and then report only that.
async fn connect(schema: &'static str, options: &PgConnectOptions) -> Result<PgConnection, DatabaseError> {
    timeout(PROBE_TIMEOUT, PgConnection::connect_with(options))
        .await
        .map_err(|_| DatabaseError::Silent)?
        .map_err(|source| DatabaseError::Open { schema, source })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> DatabaseSettings {
        DatabaseSettings { url: url.into(), connections_max: 2, migrations: Migrations::Apply }
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
