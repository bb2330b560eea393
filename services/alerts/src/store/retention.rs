//! Deletes old rows. Each statement deletes at most `rows_max` rows and what depends on them, finds them by
//! an index, and returns how many there were.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

/// Takes the turn among all replicas, for the life of the connection; false while another has it.
pub async fn take_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext(current_schema() || '.retention'))")
        .fetch_one(connection)
        .await
}

/// Crossings that were recorded before `before`, with their mails; those with an unfinished mail stay.
pub async fn crossings(
    connection: &mut PgConnection,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    delete(
        connection,
        "WITH old AS (
             SELECT crossing_id FROM crossings WHERE recorded_at < $1 AND NOT EXISTS (
                 SELECT FROM notifications
                 WHERE notifications.crossing_id = crossings.crossing_id AND state NOT IN ('sent', 'failed', 'superseded'))
             ORDER BY recorded_at LIMIT $2
         ), mails AS (
             DELETE FROM notifications USING old WHERE notifications.crossing_id = old.crossing_id
         )
         DELETE FROM crossings USING old WHERE crossings.crossing_id = old.crossing_id",
        before,
        rows_max,
    )
    .await
}

/// Notices that were sealed before `before`, with their facts and mails; those with an unfinished mail stay.
pub async fn notices(
    connection: &mut PgConnection,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    delete(
        connection,
        "WITH old AS (
             SELECT notice_id FROM notices WHERE sealed_at < $1 AND NOT EXISTS (
                 SELECT FROM notifications
                 WHERE notifications.notice_id = notices.notice_id AND state NOT IN ('sent', 'failed', 'superseded'))
             ORDER BY sealed_at LIMIT $2
         ), mails AS (
             DELETE FROM notifications USING old WHERE notifications.notice_id = old.notice_id
         )
         DELETE FROM notices USING old WHERE notices.notice_id = old.notice_id",
        before,
        rows_max,
    )
    .await
}

/// The last successful sweeps of sources that had none since `before`.
pub async fn sweeps(
    connection: &mut PgConnection,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    delete(
        connection,
        "DELETE FROM sweeps WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM sweeps WHERE ended_at < $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        before,
        rows_max,
    )
    .await
}

async fn delete(
    connection: &mut PgConnection,
    statement: &'static str,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(statement).bind(before.to_sqlx()).bind(rows_max).execute(connection).await?;
    Ok(outcome.rows_affected())
}
