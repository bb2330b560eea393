//! Deletes old rows. Each statement deletes at most `rows_max` rows, finds them by an index, and returns how
//! many there were.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

/// Takes the lock that only one replica holds, for the life of the connection. False while another holds it.
pub async fn take_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext(current_schema() || '.expiry'))")
        .fetch_one(connection)
        .await
}

/// Deletes workflows that have not changed since `before`.
pub async fn workflows(
    connection: &mut PgConnection,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM workflows WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM workflows WHERE read_at < $1 ORDER BY read_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind(before.to_sqlx())
    .bind(rows_max)
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected())
}

/// Deletes instances whose last push was before `before`.
pub async fn instances(
    connection: &mut PgConnection,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM source_instances WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM source_instances WHERE last_seen_at < $1 ORDER BY last_seen_at LIMIT $2
             FOR UPDATE SKIP LOCKED))",
    )
    .bind(before.to_sqlx())
    .bind(rows_max)
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected())
}

/// Deletes unreadable rows that were found before `before`. A sweep that succeeds deletes those of its source
/// itself.
pub async fn unreadable_rows(
    connection: &mut PgConnection,
    before: Timestamp,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM unreadable_rows WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM unreadable_rows WHERE found_at < $1 ORDER BY found_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind(before.to_sqlx())
    .bind(rows_max)
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected())
}
