//! Verdicts in memory: a repeated id gets the same answer from the same replica at once.
//!
//! The newest verdicts are kept in full. For many more runs memory only knows that they may have been decided
//! here, and those are looked up in the ledger. Both are bounded: two generations each, of which the older
//! one is dropped when the younger one is full.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fastbloom::BloomFilter;
use foldhash::HashMap;
use jiff::Timestamp;

use crate::admission::{run_key::RunKey, verdict::Verdict};

/// Independent locks, so that requests for different runs rarely wait for each other.
const SHARDS: usize = 16;

/// Full verdicts of one generation and shard: about 30 MB in all.
const VERDICTS_MAX: usize = 4_000;

/// Runs of one generation and shard: at least 4 million in all that need no ledger lookup.
const RUNS_MAX: usize = 1 << 18;

/// Bits of a Bloom filter for each run: 13 MB in all, a good part of which fits in a processor's cache.
const BITS_PER_RUN: usize = 12;

/// Bits set for each run: fewer than one new run in a hundred is looked up for nothing.
const BITS_SET: u32 = 4;

/// The verdicts that this replica gave.
#[derive(Default)]
pub struct VerdictCache {
    shards: [Mutex<Shard>; SHARDS],
}

/// What is known of one id.
#[derive(Debug)]
pub enum Memory {
    /// This verdict was given.
    Given(Verdict),
    /// It may have been decided here; the ledger knows.
    Perhaps,
    /// It was not decided here since this instant, or never since the start.
    NotSince(Option<Timestamp>),
}

/// A locked shard, held while an id is decided: two requests with one id cannot both be new.
pub struct Place<'a> {
    shard: MutexGuard<'a, Shard>,
    key: RunKey,
}

#[derive(Default)]
struct Shard {
    young: HashMap<RunKey, Verdict>,
    old: HashMap<RunKey, Verdict>,
    runs: Runs,
    old_runs: Runs,
    /// When the last generation of runs was dropped.
    forgot_at: Option<Timestamp>,
}

/// A Bloom filter of decided runs, with a few false positives: takes far less memory than their keys.
struct Runs {
    filter: BloomFilter,
    count: usize,
}

impl Default for Runs {
    fn default() -> Self {
        let filter = BloomFilter::with_num_bits(RUNS_MAX * BITS_PER_RUN).hashes(BITS_SET);
        Self { filter, count: 0 }
    }
}

impl Runs {
    fn may_contain(&self, key: RunKey) -> bool {
        let [_, hash] = key.halves();
        self.count > 0 && self.filter.contains_hash(hash)
    }

    fn insert(&mut self, key: RunKey) {
        let [_, hash] = key.halves();
        self.filter.insert_hash(hash);
        self.count += 1;
    }

    fn clear(&mut self) {
        self.filter.clear();
        self.count = 0;
    }
}

impl VerdictCache {
    /// Locks the shard of a run.
    pub fn place(&self, key: RunKey) -> Place<'_> {
        let [first, _] = key.halves();
        let index = usize::try_from(first % SHARDS as u64).unwrap_or_default();
        Place { shard: self.shards[index].lock().unwrap_or_else(PoisonError::into_inner), key }
    }
}

impl Place<'_> {
    /// What is known of the id.
    pub fn memory(&self) -> Memory {
        let Shard { young, old, runs, old_runs, forgot_at } = &*self.shard;
        if let Some(verdict) = young.get(&self.key).or_else(|| old.get(&self.key)) {
            return Memory::Given(*verdict);
        }
        if runs.may_contain(self.key) || old_runs.may_contain(self.key) {
            return Memory::Perhaps;
        }
        Memory::NotSince(*forgot_at)
    }

    /// Remembers the verdict.
    pub fn keep(mut self, verdict: Verdict, now: Timestamp) {
        let shard = &mut *self.shard;
        // The next generation reuses the memory of the dropped one: growing again would delay requests and
        // touch fresh pages each time.
        if shard.young.len() >= VERDICTS_MAX {
            mem::swap(&mut shard.old, &mut shard.young);
            shard.young.clear();
        }
        if shard.runs.count >= RUNS_MAX {
            if shard.old_runs.count > 0 {
                // All runs of the dropped generation were decided before now.
                shard.forgot_at = Some(now);
            }
            mem::swap(&mut shard.old_runs, &mut shard.runs);
            shard.runs.clear();
        }
        shard.young.insert(self.key, verdict);
        shard.runs.insert(self.key);
    }
}

#[cfg(test)]
mod tests {
    use metering::TenantId;

    use super::*;
    use crate::admission::verdict;

    fn key(id: usize) -> RunKey {
        RunKey::of(&TenantId::parse("north").unwrap(), &id.to_string())
    }

    #[test]
    fn new_verdicts_are_kept_older_ones_looked_up_and_new_runs_nearly_always_new() {
        const KEPT: usize = 4 * SHARDS * VERDICTS_MAX;
        let cache = VerdictCache::default();
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        for id in 0..KEPT {
            cache.place(key(id)).keep(verdict::tests::verdict(), now);
        }
        let last = cache.place(key(KEPT - 1)).memory();
        assert!(matches!(last, Memory::Given(_)), "{last:?}");
        let first = cache.place(key(0)).memory();
        assert!(matches!(first, Memory::Perhaps), "{first:?}");
        let is_new = |id: &usize| matches!(cache.place(key(*id)).memory(), Memory::NotSince(None));
        let new = (KEPT..KEPT + 10_000).filter(is_new).count();
        assert!(new > 9_900, "{new} of 10,000");
    }

    #[test]
    fn dropping_a_generation_records_when_it_was_forgotten() {
        let mut shard = Shard::default();
        shard.runs.count = RUNS_MAX;
        let shards = Mutex::new(shard);
        let at = |text: &str| text.parse().unwrap();
        let keep = |id, now| {
            let shard = shards.lock().unwrap();
            Place { shard, key: key(id) }.keep(verdict::tests::verdict(), now);
        };
        let forgot_at = || shards.lock().unwrap().forgot_at;
        keep(1, at("2026-11-24T12:00:00Z"));
        assert_eq!(forgot_at(), None, "there was no older generation");
        shards.lock().unwrap().runs.count = RUNS_MAX;
        keep(2, at("2026-11-24T12:10:00Z"));
        assert_eq!(forgot_at(), Some(at("2026-11-24T12:10:00Z")));
        let first = Place { shard: shards.lock().unwrap(), key: key(1) }.memory();
        assert!(matches!(first, Memory::Given(_)), "its verdict is still kept: {first:?}");
    }
}
