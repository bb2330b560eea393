//! The table `pauses`: what is not sent for now, shown to operators.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{PgExecutor, PgPool};

use super::StoreError;

/// What a pause holds up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Account,
    /// The events of one meter, by their name.
    Meter(String),
}

impl Scope {
    fn key(&self) -> String {
        match self {
            Self::Account => "account".to_owned(),
            Self::Meter(event_name) => format!("meter:{event_name}"),
        }
    }
}

/// Begins or extends a pause. True if it was not paused before.
pub async fn begin(
    pool: &PgPool,
    scope: &Scope,
    reason: &str,
    retry_after: Duration,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let is_new: bool = sqlx::query_scalar(
        "INSERT INTO pauses (scope, reason, paused_at, retry_at)
         VALUES ($1, $2, $3, now() + make_interval(secs => $4))
         ON CONFLICT (scope) DO UPDATE SET reason = excluded.reason, retry_at = excluded.retry_at
         RETURNING xmax = 0",
    )
    .bind(scope.key())
    .bind(reason)
    .bind(now.to_sqlx())
    .bind(retry_after.as_secs_f64())
    .fetch_one(pool)
    .await?;
    Ok(is_new)
}

/// Whether everything is paused and the time for another try has not come.
pub async fn is_account_paused(pool: &PgPool) -> Result<bool, StoreError> {
    let paused: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pauses WHERE scope = $1 AND retry_at > now())")
            .bind(Scope::Account.key())
            .fetch_one(pool)
            .await?;
    Ok(paused)
}

/// Whether the events of this meter are held up, whenever they are tried again.
pub async fn is_meter_paused(executor: impl PgExecutor<'_>, event_name: &str) -> Result<bool, StoreError> {
    let paused: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pauses WHERE scope = $1)")
        .bind(Scope::Meter(event_name.to_owned()).key())
        .fetch_one(executor)
        .await?;
    Ok(paused)
}

/// Ends the pauses of a meter and of the account: a report went through, so both work.
pub async fn end(executor: impl PgExecutor<'_>, event_name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM pauses WHERE scope IN ($1, $2)")
        .bind(Scope::Account.key())
        .bind(Scope::Meter(event_name.to_owned()).key())
        .execute(executor)
        .await?;
    Ok(())
}

/// Ends all pauses: a new start may have a new key.
pub async fn end_all(pool: &PgPool) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM pauses").execute(pool).await?;
    Ok(())
}

/// How many things are paused.
pub async fn count(pool: &PgPool) -> Result<u32, StoreError> {
    let paused: i64 = sqlx::query_scalar("SELECT count(*) FROM pauses").fetch_one(pool).await?;
    Ok(u32::try_from(paused).unwrap_or(u32::MAX))
}
