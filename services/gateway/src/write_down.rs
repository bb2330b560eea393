//! Writes down what was spent in memory: the runs of all tenants in one statement.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use messaging::consume::chain;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admit::{AdmitError, Parts, WRITE_DELAY},
    desk::{Desk, Taken},
    store::{self, write_down::Spent},
};

/// The ledger has this long for one statement.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs in one statement. The desks that are written wait for it when they need the ledger.
const ROWS_MAX: usize = 2_048;

/// The delay while much is spent: each statement also touches two rows of every tenant, so fewer of them cost less.
const WRITE_DELAY_BUSY: Duration = Duration::from_millis(50);

/// So many runs in one statement say that much is spent.
const ROWS_BUSY: usize = 100;

/// The desks that have spent units and not written them down.
#[derive(Default)]
pub struct Unwritten {
    desks: Mutex<Vec<Arc<Desk>>>,
    filled: Notify,
}

impl Unwritten {
    /// A desk has spent its first unit since it was last written.
    pub fn add(&self, desk: Arc<Desk>) {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
        self.filled.notify_one();
    }

    fn take(&self) -> Vec<Arc<Desk>> {
        mem::take(&mut *self.desks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes until `shutdown`. What is left then is written by each desk itself.
pub async fn run(parts: &Arc<Parts>, shutdown: &CancellationToken) {
    let mut delay = WRITE_DELAY;
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = parts.unwritten.filled.notified() => {}
        }
        sleep(delay).await;
        match write(parts).await {
            Ok(rows) => delay = if rows < ROWS_BUSY { WRITE_DELAY } else { WRITE_DELAY_BUSY },
            Err(error) => {
                tracing::warn!(error = chain(&error), "what was spent is written down later");
                sleep(WRITE_DELAY * 10).await;
            }
        }
    }
}

/// Returns how many runs it has written.
async fn write(parts: &Arc<Parts>) -> Result<usize, AdmitError> {
    let (mut desks, mut batch, mut rows) = (Vec::new(), Vec::new(), 0);
    for desk in parts.unwritten.take() {
        match if rows < ROWS_MAX { desk.take_spent() } else { Taken::Busy } {
            Taken::Busy => parts.unwritten.add(desk),
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
    let written = store::write_down::write_down_all(&parts.pool, parts.replica, &batch);
    let outcome = match timeout(WRITE_TIMEOUT, written).await {
        Ok(outcome) => outcome.map_err(AdmitError::Ledger),
        Err(_) => Err(AdmitError::TimedOut),
    };
    for (desk, Spent { entries, .. }) in desks.into_iter().zip(batch) {
        if outcome.is_err() {
            // Made again: rows are recognised by their ids.
            desk.put_back(entries);
            parts.unwritten.add(desk.clone());
        }
        desk.release();
        Desk::wake(&desk, parts);
    }
    outcome.map(|()| rows)
}
