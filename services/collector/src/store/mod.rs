//! All SQL of the collector.

pub mod audits;
pub mod checks;
pub mod epochs;
pub mod expiry;
pub mod limits;
pub mod refusals;
pub mod states;
pub mod workflows;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SourceId;
use sqlx::{PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{
    n8n::{row::RunId, workflow::SaveSettings},
    schedule::pace::Pace,
    sweep::{
        cursor::{Backlog, Cursor, State, Tracked},
        failure::SweepError,
        stream_life::{Anchor, StreamMark},
        unseen::{IdRanges, Unseen},
    },
};
use metering::later;

/// How long a lease holds without being renewed, in seconds of the machine's time.
pub const LEASE_S: i32 = 30;

/// Pushes of one source are noted at most once in this many seconds: a source may push many times a second.
const PUSH_NOTED_S: i64 = 60;

/// Unreadable rows are remembered this many seconds: as long as a dead letter is kept.
pub const UNREADABLE_KEPT_S: i64 = 30 * 24 * 60 * 60;

/// A source that this collector may sweep, for as long as it renews its lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The source.
    pub source: SourceId,
    /// Proves that the lease is still ours.
    pub lease: Uuid,
    /// The catalog's changes that the sweep knows of.
    pub changes: i64,
    /// Failed sweeps in a row before this one.
    pub failures: u32,
    /// Since when.
    pub failing_since: Option<Timestamp>,
}

/// Whether a source is swept, as the catalog says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Swept, and due now.
    Active,
    /// Paused or removed.
    Resting,
}

/// Follows a change in the catalog.
pub async fn set_activity(
    executor: impl PgExecutor<'_>,
    source: &str,
    activity: Activity,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sources (source_id, active, next_sweep_at) VALUES ($1, $2, $3)
         ON CONFLICT (source_id) DO UPDATE
         SET active = excluded.active, next_sweep_at = excluded.next_sweep_at,
             changes = sources.changes + 1, failures = 0, failing_since = NULL, postponable_until = NULL",
    )
    .bind(source)
    .bind(activity == Activity::Active)
    .bind(now.to_sqlx())
    .execute(executor)
    .await
    .map(drop)
}

/// Which due sources to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Those whose last sweep succeeded and has read everything, or that have had none.
    Well,
    /// Those whose last sweep succeeded and has left something to read.
    Behind,
    /// Those whose last sweep failed.
    Failing,
}

/// Leases up to `count` sources that are due at `now`, the longest due first. Another collector that asks at
/// the same time gets others.
pub async fn claim(
    pool: &PgPool,
    health: Health,
    count: usize,
    now: Timestamp,
) -> Result<Vec<Claim>, SweepError> {
    let lease = Uuid::new_v4();
    let rows = sqlx::query(
        "WITH due AS (
             SELECT source_id FROM sources
             WHERE active AND next_sweep_at <= $1 AND (failures > 0) = $2
               AND ($2 OR (backlog IS NOT NULL) = $6)
               AND (leased_until IS NULL OR leased_until < now())
             ORDER BY next_sweep_at
             LIMIT $3
             FOR UPDATE SKIP LOCKED
         )
         UPDATE sources SET lease = $4, leased_until = now() + make_interval(secs => $5)
         FROM due WHERE sources.source_id = due.source_id
         RETURNING sources.source_id, changes, failures, failing_since",
    )
    .bind(now.to_sqlx())
    .bind(health == Health::Failing)
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .bind(lease)
    .bind(f64::from(LEASE_S))
    .bind(health == Health::Behind)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let source: String = row.try_get("source_id")?;
            Ok(Claim {
                source: SourceId::parse(&source).map_err(|_| SweepError::Damaged("source id"))?,
                lease,
                changes: row.try_get("changes")?,
                failures: u32::try_from(row.try_get::<i32, _>("failures")?).unwrap_or(0),
                failing_since: instant(row, "failing_since")?,
            })
        })
        .collect()
}

/// Renews the lease. False if it is lost.
pub async fn renew(pool: &PgPool, claim: &Claim) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query(
        "UPDATE sources SET leased_until = now() + make_interval(secs => $3)
         WHERE source_id = $1 AND lease = $2",
    )
    .bind(claim.source.as_str())
    .bind(claim.lease)
    .bind(f64::from(LEASE_S))
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Releases the lease, and leaves the source as it was.
pub async fn release(pool: &PgPool, claim: &Claim) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sources SET lease = NULL, leased_until = NULL WHERE source_id = $1 AND lease = $2")
        .bind(claim.source.as_str())
        .bind(claim.lease)
        .execute(pool)
        .await
        .map(drop)
}

