//! Tokens and sessions.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::TenantId;
use sqlx::{PgExecutor, Row, postgres::PgRow};
use uuid::Uuid;

use super::{instant_from_db, to_db};
use crate::access::token::{Hash, Principal, TokenRecord};

fn principal(row: &PgRow) -> Result<Principal, sqlx::Error> {
    match row.try_get::<Option<String>, _>("tenant")? {
        None => Ok(Principal::Operator),
        Some(tenant) => {
            let tenant = TenantId::parse(&tenant).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok(Principal::Tenant(tenant))
        }
    }
}

fn kind(principal: &Principal) -> &'static str {
    match principal {
        Principal::Operator => "operator",
        Principal::Tenant(_) => "tenant",
    }
}

/// The owner of a valid token, by its hash.
pub async fn find_principal(
    executor: impl PgExecutor<'_>,
    hash: &Hash,
) -> Result<Option<Principal>, sqlx::Error> {
    let row = sqlx::query("SELECT tenant FROM tokens WHERE hash = $1 AND revoked_at IS NULL")
        .bind(hash.as_bytes())
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(principal).transpose()
}

/// The id of the token with this hash, even if it was revoked.
pub async fn id_of(executor: impl PgExecutor<'_>, hash: &Hash) -> Result<Option<Uuid>, sqlx::Error> {
    let id = sqlx::query_scalar("SELECT id FROM tokens WHERE hash = $1").bind(hash.as_bytes());
    id.fetch_optional(executor).await
}

/// How many valid tokens there are, without revoked ones.
pub async fn count(executor: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM tokens WHERE revoked_at IS NULL").fetch_one(executor).await
}

/// Stores a new token's hash.
pub async fn insert(
    executor: impl PgExecutor<'_>,
    record: &TokenRecord,
    hash: &Hash,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO tokens (id, kind, tenant, hash, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(record.id)
        .bind(kind(&record.principal))
        .bind(record.principal.tenant().map(TenantId::as_str))
        .bind(hash.as_bytes())
        .bind(record.created_at.to_sqlx())
        .execute(executor)
        .await?;
    Ok(())
}

/// All valid tokens, at most `rows_max`, and the latest revoked ones, at most `revoked_max`; newest first.
pub async fn list(
    executor: impl PgExecutor<'_>,
    rows_max: u64,
    revoked_max: u64,
) -> Result<Vec<TokenRecord>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM (
             (SELECT id, tenant, created_at, revoked_at FROM tokens WHERE revoked_at IS NULL
              ORDER BY created_at DESC LIMIT $1)
             UNION ALL
             (SELECT id, tenant, created_at, revoked_at FROM tokens WHERE revoked_at IS NOT NULL
              ORDER BY revoked_at DESC LIMIT $2)) AS listed
         ORDER BY created_at DESC, id",
    )
    .bind(to_db(rows_max))
    .bind(to_db(revoked_max))
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(TokenRecord {
                id: row.try_get("id")?,
                principal: principal(row)?,
                created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
                revoked_at: instant_from_db(row.try_get("revoked_at")?),
            })
        })
        .collect()
}

/// Revokes a token; a repeat changes nothing. Returns whether there is one of this id.
pub async fn revoke(executor: impl PgExecutor<'_>, id: Uuid, now: Timestamp) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query("UPDATE tokens SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1")
        .bind(id)
        .bind(now.to_sqlx())
        .execute(executor)
        .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Revokes every token of a tenant.
pub async fn revoke_all_of(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE tokens SET revoked_at = $2 WHERE tenant = $1 AND revoked_at IS NULL")
        .bind(tenant)
        .bind(now.to_sqlx())
        .execute(executor)
        .await?;
    Ok(())
}

/// Opens a session for the token with this hash.
pub async fn insert_session(
    executor: impl PgExecutor<'_>,
    session: &Hash,
    token: &Hash,
    expires_at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO sessions (hash, token_hash, expires_at) VALUES ($1, $2, $3)")
        .bind(session.as_bytes())
        .bind(token.as_bytes())
        .bind(expires_at.to_sqlx())
        .execute(executor)
        .await?;
    Ok(())
}

/// Ends a token's sessions beyond the `kept` that expire last.
pub async fn end_sessions_beyond(
    executor: impl PgExecutor<'_>,
    token: &Hash,
    kept: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM sessions WHERE hash IN
             (SELECT hash FROM sessions WHERE token_hash = $1 ORDER BY expires_at DESC, hash OFFSET $2)",
    )
    .bind(token.as_bytes())
    .bind(to_db(kept))
    .execute(executor)
    .await?;
    Ok(())
}

/// The token of an open session, and the session's end.
pub async fn find_session(
    executor: impl PgExecutor<'_>,
    session: &Hash,
    now: Timestamp,
) -> Result<Option<(Hash, Timestamp)>, sqlx::Error> {
    let row = sqlx::query("SELECT token_hash, expires_at FROM sessions WHERE hash = $1 AND expires_at > $2")
        .bind(session.as_bytes())
        .bind(now.to_sqlx())
        .fetch_optional(executor)
        .await?;
    row.map(|row| {
        let token = Hash::from_bytes(row.try_get("token_hash")?)
            .ok_or_else(|| sqlx::Error::Decode("a token hash has 32 bytes".into()))?;
        Ok((token, row.try_get::<jiff_sqlx::Timestamp, _>("expires_at")?.to_jiff()))
    })
    .transpose()
}

/// Ends a session.
pub async fn delete_session(executor: impl PgExecutor<'_>, session: &Hash) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(session.as_bytes()).execute(executor).await?;
    Ok(())
}
