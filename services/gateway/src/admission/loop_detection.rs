//! Does a workflow start itself? Its rate is compared with its own history.
//!
//! The history is the largest number of runs in a minute that asked to start, halved each day, so hourly
//! bursts are usual for a workflow that runs in bursts. A minute far above the history starts an episode,
//! which is reported once. During an episode the history moves slowly towards the new rate, so that a lasting
//! rate becomes the usual one; the episode ends with the first minute that is not far above. A burst followed
//! by a minute without runs moves the history faster: a loop does not pause, a schedule does.
//!
//! Refused runs count as well, so a loop is also detected if refusals start an error workflow that is refused
//! in turn.

use jiff::Timestamp;

/// Up to this many runs in a minute, one a second, are never a loop, whatever is usual.
const LOOP_RUNS_MIN: u64 = 60;

/// A minute is far above the usual if it has more than this many times as many runs.
const LOOP_FACTOR: f64 = 5.0;

/// The weight of each minute of an episode in the history.
const LEARNING: f64 = 1.0 / 60.0;

/// The weight of a burst that has stopped: the second such burst is the last that is reported. It is below
/// one because a refused loop stops as well, and must be detected again.
const LEARNING_OF_BURST: f64 = 1.0 / 5.0;

/// Minutes in which the history halves.
const HALF_LIFE_MINUTES: f64 = 24.0 * 60.0;

/// How often a workflow asks to run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// The minute being counted, in minutes since 1970.
    pub minute: i64,
    /// Runs that asked to start in that minute.
    pub asked: u64,
    /// The usual number of runs in a minute.
    pub usual: f64,
    /// Since when it looks like a loop.
    pub looping_since: Option<Timestamp>,
}

/// A workflow that seems to start itself, as first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Episode {
    /// Runs that asked to start in the minute so far.
    pub runs_per_minute: u64,
    /// The usual number of runs in a minute.
    pub usual_runs_per_minute: u64,
    /// The most runs in a minute that are not a loop.
    pub most: u64,
    /// The minute, in minutes since 1970.
    minute: i64,
}

impl Episode {
    /// When the minute began.
    pub fn minute_start(self) -> Timestamp {
        Timestamp::from_second(self.minute.saturating_mul(60)).unwrap_or(Timestamp::MIN)
    }
}

impl Rate {
    /// Adds `asked` runs that asked to start. Returns the episode that starts with them.
    pub fn observe(&mut self, now: Timestamp, asked: u64) -> Option<Episode> {
        self.turn_to(now);
        self.asked = self.asked.saturating_add(asked);
        if self.looping_since.is_some() || !self.is_far_above() {
            return None;
        }
        self.looping_since = Some(now);
        Some(Episode {
            runs_per_minute: self.asked,
            usual_runs_per_minute: rounded(self.usual),
            most: self.most(),
            minute: self.minute,
        })
    }

    /// Closes the minutes that have passed.
    pub fn turn_to(&mut self, now: Timestamp) {
        let minute = now.as_second().div_euclid(60);
        if minute <= self.minute {
            return;
        }
        let asked = figure(self.asked);
        let passed = minute.saturating_sub(self.minute);
        if self.looping_since.is_some() {
            let has_stopped = passed > 1;
            if has_stopped || !self.is_far_above() {
                self.looping_since = None;
            }
            self.usual += (asked - self.usual) * if has_stopped { LEARNING_OF_BURST } else { LEARNING };
        } else {
            self.usual = self.usual.max(asked);
        }
        self.usual *= 0.5_f64.powf(figure(passed.unsigned_abs()) / HALF_LIFE_MINUTES);
        (self.minute, self.asked) = (minute, 0);
    }

    /// The most runs in a minute that are not a loop: one more is.
    pub fn most(&self) -> u64 {
        LOOP_RUNS_MIN.max(whole(self.usual * LOOP_FACTOR))
    }

    /// How many more runs may ask in this minute before it is a loop.
    pub fn left(&self) -> u64 {
        if self.looping_since.is_some() { 0 } else { self.most().saturating_sub(self.asked) }
    }

    fn is_far_above(&self) -> bool {
        self.asked > self.most()
    }
}

/// Rates are estimates: the precision of a float is enough.
fn figure(runs: u64) -> f64 {
    f64::from(u32::try_from(runs).unwrap_or(u32::MAX))
}

fn rounded(usual: f64) -> u64 {
    whole(usual.round())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturates")]
fn whole(runs: f64) -> u64 {
    runs as u64
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn minute(number: i64) -> Timestamp {
        let noon: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        noon + SignedDuration::from_mins(number)
    }

    fn after(minutes: i64, runs: u64) -> Rate {
        let mut rate = Rate::default();
        for number in 0..minutes {
            rate.observe(minute(number), runs);
        }
        rate
    }

    #[test]
    fn a_rate_far_above_its_history_is_reported_once() {
        let mut rate = after(60, 20);
        assert_eq!(rate.observe(minute(60), 99), None, "fewer than five times as many");
        let episode = rate.observe(minute(60), 2).unwrap();
        assert_eq!((episode.runs_per_minute, episode.usual_runs_per_minute), (101, 20));
        assert_eq!(rate.observe(minute(60), 500), None, "once per episode");
        assert_eq!(rate.observe(minute(61), 700), None, "it lasts");
        rate.observe(minute(62), 20);
        rate.turn_to(minute(63));
        assert_eq!(rate.looping_since, None, "it ends with the first minute that is not far above");
        assert!(rate.observe(minute(63), 600).is_some(), "another episode");
    }

    #[test]
    fn bursts_that_come_each_hour_are_usual() {
        let mut rate = Rate::default();
        assert!(rate.observe(minute(0), 200).is_some(), "the first one is new");
        for hour in 1..6 {
            assert_eq!(rate.observe(minute(60 * hour), 200).is_some(), hour == 1, "hour {hour}");
        }
    }

    #[test]
    fn few_runs_are_not_a_loop_and_a_lasting_rate_becomes_usual() {
        assert_eq!(Rate::default().observe(minute(0), LOOP_RUNS_MIN), None);
        let mut rate = Rate::default();
        assert!(rate.observe(minute(0), 300).is_some());
        let ended = (1..60).find(|number| {
            rate.observe(minute(*number), 300);
            rate.looping_since.is_none()
        });
        assert!(ended.is_some_and(|minutes| minutes > 5), "{ended:?}");
    }
}