/// Records that a sweep has failed, and releases the lease.
pub async fn fail(
    pool: &PgPool,
    claim: &Claim,
    failing_since: Timestamp,
    next_sweep_at: Timestamp,
) -> Result<(), sqlx::Error> {
    // A change that came in between has already made the source due, and restarts the count.
    sqlx::query(
        "UPDATE sources SET lease = NULL, leased_until = NULL, postponable_until = NULL,
             failures      = CASE WHEN changes = $3 THEN $4 ELSE failures END,
             failing_since = CASE WHEN changes = $3 THEN $5 ELSE failing_since END,
             next_sweep_at = CASE WHEN changes = $3 THEN $6 ELSE next_sweep_at END
         WHERE source_id = $1 AND lease = $2",
    )
    .bind(claim.source.as_str())
    .bind(claim.lease)
    .bind(claim.changes)
    .bind(i32::try_from(claim.failures.saturating_add(1)).unwrap_or(i32::MAX))
    .bind(failing_since.to_sqlx())
    .bind(next_sweep_at.to_sqlx())
    .execute(pool)
    .await
    .map(drop)
}

/// The source's cursor.
pub async fn cursor(pool: &PgPool, source: &SourceId) -> Result<Cursor, SweepError> {
    let row = sqlx::query(
        "SELECT latest_start, unfinished, floor, swept_at, backlog, backlog_rows, complete_until,
                left_out_before, base_url, published_through, stream_life, anchor_sequence, anchor_taken_at_ns,
                unseen_firsts, unseen_lasts, unseen_ids, unseen_since, unsaving_workflows, all_saved
         FROM sources WHERE source_id = $1",
    )
    .bind(source.as_str())
    .fetch_one(pool)
    .await?;
    let tracked = sqlx::query(
        "SELECT execution_id, state, started_at, stopped_at FROM tracked_executions WHERE source_id = $1",
    )
    .bind(source.as_str())
    .fetch_all(pool)
    .await?;
    let backlog = row.try_get::<Option<String>, _>("backlog")?;
    let rows_read = u64::try_from(row.try_get::<i64, _>("backlog_rows")?).unwrap_or(0);
    Ok(Cursor {
        epochs: epochs::of(pool, source).await?,
        latest_start: instant(&row, "latest_start")?,
        unfinished: row.try_get("unfinished")?,
        backlog: backlog.map(|next_page| Backlog { next_page, rows_read }),
        left_out_before: instant(&row, "left_out_before")?,
        floor: row.try_get::<Option<i64>, _>("floor")?.map(run_id).transpose()?,
        swept_at: instant(&row, "swept_at")?,
        complete_until: instant(&row, "complete_until")?,
        base_url: row.try_get("base_url")?,
        published_through: u64::try_from(row.try_get::<i64, _>("published_through")?)
            .map_err(|_| SweepError::Damaged("sequence"))?,
        stream: StreamMark { life: row.try_get("stream_life")?, anchor: anchor(&row)?, is_new: false },
        tracked: tracked.iter().map(tracked_execution).collect::<Result<_, _>>()?,
        unseen: unseen(&row)?,
    })
}

fn unseen(row: &PgRow) -> Result<Unseen, sqlx::Error> {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let firsts: Vec<i64> = row.try_get("unseen_firsts")?;
    let lasts: Vec<i64> = row.try_get("unseen_lasts")?;
    let ranges = firsts.into_iter().zip(lasts).map(|(first, last)| (unsigned(first), unsigned(last)));
    Ok(Unseen {
        pending: IdRanges::new(ranges.collect()),
        ids_max: unsigned(row.try_get("unseen_ids")?),
        since: instant(row, "unseen_since")?,
        kept: SaveSettings {
            unsaving: u32::try_from(row.try_get::<i32, _>("unsaving_workflows")?).unwrap_or(0),
            all: row.try_get("all_saved")?,
        },
    })
}

