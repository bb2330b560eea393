//! Periods that were ended by hand.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::Period;
use sqlx::PgConnection;

type SqlInstant = jiff_sqlx::Timestamp;

/// A period that was ended by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeriodEnd {
    pub(crate) id: String,
    pub(crate) tenant_number: i32,
    pub(crate) author: String,
    pub(crate) reason: String,
    pub(crate) asked_at: Timestamp,
    pub(crate) ended: Period,
    pub(crate) next: Period,
}

#[derive(sqlx::FromRow)]
struct PeriodEndRow {
    end_id: String,
    tenant_number: i32,
    author: String,
    reason: String,
    asked_at: SqlInstant,
    period_start: SqlInstant,
    period_end: SqlInstant,
    next_end: SqlInstant,
}

/// The end with this id.
pub(crate) async fn period_end(
    connection: &mut PgConnection,
    id: &str,
) -> Result<Option<PeriodEnd>, sqlx::Error> {
    let row: Option<PeriodEndRow> = sqlx::query_as("SELECT * FROM period_ends WHERE end_id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| {
        let end = row.period_end.to_jiff();
        PeriodEnd {
            id: row.end_id,
            tenant_number: row.tenant_number,
            author: row.author,
            reason: row.reason,
            asked_at: row.asked_at.to_jiff(),
            ended: Period { start: row.period_start.to_jiff(), end },
            next: Period { start: end, end: row.next_end.to_jiff() },
        }
    }))
}

/// How many periods of the tenant were ended by hand since an instant.
pub(crate) async fn count_ends(
    connection: &mut PgConnection,
    tenant: i32,
    since: Timestamp,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM period_ends WHERE tenant_number = $1 AND asked_at >= $2")
        .bind(tenant)
        .bind(since.to_sqlx())
        .fetch_one(connection)
        .await
}

/// When the period's last execution within its bounds stopped; `None` if none stopped since `since`.
pub(crate) async fn last_stop(
    connection: &mut PgConnection,
    tenant: i32,
    period: Period,
    since: Timestamp,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let last: Option<SqlInstant> = sqlx::query_scalar(
        "SELECT max(stopped_at) FROM executions
         WHERE tenant_number = $1 AND period_start = $2 AND stopped_at >= $3 AND stopped_at < $4",
    )
    .bind(tenant)
    .bind(period.start.to_sqlx())
    .bind(since.to_sqlx())
    .bind(period.end.to_sqlx())
    .fetch_one(connection)
    .await?;
    Ok(last.map(SqlInstant::to_jiff))
}

/// Ends a period early, and stores who did it. The caller holds the tenant's lock.
pub(crate) async fn keep_period_end(
    connection: &mut PgConnection,
    end: &PeriodEnd,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE periods SET period_end = $3 WHERE tenant_number = $1 AND period_start = $2")
        .bind(end.tenant_number)
        .bind(end.ended.start.to_sqlx())
        .bind(end.ended.end.to_sqlx())
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE corrections SET period_end = $3 WHERE tenant_number = $1 AND period_start = $2")
        .bind(end.tenant_number)
        .bind(end.ended.start.to_sqlx())
        .bind(end.ended.end.to_sqlx())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO period_ends (end_id, tenant_number, author, reason, asked_at, period_start, period_end, next_end)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&end.id)
    .bind(end.tenant_number)
    .bind(&end.author)
    .bind(&end.reason)
    .bind(end.asked_at.to_sqlx())
    .bind(end.ended.start.to_sqlx())
    .bind(end.ended.end.to_sqlx())
    .bind(end.next.end.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}
