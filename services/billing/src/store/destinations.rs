//! The tables `beginnings` and `destinations`: since when a tenant is billed, and where its usage goes.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as Stamp, ToSqlx};
use metering::{Period, TenantId};
use sqlx::PgConnection;

use super::StoreError;
use crate::identifier::Destination;

/// Replaced destinations are kept for as long as executions are: nothing older is corrected any more.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(400 * 24);

type Names = (Option<String>, Option<String>);

/// Number, since, until, customer and event name.
type Newest = (i64, Stamp, Option<Stamp>, Option<String>, Option<String>);

/// Keeps the tenant's destination from changing until the transaction ends: a total is in the books before a
/// change binds what is there, or it sees the change. A row lock, because a plan's meter changes for all its
/// tenants at once, and the number of advisory locks is limited.
pub async fn hold(connection: &mut PgConnection, tenant: &TenantId) -> Result<(), StoreError> {
    sqlx::query("SELECT FROM destinations WHERE tenant_id = $1 AND until IS NULL FOR SHARE")
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps others from choosing a minute of this customer and meter until the transaction ends.
pub async fn lock_minutes(
    connection: &mut PgConnection,
    destination: &Destination,
) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('billing/minutes/' || $1 || '/' || $2, 0))")
        .bind(&destination.customer)
        .bind(&destination.event_name)
        .execute(connection)
        .await?;
    Ok(())
}

/// The destination of a period's usage that was counted at `at`: the one in force then or, if counted after
/// the period's end, the one in force at its end. `None` for a period that had ended before billing began.
pub async fn in_force(
    connection: &mut PgConnection,
    tenant: &TenantId,
    period: Period,
    at: Timestamp,
) -> Result<Option<Destination>, StoreError> {
    // The oldest if the one of that time is no longer kept.
    let names: Option<Names> = sqlx::query_as(
        "SELECT customer_id, event_name FROM destinations
         WHERE tenant_id = $1
           AND EXISTS (SELECT FROM beginnings WHERE tenant_id = $1 AND begun_at < $2 AND begun_at <= $3)
         ORDER BY since < $2 AND since <= $3 DESC,
                  CASE WHEN since < $2 AND since <= $3 THEN -number ELSE number END
         LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(period.end.to_sqlx())
    .bind(at.to_sqlx())
    .fetch_optional(connection)
    .await?;
    Ok(names.and_then(destination))
}

/// The tenant's destination by the last change; for a removed tenant, the one it had.
pub async fn last(
    connection: &mut PgConnection,
    tenant: &TenantId,
) -> Result<Option<Destination>, StoreError> {
    let names: Option<Names> = sqlx::query_as(
        "SELECT customer_id, event_name FROM destinations WHERE tenant_id = $1 ORDER BY number DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(names.and_then(destination))
}

/// Puts a destination, or none, in force. Returns the one it replaces; `None` if it is already in force.
pub async fn replace(
    connection: &mut PgConnection,
    tenant: &TenantId,
    next: Option<&Destination>,
    at: Timestamp,
) -> Result<Option<Replaced>, StoreError> {
    let newest: Option<Newest> = sqlx::query_as(
        "SELECT number, since, until, customer_id, event_name FROM destinations
         WHERE tenant_id = $1 ORDER BY number DESC LIMIT 1 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let (number, since, former) = match newest {
        // A tenant that was never billed needs no row.
        None if next.is_none() => return Ok(None),
        None => (1, at, None),
        Some((number, since, until, customer, event_name)) => {
            let former = destination((customer, event_name));
            if until.is_none() && former.as_ref() == next {
                return Ok(None);
            }
            (number.saturating_add(1), at.max(since.to_jiff()), former)
        }
    };
    end(&mut *connection, tenant, since).await?;
    sqlx::query(
        "INSERT INTO destinations (tenant_id, number, since, customer_id, event_name) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(tenant.as_str())
    .bind(number)
    .bind(since.to_sqlx())
    .bind(next.map(|next| &next.customer))
    .bind(next.map(|next| &next.event_name))
    .execute(&mut *connection)
    .await?;
    if next.is_some() {
        sqlx::query("INSERT INTO beginnings (tenant_id, begun_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(tenant.as_str())
            .bind(since.to_sqlx())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("DELETE FROM destinations WHERE tenant_id = $1 AND until < $2")
        .bind(tenant.as_str())
        .bind(since.saturating_sub(KEPT_FOR).unwrap_or(Timestamp::MIN).to_sqlx())
        .execute(connection)
        .await?;
    Ok(Some(Replaced { former, since }))
}

/// A destination that another one has replaced.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// Where usage went until then; `None` if it was not billed.
    pub former: Option<Destination>,
    /// Since when the new one is in force.
    pub since: Timestamp,
}

/// Nothing new goes to the tenant's destination: the tenant was removed, or another destination replaces this one.
pub async fn end(connection: &mut PgConnection, tenant: &TenantId, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE destinations SET until = greatest(since, $2) WHERE tenant_id = $1 AND until IS NULL")
        .bind(tenant.as_str())
        .bind(at.to_sqlx())
        .execute(connection)
        .await?;
    Ok(())
}

/// How many tenants share the destination now; at least one.
pub async fn sharing(connection: &mut PgConnection, destination: &Destination) -> Result<u32, StoreError> {
    let tenants: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM destinations WHERE customer_id = $1 AND event_name = $2 AND until IS NULL",
    )
    .bind(&destination.customer)
    .bind(&destination.event_name)
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(tenants).unwrap_or(u32::MAX).max(1))
}

fn destination((customer, event_name): Names) -> Option<Destination> {
    customer.zip(event_name).map(|(customer, event_name)| Destination { customer, event_name })
}
