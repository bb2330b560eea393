//! How long a message waits for what it refers to: a source, a tenant or a plan that the catalog does not have yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::consume::Place;

/// How long a message waits where nobody says otherwise. The catalog is behind for as long as its publisher's outbox
/// pauses after failures (a minute at most) and a restarted reader waits for what its forerunner had in hand (15 s) and
/// for a retry of its own (30 s); three times that. Meanwhile its neighbours are handled, but what is complete of the
/// sources that share its consumer is not known any further.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Messages that are remembered: no consumer has more in flight. Where there were more, the others would wait on.
const REMEMBERED_MAX: usize = 20_000;

/// The messages of one consumer that wait. Remembered by the process, so that neither what was delivered and not
/// handled (a kill, an orderly end, a database that was away) nor the time before its start is held against a message;
/// after a restart its patience begins anew.
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

    /// The message at this place has failed, at `now`. Returns its failures so far; nothing where patience is over.
    pub(crate) fn failed(&self, place: Place, now: Instant) -> Option<u64> {
        let mut waiting = self.waiting();
        if waiting.len() >= REMEMBERED_MAX && !waiting.contains_key(&place) {
            // Another process has settled what has not come again for so long.
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

    /// The message waits no more.
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
    fn patience_ends_by_time_and_begins_anew_when_a_message_was_settled() {
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
    fn what_is_remembered_is_bounded_and_what_is_not_waits_on() {
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
