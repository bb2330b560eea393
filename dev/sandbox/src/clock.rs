//! The clock of the whole stack: a base, usually the machine's clock, plus an offset that the control API moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use metering::Clock;

use crate::changes::Changes;

/// The farthest the clock may be moved: enough for any billing scenario, and far from the calendar's ends.
const OFFSET_MS_MAX: i64 = 50 * 366 * 24 * 3_600 * 1_000;

/// The simulated clock. Cloning it gives another handle to the same clock.
#[derive(Clone)]
pub struct SandboxClock {
    base: Arc<dyn Clock>,
    offset_ms: Arc<AtomicI64>,
    changes: Changes,
}

impl SandboxClock {
    pub(crate) fn new(base: Arc<dyn Clock>, offset_ms: i64, changes: Changes) -> Self {
        Self { base, offset_ms: Arc::new(AtomicI64::new(bounded(offset_ms))), changes }
    }

    /// How far this clock is ahead of its base, in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Moves the clock forward, or back for a negative duration.
    pub fn advance(&self, by: SignedDuration) {
        self.replace(self.offset_ms().saturating_add(millis(by)));
    }

    /// Makes the clock show `now`; it goes on running from there.
    pub fn set(&self, now: Timestamp) {
        let ahead = now.duration_since(self.base.now());
        let whole_ms = millis(ahead);
        // Rounded up: a clock set to midnight must not show the last moment of the day before.
        let part = i64::from(SignedDuration::from_millis(whole_ms) < ahead);
        self.replace(whole_ms.saturating_add(part));
    }

    fn replace(&self, offset_ms: i64) {
        self.offset_ms.store(bounded(offset_ms), Ordering::Relaxed);
        self.changes.mark();
    }
}

impl std::fmt::Debug for SandboxClock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SandboxClock").field("offset_ms", &self.offset_ms()).finish_non_exhaustive()
    }
}

impl Clock for SandboxClock {
    fn now(&self) -> Timestamp {
        let now = self.base.now();
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
    use metering::SystemClock;

    use super::*;

    #[test]
    fn it_runs_at_an_offset_that_can_be_moved_and_set() {
        let clock = SandboxClock::new(Arc::new(SystemClock), 0, Changes::default());
        clock.advance(SignedDuration::from_hours(24));
        assert_eq!(clock.offset_ms(), 24 * 3_600 * 1_000);

        let target: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        clock.set(target);
        let shown = clock.now();
        assert!(shown >= target && shown.duration_since(target) < SignedDuration::from_secs(5));
    }

    #[test]
    fn it_stays_inside_the_calendar() {
        let clock = SandboxClock::new(Arc::new(SystemClock), 0, Changes::default());
        clock.advance(SignedDuration::MAX);
        assert_eq!(clock.offset_ms(), OFFSET_MS_MAX);
    }
}
