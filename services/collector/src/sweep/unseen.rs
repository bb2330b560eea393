//! Executions that a source has numbered and never showed. No I/O, no clock.
//!
//! n8n gives each execution the next number, and keeps no row of one that it is not to save: it runs, and no
//! poll ever sees it. What remains is a hole in the numbers. A hole proves nothing (an execution deleted at
//! once, and a test in the editor, leave one too), so the number of holes is an upper bound of the executions
//! that are not counted.
//!
//! A hole is found between the *floor* of a sweep and its newest id, and settled by the sweep after it: by
//! then a row that was late is listed, and a push has been recorded. An open execution has a row. One that
//! was pruned before it was seen is a gap and reported as such, and ids below the floor of the first sweep
//! are ignored: there, old rows were pruned.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::n8n::{row::RunId, workflow::SaveSettings};

/// Ranges of holes that wait to be settled. More are only counted, as if none of them had been pushed: a
/// source that saves every other execution has as many ranges as executions.
pub const RANGES_MAX: usize = 10_000;

/// Ids, as ranges in ascending order that neither meet nor overlap; both ends inclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdRanges(Vec<(u64, u64)>);

impl IdRanges {
    /// These ranges, as they were stored.
    pub fn new(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        Self(ranges)
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Removes an id, if it is there.
    pub fn remove(&mut self, id: RunId) {
        self.remove_all(id, id);
    }

    /// Removes all ids from `first` to `last`.
    pub fn remove_all(&mut self, first: RunId, last: RunId) {
        let (first, last) = (first.number(), last.number());
        let from = self.0.partition_point(|range| range.1 < first);
        let to = self.0.partition_point(|range| range.0 <= last);
        let Some(touched) = self.0.get(from..to).filter(|touched| !touched.is_empty()) else { return };
        let below = touched.first().filter(|range| range.0 < first).map(|range| (range.0, first - 1));
        let above = touched.last().filter(|range| range.1 > last).map(|range| (last + 1, range.1));
        self.0.splice(from..to, below.into_iter().chain(above));
    }

    /// How many ids there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| (last - first).saturating_add(1)).fold(0, u64::saturating_add)
    }

    /// The lowest and the highest.
    pub fn ends(&self) -> Option<(u64, u64)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }

    /// Keeps the newest [`RANGES_MAX`]. Returns how many ids the others hold.
    fn bound(&mut self) -> u64 {
        let excess = self.0.len().saturating_sub(RANGES_MAX);
        Self(self.0.drain(..excess).collect()).count()
    }
}

/// What is known of the ids that a source never showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Holes that the last sweep has found.
    pub pending: IdRanges,
    /// Ids that were never shown since [`Self::since`].
    pub ids_max: u64,
    /// Since when they are counted: the first sweep, or the first of the month.
    pub since: Option<Timestamp>,
    /// What the workflows' settings keep, as they were read last.
    pub kept: SaveSettings,
}

/// What one sweep has found out about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Holes above the last floor.
    pub fresh: IdRanges,
    /// Holes of the sweep before that are still there.
    pub settled: IdRanges,
    /// Whether the settled ones have to wait for another sweep, because it is not known which of them were pushed.
    pub is_unsure: bool,
    /// What the workflows' settings keep now.
    pub kept: SaveSettings,
}

impl Unseen {
    /// What the next sweep has to know, after one that began at `started_at`; `swept_before_at` is when the
    /// sweep before it began.
    pub fn after(self, found: Found, started_at: Timestamp, swept_before_at: Option<Timestamp>) -> Self {
        let mut pending = found.fresh;
        // Each workflow saves everything, now and when the holes were found: they are deleted executions.
        let is_saved = self.kept.all && found.kept.all;
        let mut settled = if is_saved { 0 } else { found.settled.count() };
        if found.is_unsure {
            settled = 0;
            pending = IdRanges::new([found.settled.0, pending.0].concat());
        }
        settled = settled.saturating_add(pending.bound());
        let month = month_of(started_at);
        match self.since.filter(|since| month_of(*since) == month) {
            Some(_) => {
                Self { pending, ids_max: self.ids_max.saturating_add(settled), kept: found.kept, ..self }
            }
            None => {
                let began_at = swept_before_at.filter(|at| month_of(*at) == month);
                let since = began_at.or(self.since.map(|_| start_of(month))).or(Some(started_at));
                Self { pending, ids_max: settled, since, kept: found.kept }
            }
        }
    }
}

