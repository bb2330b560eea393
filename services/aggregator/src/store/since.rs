//! Counts an open period's executions since an instant, however long ago that is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::Period;
use sqlx::PgConnection;

use crate::figures::rollup::{Figures, PeriodHour, hour_after};

type SqlInstant = jiff_sqlx::Timestamp;

/// Counted executions of each of these tenants' periods that stopped at or after the instant. Executions are
/// read only up to the end of the instant's hour; from there on the figures by hour are added up, with those
/// that are not folded yet.
pub(crate) async fn counted_since(
    connection: &mut PgConnection,
    wanted: &[(i32, Timestamp, Period)],
    unfolded: &BTreeMap<PeriodHour, i64>,
) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let hours: Vec<Timestamp> = wanted.iter().map(|(_, until, _)| hour_after(*until)).collect();
    let counted: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT place, in_hour.counted + (
             SELECT coalesce(sum(period_hours.counted), 0)::bigint FROM period_hours
             WHERE period_hours.tenant_number = wanted.tenant_number AND period_hours.period_start = wanted.period_start
               AND hour_start >= wanted.hour_after)
         FROM UNNEST($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY
             AS wanted (tenant_number, complete_until, hour_after, period_start, place)
         CROSS JOIN LATERAL (
             SELECT count(*) AS counted FROM executions
             WHERE executions.tenant_number = wanted.tenant_number AND counted AND NOT voided
               AND stopped_at >= complete_until AND stopped_at < hour_after
               AND executions.period_start = wanted.period_start) AS in_hour",
    )
    .bind(wanted.iter().map(|(tenant, ..)| *tenant).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, until, _)| until.to_sqlx()).collect::<Vec<_>>())
    .bind(hours.iter().map(|hour| hour.to_sqlx()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(.., period)| period.start.to_sqlx()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut since = Vec::with_capacity(counted.len());
    for (place, counted) in counted {
        let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
        let (Some((tenant, _, period)), Some(hour)) = (wanted.get(place), hours.get(place)) else { continue };
        let first = PeriodHour { tenant: *tenant, period_start: period.start, hour_start: *hour };
        let last = PeriodHour { hour_start: Timestamp::MAX, ..first };
        let waiting: i64 = unfolded.range(first..=last).map(|(_, counted)| *counted).sum();
        since.push((*tenant, counted + waiting));
    }
    Ok(since)
}

/// Adds to the figures by period and hour. The caller holds the folder's turn.
pub(super) async fn add_period_hours(
    connection: &mut PgConnection,
    figures: &Figures,
) -> Result<(), sqlx::Error> {
    let rows = &figures.period_hours;
    sqlx::query(
        "INSERT INTO period_hours AS kept (tenant_number, period_start, hour_start, counted)
         SELECT * FROM UNNEST($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::bigint[])
         ON CONFLICT (tenant_number, period_start, hour_start) DO UPDATE SET counted = kept.counted + excluded.counted",
    )
    .bind(rows.keys().map(|key| key.tenant).collect::<Vec<_>>())
    .bind(rows.keys().map(|key| key.period_start.to_sqlx()).collect::<Vec<_>>())
    .bind(rows.keys().map(|key| key.hour_start.to_sqlx()).collect::<Vec<_>>())
    .bind(rows.values().copied().collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The figures by hour of a tenant's open periods, and when these begin.
pub(crate) async fn hours_of_open_periods(
    connection: &mut PgConnection,
    tenant: i32,
) -> Result<(Vec<Timestamp>, BTreeMap<PeriodHour, i64>), sqlx::Error> {
    let open: Vec<SqlInstant> =
        sqlx::query_scalar("SELECT period_start FROM periods WHERE tenant_number = $1 AND closed_at IS NULL")
            .bind(tenant)
            .fetch_all(&mut *connection)
            .await?;
    let rows: Vec<(SqlInstant, SqlInstant, i64)> = sqlx::query_as(
        "SELECT period_start, hour_start, counted FROM period_hours
         WHERE tenant_number = $1 AND period_start = ANY($2)",
    )
    .bind(tenant)
    .bind(&open)
    .fetch_all(connection)
    .await?;
    let hours = rows.into_iter().map(|(start, hour, counted)| {
        (PeriodHour { tenant, period_start: start.to_jiff(), hour_start: hour.to_jiff() }, counted)
    });
    Ok((open.into_iter().map(SqlInstant::to_jiff).collect(), hours.collect()))
}

/// Removes the hours of closed periods of this many tenants, with numbers above `after`. Returns the last
/// one's number; `None` at the end. The caller holds the folder's turn.
pub(crate) async fn remove_closed_hours(
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
    // What is before the first open period of a tenant, so that the key's index is used.
    sqlx::query(
        "DELETE FROM period_hours USING (
             SELECT number, coalesce(min(period_start), 'infinity') AS first_open
             FROM UNNEST($1::integer[]) AS page (number)
             LEFT JOIN periods ON tenant_number = number AND closed_at IS NULL GROUP BY number) AS open_ones
         WHERE period_hours.tenant_number = number AND period_hours.period_start < first_open",
    )
    .bind(&numbers)
    .execute(connection)
    .await?;
    Ok(numbers.last().copied())
}
