//! Stores the verdicts that were decided in memory: the runs of all tenants in one statement.
//!
//! Statements are small: a large one takes a core away from incoming requests. Each lease tallies its runs
//! against the limit; the rows stored here let a repeated id find its answer, on another replica too.

use std::{sync::Arc, thread, time::Duration};

use messaging::error_chain;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    runtime::Builder,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{
        resources::Resources,
        unwritten::{Batch, ROWS_USUAL},
        verdict::{AdmitError, WRITE_DELAY},
    },
    store::{self, write_behind::Entry},
};

/// Timeout of one statement.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes until `shutdown`.
///
/// On a thread and a connection of its own: a worker that answers requests polls its sockets only once in
/// many requests, and a statement waits for the ledger several times.
///
/// `was_known` gets the verdicts on runs that another replica had decided already.
pub async fn run(
    resources: &Arc<Resources>,
    shutdown: &CancellationToken,
    was_known: impl Fn(&Entry) + Send + 'static,
) {
    let writer = Writer { resources: resources.clone(), shutdown: shutdown.clone(), was_known };
    let (ended, end) = oneshot::channel();
    let thread = thread::Builder::new().name("write-behind".to_owned()).spawn(move || {
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
pub async fn finish(resources: &Resources, was_known: impl Fn(&Entry)) -> Result<(), AdmitError> {
    while write(resources, &resources.pool, &was_known).await? > 0 {}
    Ok(())
}

struct Writer<F> {
    resources: Arc<Resources>,
    shutdown: CancellationToken,
    was_known: F,
}

impl<F: Fn(&Entry)> Writer<F> {
    async fn run(self) {
        let options = self.resources.pool.connect_options().as_ref().clone();
        let pool =
            PgPoolOptions::new().max_connections(1).acquire_timeout(WRITE_TIMEOUT).connect_lazy_with(options);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = self.resources.unwritten.filled() => {}
            }
            match write(&self.resources, &pool, &self.was_known).await {
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
async fn write(
    resources: &Resources,
    pool: &PgPool,
    was_known: &impl Fn(&Entry),
) -> Result<usize, AdmitError> {
    let Batch { entries, is_unsure } = resources.unwritten.take();
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
                was_known(entry);
            }
            Ok(entries.len())
        }
        Err(error) => {
            // Writing them again is safe: rows are recognised by their keys.
            resources.unwritten.put_back(entries);
            Err(error)
        }
    }
}