fn anchor(row: &PgRow) -> Result<Option<Anchor>, SweepError> {
    let stored: (Option<i64>, Option<i64>) =
        (row.try_get("anchor_sequence")?, row.try_get("anchor_taken_at_ns")?);
    let (Some(sequence), Some(taken_at_ns)) = stored else { return Ok(None) };
    let damaged = || SweepError::Damaged("anchor");
    Ok(Some(Anchor {
        sequence: u64::try_from(sequence).map_err(|_| damaged())?,
        taken_at: Timestamp::from_nanosecond(taken_at_ns.into()).map_err(|_| damaged())?,
    }))
}

fn tracked_execution(row: &PgRow) -> Result<(RunId, Tracked), SweepError> {
    let state: String = row.try_get("state")?;
    let tracked = Tracked {
        state: State::parse(&state).ok_or(SweepError::Damaged("state"))?,
        started_at: instant(row, "started_at")?,
        stopped_at: instant(row, "stopped_at")?,
    };
    Ok((run_id(row.try_get("execution_id")?)?, tracked))
}

/// Commits a finished sweep and releases the lease: all or nothing, and only while the lease is ours.
pub async fn advance(
    pool: &PgPool,
    claim: &Claim,
    before: &BTreeMap<RunId, Tracked>,
    after: &Cursor,
    swept_at: Timestamp,
    pace: Pace,
) -> Result<(), SweepError> {
    let unseen = after.unseen.pending.as_slice();
    let mut transaction = pool.begin().await?;
    // Batches outside of sweeps may have raised `published_through` meanwhile; in another life of the stream
    // that means nothing.
    let advanced = sqlx::query(
        "UPDATE sources SET lease = NULL, leased_until = NULL, failures = 0, failing_since = NULL,
             unfinished = false, backlog = $3, backlog_rows = $11,
             floor = $4, complete_until = $5, base_url = $6, swept_at = $7,
             published_through = CASE WHEN $13 = coalesce(stream_life, $13) AND NOT $16
                                      THEN greatest(published_through, $8) ELSE $8 END,
             stream_life = $13, anchor_sequence = $14, anchor_taken_at_ns = $15,
             next_sweep_at = CASE WHEN changes = $9 THEN $10 ELSE next_sweep_at END,
             postponable_until = CASE WHEN changes = $9 THEN $12 END,
             unseen_firsts = $17, unseen_lasts = $18, unseen_ids = $19, unseen_since = $20
         WHERE source_id = $1 AND lease = $2",
    )
    .bind(claim.source.as_str())
    .bind(claim.lease)
    .bind(after.backlog.as_ref().map(|backlog| &backlog.next_page))
    .bind(after.floor.map(column))
    .bind(after.complete_until.map(ToSqlx::to_sqlx))
    .bind(&after.base_url)
    .bind(swept_at.to_sqlx())
    .bind(i64::try_from(after.published_through).unwrap_or(i64::MAX))
    .bind(claim.changes)
    .bind(pace.next.to_sqlx())
    .bind(after.backlog.as_ref().map_or(0, |backlog| i64::try_from(backlog.rows_read).unwrap_or(i64::MAX)))
    .bind(pace.postponable_until.map(ToSqlx::to_sqlx))
    .bind(&after.stream.life)
    .bind(after.stream.anchor.map(|anchor| i64::try_from(anchor.sequence).unwrap_or(i64::MAX)))
    .bind(
        after.stream.anchor.map(|anchor| i64::try_from(anchor.taken_at.as_nanosecond()).unwrap_or(i64::MAX)),
    )
    .bind(after.stream.is_new)
    .bind(unseen.iter().map(|(first, _)| signed(*first)).collect::<Vec<_>>())
    .bind(unseen.iter().map(|(_, last)| signed(*last)).collect::<Vec<_>>())
    .bind(signed(after.unseen.ids_max))
    .bind(after.unseen.since.map(ToSqlx::to_sqlx))
    .execute(&mut *transaction)
    .await?;
    if advanced.rows_affected() != 1 {
        return Err(SweepError::LeaseLost);
    }
    track(&mut transaction, &claim.source, before, &after.tracked).await?;
    sqlx::query("DELETE FROM unreadable_rows WHERE source_id = $1 AND found_at < $2")
        .bind(claim.source.as_str())
        .bind(seconds_before(swept_at, UNREADABLE_KEPT_S).to_sqlx())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Writes only what differs: a sweep without news writes nothing here.
async fn track(
    connection: &mut PgConnection,
    source: &SourceId,
    before: &BTreeMap<RunId, Tracked>,
    after: &BTreeMap<RunId, Tracked>,
) -> Result<(), sqlx::Error> {
    let gone: Vec<i64> = before.keys().filter(|id| !after.contains_key(id)).map(|id| column(*id)).collect();
    if !gone.is_empty() {
        sqlx::query("DELETE FROM tracked_executions WHERE source_id = $1 AND execution_id = ANY($2)")
            .bind(source.as_str())
            .bind(gone)
            .execute(&mut *connection)
            .await?;
    }
    let news: Vec<(RunId, Tracked)> = after
        .iter()
        .filter(|(id, tracked)| before.get(id) != Some(tracked))
        .map(|(id, tracked)| (*id, *tracked))
        .collect();
    if news.is_empty() {
        return Ok(());
    }
    let stored = |at: Option<Timestamp>| at.map(ToSqlx::to_sqlx);
    sqlx::query(
        "INSERT INTO tracked_executions (source_id, execution_id, state, started_at, stopped_at)
         SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[])
         ON CONFLICT (source_id, execution_id) DO UPDATE
         SET state = excluded.state, started_at = excluded.started_at, stopped_at = excluded.stopped_at",
    )
    .bind(source.as_str())
    .bind(news.iter().map(|(id, _)| column(*id)).collect::<Vec<_>>())
    .bind(news.iter().map(|(_, tracked)| tracked.state.as_str()).collect::<Vec<_>>())
    .bind(news.iter().map(|(_, tracked)| stored(tracked.started_at)).collect::<Vec<_>>())
    .bind(news.iter().map(|(_, tracked)| stored(tracked.stopped_at)).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map(drop)
}

/// Records that a batch outside of a sweep was published. A source without a row has never been in the
/// catalog.
pub async fn published(pool: &PgPool, source: &SourceId, sequence: u64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sources SET published_through = greatest(published_through, $2) WHERE source_id = $1")
        .bind(source.as_str())
        .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
        .execute(pool)
        .await
        .map(drop)
}

/// Records that the source has pushed, and postpones its next sweep until an interval after that, as far as
/// allowed.
pub async fn pushed(
    pool: &PgPool,
    source: &SourceId,
    interval: Duration,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sources SET last_pushed_at = $2,
             next_sweep_at = CASE WHEN postponable_until IS NULL THEN next_sweep_at
                                  ELSE greatest(next_sweep_at, least(postponable_until, $3)) END
         WHERE source_id = $1 AND (last_pushed_at IS NULL OR last_pushed_at <= $4)",
    )
    .bind(source.as_str())
    .bind(now.to_sqlx())
    .bind(later(now, interval).to_sqlx())
    .bind(seconds_before(now, PUSH_NOTED_S).to_sqlx())
    .execute(pool)
    .await
    .map(drop)
}

