//! The originals of the catalog, with their revisions. Reads without revisions go through `catalog::store`.

use std::collections::BTreeMap;

use catalog::{CatalogKind, Entry};
use sqlx::{PgConnection, PgExecutor, Row};

use super::from_db;

/// A stored value, removed or not.
#[derive(Debug, Clone)]
pub struct Original {
    /// Its revision.
    pub revision: u64,
    /// Whether it is a tombstone.
    pub removed: bool,
    /// The message's bytes.
    pub value: Vec<u8>,
}

/// Serialises changes of the catalog until the transaction ends, so that a revision is never used twice and
/// no reference dangles. Changes are rare and short.
pub async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.catalog'))")
        .execute(connection)
        .await?;
    Ok(())
}

/// The value with this id, even if it was removed.
pub async fn find<E: Entry>(
    executor: impl PgExecutor<'_>,
    id: &str,
) -> Result<Option<Original>, sqlx::Error> {
    let row = sqlx::query("SELECT revision, removed, value FROM catalog WHERE kind = $1 AND id = $2")
        .bind(E::KIND.as_str())
        .bind(id)
        .fetch_optional(executor)
        .await?;
    row.map(|row| {
        Ok(Original {
            revision: from_db(row.try_get("revision")?),
            removed: row.try_get("removed")?,
            value: row.try_get("value")?,
        })
    })
    .transpose()
}

/// How many values of a kind there are.
pub async fn count<E: Entry>(executor: impl PgExecutor<'_>) -> Result<u64, sqlx::Error> {
    let count = sqlx::query_scalar("SELECT count(*) FROM catalog WHERE kind = $1 AND NOT removed")
        .bind(E::KIND.as_str())
        .fetch_one(executor)
        .await?;
    Ok(from_db(count))
}

/// All values of a kind with their revisions, by id.
pub async fn list<E: Entry>(executor: impl PgExecutor<'_>) -> Result<Vec<(String, Original)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, revision, removed, value FROM catalog WHERE kind = $1 AND NOT removed ORDER BY id",
    )
    .bind(E::KIND.as_str())
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            let original = Original {
                revision: from_db(row.try_get("revision")?),
                removed: row.try_get("removed")?,
                value: row.try_get("value")?,
            };
            Ok((row.try_get("id")?, original))
        })
        .collect()
}

/// Every value of every kind, including removed ones.
pub async fn all(
    connection: &mut PgConnection,
) -> Result<BTreeMap<(CatalogKind, String), Original>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT kind, id, revision, removed, value FROM catalog").fetch_all(connection).await?;
    let mut all = BTreeMap::new();
    for row in rows {
        let kind: String = row.try_get("kind")?;
        let Some(kind) = CatalogKind::parse(&kind) else { continue };
        let original = Original {
            revision: from_db(row.try_get("revision")?),
            removed: row.try_get("removed")?,
            value: row.try_get("value")?,
        };
        all.insert((kind, row.try_get("id")?), original);
    }
    Ok(all)
}

/// Makes the transaction see one state of the catalog, despite concurrent changes.
pub async fn snapshot(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(connection).await?;
    Ok(())
}
