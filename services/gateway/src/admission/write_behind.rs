//! Stores the verdicts that were decided in memory: the runs of all tenants in one statement.
//!
//! Statements are small: a large one takes a core away from incoming requests. Each desk tallies its runs
//! against the limit; the rows stored here let a repeated id find its answer, on another replica too.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use messaging::error_chain;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    runtime::Builder,
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::admissions::{AdmitError, Parts, WRITE_DELAY},
    store::{self, write_behind::Entry},
};

/// Timeout of one statement.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Verdicts in one statement, which take a core for two or three milliseconds.
const ROWS_USUAL: usize = 384;

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
    entries: Vec<Entry>,
    /// Whether some of them may already be stored.
    is_unsure: bool,
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
    async fn filled(&self) {
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
    fn put_back(&self, entries: Vec<Entry>) {
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

/// Writes until `shutdown`.
///
/// On a thread and a connection of its own: a worker that answers requests polls its sockets only once in
/// many requests, and a statement waits for the ledger several times.
pub async fn run(parts: &Arc<Parts>, shutdown: &CancellationToken) {
    let writer = Writer { parts: parts.clone(), shutdown: shutdown.clone() };
    let (ended, end) = oneshot::channel();
    let thread = thread::Builder::new().name("write-down".to_owned()).spawn(move || {
        let written =
            Builder::new_current_thread().enable_all().build().map(|runtime| runtime.block_on(writer.run()));
        // The receiver is gone if the gateway was dropped.
        let _ = ended.send(written);
    });
    match thread.map(|_| end) {
        Ok(end) => match end.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "cannot start to store decisions on runs"),
            Err(error) => tracing::error!(%error, "decisions on runs are no longer stored"),
        },
        Err(error) => tracing::error!(%error, "cannot start to store decisions on runs"),
    }
}

/// Writes the rest, once nothing is decided in memory any more.
pub async fn finish(parts: &Parts) -> Result<(), AdmitError> {
    while write(parts, &parts.pool).await? > 0 {}
    Ok(())
}

struct Writer {
    parts: Arc<Parts>,
    shutdown: CancellationToken,
}

impl Writer {
    async fn run(self) {
        let options = self.parts.pool.connect_options().as_ref().clone();
        let pool =
            PgPoolOptions::new().max_connections(1).acquire_timeout(WRITE_TIMEOUT).connect_lazy_with(options);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = self.parts.unwritten.filled() => {}
            }
            match write(&self.parts, &pool).await {
                Ok(rows) if rows >= ROWS_USUAL => {}
                // Verdicts given during the pause share the next statement.
                Ok(_) => sleep(WRITE_DELAY).await,
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "cannot store decisions on runs, retrying");
                    sleep(WRITE_DELAY * 10).await;
                }
            }
        }
        pool.close().await;
    }
}

/// Writes one batch. Returns the number of verdicts.
async fn write(parts: &Parts, pool: &PgPool) -> Result<usize, AdmitError> {
    let Batch { entries, is_unsure } = parts.unwritten.take();
    if entries.is_empty() {
        return Ok(0);
    }
    let begun_at = Instant::now();
    let written = timeout(WRITE_TIMEOUT, store::write_behind::write_spent(pool, &entries)).await;
    metrics::histogram!("flowmeter_ledger_write_seconds").record(begun_at.elapsed());
    match written.map_err(|_| AdmitError::TimedOut).and_then(|outcome| outcome.map_err(AdmitError::Ledger)) {
        Ok(known) => {
            // A row of a batch that may already be stored can be our own, not another replica's.
            for entry in entries.iter().filter(|entry| !is_unsure && known.contains(&entry.key)) {
                parts.desk(&entry.tenant).was_known(entry);
            }
            Ok(entries.len())
        }
        Err(error) => {
            // Writing them again is safe: rows are recognised by their keys.
            parts.unwritten.put_back(entries);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{admissions::tests::entry, run_key::RunKey};

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
