//! The copy of the catalog in a service's schema.

use messaging::{Dispose, Disposition};
use prost::Message;
use proto::{subjects::CatalogKind, v1};
use sqlx::{PgConnection, PgExecutor};

use crate::{ArchivedTenant, Entry, InvalidEntry, Tenant};

/// The catalog cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database failed.
    #[error("cannot reach the catalog")]
    Database(#[from] sqlx::Error),
    /// A stored value cannot be read.
    #[error("the stored {kind} {id} is damaged")]
    Damaged {
        /// What it should have been.
        kind: &'static str,
        /// Whose value it is.
        id: String,
        /// Why.
        source: InvalidEntry,
    },
}

impl Dispose for CatalogError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Database(error) => error.disposition(),
            Self::Damaged { .. } => Disposition::Retry,
        }
    }
}

/// Keeps others from changing the copy until the transaction ends.
pub(crate) async fn hold_changes(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.catalog'))")
        .execute(connection)
        .await?;
    Ok(())
}

/// The value with this id; `None` if there is none or it was removed.
pub async fn find<E: Entry>(executor: impl PgExecutor<'_>, id: &str) -> Result<Option<E>, CatalogError> {
    let value: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT value FROM catalog WHERE kind = $1 AND id = $2 AND NOT removed")
            .bind(E::KIND.as_str())
            .bind(id)
            .fetch_optional(executor)
            .await?;
    value.map(|value| decode(&value, id)).transpose()
}

/// The values with these ids, in no particular order, without missing and removed ones.
pub async fn find_all<E: Entry>(executor: impl PgExecutor<'_>, ids: &[&str]) -> Result<Vec<E>, CatalogError> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT id, value FROM catalog WHERE kind = $1 AND id = ANY($2) AND NOT removed")
            .bind(E::KIND.as_str())
            .bind(ids)
            .fetch_all(executor)
            .await?;
    rows.into_iter().map(|(id, value)| decode(&value, &id)).collect()
}

/// All values of a kind that can be read, by id. A damaged one is logged and left out: it must not hide the others.
pub async fn list<E: Entry>(executor: impl PgExecutor<'_>) -> Result<Vec<E>, sqlx::Error> {
    let each = list_each(executor).await?;
    Ok(each.into_iter().filter_map(|value| value.inspect_err(log_damaged).ok()).collect())
}

fn log_damaged(error: &CatalogError) {
    if let CatalogError::Damaged { kind, id, source } = error {
        tracing::error!(kind, id, error = %source, "a stored catalog value is damaged and left out; put it again");
    }
}

/// All values of a kind, by id, each by itself: one that is damaged does not hide the others.
pub async fn list_each<E: Entry>(
    executor: impl PgExecutor<'_>,
) -> Result<Vec<Result<E, CatalogError>>, sqlx::Error> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT id, value FROM catalog WHERE kind = $1 AND NOT removed ORDER BY id")
            .bind(E::KIND.as_str())
            .fetch_all(executor)
            .await?;
    Ok(rows.into_iter().map(|(id, value)| decode(&value, &id)).collect())
}

/// The archived tenant with this id; `None` if there is none or the tenant is not archived.
pub async fn find_archived(
    executor: impl PgExecutor<'_>,
    id: &str,
) -> Result<Option<ArchivedTenant>, CatalogError> {
    let found = find_all_archived(executor, &[id]).await?;
    Ok(found.into_iter().next())
}

/// The archived tenants with these ids, in no particular order.
pub async fn find_all_archived(
    executor: impl PgExecutor<'_>,
    ids: &[&str],
) -> Result<Vec<ArchivedTenant>, CatalogError> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT id, value FROM catalog WHERE kind = $1 AND id = ANY($2) AND removed")
            .bind(Tenant::KIND.as_str())
            .bind(ids)
            .fetch_all(executor)
            .await?;
    rows.into_iter().map(|(id, value)| decode_archived(&value, &id)).collect()
}

/// Archived tenants, by id, at most `limit`, each by itself: one that is damaged does not hide the others.
pub async fn list_archived(
    executor: impl PgExecutor<'_>,
    limit: u32,
) -> Result<Vec<Result<ArchivedTenant, CatalogError>>, sqlx::Error> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT id, value FROM catalog WHERE kind = $1 AND removed ORDER BY id LIMIT $2")
            .bind(Tenant::KIND.as_str())
            .bind(i64::from(limit))
            .fetch_all(executor)
            .await?;
    Ok(rows.into_iter().map(|(id, value)| decode_archived(&value, &id)).collect())
}

/// A value as it travels, for storing.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Tenant, plan or source.
    pub kind: CatalogKind,
    /// Its id.
    pub id: String,
    /// Its revision.
    pub revision: u64,
    /// Whether it is a tombstone.
    pub removed: bool,
    /// The message's bytes.
    pub value: Vec<u8>,
}

/// Stores a value unless its revision or a newer one is stored already. Returns whether it was stored.
pub async fn put(executor: impl PgExecutor<'_>, stored: &Stored) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query(
        "INSERT INTO catalog (kind, id, revision, removed, value) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (kind, id) DO UPDATE
         SET revision = excluded.revision, removed = excluded.removed, value = excluded.value
         WHERE catalog.revision < excluded.revision",
    )
    .bind(stored.kind.as_str())
    .bind(&stored.id)
    .bind(i64::try_from(stored.revision).unwrap_or(i64::MAX))
    .bind(stored.removed)
    .bind(&stored.value)
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

fn decode_archived(value: &[u8], id: &str) -> Result<ArchivedTenant, CatalogError> {
    let kind = Tenant::KIND.as_str();
    v1::Tenant::decode(value)
        .map_err(|error| InvalidEntry::Undecodable { kind, reason: error.to_string() })
        .and_then(ArchivedTenant::from_wire)
        .map_err(|source| CatalogError::Damaged { kind, id: id.to_owned(), source })
}

fn decode<E: Entry>(value: &[u8], id: &str) -> Result<E, CatalogError> {
    let kind = E::KIND.as_str();
    E::Wire::decode(value)
        .map_err(|error| InvalidEntry::Undecodable { kind, reason: error.to_string() })
        .and_then(E::from_wire)
        .map_err(|source| CatalogError::Damaged { kind, id: id.to_owned(), source })
}
