//! A service's schema: who applies its migrations, and which binaries may run on it.
//!
//! Releases run side by side during an update, and the older one is started again if the newer one fails. So a binary accepts
//! migrations that it does not know, except those that the schema lists as needed (`need_migration`).

use std::collections::BTreeMap;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    migrate::{MigrateError, Migration, Migrator},
};

use crate::database_error::DatabaseError;

/// The chassis' own table. It does not collide with those of services and shared crates.
static MIGRATOR: Migrator = sqlx::migrate!();

/// Shared crates number their migrations below this, services from here on.
const FIRST_OWN: i64 = 1000;

/// All migrations of a service that this binary knows.
#[derive(Debug, Clone)]
pub struct Schema {
    name: &'static str,
    migrations: Vec<Migration>,
}

impl Schema {
    /// The schema of this name, with the migrations of the chassis and of all `migrators`.
    pub fn new(name: &'static str, migrators: &[&Migrator]) -> Self {
        let all = migrators.iter().copied().chain([&MIGRATOR]);
        let migrations = all.flat_map(|migrator| migrator.migrations.iter().cloned()).collect();
        Self { name, migrations }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How the binary's connections are named: `SCHEMA SHARED/OWN`, the newest migrations that it knows. A migration that older
    /// binaries cannot work with finds their connections by it.
    pub fn application_name(&self) -> String {
        let versions = || self.migrations.iter().map(|migration| migration.version);
        let shared = versions().filter(|version| *version < FIRST_OWN).max().unwrap_or_default();
        let own = versions().max().unwrap_or_default();
        format!("{} {shared}/{own}", self.name)
    }

    /// Makes the schema and applies the missing migrations. Returns how many. Processes that do so at the same time wait for each other.
    pub async fn migrate(&self, connection: &mut PgConnection) -> Result<usize, DatabaseError> {
        self.create(connection).await.map_err(|source| DatabaseError::Open { schema: self.name, source })?;
        // Released at the latest with the connection, which nobody else uses.
        self.run(connection, "SELECT pg_advisory_lock(hashtext('flowmeter migrations'), hashtext($1))")
            .await?;
        self.refuse_if_too_old(connection).await?;
        let missing = self.missing(connection).await?;
        let mut migrator = Migrator::with_migrations(self.migrations.clone());
        migrator.set_ignore_missing(true);
        // Not `run`, whose future counts as bound to one thread.
        migrator.run_direct(None, connection, false).await.map_err(|source| self.failed(source))?;
        self.run(connection, "SELECT pg_advisory_unlock(hashtext('flowmeter migrations'), hashtext($1))")
            .await?;
        Ok(missing)
    }

    /// Checks that nothing is missing, and that this binary may run.
    pub async fn check(&self, connection: &mut PgConnection) -> Result<(), DatabaseError> {
        let lock = "SELECT pg_try_advisory_lock_shared(hashtext('flowmeter migrations'), hashtext($1))";
        let is_locked: bool = sqlx::query_scalar(lock)
            .bind(self.name)
            .fetch_one(&mut *connection)
            .await
            .map_err(|source| self.failed(source.into()))?;
        if !is_locked {
            return Err(DatabaseError::Migrating { schema: self.name });
        }
        self.refuse_if_too_old(connection).await?;
        let missing = self.missing(connection).await?;
        let unlock = "SELECT pg_advisory_unlock_shared(hashtext('flowmeter migrations'), hashtext($1))";
        self.run(connection, unlock).await?;
        if missing > 0 {
            return Err(DatabaseError::Behind { schema: self.name, missing });
        }
        Ok(())
    }

    async fn create(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        // The right to create one is checked even if it exists, and a role that was given its schema needs no such right.
        let exists: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
            .bind(self.name)
            .fetch_one(&mut *connection)
            .await?;
        if exists {
            return Ok(());
        }
        // Two replicas that start together would collide inside CREATE SCHEMA IF NOT EXISTS.
        let mut transaction = connection.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))")
            .bind(self.name)
            .execute(&mut *transaction)
            .await?;
        // The name is one of our own constants.
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {}", self.name)))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Only a needed migration that is unknown counts: all other unknown ones leave room for older binaries.
    async fn refuse_if_too_old(&self, connection: &mut PgConnection) -> Result<(), DatabaseError> {
        if !self.exists(connection, "needed_migrations").await? {
            return Ok(());
        }
        let known: Vec<i64> = self.migrations.iter().map(|migration| migration.version).collect();
        let unknown = "SELECT version, release FROM needed_migrations WHERE version <> ALL ($1) ORDER BY version DESC LIMIT 1";
        let needed: Option<(i64, String)> = sqlx::query_as(unknown)
            .bind(known)
            .fetch_optional(connection)
            .await
            .map_err(|source| self.failed(source.into()))?;
        match needed {
            Some((migration, release)) => {
                Err(DatabaseError::TooOld { schema: self.name, migration, release })
            }
            None => Ok(()),
        }
    }

    /// How many known migrations were not applied. An applied one with another text is an error.
    async fn missing(&self, connection: &mut PgConnection) -> Result<usize, DatabaseError> {
        if !self.exists(connection, "_sqlx_migrations").await? {
            return Ok(self.migrations.len());
        }
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
                .fetch_all(connection)
                .await
                .map_err(|source| self.failed(source.into()))?;
        let mut applied: BTreeMap<i64, Vec<u8>> = rows.into_iter().collect();
        let mut missing = 0;
        for migration in &self.migrations {
            match applied.remove(&migration.version) {
                None => missing += 1,
                Some(checksum) if checksum == *migration.checksum => {}
                Some(_) => return Err(self.failed(MigrateError::VersionMismatch(migration.version))),
            }
        }
        if !applied.is_empty() {
            tracing::info!(
                schema = self.name,
                migrations = applied.len(),
                "the schema has migrations of a newer release, which this one can work with"
            );
        }
        Ok(missing)
    }

    async fn exists(&self, connection: &mut PgConnection, table: &str) -> Result<bool, DatabaseError> {
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(format!("{}.{table}", self.name))
            .fetch_one(connection)
            .await
            .map_err(|source| self.failed(source.into()))
    }

    async fn run(&self, connection: &mut PgConnection, statement: &'static str) -> Result<(), DatabaseError> {
        let done = sqlx::query(statement).bind(self.name).execute(connection).await;
        done.map(drop).map_err(|source| self.failed(source.into()))
    }

    fn failed(&self, source: MigrateError) -> DatabaseError {
        DatabaseError::Migrate { schema: self.name, source }
    }
}
