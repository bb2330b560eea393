//! Work that comes again at an interval until shutdown.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Work that takes long because the database is away comes again soon after it is back.
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

    /// Puts the next round off until work that takes this long takes one part in `parts` of the time: what can be told or
    /// written later leaves the machine to what cannot. By [`SPARE_MAX`] at most.
    pub fn spare(&mut self, took: Duration, parts: u32) {
        let pause = took.saturating_mul(parts.saturating_sub(1)).min(SPARE_MAX);
        if pause > self.ticks.period() {
            self.ticks.reset_after(pause);
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
}
