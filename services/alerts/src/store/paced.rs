//! A tenant's earlier crossings, and mails that another one replaces.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Period, TenantId};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::unsigned;
use crate::{Event, State, pace::Earlier};

/// The latest crossings of a tenant, as many as are considered: far more than one period has thresholds.
const EARLIER_MAX: i64 = 1_000;

/// Why a mail is not sent.
const SUPERSEDED: &str = "a later mail says this as well";

/// Lets nobody else record a crossing of the tenant until the transaction ends.
pub async fn take_turn(connection: &mut PgConnection, tenant: &TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.crossings.' || $1, 0))")
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// The tenant's crossings that were recorded since `since`, and the state of their mails.
pub async fn earlier(
    connection: &mut PgConnection,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<Vec<Earlier>, sqlx::Error> {
    let open: Vec<&str> = State::before(Event::Superseded).map(State::as_str).collect();
    let rows = sqlx::query(
        "SELECT crossing_id, period_start, period_end, percent, usage_limit, folded,
                CASE WHEN skipped_reason IS NULL AND superseded_by IS NULL THEN coalesce(release_at, recorded_at) END
                    AS mailed_at,
                superseded_by IS NULL AND EXISTS (
                    SELECT FROM notifications AS mail
                    WHERE mail.crossing_id = crossings.crossing_id AND mail.state = ANY($3)) AS is_open
         FROM crossings WHERE tenant_id = $1 AND recorded_at >= $2
         ORDER BY recorded_at DESC LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(since.to_sqlx())
    .bind(open)
    .bind(EARLIER_MAX)
    .fetch_all(connection)
    .await?;
    rows.iter().map(known).collect()
}

fn known(row: &PgRow) -> Result<Earlier, sqlx::Error> {
    let instant =
        |column: &str| Ok::<_, sqlx::Error>(row.try_get::<jiff_sqlx::Timestamp, _>(column)?.to_jiff());
    let mailed_at: Option<jiff_sqlx::Timestamp> = row.try_get("mailed_at")?;
    Ok(Earlier {
        id: row.try_get("crossing_id")?,
        period: Period { start: instant("period_start")?, end: instant("period_end")? },
        percent: unsigned("percent", row.try_get::<i32, _>("percent")?)?,
        limit: unsigned("usage_limit", row.try_get::<i64, _>("usage_limit")?)?,
        mailed_at: mailed_at.map(|instant| instant.to_jiff()),
        is_open: row.try_get("is_open")?,
        folded: from_percents(&row.try_get::<Vec<i32>, _>("folded")?),
    })
}

/// Records that the mail of `by` replaces those of these crossings, unless they are sent.
pub async fn supersede(
    connection: &mut PgConnection,
    crossings: &[String],
    by: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE crossings SET superseded_by = $2 WHERE crossing_id = ANY($1)")
        .bind(crossings)
        .bind(by)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends due mails that another one replaces.
pub async fn set_superseded_aside(
    connection: &mut PgConnection,
    now: Timestamp,
    count: usize,
) -> Result<(), sqlx::Error> {
    let open: Vec<&str> = State::before(Event::Superseded).map(State::as_str).collect();
    sqlx::query(
        "UPDATE notifications SET state = $1, reason = $2 WHERE id = ANY(ARRAY(
             SELECT mail.id FROM notifications AS mail JOIN crossings USING (crossing_id)
             WHERE mail.state = ANY($3) AND mail.due_at <= $4 AND superseded_by IS NOT NULL
             ORDER BY mail.due_at, mail.id LIMIT $5 FOR UPDATE OF mail SKIP LOCKED))",
    )
    .bind(State::Superseded.as_str())
    .bind(SUPERSEDED)
    .bind(open)
    .bind(now.to_sqlx())
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// Shares of the limit as the database keeps them.
pub(super) fn percents(shares: &[u32]) -> Vec<i32> {
    shares.iter().map(|percent| i32::try_from(*percent).unwrap_or(i32::MAX)).collect()
}

/// The same as they were stored.
pub(super) fn from_percents(kept: &[i32]) -> Vec<u32> {
    kept.iter().map(|percent| percent.unsigned_abs()).collect()
}
