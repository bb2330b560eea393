//! Closed periods and gaps.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Period, SourceId, TenantId};
use sqlx::{PgConnection, PgExecutor, Row, postgres::PgRow};

use super::{from_db, instant_from_db, instant_to_db, to_db};

/// A closed period as stored.
#[derive(Debug, Clone)]
pub struct ClosedRow {
    /// The period.
    pub period: Period,
    /// A larger revision is newer.
    pub revision: u64,
    /// When the last late execution was found.
    pub late_found_at: Option<Timestamp>,
    /// `PeriodClosed`, with the late executions in its figures.
    pub value: Vec<u8>,
}

fn closed_row(row: &PgRow) -> Result<ClosedRow, sqlx::Error> {
    Ok(ClosedRow {
        period: Period {
            start: row.try_get::<jiff_sqlx::Timestamp, _>("period_start")?.to_jiff(),
            end: row.try_get::<jiff_sqlx::Timestamp, _>("period_end")?.to_jiff(),
        },
        revision: from_db(row.try_get("revision")?),
        late_found_at: instant_from_db(row.try_get("late_found_at")?),
        value: row.try_get("value")?,
    })
}

/// One closed period, locked until the transaction ends.
pub async fn find_closed_for_update(
    connection: &mut PgConnection,
    tenant: &TenantId,
    period_start: Timestamp,
) -> Result<Option<ClosedRow>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT period_start, period_end, revision, late_found_at, value FROM closed_periods
         WHERE tenant = $1 AND period_start = $2 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .bind(period_start.to_sqlx())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(closed_row).transpose()
}

/// Stores a closed period, unless a newer revision is stored.
pub async fn put_closed(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    closed: &ClosedRow,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO closed_periods (tenant, period_start, period_end, revision, late_found_at, value)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant, period_start) DO UPDATE
         SET period_end = excluded.period_end, revision = excluded.revision,
             late_found_at = excluded.late_found_at, value = excluded.value
         WHERE closed_periods.revision < excluded.revision",
    )
    .bind(tenant.as_str())
    .bind(closed.period.start.to_sqlx())
    .bind(closed.period.end.to_sqlx())
    .bind(to_db(closed.revision))
    .bind(instant_to_db(closed.late_found_at))
    .bind(&closed.value)
    .execute(executor)
    .await?;
    Ok(())
}

/// The newest closed periods of a tenant.
pub async fn list_closed(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    rows_max: u64,
) -> Result<Vec<ClosedRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT period_start, period_end, revision, late_found_at, value FROM closed_periods
         WHERE tenant = $1 ORDER BY period_start DESC LIMIT $2",
    )
    .bind(tenant.as_str())
    .bind(to_db(rows_max))
    .fetch_all(executor)
    .await?;
    rows.iter().map(closed_row).collect()
}

/// Executions that disappeared before they were seen.
#[derive(Debug, Clone)]
pub struct Gap {
    /// The source that ran them.
    pub source: SourceId,
    /// The epoch of the source's id sequence.
    pub epoch: u32,
    /// First id of the range.
    pub first_execution_id: String,
    /// Last id of the range, inclusive.
    pub last_execution_id: String,
    /// Why, by its name.
    pub reason: String,
    /// When it was found.
    pub found_at: Timestamp,
}

/// Stores a gap; a repeat changes nothing.
pub async fn put_gap(executor: impl PgExecutor<'_>, gap: &Gap) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO gaps (source, epoch, first_execution_id, last_execution_id, reason, found_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(gap.source.as_str())
    .bind(i64::from(gap.epoch))
    .bind(&gap.first_execution_id)
    .bind(&gap.last_execution_id)
    .bind(&gap.reason)
    .bind(gap.found_at.to_sqlx())
    .execute(executor)
    .await?;
    Ok(())
}

/// A gap of one of several sources, with how many gaps that source has.
#[derive(Debug, Clone)]
pub struct GapRow {
    /// The source.
    pub source: String,
    /// The number of all gaps of that source.
    pub count: u64,
    /// The epoch of the source's id sequence.
    pub epoch: u32,
    /// First id of the range.
    pub first_execution_id: String,
    /// Last id of the range, inclusive.
    pub last_execution_id: String,
    /// Why, by its name.
    pub reason: String,
    /// When it was found.
    pub found_at: Timestamp,
}

/// The newest gaps of each of `sources`, newest first.
pub async fn list_gaps(
    executor: impl PgExecutor<'_>,
    sources: &[String],
    per_source_max: u64,
) -> Result<Vec<GapRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT source, total, epoch, first_execution_id, last_execution_id, reason, found_at
         FROM (SELECT *, count(*) OVER (PARTITION BY source) AS total,
                      row_number() OVER (PARTITION BY source ORDER BY found_at DESC, first_execution_id) AS place
               FROM gaps WHERE source = ANY($1)) AS placed
         WHERE place <= $2 ORDER BY source, place",
    )
    .bind(sources)
    .bind(to_db(per_source_max))
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(GapRow {
                source: row.try_get("source")?,
                count: from_db(row.try_get("total")?),
                // Written from a u32.
                epoch: u32::try_from(row.try_get::<i64, _>("epoch")?).unwrap_or_default(),
                first_execution_id: row.try_get("first_execution_id")?,
                last_execution_id: row.try_get("last_execution_id")?,
                reason: row.try_get("reason")?,
                found_at: row.try_get::<jiff_sqlx::Timestamp, _>("found_at")?.to_jiff(),
            })
        })
        .collect()
}

/// How many gaps each source has; sources without any are not listed.
pub async fn count_gaps(executor: impl PgExecutor<'_>) -> Result<Vec<(SourceId, u64)>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT source, count(*) AS total FROM gaps GROUP BY source").fetch_all(executor).await?;
    rows.iter()
        .map(|row| {
            let source: String = row.try_get("source")?;
            let source = SourceId::parse(&source).map_err(|error| sqlx::Error::ColumnDecode {
                index: "source".to_owned(),
                source: Box::new(error),
            })?;
            Ok((source, from_db(row.try_get("total")?)))
        })
        .collect()
}
