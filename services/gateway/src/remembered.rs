//! Verdicts in memory: a repeated id gets the same answer from the same replica at once.
//!
//! The newest verdicts are kept whole; of more ids it is only known whether they were decided here, and those are
//! looked up in the ledger. Both are bounded: two generations each, of which the older one is dropped when the younger
//! one is full.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::{HashMap, HashSet};
use jiff::Timestamp;

use crate::{admit::Verdict, run_key::RunKey};

/// Requests of different ids rarely wait for each other.
const SHARDS: usize = 16;

/// Whole verdicts of one generation and shard: about 30 MB in all.
const VERDICTS_MAX: usize = 4_000;

/// Ids of one generation and shard: about 40 MB in all, and 2 million runs that need no look at the ledger.
const IDS_MAX: usize = 65_536;

/// The verdicts that this replica has given.
#[derive(Default)]
pub struct Remembered {
    shards: [Mutex<Shard>; SHARDS],
}

/// What is known of one id.
#[derive(Debug)]
pub enum Memory {
    /// This verdict was given.
    Given(Verdict),
    /// It may have been decided here; the ledger knows.
    Perhaps,
    /// It was not decided here since the instant, or never since the start.
    NotSince(Option<Timestamp>),
}

/// A part of the memory, held while an id is decided: two requests of one id cannot both be new.
pub struct Place<'a> {
    shard: MutexGuard<'a, Shard>,
    key: RunKey,
}

#[derive(Default)]
struct Shard {
    young: HashMap<RunKey, Verdict>,
    old: HashMap<RunKey, Verdict>,
    ids: HashSet<u64>,
    old_ids: HashSet<u64>,
    /// When the last generation of ids was dropped.
    forgot_at: Option<Timestamp>,
}

impl Remembered {
    /// The place of a run.
    pub fn place(&self, key: RunKey) -> Place<'_> {
        let index = usize::try_from(key.half() % SHARDS as u64).unwrap_or_default();
        Place { shard: self.shards[index].lock().unwrap_or_else(PoisonError::into_inner), key }
    }
}

impl Place<'_> {
    /// What is known of the id.
    pub fn memory(&self) -> Memory {
        let Shard { young, old, ids, old_ids, forgot_at } = &*self.shard;
        if let Some(verdict) = young.get(&self.key).or_else(|| old.get(&self.key)) {
            return Memory::Given(*verdict);
        }
        if ids.contains(&self.key.half()) || old_ids.contains(&self.key.half()) {
            return Memory::Perhaps;
        }
        Memory::NotSince(*forgot_at)
    }

    /// Remembers the verdict.
    pub fn keep(mut self, verdict: Verdict, now: Timestamp) {
        let shard = &mut *self.shard;
        // A generation that is dropped leaves its room to the next one: to grow again would hold up whoever asks, and
        // take fresh pages for as long as anybody does.
        if shard.young.len() >= VERDICTS_MAX {
            mem::swap(&mut shard.old, &mut shard.young);
            shard.young.clear();
        }
        if shard.ids.len() >= IDS_MAX {
            if !shard.old_ids.is_empty() {
                // Ids of the dropped generation were decided before now.
                shard.forgot_at = Some(now);
            }
            mem::swap(&mut shard.old_ids, &mut shard.ids);
            shard.ids.clear();
        }
        shard.young.insert(self.key, verdict);
        shard.ids.insert(self.key.half());
    }
}
