//! Crossed thresholds.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Percent, Period};
use sqlx::PgConnection;

use crate::{figures::tally::PeriodKey, periods::thresholds::Crossing};

fn percent(threshold: Percent) -> i32 {
    i32::try_from(threshold.get()).unwrap_or(i32::MAX)
}

/// Rearms the thresholds that are recorded as crossed and no longer in `reached`.
pub(crate) async fn rearm(
    connection: &mut PgConnection,
    tenant_number: i32,
    period: Period,
    rule: &str,
    reached: &[Percent],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE crossings SET rearmed_at = $5
         WHERE tenant_number = $1 AND period_start = $2 AND rule = $3 AND rearmed_at IS NULL
           AND NOT threshold_percent = ANY($4)",
    )
    .bind(tenant_number)
    .bind(period.start.to_sqlx())
    .bind(rule)
    .bind(reached.iter().copied().map(percent).collect::<Vec<_>>())
    .bind(now.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

/// How often a threshold has been rearmed in this period.
pub(crate) async fn armings(
    connection: &mut PgConnection,
    tenant_number: i32,
    period: Period,
    rule: &str,
    threshold: Percent,
) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*)::integer FROM crossings
         WHERE tenant_number = $1 AND period_start = $2 AND rule = $3 AND threshold_percent = $4
           AND rearmed_at IS NOT NULL",
    )
    .bind(tenant_number)
    .bind(period.start.to_sqlx())
    .bind(rule)
    .bind(percent(threshold))
    .fetch_one(connection)
    .await
}

/// Records a crossing. Returns whether it is new: the partial unique index allows only one that is not
/// rearmed.
pub(crate) async fn cross(
    connection: &mut PgConnection,
    tenant_number: i32,
    crossing: &Crossing,
    arming: i32,
) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query(
        "INSERT INTO crossings (crossing_id, tenant_number, period_start, rule, threshold_percent, arming,
             limit_executions, used, crossed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(crossing.crossing_id)
    .bind(tenant_number)
    .bind(crossing.period.start.to_sqlx())
    .bind(crossing.rule)
    .bind(percent(crossing.threshold))
    .bind(arming)
    .bind(i64::try_from(crossing.limit).unwrap_or(i64::MAX))
    .bind(i64::try_from(crossing.used).unwrap_or(i64::MAX))
    .bind(crossing.crossed_at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// The thresholds that are recorded as crossed in these periods and not rearmed, ascending.
pub(crate) async fn standing(
    connection: &mut PgConnection,
    periods: &[PeriodKey],
    rule: &str,
) -> Result<HashMap<PeriodKey, Vec<Percent>>, sqlx::Error> {
    let rows: Vec<(i32, jiff_sqlx::Timestamp, i32)> = sqlx::query_as(
        "SELECT tenant_number, period_start, threshold_percent FROM crossings
         JOIN UNNEST($1::integer[], $2::timestamptz[]) AS wanted (tenant_number, period_start)
         USING (tenant_number, period_start)
         WHERE rule = $3 AND rearmed_at IS NULL ORDER BY tenant_number, period_start, threshold_percent",
    )
    .bind(periods.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(periods.iter().map(|(_, start)| start.to_sqlx()).collect::<Vec<_>>())
    .bind(rule)
    .fetch_all(connection)
    .await?;
    let mut standing: HashMap<PeriodKey, Vec<Percent>> = HashMap::new();
    for (tenant, start, threshold) in rows {
        let threshold = u32::try_from(threshold).ok().and_then(|percent| Percent::new(percent).ok());
        standing.entry((tenant, start.to_jiff())).or_default().extend(threshold);
    }
    Ok(standing)
}

/// Removes at most `limit` crossings of closed periods that began before `before`. Returns how many.
pub(crate) async fn remove_crossings(
    connection: &mut PgConnection,
    before: Timestamp,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM crossings WHERE crossing_id IN (
             SELECT crossing_id FROM crossings
             WHERE period_start < $1 AND NOT EXISTS (
                 SELECT FROM periods WHERE periods.tenant_number = crossings.tenant_number
                   AND periods.period_start = crossings.period_start AND closed_at IS NULL)
             ORDER BY period_start LIMIT $2)",
    )
    .bind(before.to_sqlx())
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected())
}
