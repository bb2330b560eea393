//! Which calendar applies to a tenant's periods from when.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Calendar, Period, Stretch, Timeline};
use sqlx::{PgConnection, PgExecutor};

type SqlInstant = jiff_sqlx::Timestamp;

/// One version of a tenant's timeline.
#[derive(Debug, Clone)]
pub(crate) struct Dated {
    /// Grows with every change.
    pub(crate) version: i32,
    pub(crate) timeline: Timeline,
}

#[derive(sqlx::FromRow)]
struct StretchRow {
    number: i32,
    calendar_version: i32,
    effective_from: Option<SqlInstant>,
    time_zone: String,
    anchor_day: i16,
    one_period: bool,
}

/// The timelines of these tenants; those that have none are left out.
pub(crate) async fn timelines(
    executor: impl PgExecutor<'_>,
    tenants: &[i32],
) -> Result<HashMap<i32, Dated>, sqlx::Error> {
    // In one statement, so that version and calendars belong together.
    let rows: Vec<StretchRow> = sqlx::query_as(
        "SELECT number, calendar_version, effective_from, time_zone, anchor_day, one_period
         FROM tenants JOIN calendars ON tenant_number = number WHERE number = ANY($1) ORDER BY number, place",
    )
    .bind(tenants)
    .fetch_all(executor)
    .await?;
    let mut first: BTreeMap<i32, (i32, Stretch)> = BTreeMap::new();
    let mut later: HashMap<i32, Vec<(Timestamp, Stretch)>> = HashMap::new();
    for row in rows {
        let calendar = Calendar::stored(&row.time_zone, u32::from(row.anchor_day.unsigned_abs()));
        let stretch = Stretch { calendar, one_period: row.one_period };
        match row.effective_from {
            None => drop(first.insert(row.number, (row.calendar_version, stretch))),
            Some(from) => later.entry(row.number).or_default().push((from.to_jiff(), stretch)),
        }
    }
    let dated = first.into_iter().map(|(number, (version, first))| {
        let later = later.remove(&number).unwrap_or_default();
        (number, Dated { version, timeline: Timeline::of_stretches(first, later) })
    });
    Ok(dated.collect())
}

/// The timeline of one tenant, if it has one.
pub(crate) async fn timeline(
    executor: impl PgExecutor<'_>,
    tenant: i32,
) -> Result<Option<Timeline>, sqlx::Error> {
    Ok(timelines(executor, &[tenant]).await?.remove(&tenant).map(|dated| dated.timeline))
}

/// Replaces a tenant's timeline. The caller holds the tenant's lock, and raises the catalog's version.
pub(crate) async fn put_timeline(
    connection: &mut PgConnection,
    tenant: i32,
    timeline: &Timeline,
) -> Result<(), sqlx::Error> {
    let first = [(None, timeline.first())];
    let later = timeline.later().iter().map(|(from, stretch)| (Some(from.to_sqlx()), stretch));
    let rows: Vec<(Option<SqlInstant>, &Stretch)> = first.into_iter().chain(later).collect();
    sqlx::query("DELETE FROM calendars WHERE tenant_number = $1")
        .bind(tenant)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO calendars (tenant_number, place, effective_from, time_zone, anchor_day, one_period)
         SELECT $1, place - 1, effective_from, time_zone, anchor_day, one_period
         FROM UNNEST($2::timestamptz[], $3::text[], $4::smallint[], $5::boolean[])
             WITH ORDINALITY AS stretches (effective_from, time_zone, anchor_day, one_period, place)",
    )
    .bind(tenant)
    .bind(rows.iter().map(|(from, _)| *from).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, stretch)| stretch.calendar.time_zone_name().to_owned()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, stretch)| anchor_day(&stretch.calendar)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, stretch)| stretch.one_period).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE tenants SET calendar_version = calendar_version + 1 WHERE number = $1")
        .bind(tenant)
        .execute(connection)
        .await?;
    Ok(())
}

fn anchor_day(calendar: &Calendar) -> i16 {
    i16::try_from(calendar.anchor_day()).unwrap_or(1)
}

/// The periods of a tenant, the last opened first.
pub(crate) async fn period_rows(
    connection: &mut PgConnection,
    tenant: i32,
) -> Result<Vec<Period>, sqlx::Error> {
    let rows: Vec<(SqlInstant, SqlInstant)> = sqlx::query_as(
        "SELECT period_start, period_end FROM periods WHERE tenant_number = $1
         ORDER BY opened_at DESC, period_start DESC",
    )
    .bind(tenant)
    .fetch_all(connection)
    .await?;
    let period =
        |(start, end): (SqlInstant, SqlInstant)| Period { start: start.to_jiff(), end: end.to_jiff() };
    Ok(rows.into_iter().map(period).collect())
}

/// The end of the tenant's last opened period; `None` if there is none.
pub(crate) async fn opened_until(
    connection: &mut PgConnection,
    tenant: i32,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let end: Option<SqlInstant> =
        sqlx::query_scalar("SELECT max(period_end) FROM periods WHERE tenant_number = $1")
            .bind(tenant)
            .fetch_one(connection)
            .await?;
    Ok(end.map(SqlInstant::to_jiff))
}

/// Locks the tenants after this one that have no timeline yet, at most `limit`. Returns them with their ids.
pub(crate) async fn without_timeline(
    connection: &mut PgConnection,
    after: i32,
    limit: i64,
) -> Result<Vec<(i32, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, tenant_id FROM tenants
         WHERE number > $1 AND NOT EXISTS (SELECT FROM calendars WHERE tenant_number = number)
         ORDER BY number LIMIT $2 FOR NO KEY UPDATE",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await
}
