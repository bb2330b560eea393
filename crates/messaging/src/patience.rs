//! How long a message waits for what it refers to: a source, a tenant or a plan that the catalog does not have yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::place::Place;

/// How long a message waits by default. The catalog may lag by the pause of its publisher's outbox after
/// failures (a minute at most), a restarted reader's wait for what its predecessor had in progress (15 s) and
/// a retry of its own (30 s); about three times that. Meanwhile other messages are handled, but the
/// completeness of the sources that share its consumer does not advance.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Messages that are remembered: no consumer has more in flight. If one had, the others would keep waiting.
const REMEMBERED_MAX: usize = 20_000;

/// The waiting messages of one consumer. Remembered by the process, so that neither deliveries that were not
/// handled (a kill, a shutdown, an unavailable database) nor the time before its start count against a
/// message; after a restart its patience starts over.
#[derive(Debug)]
pub(crate) struct Patience {
    lasts: Duration,
    waiting: Mutex<HashMap<Place, Waiting>>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    failures: u64,
}

impl Patience {
    pub(crate) fn new(lasts: Duration) -> Self {
        Self { lasts, waiting: Mutex::default() }
    }

    /// The message at this place has failed, at `now`. Returns its failures so far; `None` if patience has
    /// run out.
    pub(crate) fn failed(&self, place: Place, now: Instant) -> Option<u64> {
        let mut waiting = self.waiting();
        if waiting.len() >= REMEMBERED_MAX && !waiting.contains_key(&place) {
            // A message that has not come again for this long was settled by another process.
            let long_ago = self.lasts.saturating_mul(2);
            waiting.retain(|_, known| now.duration_since(known.since) < long_ago);
            if waiting.len() >= REMEMBERED_MAX {
                return Some(1);
            }
        }
        let known = waiting.entry(place).or_insert(Waiting { since: now, failures: 0 });
        known.failures += 1;
        (now.duration_since(known.since) < self.lasts).then_some(known.failures)
    }

    /// The message no longer waits.
    pub(crate) fn settled(&self, place: Place) {
        self.waiting().remove(&place);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Place, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64) -> Place {
        Place::new(sequence, 1)
    }

    #[test]
    fn a_sequence_of_a_new_life_of_the_stream_has_its_own_patience() {
        let (patience, began) = (Patience::new(PATIENCE), Instant::now());
        patience.failed(Place::new(7, 1), began);
        assert_eq!(patience.failed(Place::new(7, 2), began + PATIENCE), Some(1));
        assert_eq!(patience.failed(Place::new(7, 1), began + PATIENCE), None);
    }

    #[test]
    fn patience_ends_by_time_and_starts_over_when_a_message_is_settled() {
        let (patience, began) = (Patience::new(PATIENCE), Instant::now());
        for failures in 1..100 {
            assert_eq!(patience.failed(at(7), began), Some(failures), "failures alone end nothing");
        }
        let later = began + PATIENCE;
        assert_eq!(patience.failed(at(7), later), None);
        assert_eq!(patience.failed(at(8), later), Some(1), "each message has its own");
        patience.settled(at(7));
        assert_eq!(patience.failed(at(7), later), Some(1));
    }

    #[test]
    fn remembered_messages_are_bounded_and_the_others_keep_waiting() {
        let (patience, began) = (Patience::new(PATIENCE), Instant::now());
        let many = u64::try_from(REMEMBERED_MAX).unwrap();
        for sequence in 0..many {
            patience.failed(at(sequence), began);
        }
        assert_eq!(patience.failed(at(many), began), Some(1));
        assert_eq!(patience.waiting().len(), REMEMBERED_MAX);
        assert_eq!(patience.failed(at(many), began + PATIENCE * 2), Some(1));
        assert_eq!(patience.waiting().len(), 1);
    }
}
