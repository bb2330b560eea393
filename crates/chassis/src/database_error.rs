//! Why the database cannot be used, and whether waiting helps.

use std::time::Duration;

use sqlx::migrate::MigrateError;

/// Without a first connection by then, the database counts as unavailable.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// A migration of a newer release broke older ones.
    #[error(
        "the schema {schema} needs Flowmeter {release} or later (migration {migration}): start that release, or restore a backup from \
         before the update"
    )]
    TooOld {
        /// The service's schema.
        schema: &'static str,
        /// The migration that this binary would have to know.
        migration: i64,
        /// The first release that knows it.
        release: String,
    },
    /// Migrations are missing, and this process does not apply them.
    #[error(
        "the schema {schema} lacks {missing} migrations: run `flowmeter-{schema} migrate` (with Helm: the release's migration Job), or \
         set database.migrations to `apply`"
    )]
    Behind {
        /// The service's schema.
        schema: &'static str,
        /// How many.
        missing: usize,
    },
    /// Another process applies migrations, and this one only checks them.
    #[error("the schema {schema} is being migrated")]
    Migrating {
        /// The service's schema.
        schema: &'static str,
    },
}

impl DatabaseError {
    /// Whether waiting cannot help: a wrong address, a refused login, missing rights, a migration that fails
    /// by itself. A database that does not exist is waited for, because a restore recreates it.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Address(_) | Self::TooOld { .. } => true,
            Self::Silent | Self::Behind { .. } | Self::Migrating { .. } => false,
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
