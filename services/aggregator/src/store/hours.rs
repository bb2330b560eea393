//! How long figures by hour, and those of workflows by day, are kept.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{PgConnection, PgExecutor};

type SqlInstant = jiff_sqlx::Timestamp;

/// Since when figures by hour are kept; older ones were removed.
pub(crate) async fn hours_since(executor: impl PgExecutor<'_>) -> Result<Timestamp, sqlx::Error> {
    let since: SqlInstant = sqlx::query_scalar("SELECT since FROM hours_kept").fetch_one(executor).await?;
    Ok(since.to_jiff())
}

/// From now on hours before `since` are treated as removed. It never moves back.
pub(crate) async fn raise_hours_since(
    connection: &mut PgConnection,
    since: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE hours_kept SET since = $1 WHERE since < $1")
        .bind(since.to_sqlx())
        .execute(connection)
        .await
        .map(drop)
}

/// Removes the old hours of this many tenants, with numbers above `after`. Returns the last one's number;
/// `None` at the end. The caller holds the folder's turn.
pub(crate) async fn remove_hours(
    connection: &mut PgConnection,
    after: i32,
    tenants: i64,
) -> Result<Option<i32>, sqlx::Error> {
    let numbers: Vec<i32> =
        sqlx::query_scalar("SELECT number FROM tenants WHERE number > $1 ORDER BY number LIMIT $2")
            .bind(after)
            .bind(tenants)
            .fetch_all(&mut *connection)
            .await?;
    // By tenant, so that the key's index is used.
    sqlx::query(
        "DELETE FROM usage_hours USING UNNEST($1::integer[]) AS page (number), hours_kept
         WHERE tenant_number = number AND hour_start < since",
    )
    .bind(&numbers)
    .execute(connection)
    .await?;
    Ok(numbers.last().copied())
}

/// Removes at most `limit` old days of workflows. Returns how many. The caller holds the folder's turn.
pub(crate) async fn remove_workflow_days(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM workflow_days WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM workflow_days
             WHERE day_start < (SELECT since FROM hours_kept) ORDER BY day_start LIMIT $1))",
    )
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected())
}
