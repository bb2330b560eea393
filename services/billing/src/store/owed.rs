//! The table `owed`: parts of an account that do not go to the destination in force.

use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

use super::StoreError;
use crate::{identifier::Destination, ledger::Ledger, owed::Owed};

/// The parts of a locked account, in the order of their use.
pub async fn list(connection: &mut PgConnection, ledger: &Ledger) -> Result<Vec<Owed>, StoreError> {
    let rows: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT up_to, customer_id, event_name FROM owed
         WHERE tenant_id = $1 AND period_start = $2 ORDER BY position",
    )
    .bind(ledger.tenant.as_str())
    .bind(ledger.period.start.to_sqlx())
    .fetch_all(connection)
    .await?;
    let owed =
        |(up_to, customer, event_name)| Owed { up_to, destination: Destination { customer, event_name } };
    Ok(rows.into_iter().map(owed).collect())
}

/// Replaces the parts of a locked account.
pub async fn put(connection: &mut PgConnection, ledger: &Ledger, parts: &[Owed]) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM owed WHERE tenant_id = $1 AND period_start = $2")
        .bind(ledger.tenant.as_str())
        .bind(ledger.period.start.to_sqlx())
        .execute(&mut *connection)
        .await?;
    for (position, part) in (1_i64..).zip(parts) {
        sqlx::query(
            "INSERT INTO owed (tenant_id, period_start, position, up_to, customer_id, event_name)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(ledger.tenant.as_str())
        .bind(ledger.period.start.to_sqlx())
        .bind(position)
        .bind(part.up_to)
        .bind(&part.destination.customer)
        .bind(&part.destination.event_name)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
