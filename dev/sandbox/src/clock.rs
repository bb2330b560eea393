//! The clock of the whole stack: the machine's clock plus an offset that the control API moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use metering::{Clock, SystemClock};

use crate::snapshot::Changes;

/// The farthest the clock may be moved: enough for any billing scenario, and far from the calendar's ends.
const OFFSET_MS_MAX: i64 = 50 * 366 * 24 * 3_600 * 1_000;

/// The simulated clock. Cloning it gives another handle to the same clock.
#[derive(Debug, Clone)]
pub struct SandboxClock {
    offset_ms: Arc<AtomicI64>,
    changes: Changes,
}

impl SandboxClock {
    pub(crate) fn new(offset_ms: i64, changes: Changes) -> Self {
        Self { offset_ms: Arc::new(AtomicI64::new(bounded(offset_ms))), changes }
    }

    /// How far this clock is ahead of the machine's, in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Moves the clock forward, or back for a negative duration.
    pub fn advance(&self, by: SignedDuration) {
        self.replace(self.offset_ms().saturating_add(millis(by)));
    }

    /// Makes the clock show `now`; it goes on running from there.
    pub fn set(&self, now: Timestamp) {
        self.replace(millis(now.duration_since(SystemClock.now())));
    }

    fn replace(&self, offset_ms: i64) {
        self.offset_ms.store(bounded(offset_ms), Ordering::Relaxed);
        self.changes.mark();
    }
}

impl Clock for SandboxClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        now.saturating_add(SignedDuration::from_millis(self.offset_ms())).unwrap_or(now)
    }
}

fn bounded(offset_ms: i64) -> i64 {
    offset_ms.clamp(-OFFSET_MS_MAX, OFFSET_MS_MAX)
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(OFFSET_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_at_an_offset_that_can_be_moved_and_set() {
        let clock = SandboxClock::new(0, Changes::default());
        clock.advance(SignedDuration::from_hours(24));
        assert_eq!(clock.offset_ms(), 24 * 3_600 * 1_000);

        let target: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        clock.set(target);
        assert!(clock.now().duration_since(target) < SignedDuration::from_secs(5));
    }

    #[test]
    fn it_stays_inside_the_calendar() {
        let clock = SandboxClock::new(0, Changes::default());
        clock.advance(SignedDuration::MAX);
        assert_eq!(clock.offset_ms(), OFFSET_MS_MAX);
    }
}
