//! A tenant's periods over all time: which calendar applies from when. Pure.
//!
//! A period that was used once never changes its bounds, so a changed calendar applies from the end of a
//! period on. Every instant is in exactly one period of a timeline, and its periods have no gap and no
//! overlap, because each stretch between two changes is cut by one calendar and periods end at the stretch's
//! ends.

use jiff::Timestamp;

use crate::{Calendar, Period};

/// What applies for a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Cuts the stretch into periods and days.
    pub calendar: Calendar,
    /// Whether the whole stretch is one period, whatever the calendar: a period that was stored before
    /// timelines existed.
    pub one_period: bool,
}

impl Stretch {
    fn of(calendar: Calendar) -> Self {
        Self { calendar, one_period: false }
    }
}

/// Which calendar applies from when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Since the beginning of time.
    first: Stretch,
    /// Each since its instant, ascending.
    later: Vec<(Timestamp, Stretch)>,
}

impl Timeline {
    /// One calendar for all time.
    pub fn new(calendar: Calendar) -> Self {
        Self { first: Stretch::of(calendar), later: Vec::new() }
    }

    /// As it was stored; `later` in any order.
    pub fn of_stretches(first: Stretch, mut later: Vec<(Timestamp, Stretch)>) -> Self {
        later.sort_by_key(|(from, _)| *from);
        later.dedup_by_key(|(from, _)| *from);
        Self { first, later }
    }

    /// The timeline of `rows`, periods that were stored before timelines existed, the last opened first, and
    /// of the current calendar. Each row keeps its bounds. Where rows overlap, because the calendar was
    /// changed in the middle of one, those that were opened last win, and an earlier one ends where they
    /// begin.
    pub fn of_rows(calendar: Calendar, rows: &[Period]) -> Self {
        let mut timeline = Self::new(calendar);
        if rows.iter().all(|row| timeline.period_of(row.start) == *row) {
            return timeline;
        }
        let mut kept: Vec<Period> = Vec::new();
        for row in rows {
            if row.end <= row.start || kept.iter().any(|other| other.contains(row.start)) {
                continue;
            }
            let next = kept.iter().map(|other| other.start).filter(|start| *start > row.start).min();
            kept.push(Period { start: row.start, end: next.map_or(row.end, |next| next.min(row.end)) });
        }
        kept.sort_unstable();
        for period in kept {
            if timeline.period_of(period.start) != period {
                timeline.keep_one(period);
            }
        }
        timeline
    }

    /// Makes one period of this span, which begins after all changes so far, or at the last of them.
    fn keep_one(&mut self, period: Period) {
        let calendar = self.latest().clone();
        self.later.retain(|(from, _)| *from < period.start);
        let one = Stretch { calendar: calendar.clone(), one_period: true };
        self.later.push((period.start, one));
        self.later.push((period.end, Stretch::of(calendar)));
    }

    /// The stretch since the beginning of time.
    pub fn first(&self) -> &Stretch {
        &self.first
    }

    /// The stretches after the first, each with the instant from which it applies, ascending.
    pub fn later(&self) -> &[(Timestamp, Stretch)] {
        &self.later
    }

    /// The calendar that applies in the end: the one that was set last.
    pub fn latest(&self) -> &Calendar {
        &self.later.last().map_or(&self.first, |(_, stretch)| stretch).calendar
    }

    /// The calendar that applies at an instant.
    pub fn calendar_at(&self, instant: Timestamp) -> &Calendar {
        &self.at(instant).0.calendar
    }

    /// From when the calendar that was set last applies, if that is after the instant.
    pub fn changes_after(&self, instant: Timestamp) -> Option<Timestamp> {
        self.later.last().map(|(from, _)| *from).filter(|from| *from > instant)
    }

    /// The period that holds the instant.
    pub fn period_of(&self, instant: Timestamp) -> Period {
        let (stretch, bounds) = self.at(instant);
        if stretch.one_period { bounds } else { within(stretch.calendar.period_of(instant), bounds) }
    }

    /// The day that holds the instant. A day in which the calendar changes is cut there, so that a day lies in one period.
    pub fn day_of(&self, instant: Timestamp) -> Period {
        let (stretch, bounds) = self.at(instant);
        within(stretch.calendar.day_of(instant), bounds)
    }

    /// The hour that holds the instant, by the clock of the calendar that applies then. Like a day, it is cut
    /// where the calendar changes, so that the hours of a day, and of a period, add up to it.
    pub fn hour_of(&self, instant: Timestamp) -> Period {
        let (stretch, bounds) = self.at(instant);
        within(stretch.calendar.hour_of(instant), bounds)
    }

    fn at(&self, instant: Timestamp) -> (&Stretch, Period) {
        let next = self.later.partition_point(|(from, _)| *from <= instant);
        let end = self.later.get(next).map_or(Timestamp::MAX, |(from, _)| *from);
        match next.checked_sub(1).and_then(|place| self.later.get(place)) {
            Some((start, stretch)) => (stretch, Period { start: *start, end }),
            None => (&self.first, Period { start: Timestamp::MIN, end }),
        }
    }

    /// Sets the calendar. It applies from the end of the period of `now`, or of the last one that was opened
    /// (`opened_until`) if that is later: a source's clock may be ahead. A calendar that was set before and
    /// does not apply yet is replaced. Returns whether anything changed.
    pub fn set(&mut self, calendar: &Calendar, now: Timestamp, opened_until: Option<Timestamp>) -> bool {
        let current = self.period_of(now).end;
        let from = opened_until.map_or(current, |until| until.max(current));
        let before = self.later.clone();
        self.later.retain(|(at, _)| *at < from);
        let (in_force, _) = self.at(from);
        if in_force.calendar != *calendar || in_force.one_period {
            self.later.push((from, Stretch::of(calendar.clone())));
        }
        self.later != before
    }

    /// Ends the period of `end` there; the next one runs to the first boundary of the calendar that was set
    /// last. If later periods were opened already (`opened_until` is after the period's end), they keep their
    /// bounds, and a calendar that was set applies when it would have.
    pub fn end_period(&mut self, end: Timestamp, opened_until: Option<Timestamp>) {
        let (stretch, period) = (self.at(end).0.clone(), self.period_of(end));
        if period.start == end {
            return;
        }
        if opened_until.is_some_and(|until| until > period.end) {
            let place = self.later.partition_point(|(from, _)| *from <= end);
            self.later.insert(place, (end, stretch));
        } else {
            let latest = self.latest().clone();
            self.later.retain(|(from, _)| *from < end);
            self.later.push((end, Stretch::of(latest)));
        }
    }
}

fn within(period: Period, bounds: Period) -> Period {
    Period { start: period.start.max(bounds.start), end: period.end.min(bounds.end) }
}

#[cfg(test)]
mod tests;
