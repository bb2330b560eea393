//! How far a source's clock is ahead of ours. No I/O, no clock of its own.
//!
//! A poll measures it by the `Date` of each answer, a push by the time at which the hook says that it sent
//! the request. If both are fresh the push decides: it is n8n's own clock, while a proxy in front of n8n may
//! answer with its own `Date`.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};

/// `Date` is truncated to the second.
const DATE_GRAIN_MS: i64 = 1_000;

/// An answer that took longer is too imprecise.
const ROUND_TRIP_MAX: SignedDuration = SignedDuration::from_secs(10);

/// Pushes of a source that are compared with each other.
const PUSHES_MAX: usize = 5;

/// Earlier pushes are no longer compared: the clock may have been set since.
const PUSHES_SPAN: SignedDuration = SignedDuration::from_mins(10);

/// A poll's measurement counts for this long: each sweep measures again.
const POLLED_FRESH_FOR: SignedDuration = SignedDuration::from_hours(1);

/// A push decides for this long. If it were shorter, an n8n that seldom runs and is behind a proxy would be
/// wrong with each push and right in between.
const PUSHED_FRESH_FOR: SignedDuration = SignedDuration::from_hours(24);

/// A wrong clock is right again below the bound divided by this: near the bound it would otherwise be
/// reported again and again.
const RIGHT_AGAIN_SHARE: i32 = 2;

/// The range that the skew lies in, by one answer or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    least_ms: i64,
    most_ms: i64,
}

impl Bounds {
    /// By the `Date` of an answer that arrived at `received`, to a request sent at `sent`. The source wrote
    /// it in between.
    pub fn of_answer(date: &str, sent: Timestamp, received: Timestamp) -> Option<Self> {
        let round_trip = received.duration_since(sent);
        if round_trip.is_negative() || round_trip > ROUND_TRIP_MAX {
            return None;
        }
        let date = DateTimeParser::new().parse_timestamp(date).ok()?.as_millisecond();
        Some(Self {
            least_ms: date.saturating_sub(received.as_millisecond()),
            most_ms: date.saturating_add(DATE_GRAIN_MS).saturating_sub(sent.as_millisecond()),
        })
    }

    /// By both; by the later one if they contradict each other, because the clock was set in between.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        let both =
            Self { least_ms: self.least_ms.max(later.least_ms), most_ms: self.most_ms.min(later.most_ms) };
        if both.least_ms <= both.most_ms { both } else { later }
    }

    /// The middle, in milliseconds.
    pub fn middle_ms(self) -> i64 {
        self.least_ms.midpoint(self.most_ms)
    }
}

/// The skew by the last pushes of a source.
#[derive(Debug, Default)]
pub struct Pushes(VecDeque<(Timestamp, i64)>);

impl Pushes {
    /// Adds a push. Returns the skew by the last few, in milliseconds.
    ///
    /// A delay only makes the clock look further behind, so the largest value is nearest to the truth.
    pub fn take(&mut self, sent_at: Timestamp, received_at: Timestamp) -> i64 {
        let skew_ms = sent_at.as_millisecond().saturating_sub(received_at.as_millisecond());
        self.0.retain(|(at, _)| received_at.duration_since(*at).abs() <= PUSHES_SPAN);
        self.0.push_back((received_at, skew_ms));
        while self.0.len() > PUSHES_MAX {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, skew_ms)| *skew_ms).max().unwrap_or(skew_ms)
    }
}

/// A skew and when it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// How far the source's clock is ahead, in milliseconds.
    pub skew_ms: i64,
    /// When it was measured, by our clock.
    pub at: Timestamp,
}

impl Reading {
    /// The reading that counts at `now`.
    pub fn of(polled: Option<Self>, pushed: Option<Self>, now: Timestamp) -> Option<Self> {
        let is_within = |span| move |reading: &Self| now.duration_since(reading.at) <= span;
        pushed.filter(is_within(PUSHED_FRESH_FOR)).or(polled.filter(is_within(POLLED_FRESH_FOR)))
    }