/// The newest id that the last sweep of the source has seen.
pub async fn newest(pool: &PgPool, source: &SourceId) -> Result<Option<RunId>, sqlx::Error> {
    let newest: Option<Option<i64>> = sqlx::query_scalar("SELECT floor FROM sources WHERE source_id = $1")
        .bind(source.as_str())
        .fetch_optional(pool)
        .await?;
    Ok(newest.flatten().and_then(|newest| RunId::new(u64::try_from(newest).ok()?)))
}

/// Whether this row has a dead letter already.
pub async fn has_letter(pool: &PgPool, source: &SourceId, digest: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM unreadable_rows WHERE source_id = $1 AND digest = $2)")
        .bind(source.as_str())
        .bind(digest)
        .fetch_one(pool)
        .await
}

/// Remembers that this row has a dead letter.
pub async fn remember_letter(
    pool: &PgPool,
    source: &SourceId,
    digest: &str,
    found_at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO unreadable_rows (source_id, digest, found_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(source.as_str())
    .bind(digest)
    .bind(found_at.to_sqlx())
    .execute(pool)
    .await
    .map(drop)
}

fn instant(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(name)?.map(jiff_sqlx::Timestamp::to_jiff))
}

/// This many seconds before `now`.
pub fn seconds_before(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now)
}

fn run_id(stored: i64) -> Result<RunId, SweepError> {
    u64::try_from(stored).ok().and_then(RunId::new).ok_or(SweepError::Damaged("execution id"))
}

fn column(id: RunId) -> i64 {
    signed(id.number())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
