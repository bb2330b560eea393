//! Writes down what was spent in memory: the runs of many tenants in one transaction.
//!
//! Little at a time: a large one takes a core away from those who ask meanwhile. A tenant's turn comes when its runs are
//! due, and a transaction takes those that are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use messaging::consume::chain;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    runtime::{Builder, Handle},
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admit::{AdmitError, Parts, WRITE_DELAY, WRITE_DELAY_MAX},
    desk::{Desk, Taken},
    store::{self, write_down::Spent},
};

/// The ledger has this long for one transaction.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs in one transaction, about: as many as take a core for a millisecond or two.
const ROWS_USUAL: usize = 384;

/// The same where writing is behind: what each transaction costs by itself, a commit on the disk, is shared by more.
const ROWS_LATE: usize = 2_048;

/// For the same reason, where less is due than [`ROWS_USUAL`], the next one begins so long after the one before.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);

/// Each also touches two rows of every tenant in it; so many runs are to share that.
const RUNS_PER_TENANT: u32 = 32;

/// The desks that have spent units and not written them down, by when their turn is.
#[derive(Default)]
pub struct Unwritten {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    desks: BTreeMap<(Instant, u64), Arc<Desk>>,
    /// Tells desks apart that are due at the same instant.
    number: u64,
}

impl Unwritten {
    /// A desk has spent units, and is to be written after this delay.
    pub fn add(&self, desk: Arc<Desk>, delay: Duration) {
        let mut waiting = self.lock();
        waiting.number += 1;
        let place = (Instant::now() + delay, waiting.number);
        let is_first = waiting.desks.first_key_value().is_none_or(|(first, _)| place < *first);
        waiting.desks.insert(place, desk);
        if is_first {
            self.filled.notify_one();
        }
    }

    /// Waits until a desk is due. Returns since when.
    async fn due(&self) -> Instant {
        loop {
            let first = self.lock().desks.first_key_value().map(|((due_at, _), _)| *due_at);
            match first {
                Some(due_at) if due_at <= Instant::now() => return due_at,
                Some(due_at) => tokio::select! {
                    () = sleep_until(due_at) => {}
                    () = self.filled.notified() => {}
                },
                None => self.filled.notified().await,
            }
        }
    }

    /// The desk that has been due for the longest time.
    fn take(&self) -> Option<Arc<Desk>> {
        let mut waiting = self.lock();
        let first = waiting.desks.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a tenant's runs are gathered next, where so many came in `delay`.
pub fn next_delay(delay: Duration, runs: usize) -> Duration {
    // One at a time: to wait would gather nothing.
    let Some(runs) = u32::try_from(runs).ok().filter(|runs| *runs > 1) else { return WRITE_DELAY };
    (delay * RUNS_PER_TENANT / runs).clamp(WRITE_DELAY, WRITE_DELAY_MAX)
}

/// Writes until `shutdown`. What is left then is written by each desk itself.
///
/// On a thread and a connection of its own: a worker that answers requests looks at its sockets once in many of them,
/// and a transaction waits for the ledger several times.
pub async fn run(parts: &Arc<Parts>, shutdown: &CancellationToken) {
    let writer = Writer { parts: parts.clone(), shutdown: shutdown.clone(), wakes: Handle::current() };
    let thread = spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(writer.run());
        std::io::Result::Ok(())
    });
    match thread.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot start to write down what is spent"),
        Err(error) => tracing::error!(%error, "what is spent is not written down any more"),
    }
}

struct Writer {
    parts: Arc<Parts>,
    shutdown: CancellationToken,
    /// Where desks are woken: among the workers.
    wakes: Handle,
}

impl Writer {
    async fn run(self) {
        let options = self.parts.pool.connect_options().as_ref().clone();
        let pool =
            PgPoolOptions::new().max_connections(1).acquire_timeout(WRITE_TIMEOUT).connect_lazy_with(options);
        while !self.shutdown.is_cancelled() {
            let due_at = tokio::select! {
                () = self.shutdown.cancelled() => break,
                due_at = self.parts.unwritten.due() => due_at,
            };
            let is_late = due_at.elapsed() > WRITE_DELAY_MAX;
            let begun_at = Instant::now();
            match self.write(&pool, if is_late { ROWS_LATE } else { ROWS_USUAL }).await {
                Ok(rows) if rows >= ROWS_USUAL => {}
                Ok(_) => sleep_until(begun_at + WRITE_INTERVAL).await,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "what was spent is written down later");
                    sleep(WRITE_DELAY * 10).await;
                }
            }
        }
        pool.close().await;
    }

    /// Writes what is due, about so many rows. Returns how many.
    async fn write(&self, pool: &PgPool, rows_wanted: usize) -> Result<usize, AdmitError> {
        let parts = &self.parts;
        let (mut desks, mut batch, mut rows) = (Vec::new(), Vec::new(), 0);
        while rows < rows_wanted
            && let Some(desk) = parts.unwritten.take()
        {
            match desk.take_spent() {
                Taken::Busy => parts.unwritten.add(desk, WRITE_DELAY),
                Taken::Nothing => {}
                Taken::Spent(spent) => {
                    rows += spent.entries.len();
                    batch.push(spent);
                    desks.push(desk);
                }
            }
        }
        if batch.is_empty() {
            return Ok(0);
        }
        let begun_at = Instant::now();
        let written = store::write_down::write_down_all(pool, parts.replica, &batch);
        let outcome = match timeout(WRITE_TIMEOUT, written).await {
            Ok(outcome) => outcome.map_err(AdmitError::Ledger),
            Err(_) => Err(AdmitError::TimedOut),
        };
        metrics::histogram!("flowmeter_ledger_write_seconds").record(begun_at.elapsed());
        let _wakes = self.wakes.enter();
        for (desk, Spent { entries, .. }) in desks.into_iter().zip(batch) {
            if outcome.is_err() {
                // Made again: rows are recognised by their ids.
                desk.put_back(entries);
                parts.unwritten.add(desk.clone(), Duration::ZERO);
            }
            desk.release();
            Desk::wake(&desk, parts);
        }
        outcome.map(|()| rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_gathers_until_many_runs_share_what_it_costs() {
        assert_eq!(next_delay(WRITE_DELAY, 1), WRITE_DELAY, "to wait would gather nothing");
        assert_eq!(next_delay(WRITE_DELAY, 2), WRITE_DELAY_MAX);
        assert_eq!(next_delay(WRITE_DELAY, 16), WRITE_DELAY * 2);
        assert_eq!(next_delay(WRITE_DELAY_MAX, 64), WRITE_DELAY_MAX / 2);
        assert_eq!(next_delay(WRITE_DELAY, 10_000), WRITE_DELAY);
    }
}
