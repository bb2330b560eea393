//! Known execution ids, by chunk.

use roaring::RoaringBitmap;
use sqlx::PgConnection;

use super::ChunkKey;
use crate::recording::id_chunks::{Chunk, place_of};

/// Chunks that one statement reads. Full ones have 65,536 ids each: 16 MiB of them at once.
const CHUNKS_PER_READ: usize = 32;

/// The ids of these chunks, in the same order: recorded ones, and those whose month was dropped. Four
/// statements for 32 chunks: a batch whose ids lie far apart locks the transaction's sources no longer than
/// any other.
pub(crate) async fn chunks(
    connection: &mut PgConnection,
    keys: &[ChunkKey],
) -> Result<Vec<Chunk>, sqlx::Error> {
    let mut chunks = Vec::with_capacity(keys.len());
    for keys in keys.chunks(CHUNKS_PER_READ) {
        chunks.extend(read(connection, keys).await?);
    }
    Ok(chunks)
}

async fn read(connection: &mut PgConnection, keys: &[ChunkKey]) -> Result<Vec<Chunk>, sqlx::Error> {
    let sources: Vec<i32> = keys.iter().map(|key| key.0).collect();
    let epochs: Vec<i32> = keys.iter().map(|key| key.1).collect();
    let numbers: Vec<i64> = keys.iter().map(|key| key.2).collect();
    let mut chunks = vec![Chunk::default(); keys.len()];
    let at = |place: i64| usize::try_from(place - 1).unwrap_or(usize::MAX);
    // In this order: a month that is dropped between two of these statements is seen by one of them.
    let recorded: Vec<(i64, Vec<i64>)> = sqlx::query_as("SELECT * FROM recorded_in_chunks($1, $2, $3)")
        .bind(&sources)
        .bind(&epochs)
        .bind(&numbers)
        .fetch_all(&mut *connection)
        .await?;
    for (place, ids) in recorded {
        if let Some(chunk) = chunks.get_mut(at(place)) {
            chunk.ids = low(ids);
        }
    }
    let crashed: Vec<(i64, Vec<i64>)> = sqlx::query_as("SELECT * FROM crashed_in_chunks($1, $2, $3)")
        .bind(&sources)
        .bind(&epochs)
        .bind(&numbers)
        .fetch_all(&mut *connection)
        .await?;
    for (place, ids) in crashed {
        if let Some(chunk) = chunks.get_mut(at(place)) {
            chunk.crashed = low(ids);
        }
    }
    let pushed: Vec<(i64, Vec<i64>)> = sqlx::query_as("SELECT * FROM unconfirmed_in_chunks($1, $2, $3)")
        .bind(&sources)
        .bind(&epochs)
        .bind(&numbers)
        .fetch_all(&mut *connection)
        .await?;
    for (place, ids) in pushed {
        if let Some(chunk) = chunks.get_mut(at(place)) {
            chunk.pushed = low(ids);
        }
    }
    let retired: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT * FROM retired_in_chunks($1, $2, $3)")
        .bind(sources)
        .bind(epochs)
        .bind(numbers)
        .fetch_all(connection)
        .await?;
    for (place, bytes) in retired {
        if let Some(chunk) = chunks.get_mut(at(place)) {
            chunk.ids |= RoaringBitmap::deserialize_from(bytes.as_slice())
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        }
    }
    Ok(chunks)
}

fn low(ids: Vec<i64>) -> RoaringBitmap {
    ids.into_iter().map(|id| place_of(id).1).collect()
}
