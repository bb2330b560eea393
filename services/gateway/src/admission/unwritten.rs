//! Verdicts that were decided in memory and are not stored yet: a bounded queue.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::store::write_behind::Entry;

/// Verdicts in one statement, which take a core for two or three milliseconds.
pub const ROWS_USUAL: usize = 384;

/// The same while writing is behind, so that more rows share the cost of a commit.
const ROWS_LATE: usize = 2_048;

/// Backlog at which runs are decided in the ledger instead of in memory (back-pressure). About 25 MB.
pub const WAITING_MAX: usize = 100_000;

/// Verdicts that wait to be stored.
#[derive(Default)]
pub struct Unwritten {
    waiting: Mutex<Waiting>,
    is_full: AtomicBool,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// How many of the first ones may already be stored: the outcome of their commit is unknown.
    unsure: usize,
}

/// The verdicts of one statement.
pub struct Batch {
    /// The oldest first.
    pub entries: Vec<Entry>,
    /// Whether some of them may already be stored.
    pub is_unsure: bool,
}

impl Unwritten {
    /// Adds a verdict that was given.
    pub fn add(&self, entry: Entry) {
        let mut waiting = self.lock();
        waiting.entries.push_back(entry);
        let is_first = waiting.entries.len() == 1;
        self.note_size(&waiting);
        drop(waiting);
        if is_first {
            self.filled.notify_one();
        }
    }

    /// Whether the backlog is full.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    fn note_size(&self, waiting: &Waiting) {
        let is_full = waiting.entries.len() >= WAITING_MAX;
        if is_full != self.is_full() {
            self.is_full.store(is_full, Ordering::Relaxed);
        }
    }

    /// Waits until there is something to write.
    pub async fn filled(&self) {
        while self.lock().entries.is_empty() {
            self.filled.notified().await;
        }
    }

    /// The oldest verdicts.
    pub fn take(&self) -> Batch {
        let mut waiting = self.lock();
        let rows = if waiting.entries.len() > ROWS_LATE { ROWS_LATE } else { ROWS_USUAL };
        let rows = rows.min(waiting.entries.len());
        let is_unsure = waiting.unsure > 0;
        waiting.unsure = waiting.unsure.saturating_sub(rows);
        let entries = waiting.entries.drain(..rows).collect();
        self.note_size(&waiting);
        Batch { entries, is_unsure }
    }

    /// Puts back verdicts that could not be stored, or whose commit has an unknown outcome.
    pub fn put_back(&self, entries: Vec<Entry>) {
        let mut waiting = self.lock();
        // Nothing behind them was taken meanwhile: there is only one writer at a time.
        waiting.unsure += entries.len();
        for entry in entries.into_iter().rev() {
            waiting.entries.push_front(entry);
        }
        self.note_size(&waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{run_key::RunKey, verdict::tests::entry};

    fn keys(batch: &Batch) -> Vec<RunKey> {
        batch.entries.iter().map(|entry| entry.key).collect()
    }

    #[test]
    fn verdicts_that_may_be_stored_already_go_first_and_are_marked() {
        let unwritten = Unwritten::default();
        for id in 0..=ROWS_LATE {
            unwritten.add(entry(id));
        }
        let late = unwritten.take();
        assert_eq!(
            (late.entries.len(), late.is_unsure),
            (ROWS_LATE, false),
            "a large backlog: more at a time"
        );
        let all = keys(&late);
        unwritten.put_back(late.entries.into_iter().take(ROWS_USUAL + 1).collect());

        let again = unwritten.take();
        assert_eq!((keys(&again).as_slice(), again.is_unsure), (&all[..ROWS_USUAL], true));
        let rest = unwritten.take();
        assert_eq!(keys(&rest), [all[ROWS_USUAL], entry(ROWS_LATE).key]);
        assert!(rest.is_unsure, "the first of them may have been written");
        unwritten.add(entry(0));
        assert!(!unwritten.take().is_unsure);
    }

    #[test]
    fn nothing_is_decided_in_memory_while_the_backlog_is_full() {
        let unwritten = Unwritten::default();
        let one = entry(0);
        for _ in 1..WAITING_MAX {
            unwritten.add(one.clone());
        }
        assert!(!unwritten.is_full());
        unwritten.add(one);
        assert!(unwritten.is_full());
        let taken = unwritten.take();
        assert!(!unwritten.is_full());
        unwritten.put_back(taken.entries);
        assert!(unwritten.is_full());
    }
}
