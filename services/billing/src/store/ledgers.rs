//! The table `accounts`.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as Stamp, ToSqlx};
use messaging::error_chain;
use metering::{Period, TenantId};
use sqlx::{PgConnection, PgPool};

use super::{StoreError, damaged};
use crate::{identifier::Destination, ledger::Ledger};

/// Accounts considered at a time; the next ones follow in the next round.
const CANDIDATES_MAX: i64 = 500;

#[derive(sqlx::FromRow)]
struct Row {
    tenant_id: String,
    period_start: Stamp,
    period_end: Stamp,
    billable_total: i64,
    revision: i64,
    reported_total: i64,
    next_version: i32,
    closed_at: Option<Stamp>,
    waived: bool,
    in_time_total: i64,
    refused_customer_id: Option<String>,
    refused_event_name: Option<String>,
}

impl TryFrom<Row> for Ledger {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: TenantId::parse(&row.tenant_id).map_err(damaged)?,
            period: Period { start: row.period_start.to_jiff(), end: row.period_end.to_jiff() },
            billable_total: row.billable_total,
            revision: u64::try_from(row.revision).map_err(damaged)?,
            reported_total: row.reported_total,
            next_version: u32::try_from(row.next_version).map_err(damaged)?,
            closed_at: row.closed_at.map(|at| at.to_jiff()),
            waived: row.waived,
            in_time_total: row.in_time_total,
            refused: row
                .refused_customer_id
                .zip(row.refused_event_name)
                .map(|(customer, event_name)| Destination { customer, event_name }),
        })
    }
}

const COLUMNS: &str = "tenant_id, period_start, period_end, billable_total, revision, reported_total, next_version, \
                       closed_at, waived, in_time_total, refused_customer_id, refused_event_name";

/// An account's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The tenant.
    pub tenant: String,
    /// The first instant of the period.
    pub period_start: Timestamp,
}

/// The account, locked until the transaction ends. Opened if there is none.
pub async fn lock_or_open(
    connection: &mut PgConnection,
    tenant: &TenantId,
    period: Period,
    now: Timestamp,
) -> Result<Ledger, StoreError> {
    sqlx::query(
        "INSERT INTO accounts (tenant_id, period_start, period_end, next_seal_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(period.start.to_sqlx())
    .bind(period.end.to_sqlx())
    .bind(now.to_sqlx())
    .execute(&mut *connection)
    .await?;
    let key = Key { tenant: tenant.to_string(), period_start: period.start };
    lock(connection, &key).await?.ok_or_else(|| damaged(format!("the account of {tenant} vanished")))
}

/// The account, locked until the transaction ends.
pub async fn lock(connection: &mut PgConnection, key: &Key) -> Result<Option<Ledger>, StoreError> {
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM accounts WHERE tenant_id = $1 AND period_start = $2 FOR UPDATE"
    )))
    .bind(&key.tenant)
    .bind(key.period_start.to_sqlx())
    .fetch_optional(connection)
    .await?;
    row.map(Ledger::try_from).transpose()
}

/// Writes a locked account back.
pub async fn save(connection: &mut PgConnection, ledger: &Ledger) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE accounts SET period_end = $3, billable_total = $4, revision = $5, reported_total = $6,
                next_version = $7, closed_at = $8, waived = $9, in_time_total = $10, refused_customer_id = $11,
                refused_event_name = $12
         WHERE tenant_id = $1 AND period_start = $2",
    )
    .bind(ledger.tenant.as_str())
    .bind(ledger.period.start.to_sqlx())
    .bind(ledger.period.end.to_sqlx())
    .bind(ledger.billable_total)
    .bind(i64::try_from(ledger.revision).unwrap_or(i64::MAX))
    .bind(ledger.reported_total)
    .bind(i32::try_from(ledger.next_version).unwrap_or(i32::MAX))
    .bind(ledger.closed_at.map(ToSqlx::to_sqlx))
    .bind(ledger.waived)
    .bind(ledger.in_time_total)
    .bind(ledger.refused.as_ref().map(|refused| &refused.customer))
    .bind(ledger.refused.as_ref().map(|refused| &refused.event_name))
    .execute(connection)
    .await?;
    Ok(())
}

