//! The table `reports`.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as Stamp, ToSqlx};
use messaging::error_chain;
use metering::{Period, TenantId};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::{StoreError, damaged, leases::Lease, ledgers::Key};
use crate::{
    identifier::{Destination, Identifier},
    minutes::minute_of,
    report::{Report, State},
};
use metering::{earlier, later};

/// Reports considered at a time; those that have been due longest come first.
const HEADS_MAX: i64 = 500;

/// A report that cannot be read is looked at again after this.
const DAMAGED_PAUSE: Duration = Duration::from_secs(5 * 60);

#[derive(sqlx::FromRow)]
struct Row {
    identifier: String,
    tenant_id: String,
    period_start: Stamp,
    period_end: Stamp,
    version: i32,
    customer_id: String,
    event_name: String,
    quantity: i64,
    event_at: Stamp,
    send_before: Stamp,
    state: String,
    first_attempt_at: Option<Stamp>,
    attempts: i32,
    key_generation: i32,
    absent_since: Option<Stamp>,
}

const COLUMNS: &str = "identifier, tenant_id, period_start, period_end, version, customer_id, event_name, quantity, \
                       event_at, send_before, state, first_attempt_at, attempts, key_generation, absent_since";

impl TryFrom<Row> for Report {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            identifier: Identifier::stored(row.identifier),
            tenant: TenantId::parse(&row.tenant_id).map_err(damaged)?,
            period: Period { start: row.period_start.to_jiff(), end: row.period_end.to_jiff() },
            version: u32::try_from(row.version).map_err(damaged)?,
            destination: Destination { customer: row.customer_id, event_name: row.event_name },
            quantity: row.quantity,
            event_at: row.event_at.to_jiff(),
            send_before: row.send_before.to_jiff(),
            state: State::parse(&row.state).ok_or_else(|| damaged(&row.state))?,
            first_attempt_at: row.first_attempt_at.map(Stamp::to_jiff),
            attempts: u32::try_from(row.attempts).map_err(damaged)?,
            key_generation: u32::try_from(row.key_generation).map_err(damaged)?,
            absent_since: row.absent_since.map(Stamp::to_jiff),
        })
    }
}

/// Inserts a new report.
pub async fn insert(
    connection: &mut PgConnection,
    report: &Report,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO reports (identifier, tenant_id, period_start, period_end, version, customer_id, event_name,
                              quantity, event_at, send_before, sealed_at, state, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(report.identifier.as_str())
    .bind(report.tenant.as_str())
    .bind(report.period.start.to_sqlx())
    .bind(report.period.end.to_sqlx())
    .bind(i32::try_from(report.version).unwrap_or(i32::MAX))
    .bind(&report.destination.customer)
    .bind(&report.destination.event_name)
    .bind(report.quantity)
    .bind(report.event_at.to_sqlx())
    .bind(report.send_before.to_sqlx())
    .bind(now.to_sqlx())
    .bind(report.state.as_str())
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}

/// The minutes around `latest` and the `minutes` before it that already have a report of the destination.
pub async fn taken_minutes(
    connection: &mut PgConnection,
    destination: &Destination,
    latest: Timestamp,
    minutes: i64,
) -> Result<BTreeSet<i64>, StoreError> {
    let minutes = u32::try_from(minutes).unwrap_or(u32::MAX).saturating_add(1);
    let minutes = Duration::from_secs(60).saturating_mul(minutes);
    let instants: Vec<Stamp> = sqlx::query_scalar(
        "SELECT event_at FROM reports
         WHERE customer_id = $1 AND event_name = $2 AND state NOT IN ('rejected', 'late')
           AND event_at > $3 AND event_at < $4",
    )
    .bind(&destination.customer)
    .bind(&destination.event_name)
    .bind(earlier(latest, minutes).to_sqlx())
    .bind(later(latest, Duration::from_secs(60)).to_sqlx())
    .fetch_all(connection)
    .await?;
    Ok(instants.into_iter().map(|at| minute_of(at.to_jiff())).collect())
}

/// The first open report of each customer and meter, if it is due and its meter is not paused.
pub async fn heads(pool: &PgPool) -> Result<Vec<Report>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM (
             SELECT DISTINCT ON (customer_id, event_name) {COLUMNS}, not_before FROM reports
             WHERE state IN ('sealed', 'sending', 'resending', 'unknown')
             ORDER BY customer_id, event_name, period_start, tenant_id, version) AS head
         WHERE not_before <= now()
           AND NOT EXISTS (SELECT FROM pauses WHERE scope = 'meter:' || event_name AND retry_at > now())
         ORDER BY not_before LIMIT $1"
    )))
    .bind(HEADS_MAX)
    .fetch_all(pool)
    .await?;
    let mut heads = Vec::with_capacity(rows.len());
    for row in rows {
        let identifier = Identifier::stored(row.identifier.clone());
        match Report::try_from(row) {
            Ok(report) => heads.push(report),
            // It holds up only its own customer.
            Err(error) => {
                tracing::error!(%identifier, error = error_chain(&error), "cannot read a report, retrying in five minutes");
                postpone(pool, &identifier, DAMAGED_PAUSE, "the stored report cannot be read").await?;
            }
        }
    }
    Ok(heads)
}

