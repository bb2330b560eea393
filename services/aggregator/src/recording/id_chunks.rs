//! Ids of executions in chunks: those that share their high bits are remembered, read and dropped together.

use roaring::RoaringBitmap;

/// Ids share a chunk if they differ only in this many low bits.
const CHUNK_BITS: u32 = 16;

/// Ids of one epoch that share their high bits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunk {
    pub(crate) ids: RoaringBitmap,
    /// Those that are recorded as crashed, and so may still change.
    pub(crate) crashed: RoaringBitmap,
    /// Those that no poll has shown yet: a poll replaces whatever was pushed.
    pub(crate) pushed: RoaringBitmap,
}

/// The chunk of an id, and its place there.
pub(crate) fn place_of(id: i64) -> (i64, u32) {
    let low = u32::try_from(id & ((1 << CHUNK_BITS) - 1)).unwrap_or_default();
    (id >> CHUNK_BITS, low)
}

/// The ids of a chunk, first and last.
pub(crate) fn ids_of(chunk: i64) -> (i64, i64) {
    let first = chunk << CHUNK_BITS;
    (first, first | ((1 << CHUNK_BITS) - 1))
}
