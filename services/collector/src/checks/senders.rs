//! What pushes say about their senders, in memory: each is taken into account, and stored once a minute.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use metering::SourceId;

use crate::checks::{
    clock_skew::{Pushes, Reading},
    instances::{INSTANCES_MAX, InstanceId},
};

/// Interval between two notes of the same.
const NOTED_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Sources that are remembered, as many as the catalog can have. When there are more, all are forgotten, and
/// noted again.
const SOURCES_MAX: usize = 10_000;

/// What a request says about its sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sender {
    /// When it was sent, by the sender's clock.
    pub sent_at: Option<Timestamp>,
    /// The n8n that sends it.
    pub instance: Option<InstanceId>,
}

/// What is to be stored about a source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The skew of its clock.
    pub skew: Option<Reading>,
    /// An instance that pushes for it.
    pub instance: Option<InstanceId>,
}

impl Note {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.skew.is_none() && self.instance.is_none()
    }
}

/// Who pushes for each source.
#[derive(Default)]
pub struct Senders(Mutex<HashMap<SourceId, Known>>);

#[derive(Default)]
struct Known {
    clock: Pushes,
    clock_noted_at: Option<Timestamp>,
    instances: BTreeMap<InstanceId, Timestamp>,
}

impl Senders {
    /// Takes one push into account. Returns what is to be stored.
    pub fn note_sender(&self, source: &SourceId, sender: Sender, received_at: Timestamp) -> Note {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(source) {
            sources.clear();
        }
        let known = sources.entry(source.clone()).or_default();
        Note {
            skew: sender.sent_at.and_then(|sent_at| known.note_clock(sent_at, received_at)),
            instance: sender.instance.and_then(|instance| known.note_instance(instance, received_at)),
        }
    }
}

impl Known {
    fn note_clock(&mut self, sent_at: Timestamp, received_at: Timestamp) -> Option<Reading> {
        let skew_ms = self.clock.take(sent_at, received_at);
        if !is_due(self.clock_noted_at, received_at) {
            return None;
        }
        self.clock_noted_at = Some(received_at);
        Some(Reading { skew_ms, at: received_at })
    }

    fn note_instance(&mut self, instance: InstanceId, received_at: Timestamp) -> Option<InstanceId> {
        if !is_due(self.instances.get(&instance).copied(), received_at) {
            return None;
        }
        self.instances.insert(instance.clone(), received_at);
        if self.instances.len() > INSTANCES_MAX {
            let oldest = self.instances.iter().min_by_key(|(_, at)| **at).map(|(oldest, _)| oldest.clone());
            oldest.map(|oldest| self.instances.remove(&oldest));
        }
        Some(instance)
    }
}

/// In either direction: our own clock may have been set back.
fn is_due(noted_at: Option<Timestamp>, now: Timestamp) -> bool {
    noted_at.is_none_or(|noted_at| now.duration_since(noted_at).abs() >= NOTED_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_521_600 + second).unwrap()
    }

    #[test]
    fn the_same_is_stored_once_a_minute() {
        let senders = Senders::default();
        let north = SourceId::parse("north").unwrap();
        let note_sender = |instance: &str, second| {
            let instance = InstanceId::parse(instance);
            senders.note_sender(&north, Sender { sent_at: Some(at(second)), instance }, at(second))
        };
        let first = note_sender("a", 0);
        assert_eq!(first.skew, Some(Reading { skew_ms: 0, at: at(0) }));
        assert_eq!(first.instance, InstanceId::parse("a"));
        assert!(note_sender("a", 59).is_empty());
        let another = note_sender("b", 59);
        assert_eq!((another.skew, another.instance), (None, InstanceId::parse("b")));
        assert!(!note_sender("a", 60).is_empty());
        assert!(senders.note_sender(&north, Sender::default(), at(500)).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let senders = Senders::default();
        for number in 0..=SOURCES_MAX {
            let source = SourceId::parse(&format!("s{number}")).unwrap();
            senders.note_sender(&source, Sender::default(), at(0));
        }
        assert_eq!(senders.0.lock().unwrap().len(), 1);
        let mut known = Known::default();
        for number in 0..100 {
            known.note_instance(InstanceId::parse(&number.to_string()).unwrap(), at(number));
        }
        assert_eq!(known.instances.len(), INSTANCES_MAX);
    }
}
