//! When a source will prune what nobody has seen. No I/O, no clock.
//!
//! n8n keeps its newest rows, 10,000 by default, and reports neither that number nor its rate. The rate
//! follows from what two sweeps have seen: their newest ids and when they began. Ids without a row (unsaved
//! executions) make the forecast too early, never too late.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::n8n::row::RunId;

/// A loss is expected if the first unseen row would be pruned within this many intervals.
pub const MARGIN: u32 = 2;

/// A warning needs one in this many of the rows kept to have come between the two sweeps: sweeps can follow
/// each other within a second, and a small burst then looks like a high rate.
const EVIDENCE_SHARE: u64 = 20;

/// What a sweep saw as the newest, and when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The newest id.
    pub newest: RunId,
    /// When the sweep began.
    pub at: Timestamp,
}

/// What happens at the present rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    swept_at: Timestamp,
    time_left: SignedDuration,
    is_evident: bool,
}

impl Forecast {
    /// The forecast after the sweep of `now`, for a source that keeps `rows_kept` rows; `None` if no id has
    /// come since `before`, or no time has passed.
    pub fn of(before: Sight, now: Sight, rows_kept: u64) -> Option<Self> {
        let passed = now.at.duration_since(before.at);
        let ids = now.newest.number().checked_sub(before.newest.number()).filter(|ids| *ids > 0)?;
        let millis = u128::try_from(passed.as_millis()).ok().filter(|millis| *millis > 0)?;
        let left = millis.saturating_mul(u128::from(rows_kept)) / u128::from(ids);
        let time_left = SignedDuration::from_millis(i64::try_from(left).unwrap_or(i64::MAX));
        let is_evident = ids.saturating_mul(EVIDENCE_SHARE) >= rows_kept;
        Some(Self { swept_at: now.at, time_left, is_evident })
    }

    /// How long after the sweep the first row that it has not seen is pruned.
    pub fn time_left(&self) -> Duration {
        Duration::try_from(self.time_left).unwrap_or_default()
    }

    /// When that is, if sweeps at this interval leave no margin.
    pub fn loss_expected_at(&self, interval: Duration) -> Option<Timestamp> {
        let is_near = self.time_left() < interval.saturating_mul(MARGIN);
        (is_near && self.is_evident).then(|| self.swept_at.checked_add(self.time_left).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS_KEPT: u64 = 10_000;
    const TEN_MINUTES: Duration = Duration::from_secs(600);

    fn forecast(ids: u64, seconds: i64) -> Option<Forecast> {
        let sight = |newest, second| Sight {
            newest: RunId::new(newest).unwrap(),
            at: Timestamp::from_second(second).unwrap(),
        };
        Forecast::of(sight(100, 0), sight(100 + ids, seconds), ROWS_KEPT)
    }

    fn loss(ids: u64, seconds: i64) -> Option<i64> {
        let at = forecast(ids, seconds)?.loss_expected_at(TEN_MINUTES)?;
        Some(at.as_second())
    }

    #[test]
    fn a_loss_is_expected_if_two_intervals_fill_what_is_kept() {
        // 10,000 rows in the 1,000 s after the sweep.
        assert_eq!(loss(6_000, 600), Some(1_600));
        assert_eq!(loss(10_001, 600), Some(1_199));
        assert_eq!(loss(20_000, 600), Some(900));
        // Exactly twice the interval is enough.
        assert_eq!(loss(5_000, 600), None);
        assert_eq!(loss(5_001, 600), Some(1_799));
        assert_eq!(loss(100, 600), None);
    }

    #[test]
    fn a_shorter_interval_takes_the_risk_away() {
        let forecast = forecast(6_000, 600).unwrap();
        assert_eq!(forecast.time_left(), Duration::from_secs(1_000));
        assert_eq!(forecast.loss_expected_at(Duration::from_secs(500)), None);
    }

    #[test]
    fn a_small_burst_gives_a_rate_but_no_evidence() {
        assert_eq!(loss(100, 1), None);
        assert_eq!(forecast(100, 1).unwrap().time_left(), Duration::from_secs(100));
        assert_eq!(loss(500, 1), Some(21));
    }

    #[test]
    fn without_new_ids_or_time_there_is_no_rate() {
        assert_eq!(forecast(0, 600), None);
        assert_eq!(forecast(10, 0), None);
        assert_eq!(forecast(10, -5), None);
        assert_eq!(forecast(1_000_000_000, 1).unwrap().time_left(), Duration::ZERO);
    }

    #[test]
    fn a_slow_source_is_safe_for_ages() {
        let slow = forecast(1, 1_000_000_000).unwrap();
        assert_eq!(slow.loss_expected_at(TEN_MINUTES), None);
    }
}