    /// Whether the clock is wrong; the bound is tighter for one that was wrong before.
    pub fn is_wrong(self, bound: SignedDuration, was_wrong: bool) -> bool {
        let bound = if was_wrong { bound / RIGHT_AGAIN_SHARE } else { bound };
        SignedDuration::from_millis(self.skew_ms).abs() > bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_521_600_000 + millis).unwrap()
    }

    /// 12:00:00 of that day.
    const NOON: &str = "Tue, 24 Nov 2026 12:00:00 GMT";

    #[test]
    fn a_date_gives_the_skew_to_within_its_second_and_the_round_trip() {
        let bounds = |sent, received| Bounds::of_answer(NOON, at(sent), at(received)).unwrap();
        assert_eq!(bounds(400, 600), Bounds { least_ms: -600, most_ms: 600 });
        assert_eq!(bounds(400, 600).middle_ms(), 0);
        assert_eq!(bounds(-299_600, -299_400).middle_ms(), 300_000, "it is ahead");
        assert_eq!(bounds(300_400, 300_600).middle_ms(), -300_000, "it is behind");
        let narrower = bounds(0, 100).and(bounds(900, 950));
        assert_eq!(narrower, Bounds { least_ms: -100, most_ms: 100 });
        let set_meanwhile = bounds(0, 100).and(bounds(60_000, 60_100));
        assert_eq!(set_meanwhile, bounds(60_000, 60_100));
    }

    #[test]
    fn an_answer_that_is_too_imprecise_is_no_measurement() {
        assert_eq!(Bounds::of_answer(NOON, at(0), at(10_001)), None, "it took too long");
        assert_eq!(Bounds::of_answer(NOON, at(0), at(-1)), None, "our own clock was set back");
        assert_eq!(Bounds::of_answer("yesterday", at(0), at(1)), None);
    }

    #[test]
    fn a_delayed_push_does_not_make_its_clock_wrong() {
        let mut pushes = Pushes::default();
        assert_eq!(pushes.take(at(0), at(40_000)), -40_000, "nothing else is known yet");
        assert_eq!(pushes.take(at(50_000), at(50_020)), -20);
        assert_eq!(pushes.take(at(51_000), at(60_000)), -20);
        let mut ahead = Pushes::default();
        ahead.take(at(300_000), at(9_000));
        assert_eq!(ahead.take(at(310_000), at(10_010)), 299_990);
        // The clock was corrected: earlier readings are soon forgotten.
        let set = (0..5).map(|second| at(20_000 + second * 1_000)).map(|at| ahead.take(at, at)).last();
        assert_eq!(set, Some(0));
        ahead.take(at(320_000), at(30_000));
        assert_eq!(ahead.take(at(700_000), at(700_000)), 0, "an earlier one is too old");
    }

    #[test]
    fn the_push_decides_while_it_is_fresh() {
        let hours = |hour: i64| at(hour * 3_600_000);
        let reading = |skew_ms, hour| Some(Reading { skew_ms, at: hours(hour) });
        let skew =
            |polled, pushed, hour| Reading::of(polled, pushed, hours(hour)).map(|reading| reading.skew_ms);
        assert_eq!(skew(reading(1, 23), reading(2, 0), 24), Some(2));
        assert_eq!(skew(reading(1, 24), reading(2, 0), 25), Some(1));
        assert_eq!(skew(reading(1, 23), reading(2, 0), 25), None);
        assert_eq!(skew(None, None, 0), None);
    }

    #[test]
    fn a_clock_near_the_bound_is_not_reported_again_and_again() {
        let bound = SignedDuration::from_secs(30);
        let is_wrong = |skew_ms, was_wrong| Reading { skew_ms, at: at(0) }.is_wrong(bound, was_wrong);
        for sign in [1, -1] {
            assert!(!is_wrong(sign * 30_000, false));
            assert!(is_wrong(sign * 30_001, false));
            assert!(is_wrong(sign * 15_001, true));
            assert!(!is_wrong(sign * 15_000, true));
        }
    }
}
