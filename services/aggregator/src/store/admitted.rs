//! When the limit check admitted executions.

use std::collections::HashMap;

use jiff::{Timestamp, civil::Date};
use jiff_sqlx::ToSqlx;
use metering::Period;
use sqlx::PgConnection;

use super::Key;
use crate::recording::admitted::MARGIN_SECONDS;

/// What settles reservations in a tenant's period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Counted executions by the slot in which they were admitted.
    pub(crate) by_slot: Vec<(i64, i64)>,
    /// Executions that were open when their source was complete, and have been counted since.
    pub(crate) open_and_counted: i64,
    /// The previous watermark, if it was asked for and it is known what was running then.
    pub(crate) earlier_until: Option<Timestamp>,
    /// Executions that were running then, and are not counted.
    pub(crate) earlier_open: i64,
}

/// Stores these claims; the first of each execution stays. The caller holds the sources' locks. Returns the
/// new ones.
pub(crate) async fn keep_admitted(
    connection: &mut PgConnection,
    claims: &[(Key, i64)],
) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query_as(
        "INSERT INTO admitted (source_number, epoch, execution_id, slot)
         SELECT * FROM UNNEST($1::integer[], $2::integer[], $3::bigint[], $4::bigint[])
         ON CONFLICT DO NOTHING RETURNING source_number, epoch, execution_id",
    )
    .bind(claims.iter().map(|((source, ..), _)| *source).collect::<Vec<_>>())
    .bind(claims.iter().map(|((_, epoch, _), _)| *epoch).collect::<Vec<_>>())
    .bind(claims.iter().map(|((.., id), _)| *id).collect::<Vec<_>>())
    .bind(claims.iter().map(|(_, slot)| *slot).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}

/// The tenants of those of these executions that are recorded and count, in or after the month.
pub(crate) async fn tenants_of_recorded(
    connection: &mut PgConnection,
    keys: &[Key],
    since: Date,
) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT tenant_number FROM executions
         JOIN UNNEST($1::integer[], $2::integer[], $3::bigint[]) AS wanted (source_number, epoch, execution_id)
         USING (source_number, epoch, execution_id)
         WHERE month >= $4 AND tenant_number IS NOT NULL AND counted",
    )
    .bind(keys.iter().map(|(source, ..)| *source).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, epoch, _)| *epoch).collect::<Vec<_>>())
    .bind(keys.iter().map(|(.., id)| *id).collect::<Vec<_>>())
    .bind(since.to_sqlx())
    .fetch_all(connection)
    .await
}

/// What settles reservations of these tenants, in their periods, from a slot on.
///
/// An execution settles one only if it started about when it was admitted: otherwise a push could name an old
/// execution that is already counted, and free a unit reserved for another run.
pub(crate) async fn settled(
    connection: &mut PgConnection,
    wanted: &[(i32, Period, i64)],
) -> Result<HashMap<i32, Settled>, sqlx::Error> {
    let mut settled: HashMap<i32, Settled> = HashMap::new();
    if wanted.is_empty() {
        return Ok(settled);
    }
    let tenants: Vec<i32> = wanted.iter().map(|(tenant, ..)| *tenant).collect();
    let starts: Vec<_> = wanted.iter().map(|(_, period, _)| period.start.to_sqlx()).collect();
    let slots: Vec<i64> = wanted.iter().map(|(.., slot)| *slot).collect();
    let by_slot: Vec<(i32, i64, i64)> = sqlx::query_as(
        "SELECT tenant_number, slot, count(*)
         FROM UNNEST($1::integer[], $2::timestamptz[], $3::bigint[]) AS wanted (tenant_number, period_start, first_slot)
         JOIN executions USING (tenant_number, period_start)
         JOIN admitted USING (source_number, epoch, execution_id)
         WHERE counted AND NOT voided AND slot >= first_slot AND stopped_at >= to_timestamp(first_slot * 5 - $4)
           AND started_at BETWEEN to_timestamp(slot * 5 - $4) AND to_timestamp((slot + 1) * 5 + $4)
         GROUP BY tenant_number, slot ORDER BY tenant_number, slot",
    )
    .bind(&tenants)
    .bind(&starts)
    .bind(&slots)
    .bind(MARGIN_SECONDS)
    .fetch_all(&mut *connection)
    .await?;
    for (tenant, slot, executions) in by_slot {
        settled.entry(tenant).or_default().by_slot.push((slot, executions));
    }
    // By their ids, whether a push or a poll showed them: each is one of those that were open. If the ids are
    // not known, only those that a poll has shown, without those that ended much later: to subtract too few
    // is safe, and the rows read stay bounded.
    let open: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT tenant_number, count(*) FROM (
             SELECT tenant_number
             FROM UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, period_start)
             JOIN source_tenants USING (tenant_number) JOIN sources ON number = source_number
             CROSS JOIN UNNEST(counted_open_ids) AS open (execution_id)
             JOIN executions USING (tenant_number, period_start, source_number, execution_id)
             WHERE active AND counted AND NOT voided AND epoch = counted_open_epoch AND stopped_at >= counted_until
               AND month >= date_trunc('month', counted_until AT TIME ZONE 'UTC')::date
             UNION ALL
             SELECT tenant_number
             FROM UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, period_start)
             JOIN source_tenants USING (tenant_number) JOIN sources ON number = source_number
             JOIN executions USING (tenant_number, period_start, source_number)
             WHERE active AND counted_open_ids IS NULL AND counted_open > 0 AND counted AND NOT voided AND confirmed
               AND stopped_at >= counted_until AND started_at < counted_until
               AND stopped_at < counted_until + interval '10 minutes') AS open
         GROUP BY tenant_number",
    )
    .bind(&tenants)
    .bind(&starts)
    .fetch_all(&mut *connection)
    .await?;
    for (tenant, executions) in open {
        settled.entry(tenant).or_default().open_and_counted = executions;
    }
    let earlier: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT tenant_number, count(*)
         FROM UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, period_start)
         JOIN source_tenants USING (tenant_number) JOIN sources ON number = source_number
         CROSS JOIN UNNEST(earlier_open_ids) AS open (execution_id)
         WHERE active AND NOT EXISTS (
             SELECT FROM executions
             WHERE executions.tenant_number = wanted.tenant_number AND executions.period_start = wanted.period_start
               AND executions.source_number = sources.number AND epoch = earlier_open_epoch
               AND executions.execution_id = open.execution_id AND counted AND NOT voided
               AND month >= date_trunc('month', earlier_until AT TIME ZONE 'UTC')::date)
         GROUP BY tenant_number",
    )
    .bind(&tenants)
    .bind(&starts)
    .fetch_all(connection)
    .await?;
    for (tenant, executions) in earlier {
        settled.entry(tenant).or_default().earlier_open = executions;
    }
    Ok(settled)
}

/// Removes claims of slots before this one, at most `limit`. Returns how many.
pub(crate) async fn remove_admitted(
    connection: &mut PgConnection,
    before: i64,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM admitted WHERE (source_number, epoch, execution_id) IN (
             SELECT source_number, epoch, execution_id FROM admitted WHERE slot < $1 ORDER BY slot LIMIT $2)",
    )
    .bind(before)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected())
}
