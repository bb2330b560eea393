//! Which epoch an execution is published under: it follows from the start, and never changes.
//!
//! # Why nothing is counted twice
//!
//! An execution is counted by its key: source, epoch and id. A database restored from a backup hands ids out
//! again, so an id alone is not enough; two executions with the same id differ in when they started. An epoch
//! is a span of starts: it begins at an instant and ends where the next one begins. The epoch of an execution
//! is the one whose span holds its start (its end, if it was canceled before it started).
//!
//! - *One execution has one key.* Its start is fixed once it has one, and spans that lie before the latest
//!   start that was ever published do not change: a new epoch begins after that start
//!   ([`Epochs::begin_after`]), which is raised in the database before an execution with a later one is
//!   published. So whatever happens (restores in a row, restores in the middle of a sweep, a collector that
//!   dies after publishing, a crash that becomes an error afterwards), what is published again has its old
//!   key, and the aggregator knows it.
//! - *One key has one execution*, if an epoch begins before an id is published a second time. Two executions
//!   with the same id are of two lives with a restore in between; the older was published, so it started
//!   before the new epoch's beginning, and the younger started after the restore, which is after every start
//!   of the older life.
//!
//! The first point needs no detection of restores and no memory of single executions. The second needs the
//! detection in [`crate::sweep::pass`]; if that fails, an execution is lost and none is counted twice.

use jiff::{SignedDuration, Timestamp};

/// n8n's clock ticks in milliseconds.
const TICK: SignedDuration = SignedDuration::from_millis(1);

/// The epochs of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs {
    /// When each epoch begins, oldest first, without the first, which has no beginning.
    begins: Vec<(u32, Timestamp)>,
}

impl Epochs {
    /// The number of the first epoch.
    pub const FIRST: u32 = 1;

    /// The epochs after the first, with their beginnings, oldest first.
    pub fn new(begins: Vec<(u32, Timestamp)>) -> Self {
        Self { begins }
    }

    /// The newest epoch.
    pub fn current(&self) -> u32 {
        self.begins.last().map_or(Self::FIRST, |(epoch, _)| *epoch)
    }

    /// The epoch of an execution that started at this instant.
    pub fn of(&self, started_at: Timestamp) -> u32 {
        let begun = self.begins.iter().rev().find(|(_, begin)| *begin <= started_at);
        begun.map_or(Self::FIRST, |(epoch, _)| *epoch)
    }

    /// The beginning of an epoch that leaves the epoch of every start up to `latest_start` as it is.
    pub fn begin_after(latest_start: Timestamp) -> Timestamp {
        latest_start.saturating_add(TICK).unwrap_or(latest_start)
    }

    /// Begins a new epoch.
    #[cfg(test)]
    pub fn begin(&mut self, latest_start: Timestamp) {
        self.begins.push((self.current().saturating_add(1), Self::begin_after(latest_start)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_span_of_starts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut epochs = Epochs::new(Vec::new());
        assert_eq!((epochs.current(), epochs.of(at(5))), (1, 1));
        epochs.begin(at(5));
        epochs.begin(at(9));
        assert_eq!(epochs.current(), 3);
        assert_eq!([4, 5, 6, 9, 10].map(|second| epochs.of(at(second))), [1, 1, 2, 2, 3]);
    }
}