/// The report as it is now, for the holder of the lease.
pub async fn find(pool: &PgPool, identifier: &Identifier) -> Result<Option<Report>, StoreError> {
    let row: Option<Row> =
        sqlx::query_as(AssertSqlSafe(format!("SELECT {COLUMNS} FROM reports WHERE identifier = $1")))
            .bind(identifier.as_str())
            .fetch_optional(pool)
            .await?;
    row.map(Report::try_from).transpose()
}

/// Marks the attempts that a crash or a lost lease left under way as unknown.
pub async fn recover(pool: &PgPool, lease: &Lease) -> Result<u64, StoreError> {
    let outcome = sqlx::query(
        "UPDATE reports SET state = 'unknown', reason = 'the sender stopped while it was under way'
         WHERE customer_id = $1 AND state IN ('sending', 'resending') AND fence < $2",
    )
    .bind(&lease.customer)
    .bind(lease.fence)
    .execute(pool)
    .await?;
    Ok(outcome.rows_affected())
}

/// Begins an attempt. `report.first_attempt_at` must be in the database before the first byte leaves, so the caller
/// commits before it sends.
pub async fn begin(
    connection: &mut PgConnection,
    lease: &Lease,
    report: &Report,
    next: State,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let outcome = sqlx::query(
        "UPDATE reports SET state = $3, fence = $4, attempts = attempts + 1, reason = NULL,
                first_attempt_at = coalesce(first_attempt_at, $5)
         WHERE identifier = $1 AND state = $2",
    )
    .bind(report.identifier.as_str())
    .bind(report.state.as_str())
    .bind(next.as_str())
    .bind(lease.fence)
    .bind(now.to_sqlx())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// The result of a step of a report.
#[derive(Debug, Clone)]
pub struct Progress<'a> {
    /// Its next state.
    pub next: State,
    /// For the operator.
    pub reason: Option<&'a str>,
    /// No attempt before this much machine time has passed.
    pub pause: Duration,
    /// Whether the idempotency key is spent.
    pub new_key: bool,
    /// Whether it is proven that no attempt has arrived.
    pub proven_absent: bool,
    /// When it became settled.
    pub now: Timestamp,
}