fn month_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date().first_of_month()
}

fn start_of(date: Date) -> Timestamp {
    date.to_zoned(TimeZone::UTC).map_or(Timestamp::UNIX_EPOCH, |zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn found(settled: (u64, u64), fresh: (u64, u64)) -> Found {
        let ranges = |range| IdRanges::new(vec![range]);
        Found { settled: ranges(settled), fresh: ranges(fresh), ..Found::default() }
    }

    #[test]
    fn holes_are_counted_when_the_next_sweep_finds_them_still_there() {
        let first = Unseen::default().after(found((1, 0), (4, 43)), at("2026-11-24T12:00:00Z"), None);
        assert_eq!((first.ids_max, first.since), (0, Some(at("2026-11-24T12:00:00Z"))));
        let second = first.clone().after(found((4, 43), (1, 0)), at("2026-11-24T12:10:00Z"), first.since);
        assert_eq!((second.ids_max, second.since), (40, first.since));
        let third = second.after(found((50, 51), (1, 0)), at("2026-12-01T00:05:00Z"), None);
        assert_eq!((third.ids_max, third.since), (2, Some(at("2026-12-01T00:00:00Z"))), "a new month");
    }

    #[test]
    fn holes_that_may_have_been_pushed_wait() {
        let unsure = Found { is_unsure: true, ..found((4, 43), (50, 51)) };
        let after = Unseen::default().after(unsure, at("2026-11-24T12:00:00Z"), None);
        assert_eq!((after.ids_max, after.pending.as_slice()), (0, &[(4, 43), (50, 51)][..]));
    }

    #[test]
    fn if_all_workflows_save_everything_a_hole_is_no_execution() {
        let all = SaveSettings { all: true, ..SaveSettings::default() };
        let counted = |before: SaveSettings, now: SaveSettings| {
            let unseen = Unseen { kept: before, ..Unseen::default() };
            let found = Found { kept: now, ..found((4, 43), (1, 0)) };
            unseen.after(found, at("2026-11-24T12:00:00Z"), None).ids_max
        };
        assert_eq!(counted(all, all), 0);
        assert_eq!(counted(SaveSettings::default(), all), 40, "they may have been set since");
        assert_eq!(counted(all, SaveSettings::default()), 40);
    }

    #[test]
    fn more_ranges_than_are_kept_are_counted_at_once() {
        let many = (0..).map(|number| (number * 10 + 1, number * 10 + 2)).take(RANGES_MAX + 3).collect();
        let found = Found { fresh: IdRanges::new(many), ..Found::default() };
        let after = Unseen::default().after(found, at("2026-11-24T12:00:00Z"), None);
        assert_eq!((after.pending.as_slice().len(), after.ids_max), (RANGES_MAX, 6));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let ranges = IdRanges::new(vec![(2, u64::MAX), (0, 1)]);
        assert_eq!(ranges.count(), u64::MAX);
    }

    proptest! {
        #[test]
        fn ranges_hold_what_a_set_would(
            added in prop::collection::vec((0_u64..20, 1_u64..5), 0..8),
            removed in prop::collection::vec((0_u64..100, 0_u64..12), 0..30),
        ) {
            let (mut ranges, mut set, mut next) = (Vec::new(), BTreeSet::new(), 0);
            for (gap, length) in added {
                let first = next + gap;
                ranges.push((first, first + length - 1));
                set.extend(first..first + length);
                next = first + length;
            }
            ranges.reverse();
            let mut ranges = IdRanges::new(ranges);
            for (first, more) in removed {
                ranges.remove_all(RunId::new(first).unwrap(), RunId::new(first + more).unwrap());
                set.retain(|id| !(first..=first + more).contains(id));
            }
            let held: Vec<u64> = ranges.as_slice().iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(ranges.count(), u64::try_from(held.len()).unwrap());
            prop_assert_eq!(held, set.into_iter().collect::<Vec<_>>());
        }
    }
}
