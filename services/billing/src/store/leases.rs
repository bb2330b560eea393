//! The table `senders`: one sender per customer, with a fence.
//!
//! A lease is about processes, so it runs on the database's clock, which all replicas share; a jump of simulated time
//! must not end it.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// Twice the longest call: it is renewed before each. A crashed sender holds its customer up for this long at most.
const LEASE: Duration = Duration::from_secs(60);

/// The right to send for one customer.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Whose events.
    pub customer: String,
    /// Larger than that of every earlier lease of this customer.
    pub fence: i64,
}

/// Takes the lease, if nobody holds it.
pub async fn acquire(pool: &PgPool, customer: &str) -> Result<Option<Lease>, StoreError> {
    let fence: Option<i64> = sqlx::query_scalar(
        "INSERT INTO senders (customer_id, fence, lease_until)
         VALUES ($1, 1, clock_timestamp() + make_interval(secs => $2))
         ON CONFLICT (customer_id) DO UPDATE
         SET fence = senders.fence + 1, lease_until = excluded.lease_until
         WHERE senders.lease_until <= clock_timestamp()
         RETURNING fence",
    )
    .bind(customer)
    .bind(LEASE.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    Ok(fence.map(|fence| Lease { customer: customer.to_owned(), fence }))
}

/// Renews the lease. False if it is lost; otherwise nobody can take it before the transaction ends.
pub async fn hold(connection: &mut PgConnection, lease: &Lease) -> Result<bool, StoreError> {
    let outcome = sqlx::query(
        "UPDATE senders SET lease_until = clock_timestamp() + make_interval(secs => $3)
         WHERE customer_id = $1 AND fence = $2 AND lease_until > clock_timestamp()",
    )
    .bind(&lease.customer)
    .bind(lease.fence)
    .bind(LEASE.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Releases the lease.
pub async fn release(pool: &PgPool, lease: &Lease) -> Result<(), StoreError> {
    sqlx::query("UPDATE senders SET lease_until = clock_timestamp() WHERE customer_id = $1 AND fence = $2")
        .bind(&lease.customer)
        .bind(lease.fence)
        .execute(pool)
        .await?;
    Ok(())
}
