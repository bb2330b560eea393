//! Drops a month of executions, and keeps their ids for ever.
//!
//! First the ids are folded into `retired_ids`, page by page, while recording continues. An id that is in
//! both places does no harm. Then one transaction locks the month against writers and counts its rows. Only
//! if they are as many as were folded, the month is dropped and `executions_kept` is raised. Rows are only
//! ever added and keys are unique, so equal counts mean the same rows. A crash before the commit leaves the
//! month as it was, and its ids are folded again.
//!
//! A recorder reads ids from `executions` before `retired_ids`, so it sees those of a month dropped in
//! between. An unknown execution of a dropped month is new: the month's table is created again, the execution
//! counts like any other (late if its period has closed), and the next round drops the month again.

use std::collections::BTreeMap;

use jiff::civil::Date;
use roaring::RoaringBitmap;
use sqlx::{Connection, PgConnection};

use crate::{
    recording::{
        decide::{month_after, start_of},
        id_chunks::place_of,
    },
    store::{self, ChunkKey, IdPlace},
};

/// Ids that are folded at once: bounds memory, and how much one statement writes.
const IDS_PER_PAGE: i64 = 100_000;

/// How long to wait for a lock: all recorders queue behind it. Below the second after which Postgres checks
/// for deadlocks, so that retention gives way and not a recorder.
const WAIT_MS: u32 = 800;

/// `lock_not_available`
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A month that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its first day.
    pub month: Date,
    /// Executions that are no longer kept one by one.
    pub executions: u64,
    /// Those of them that no attribution ever matched: they will never be counted.
    pub unmapped: u64,
}

/// What became of an old month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Retired {
    Dropped(Dropped),
    /// Not now, for this reason.
    Later(&'static str),
}

/// Drops an old month if nothing needs it. The caller holds the retention turn.
pub(crate) async fn month(connection: &mut PgConnection, month: Date) -> Result<Retired, sqlx::Error> {
    if let Some(reason) = needed(connection, month).await? {
        return Ok(Retired::Later(reason));
    }
    let end = start_of(month_after(month));
    for month in store::stray_months(connection, month, end).await? {
        store::ensure_month(connection, month).await?;
    }
    let folded = fold(connection, month).await?;
    match drop_month(connection, month, folded).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
            Ok(Retired::Later("another session locks executions"))
        }
        outcome => outcome,
    }
}

/// Folds the ids of a month. Returns how many.
async fn fold(connection: &mut PgConnection, month: Date) -> Result<i64, sqlx::Error> {
    let (mut folded, mut after) = (0, store::FIRST_ID);
    loop {
        let page = store::ids_of_month(connection, month, after, IDS_PER_PAGE).await?;
        let Some(last) = last_of(&page) else { return Ok(folded) };
        let (count, chunks) = chunks_of(page);
        folded += count;
        store::retire_ids(connection, chunks).await?;
        after = last;
    }
}

fn last_of(page: &[(i32, i32, Vec<i64>)]) -> Option<IdPlace> {
    page.iter().filter_map(|(source, epoch, ids)| Some((*source, *epoch, ids.iter().copied().max()?))).max()
}

fn chunks_of(page: Vec<(i32, i32, Vec<i64>)>) -> (i64, BTreeMap<ChunkKey, RoaringBitmap>) {
    let (mut count, mut chunks) = (0, BTreeMap::<ChunkKey, RoaringBitmap>::new());
    for (source, epoch, ids) in page {
        for id in ids {
            let (chunk, low) = place_of(id);
            chunks.entry((source, epoch, chunk)).or_default().insert(low);
            count += 1;
        }
    }
    (count, chunks)
}

/// Drops a month if it has exactly as many rows as ids were folded.
async fn drop_month(connection: &mut PgConnection, month: Date, folded: i64) -> Result<Retired, sqlx::Error> {
    let end = start_of(month_after(month));
    let mut transaction = connection.begin().await?;
    store::hold_month(&mut transaction, month, WAIT_MS).await?;
    if !store::hold_off_rebuild(&mut transaction).await? {
        return Ok(Retired::Later("a rebuild is running"));
    }
    let (count, unmapped) = store::count_month(&mut transaction, month).await?;
    if count != folded {
        return Ok(Retired::Later("executions were recorded in it meanwhile"));
    }
    if let Some(reason) = needed(&mut transaction, month).await? {
        return Ok(Retired::Later(reason));
    }
    store::move_strays(&mut transaction, month, end).await?;
    store::drop_month(&mut transaction, month, end).await?;
    transaction.commit().await?;
    let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
    let dropped = Dropped { month, executions: unsigned(count), unmapped: unsigned(unmapped) };
    metrics::counter!("flowmeter_executions_retired_total").increment(dropped.executions);
    tracing::info!(%month, executions = count, "a month of executions was deleted; its ids are kept");
    if unmapped > 0 {
        tracing::warn!(%month, unmapped, "executions without a tenant were deleted with their month; they are never counted");
    }
    Ok(Retired::Dropped(dropped))
}

/// Why a month has to stay for now.
async fn needed(connection: &mut PgConnection, month: Date) -> Result<Option<&'static str>, sqlx::Error> {
    let end = start_of(month_after(month));
    if store::holds_open_period(connection, month, end).await? {
        return Ok(Some("one of its periods is not closed"));
    }
    let is_being_mapped = store::is_being_mapped(connection, month).await?;
    Ok(is_being_mapped.then_some("its unmapped executions are being mapped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_greatest_key_and_its_ids_fall_into_chunks() {
        let page = vec![(1, 2, vec![65_536, 7]), (1, 1, vec![i64::MAX]), (1, 2, vec![8])];
        assert_eq!(last_of(&page), Some((1, 2, 65_536)));
        assert_eq!(last_of(&[]), None);
        let (count, chunks) = chunks_of(page);
        assert_eq!(count, 4);
        assert_eq!(chunks[&(1, 2, 0)], [7, 8].into_iter().collect());
        assert_eq!(chunks[&(1, 2, 1)], [0].into_iter().collect());
        assert_eq!(chunks[&(1, 1, i64::MAX >> 16)], [65_535].into_iter().collect());
    }
}
