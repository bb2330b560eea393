//! How soon a source is swept again. No I/O, no clock.
//!
//! Each source has its interval. One that would prune unseen rows within two of them is swept after half the
//! time left. One that pushes is swept later: every push postpones the next sweep until an interval after the
//! push, so a source that stops pushing is back at its interval at once, and never beyond [`PUSHING_STRETCH`]
//! intervals after the last sweep.

use std::time::Duration;

use jiff::Timestamp;
use metering::later;

use crate::sweep::retention::{Forecast, MARGIN};

/// A source that pushes is swept after at most this many intervals: pushes may be lost, so the sweep still
/// has to come.
const PUSHING_STRETCH: u32 = 3;

/// Shortest pause between sweeps of a source at risk: as long as a sweep of thousands of rows takes. n8n
/// needs ten times as long to fill up what it keeps.
const RISK_PAUSE_MIN: Duration = Duration::from_secs(5);

/// Sources of a tenant near its limit are swept this many times an interval, and pushes do not postpone that.
const SWEEPS_NEAR_LIMIT: u32 = 4;

/// Shortest pause between sweeps near a limit, unless the interval is shorter: a sweep costs seven requests.
pub const LIMIT_PAUSE_MIN: Duration = Duration::from_secs(15);

/// When a source is swept next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// If it pushes nothing.
    pub next: Timestamp,
    /// How far pushes may postpone that; `None` if they may not.
    pub postponable_until: Option<Timestamp>,
}

impl Pace {
    /// Due again at once: the sweep has left something to read.
    pub fn at_once(swept_at: Timestamp) -> Self {
        Self { next: swept_at, postponable_until: None }
    }

    /// After a sweep that has read everything. `jitter` is a factor.
    pub fn after(swept_at: Timestamp, interval: Duration, jitter: f64, forecast: Option<Forecast>) -> Self {
        let safe =
            forecast.map_or(Duration::MAX, |forecast| (forecast.time_left() / MARGIN).max(RISK_PAUSE_MIN));
        let next = later(swept_at, stretched(interval.min(safe), jitter));
        let last = later(swept_at, interval.saturating_mul(PUSHING_STRETCH).min(safe));
        Self { next, postponable_until: (interval < safe && last > next).then_some(last) }
    }
}

impl Pace {
    /// The same for a source that runs executions of a tenant near its limit.
    pub fn near_limit(self, swept_at: Timestamp, interval: Duration, jitter: f64) -> Self {
        let pause = (interval / SWEEPS_NEAR_LIMIT).max(LIMIT_PAUSE_MIN.min(interval));
        Self { next: self.next.min(later(swept_at, stretched(pause, jitter))), postponable_until: None }
    }
}

/// A duration times a factor.
pub fn stretched(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{n8n::row::RunId, sweep::retention::Sight};

    const INTERVAL: Duration = Duration::from_secs(600);

    /// After a sweep at second 0, before which this many ids have come in an interval.
    fn paced(ids: Option<u64>, interval: Duration, jitter: f64) -> (i64, Option<i64>) {
        let at = |second| Timestamp::from_second(second).unwrap();
        let sight = |newest, second| Sight { newest: RunId::new(newest).unwrap(), at: at(second) };
        let forecast = ids.and_then(|ids| Forecast::of(sight(1, -600), sight(1 + ids, 0), 10_000));
        let pace = Pace::after(at(0), interval, jitter, forecast);
        (pace.next.as_second(), pace.postponable_until.map(Timestamp::as_second))
    }

    #[test]
    fn a_source_has_its_interval_and_three_if_it_pushes() {
        assert_eq!(paced(None, INTERVAL, 1.0), (600, Some(1_800)));
        assert_eq!(paced(Some(0), INTERVAL, 1.1), (660, Some(1_800)));
        assert_eq!(paced(Some(10), INTERVAL, 0.9), (540, Some(1_800)));
    }

    #[test]
    fn a_source_at_risk_is_swept_after_half_the_time_left() {
        assert_eq!(paced(Some(6_000), INTERVAL, 1.0), (500, None));
        assert_eq!(paced(Some(60_000), INTERVAL, 1.0), (50, None));
        assert_eq!(paced(Some(u64::from(u32::MAX)), INTERVAL, 1.0), (5, None));
    }

    #[test]
    fn a_short_interval_stays_as_it_is() {
        assert_eq!(paced(Some(60_000), Duration::from_secs(2), 1.0), (2, Some(6)));
        assert_eq!(paced(Some(u64::from(u32::MAX)), Duration::from_secs(2), 1.0).0, 2);
    }

    #[test]
    fn a_source_near_a_limit_is_swept_at_a_quarter_of_its_interval() {
        let near = |ids: Option<u64>, interval| {
            let at = |second| Timestamp::from_second(second).unwrap();
            let (next, postponable) = paced(ids, interval, 1.0);
            let pace = Pace { next: at(next), postponable_until: postponable.map(at) };
            let pace = pace.near_limit(at(0), interval, 1.0);
            assert_eq!(pace.postponable_until, None);
            pace.next.as_second()
        };
        assert_eq!(near(None, INTERVAL), 150);
        assert_eq!(near(None, Duration::from_secs(40)), 15);
        assert_eq!(near(None, Duration::from_secs(10)), 10);
        // Risk comes first.
        assert_eq!(near(Some(60_000), INTERVAL), 50);
    }

    #[test]
    fn pushes_do_not_postpone_a_sweep_into_the_risk() {
        // 3,000 s are left.
        assert_eq!(paced(Some(2_000), INTERVAL, 1.0), (600, Some(1_500)));
        assert_eq!(paced(Some(5_000), INTERVAL, 1.0), (600, None));
    }
}
