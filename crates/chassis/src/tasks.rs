//! The loops of a service: started together, stopped together, and none may end unnoticed.

use std::{
    fmt::Display,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a shutdown waits for the work in progress; less than the 30 s that orchestrators give.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a service's loops and stops them.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Tasks {
    /// A token that is cancelled to stop the service. A loop finishes its batch, then returns.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a loop that cannot fail.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(future);
    }

    /// Starts a loop whose failure stops the whole service: an orchestrator starts it again, which is safer
    /// than a service that is partly dead.
    pub fn spawn_fallible<E: Display + Send + 'static>(
        &self,
        name: &'static str,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (shutdown, failed) = (self.shutdown.clone(), self.failed.clone());
        self.tracker.spawn(async move {
            if let Err(error) = future.await {
                tracing::error!(task = name, error = format!("{error:#}"), "stopping: a task failed");
                failed.store(true, Ordering::SeqCst);
                shutdown.cancel();
            }
        });
    }

    /// Whether a loop has failed.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Asks all loops to stop and waits for them, for a bounded time.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tracker.close();
        if timeout(SHUTDOWN_PATIENCE, self.tracker.wait()).await.is_err() {
            tracing::warn!(still_running = self.tracker.len(), "stopping without waiting for the rest");
        }
    }
}
