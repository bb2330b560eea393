//! Ids of executions whose month was dropped, as roaring bitmaps by source, epoch and chunk, so that repeats
//! are recognized for ever.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use sqlx::{PgConnection, PgExecutor};

use crate::recording::id_chunks::{ids_of, place_of};

/// Source, epoch and the high bits of the ids.
pub(crate) type ChunkKey = (i32, i32, i64);

fn damaged(error: std::io::Error) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// Adds ids to those already stored. Only one process does so at a time.
pub(crate) async fn retire_ids(
    connection: &mut PgConnection,
    mut chunks: BTreeMap<ChunkKey, RoaringBitmap>,
) -> Result<(), sqlx::Error> {
    let sources: Vec<i32> = chunks.keys().map(|key| key.0).collect();
    let epochs: Vec<i32> = chunks.keys().map(|key| key.1).collect();
    let numbers: Vec<i64> = chunks.keys().map(|key| key.2).collect();
    let kept: Vec<(i32, i32, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT source_number, epoch, chunk, ids FROM retired_ids
         JOIN UNNEST($1::integer[], $2::integer[], $3::bigint[]) AS wanted (source_number, epoch, chunk)
         USING (source_number, epoch, chunk)",
    )
    .bind(&sources)
    .bind(&epochs)
    .bind(&numbers)
    .fetch_all(&mut *connection)
    .await?;
    for (source, epoch, chunk, bytes) in kept {
        let kept = RoaringBitmap::deserialize_from(bytes.as_slice()).map_err(damaged)?;
        *chunks.entry((source, epoch, chunk)).or_default() |= kept;
    }
    let mut bitmaps = Vec::with_capacity(chunks.len());
    for bitmap in chunks.values_mut() {
        // Ids are mostly contiguous: a run takes four bytes.
        bitmap.optimize();
        let mut bytes = Vec::with_capacity(bitmap.serialized_size());
        bitmap.serialize_into(&mut bytes).map_err(damaged)?;
        bitmaps.push(bytes);
    }
    sqlx::query(
        "INSERT INTO retired_ids (source_number, epoch, chunk, ids)
         SELECT * FROM UNNEST($1::integer[], $2::integer[], $3::bigint[], $4::bytea[])
         ON CONFLICT (source_number, epoch, chunk) DO UPDATE SET ids = excluded.ids",
    )
    .bind(sources)
    .bind(epochs)
    .bind(numbers)
    .bind(bitmaps)
    .execute(connection)
    .await
    .map(drop)
}

/// A source's ids from `first` to `last` whose month was dropped, in order; at most `limit`. Some of them may
/// still be stored as executions.
pub(crate) async fn retired_between(
    executor: impl PgExecutor<'_>,
    source: i32,
    epoch: i32,
    (first, last): (i64, i64),
    limit: usize,
) -> Result<Vec<i64>, sqlx::Error> {
    // Each chunk holds at least one id, so `limit` chunks are enough, plus one: all ids of the first may be
    // before `first`.
    let chunks: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT chunk, ids FROM retired_ids
         WHERE source_number = $1 AND epoch = $2 AND chunk BETWEEN $3 AND $4 ORDER BY chunk LIMIT $5",
    )
    .bind(source)
    .bind(epoch)
    .bind(place_of(first).0)
    .bind(place_of(last).0)
    .bind(i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX))
    .fetch_all(executor)
    .await?;
    let mut found = Vec::new();
    for (chunk, bytes) in chunks {
        let bitmap = RoaringBitmap::deserialize_from(bytes.as_slice()).map_err(damaged)?;
        let ids = bitmap.iter().map(|low| ids_of(chunk).0 | i64::from(low));
        found.extend(ids.filter(|id| (first..=last).contains(id)).take(limit - found.len()));
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}