/// Records the result of a step. False if the lease was lost meanwhile: then another sender decides.
pub async fn advance(
    connection: &mut PgConnection,
    report: &Report,
    progress: &Progress<'_>,
) -> Result<bool, StoreError> {
    let outcome = sqlx::query(
        "UPDATE reports SET state = $3, reason = $4, not_before = now() + make_interval(secs => $5),
                key_generation = key_generation + CASE WHEN $6 OR $7 THEN 1 ELSE 0 END,
                first_attempt_at = CASE WHEN $7 THEN NULL ELSE first_attempt_at END,
                absent_since = CASE WHEN $7 THEN NULL ELSE absent_since END,
                settled_at = CASE WHEN $8 THEN settled_at ELSE $9 END
         WHERE identifier = $1 AND state = $2",
    )
    .bind(report.identifier.as_str())
    .bind(report.state.as_str())
    .bind(progress.next.as_str())
    .bind(progress.reason)
    .bind(progress.pause.as_secs_f64())
    .bind(progress.new_key)
    .bind(progress.proven_absent)
    .bind(progress.next.is_open())
    .bind(progress.now.to_sqlx())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// Notes that the receipt was found empty.
pub async fn note_absent(pool: &PgPool, identifier: &Identifier, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE reports SET absent_since = coalesce(absent_since, $2) WHERE identifier = $1")
        .bind(identifier.as_str())
        .bind(now.to_sqlx())
        .execute(pool)
        .await?;
    Ok(())
}

/// Postpones the next attempt, for a reason that is not the report's own outcome.
pub async fn postpone(
    pool: &PgPool,
    identifier: &Identifier,
    pause: Duration,
    reason: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE reports SET not_before = now() + make_interval(secs => $2), reason = $3 WHERE identifier = $1",
    )
    .bind(identifier.as_str())
    .bind(pause.as_secs_f64())
    .bind(reason)
    .execute(pool)
    .await?;
    Ok(())
}

/// The sum that Stripe has accepted for a tenant's period.
pub async fn accepted_total(
    connection: &mut PgConnection,
    tenant: &TenantId,
    period_start: Timestamp,
) -> Result<i64, StoreError> {
    let total: Option<i64> = sqlx::query_scalar(
        "SELECT (coalesce(sum(quantity), 0) + coalesce(
                (SELECT archived_total FROM accounts WHERE tenant_id = $1 AND period_start = $2), 0))::bigint
         FROM reports
         WHERE tenant_id = $1 AND period_start = $2 AND state IN ('accepted', 'confirmed')",
    )
    .bind(tenant.as_str())
    .bind(period_start.to_sqlx())
    .fetch_one(connection)
    .await?;
    Ok(total.unwrap_or(0))
}

/// The destinations of an account's accepted reports.
pub async fn destinations(pool: &PgPool, key: &Key) -> Result<Vec<Destination>, StoreError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT customer_id, event_name FROM reports
         WHERE tenant_id = $1 AND period_start = $2 AND state IN ('accepted', 'confirmed')",
    )
    .bind(&key.tenant)
    .bind(key.period_start.to_sqlx())
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(customer, event_name)| Destination { customer, event_name }).collect())
}

/// What Stripe has accepted for one destination in a span of time, from any tenant.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// The sum of the quantities.
    pub total: i64,
    /// When the last of it was accepted.
    pub last_at: Option<Timestamp>,
    /// Whether a report is still open, so that Stripe may count more than this.
    pub is_open: bool,
}

/// What Stripe has accepted for a destination in a period.
pub async fn taken(pool: &PgPool, destination: &Destination, period: Period) -> Result<Taken, StoreError> {
    let (total, last_at, is_open): (i64, Option<Stamp>, bool) = sqlx::query_as(
        "SELECT coalesce(sum(quantity) FILTER (WHERE state IN ('accepted', 'confirmed')), 0)::bigint,
                max(settled_at) FILTER (WHERE state IN ('accepted', 'confirmed')),
                coalesce(bool_or(state IN ('sealed', 'sending', 'resending', 'unknown')), false)
         FROM reports
         WHERE customer_id = $1 AND event_name = $2 AND event_at >= $3 AND event_at < $4",
    )
    .bind(&destination.customer)
    .bind(&destination.event_name)
    .bind(period.start.to_sqlx())
    .bind(period.end.to_sqlx())
    .fetch_one(pool)
    .await?;
    Ok(Taken { total, last_at: last_at.map(Stamp::to_jiff), is_open })
}

/// Marks the account's accepted reports as confirmed.
pub async fn confirm(connection: &mut PgConnection, key: &Key) -> Result<u64, StoreError> {
    let outcome = sqlx::query(
        "UPDATE reports SET state = $3 WHERE tenant_id = $1 AND period_start = $2 AND state = $4",
    )
    .bind(&key.tenant)
    .bind(key.period_start.to_sqlx())
    .bind(State::Confirmed.as_str())
    .bind(State::Accepted.as_str())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected())
}
