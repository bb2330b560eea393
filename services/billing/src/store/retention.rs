//! Deletes old rows. Each statement deletes a bounded number, finds them by an index, and returns how many
//! there were.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

/// Takes the lock that only one replica holds, for the life of the connection. False while another holds it.
pub async fn take_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext(current_schema() || '.retention'))")
        .fetch_one(connection)
        .await
}

/// Deletes the settled reports of at most `accounts_max` accounts whose period ended before `before`, and
/// keeps their sum. Skips accounts that are not closed, owe something, or have a report under way. Reports
/// that wait for an operator, or that Stripe accepted and has not confirmed, stay. Returns the number of
/// accounts.
pub async fn archive(
    connection: &mut PgConnection,
    before: Timestamp,
    now: Timestamp,
    accounts_max: i64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "WITH old AS (
             SELECT tenant_id, period_start FROM accounts
             WHERE closed_at IS NOT NULL AND reports_gone_at IS NULL AND period_end < $1
               AND (billable_total = reported_total OR waived)
               AND NOT EXISTS (
                   SELECT FROM reports
                   WHERE reports.tenant_id = accounts.tenant_id AND reports.period_start = accounts.period_start
                     AND state IN ('sealed', 'sending', 'resending', 'unknown'))
             ORDER BY period_end LIMIT $2 FOR UPDATE SKIP LOCKED
         ), gone AS (
             DELETE FROM reports USING old
             WHERE reports.tenant_id = old.tenant_id AND reports.period_start = old.period_start
               AND state IN ('confirmed', 'rejected')
             RETURNING reports.tenant_id, reports.period_start, state, quantity
         )
         UPDATE accounts SET reports_gone_at = $3, check_at = NULL, archived_total = archived_total + coalesce(
             (SELECT sum(quantity) FROM gone
              WHERE gone.tenant_id = accounts.tenant_id AND gone.period_start = accounts.period_start
                AND state = 'confirmed'), 0)
         FROM old WHERE accounts.tenant_id = old.tenant_id AND accounts.period_start = old.period_start",
    )
    .bind(before.to_sqlx())
    .bind(accounts_max)
    .bind(now.to_sqlx())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected())
}

/// Deletes at most `rows_max` differences that were found before `before`.
pub async fn drifts(
    connection: &mut PgConnection,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM drifts WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM drifts WHERE found_at < $1 ORDER BY found_at LIMIT $2))",
    )
    .bind(before.to_sqlx())
    .bind(rows_max)
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected())
}

/// Deletes at most `rows_max` senders whose lease ended longer than `idle` ago and that have nothing under
/// way. By the database's clock, like their leases.
pub async fn senders(
    connection: &mut PgConnection,
    idle: Duration,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM senders WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM senders
             WHERE lease_until < clock_timestamp() - make_interval(secs => $1)
               AND NOT EXISTS (
                   SELECT FROM reports WHERE reports.customer_id = senders.customer_id
                     AND state IN ('sealed', 'sending', 'resending', 'unknown'))
             LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind(idle.as_secs_f64())
    .bind(rows_max)
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected())
}
