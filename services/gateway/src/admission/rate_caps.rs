//! How often runs may start: GCRA, by the crate `governor`, on state that the ledger keeps.
//!
//! A cap of `n` per window lets `n` runs start at once and then one each `window / n`; any window holds fewer
//! than `2 n`, and over time `n` per window. A tenant whose plan has caps gets no leases: each run takes its
//! cells under the tenant's lock, so a cap holds across all replicas, and a crash loses no cells.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::FakeRelativeClock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use jiff::Timestamp;

/// The time over which a cap counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// A minute.
    Minute,
    /// 24 hours.
    Day,
}

impl Window {
    /// The window's name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
        }
    }

    fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Day => Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The state of one cap: the theoretical arrival time, as the ledger keeps it; zero if there is none yet.
/// Only one task uses it: it is atomic because a future must be `Send`.
struct Arrival(AtomicU64);

impl Arrival {
    fn new(arrival_ns: Option<u64>) -> Self {
        Self(AtomicU64::new(arrival_ns.unwrap_or(0)))
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|arrival| *arrival > 0)
    }

    fn set(&self, arrival_ns: Option<u64>) {
        self.0.store(arrival_ns.unwrap_or(0), Ordering::Relaxed);
    }
}

impl StateStore for Arrival {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = measure(self.get().map(Nanos::from))?;
        self.set(Some(next.as_u64()));
        Ok(outcome)
    }
}

/// A cap at one instant.
pub struct Cap {
    /// The time over which it counts.
    pub window: Window,
    /// `None` for a cap of zero.
    quota: Option<Quota>,
    now: Timestamp,
    arrival: Arrival,
}

impl Cap {
    /// A cap of `runs` in each `window`, with the ledger's state.
    pub fn new(window: Window, runs: u64, arrival_ns: Option<u64>, now: Timestamp) -> Self {
        // Nobody reaches a cap of more than four billion in a window.
        let burst = NonZeroU32::new(u32::try_from(runs).unwrap_or(u32::MAX));
        let quota = burst
            .and_then(|burst| Some(Quota::with_period(window.length() / burst.get())?.allow_burst(burst)));
        Self { window, quota, now, arrival: Arrival::new(arrival_ns) }
    }

    /// Takes `cells`, or returns when they may be available; `None` if never.
    pub fn take(&self, cells: u64) -> Result<(), Option<Timestamp>> {
        let Ok(cells) = u32::try_from(cells) else { return Err(None) };
        let Some(cells) = NonZeroU32::new(cells) else { return Ok(()) };
        let Some(quota) = self.quota else { return Err(None) };
        // Governor measures from the instant at which a limiter is created; here that is 1970.
        let clock = FakeRelativeClock::default();
        let state = Arrival::new(self.arrival.get());
        let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(quota, state, clock.clone());
        let since_1970 =
            Duration::try_from(self.now.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default();
        clock.advance(since_1970);
        match limiter.check_n(cells) {
            Ok(Ok(())) => {
                self.arrival.set(limiter.into_state_store().get());
                Ok(())
            }
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(governor::clock::Clock::now(&clock));
                Err(self.now.checked_add(wait).ok())
            }
            Err(_) => Err(None),
        }
    }

    /// The state to store.
    pub fn arrival_ns(&self) -> Option<u64> {
        self.arrival.get()
    }

    /// Restores an earlier state.
    pub fn restore(&self, arrival_ns: Option<u64>) {
        self.arrival.set(arrival_ns);
    }
}

/// Takes `cells` from all caps, or from none. Fails with the window of the cap that has too few, and when it
/// may have enough.
pub fn take_all(caps: &[Cap], cells: u64) -> Result<(), (Window, Option<Timestamp>)> {
    let before: Vec<_> = caps.iter().map(Cap::arrival_ns).collect();
    for cap in caps {
        if let Err(retry_at) = cap.take(cells) {
            for (cap, arrival_ns) in caps.iter().zip(before) {
                cap.restore(arrival_ns);
            }
            return Err((cap.window, retry_at));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_cap_lets_its_runs_start_at_once_and_then_one_by_one() {
        let cap = Cap::new(Window::Minute, 60, None, at("2026-11-24T12:00:00Z"));
        assert!((0..60).all(|_| cap.take(1).is_ok()));
        assert_eq!(cap.take(1), Err(Some(at("2026-11-24T12:00:01Z"))));
        let later = Cap::new(Window::Minute, 60, cap.arrival_ns(), at("2026-11-24T12:00:01Z"));
        assert!(later.take(1).is_ok() && later.take(1).is_err());
    }

    #[test]
    fn a_cap_of_zero_never_has_a_cell() {
        let cap = Cap::new(Window::Day, 0, None, at("2026-11-24T12:00:00Z"));
        assert_eq!(cap.take(1), Err(None));
    }

    #[test]
    fn cells_are_taken_from_all_caps_or_none() {
        let now = at("2026-11-24T12:00:00Z");
        let caps = [Cap::new(Window::Minute, 10, None, now), Cap::new(Window::Day, 3, None, now)];
        assert_eq!(take_all(&caps, 4).map_err(|(window, _)| window), Err(Window::Day));
        assert_eq!(caps[0].arrival_ns(), None, "the cap that had enough keeps its cells");
    }
}