/// Accounts that owe a report and may seal one: due, and without an open report.
pub async fn to_seal(pool: &PgPool, now: Timestamp) -> Result<Vec<Key>, StoreError> {
    let rows: Vec<(String, Stamp)> = sqlx::query_as(
        "SELECT tenant_id, period_start FROM accounts
         WHERE billable_total <> reported_total AND NOT waived AND next_seal_at <= $1
           AND NOT EXISTS (
               SELECT FROM reports
               WHERE reports.tenant_id = accounts.tenant_id AND reports.period_start = accounts.period_start
                 AND state IN ('sealed', 'sending', 'resending', 'unknown'))
         ORDER BY next_seal_at LIMIT $2",
    )
    .bind(now.to_sqlx())
    .bind(CANDIDATES_MAX)
    .fetch_all(pool)
    .await?;
    Ok(keys(rows))
}

/// Sets when the account is next looked at for sealing.
pub async fn seal_at(
    connection: &mut PgConnection,
    ledger: &Ledger,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE accounts SET next_seal_at = $3 WHERE tenant_id = $1 AND period_start = $2")
        .bind(ledger.tenant.as_str())
        .bind(ledger.period.start.to_sqlx())
        .bind(at.to_sqlx())
        .execute(connection)
        .await?;
    Ok(())
}

/// The accounts of a tenant that owe something, locked until the transaction ends.
pub async fn lock_owing(connection: &mut PgConnection, tenant: &TenantId) -> Result<Vec<Ledger>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM accounts
         WHERE tenant_id = $1 AND billable_total <> reported_total AND NOT waived
         ORDER BY period_start FOR UPDATE"
    )))
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    let mut accounts = Vec::with_capacity(rows.len());
    for row in rows {
        match Ledger::try_from(row) {
            Ok(ledger) => accounts.push(ledger),
            // A damaged account does not hold up the others.
            Err(error) => {
                tracing::error!(%tenant, error = error_chain(&error), "cannot read an account, skipping it")
            }
        }
    }
    Ok(accounts)
}

/// The same for an account that may not even be readable.
pub async fn put_aside(pool: &PgPool, key: &Key, until: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE accounts SET next_seal_at = $3 WHERE tenant_id = $1 AND period_start = $2")
        .bind(&key.tenant)
        .bind(key.period_start.to_sqlx())
        .bind(until.to_sqlx())
        .execute(pool)
        .await?;
    Ok(())
}

/// Makes every account of the tenant that owes something due by `at`: what held it back may be resolved.
pub async fn seal_all_at(
    connection: &mut PgConnection,
    tenant: &TenantId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE accounts SET next_seal_at = least(next_seal_at, $2)
         WHERE billable_total <> reported_total AND NOT waived AND tenant_id = $1",
    )
    .bind(tenant.as_str())
    .bind(at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets when the account is next compared with Stripe's summary; `None` for never.
pub async fn check_at(
    connection: &mut PgConnection,
    key: &Key,
    at: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE accounts SET check_at = $3 WHERE tenant_id = $1 AND period_start = $2")
        .bind(&key.tenant)
        .bind(key.period_start.to_sqlx())
        .bind(at.map(ToSqlx::to_sqlx))
        .execute(connection)
        .await?;
    Ok(())
}

/// Closed accounts whose comparison is due and which have no open report.
pub async fn to_check(pool: &PgPool, now: Timestamp) -> Result<Vec<Key>, StoreError> {
    let rows: Vec<(String, Stamp)> = sqlx::query_as(
        "SELECT tenant_id, period_start FROM accounts
         WHERE check_at <= $1 AND closed_at IS NOT NULL AND reports_gone_at IS NULL
           AND NOT EXISTS (
               SELECT FROM reports
               WHERE reports.tenant_id = accounts.tenant_id AND reports.period_start = accounts.period_start
                 AND state IN ('sealed', 'sending', 'resending', 'unknown'))
         ORDER BY check_at LIMIT $2",
    )
    .bind(now.to_sqlx())
    .bind(CANDIDATES_MAX)
    .fetch_all(pool)
    .await?;
    Ok(keys(rows))
}

fn keys(rows: Vec<(String, Stamp)>) -> Vec<Key> {
    rows.into_iter()
        .map(|(tenant, period_start)| Key { tenant, period_start: period_start.to_jiff() })
        .collect()
}
