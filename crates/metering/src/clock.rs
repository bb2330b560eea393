//! The clock is an argument: tests and the sandbox run the whole stack on simulated time.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        // Databases keep microseconds; an instant that survives storage unchanged can be compared.
        truncate_to_micros(Timestamp::now())
    }
}

/// A clock whose time is set: either it stands still, or it runs at an offset to the machine's.
#[derive(Debug, Clone)]
pub struct SimulatedClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Standing(Timestamp),
    Offset(SignedDuration),
}

impl SimulatedClock {
    /// A clock that stands at `now` until it is moved.
    pub fn standing_at(now: Timestamp) -> Self {
        Self { state: Arc::new(Mutex::new(State::Standing(now))) }
    }

    /// A clock that runs with the machine's, `offset` ahead of it.
    pub fn running_ahead(offset: SignedDuration) -> Self {
        Self { state: Arc::new(Mutex::new(State::Offset(offset))) }
    }

    /// Moves a standing clock to `now`, or makes a running one stand there.
    pub fn set(&self, now: Timestamp) {
        self.replace(State::Standing(now));
    }

    /// Makes the clock run `offset` ahead of the machine's.
    pub fn set_offset(&self, offset: SignedDuration) {
        self.replace(State::Offset(offset));
    }

    /// Moves the clock forward, or back for a negative duration; stops at the calendar's ends.
    pub fn advance(&self, by: SignedDuration) {
        let next = match self.state() {
            State::Standing(now) => State::Standing(now.saturating_add(by).unwrap_or(now)),
            State::Offset(offset) => State::Offset(offset.saturating_add(by)),
        };
        self.replace(next);
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        match self.state() {
            State::Standing(now) => now,
            State::Offset(offset) => {
                let now = SystemClock.now();
                now.saturating_add(offset).unwrap_or(now)
            }
        }
    }
}

fn truncate_to_micros(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_clock_moves_only_when_it_is_moved() {
        let start: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let clock = SimulatedClock::standing_at(start);
        let shared = clock.clone();
        assert_eq!(clock.now(), start);
        shared.advance(SignedDuration::from_hours(2));
        assert_eq!(clock.now(), "2026-11-24T02:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_running_clock_keeps_its_offset() {
        let clock = SimulatedClock::running_ahead(SignedDuration::from_hours(24));
        let ahead = clock.now().duration_since(SystemClock.now());
        assert!(ahead > SignedDuration::from_hours(23), "{ahead}");
    }
}
