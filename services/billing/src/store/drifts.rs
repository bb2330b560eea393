//! The table `drifts`: differences that were published.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

use super::StoreError;
use crate::events::Drift;

/// Marks a difference as published. False if it was published before.
pub async fn claim(connection: &mut PgConnection, drift: &Drift, now: Timestamp) -> Result<bool, StoreError> {
    let outcome = sqlx::query(
        "INSERT INTO drifts (tenant_id, period_start, customer_id, event_name, accepted, stripe_total, found_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(drift.tenant.as_str())
    .bind(drift.period.start.to_sqlx())
    .bind(&drift.destination.customer)
    .bind(&drift.destination.event_name)
    .bind(drift.accepted)
    .bind(drift.stripe_total)
    .bind(now.to_sqlx())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected() == 1)
}
