//! How far each source was swept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SourceId;
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use super::{Claim, UNREADABLE_KEPT_S, column, epochs, instant, run_id, seconds_before, signed};
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
