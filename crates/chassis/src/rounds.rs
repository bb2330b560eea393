//! Work that is repeated at an interval until shutdown.

use std::{error::Error, time::Duration};

use messaging::error_chain;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Work that is slow because the database is unavailable runs again soon after it is back.
const SPARE_MAX: Duration = Duration::from_secs(10);

/// Rounds at an interval of the machine's time. A round that took longer is followed by a whole interval.
pub struct Rounds {
    ticks: Interval,
    shutdown: CancellationToken,
}

impl Rounds {
    /// Rounds until `shutdown`; the first one is due at once.
    pub fn new(every: Duration, shutdown: CancellationToken) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, shutdown }
    }

    /// Delays the next round, by at most `SPARE_MAX`, so that work that takes this long takes one part in
    /// `parts` of the time: work that can be done later leaves the machine to work that cannot.
    pub fn spare(&mut self, took: Duration, parts: u32) {
        let pause = took.saturating_mul(parts.saturating_sub(1)).min(SPARE_MAX);
        if pause > self.ticks.period() {
            self.ticks.reset_after(pause);
        }
    }

    /// Waits for the next round, or for `wake`, which begins one at once. False on shutdown.
    pub async fn next_or(&mut self, wake: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            _ = self.ticks.tick() => true,
            () = wake => {
                self.ticks.reset();
                true
            }
        }
    }

    /// Waits for the next round. False on shutdown.
    pub async fn next(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            _ = self.ticks.tick() => true,
        }
    }
    /// Does `work` in each round until shutdown, which interrupts it: only for work that keeps what it has
    /// committed. A failure is logged with the words of `failure`; the next round tries again.
    pub async fn each<T, E: Error, W>(mut self, failure: &'static str, mut work: impl FnMut() -> W)
    where
        W: Future<Output = Result<T, E>>,
    {
        let shutdown = self.shutdown.clone();
        while self.next().await {
            tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = work() => if let Err(error) = outcome {
                    tracing::warn!(error = error_chain(&error), "{failure}");
                },
            }
        }
    }
}
