//! From executions to changes of figures. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, civil::Date};
use metering::{Mode, Period, Status, run_time};

use crate::figures::totals::Totals;

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: Status,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) stopped_at: Timestamp,
}

/// The tenant of an execution, and the tenant's period that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) tenant: i32,
    pub(crate) period: Period,
}

/// An execution as it will be stored, with what was decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) source: i32,
    pub(crate) epoch: i32,
    /// The source's execution id as a number; the key's last part.
    pub(crate) number: i64,
    /// First day of the UTC month in which it stopped, as it was first recorded; part of the key, so it never changes.
    pub(crate) month: Date,
    pub(crate) workflow: i32,
    pub(crate) mode: Mode,
    pub(crate) ended: Ended,
    /// `None` while no attribution matches, and while a pushed execution of a shared source waits for the
    /// poll.
    pub(crate) placed: Option<Placed>,
    /// Decided by the plan.
    pub(crate) counted: bool,
    /// Whether its period had already closed.
    pub(crate) late: bool,
    /// Whether an operator has voided it since.
    pub(crate) voided: bool,
    /// Whether a poll has shown it.
    pub(crate) confirmed: bool,
}

impl Decided {
    /// Source, epoch and id.
    pub(crate) fn key(&self) -> (i32, i32, i64) {
        (self.source, self.epoch, self.number)
    }

    /// Its share in the figures.
    pub(crate) fn totals(&self) -> Totals {
        if self.voided {
            return Totals::VOIDED;
        }
        Totals::ended(self.ended.status, self.duration(), self.counted, self.late)
    }

    /// How long it ran.
    pub(crate) fn duration(&self) -> SignedDuration {
        run_time(self.ended.started_at, self.ended.stopped_at)
    }
}

/// An execution that was recorded before and changes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) before: Decided,
    pub(crate) after: Decided,
}

impl Changed {
    /// Whether the poll has only confirmed what is stored: no figure changes.
    pub(crate) fn only_confirms(&self) -> bool {
        Decided { confirmed: true, ..self.before.clone() } == self.after
    }

    /// Decides whether the execution is late; `closed` is whether its period had closed before. One that was
    /// already counted there stays as it was.
    pub(crate) fn settle_late(&mut self, closed: bool) {
        let before = &self.before;
        let was_there = before.placed == self.after.placed && before.counted;
        self.after.late = if was_there { before.late } else { closed };
    }
}

/// A tenant's number and the start of one of its periods.
pub(crate) type PeriodKey = (i32, Timestamp);

/// What a transaction does to the figures of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeriodChange {
    pub(crate) period: Period,
    pub(crate) totals: Totals,
    /// How much `late` changes beyond `counted` if the period is closed: executions that enter it are late,
    /// but one that leaves may have been counted in time.
    pub(crate) late_apart: i64,
}

/// The changes of periods' figures by fresh and changed executions. Whether a fresh one is late is not known
/// yet.
pub(crate) fn by_period(fresh: &[Decided], changed: &[Changed]) -> BTreeMap<PeriodKey, PeriodChange> {
    let mut periods: BTreeMap<PeriodKey, PeriodChange> = BTreeMap::new();
    let mut add = |decided: &Decided, totals: Totals, late_apart: i64| {
        let Some(Placed { tenant, period }) = decided.placed else { return };
        let unchanged = PeriodChange { period, totals: Totals::ZERO, late_apart: 0 };
        let change = periods.entry((tenant, period.start)).or_insert(unchanged);
        change.totals += totals;
        change.late_apart += late_apart;
    };
    for decided in fresh {
        add(decided, decided.totals(), 0);
    }
    for Changed { before, after } in changed {
        for (decided, totals) in [(before, before.totals().negated()), (after, after.totals())] {
            add(decided, totals, totals.late - totals.counted);
        }
    }
    periods
}

/// Whether the later of two observations of equal weight replaces the earlier. Only a crash is not final: the
/// process died, and the source may find out later how the run really ended. Anything else is a repeat, so
/// the order in which messages arrive cannot change the outcome.
pub(crate) fn replaces(before: Status, after: Status) -> bool {
    before == Status::Crashed && after != Status::Crashed
}

#[cfg(test)]
mod tests {
    use metering::Calendar;

    use super::*;

    fn ended(status: Status, seconds: i64) -> Ended {
        let started_at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let stopped_at = started_at + SignedDuration::from_secs(seconds);
        Ended { status, started_at: Some(started_at), stopped_at }
    }

    fn decided(ended: Ended, counted: bool, late: bool) -> Decided {
        let period = Calendar::utc().period_of(ended.stopped_at);
        Decided {
            source: 1,
            epoch: 1,
            number: 7,
            month: jiff::civil::date(2026, 11, 1),
            workflow: 3,
            mode: Mode::Webhook,
            ended,
            placed: Some(Placed { tenant: 2, period }),
            counted,
            late,
            voided: false,
            confirmed: true,
        }
    }

    fn totals(fresh: &[Decided], changed: &[Changed]) -> Vec<Totals> {
        by_period(fresh, changed).into_values().map(|change| change.totals).collect()
    }

    #[test]
    fn an_uncounted_execution_adds_only_to_uncounted() {
        let totals = totals(&[decided(ended(Status::Success, 1), false, false)], &[])[0];
        assert_eq!((totals.counted, totals.uncounted, totals.duration_ms), (0, 1, 0));
    }

    #[test]
    fn an_unmapped_execution_is_in_no_figure() {
        let unmapped = Decided { placed: None, ..decided(ended(Status::Success, 1), false, false) };
        assert!(by_period(&[unmapped], &[]).is_empty());
    }

    #[test]
    fn a_crash_that_becomes_an_error_is_moved_and_not_counted_again() {
        let before = decided(ended(Status::Crashed, 1), true, true);
        let after = Decided { ended: ended(Status::Error, 3), ..before.clone() };
        let expected = Totals { error: 1, crashed: -1, duration_ms: 2_000, ..Totals::ZERO };
        assert_eq!(totals(&[], &[Changed { before, after }]), [expected]);
    }

    #[test]
    fn a_voided_execution_stays_voided_whatever_it_becomes() {
        let before = Decided { voided: true, ..decided(ended(Status::Crashed, 1), true, false) };
        let after = Decided { ended: ended(Status::Error, 3), ..before.clone() };
        assert_eq!(totals(&[], &[Changed { before, after }]), [Totals::ZERO]);
    }

    #[test]
    fn an_execution_that_moves_to_another_period_leaves_the_old_one() {
        let before = decided(ended(Status::Success, 1), true, false);
        let after = decided(ended(Status::Success, 30 * 24 * 3_600), true, false);
        let month_s = 30 * 24 * 3_600_000;
        let here = Totals { counted: -1, success: -1, duration_ms: -1_000, ..Totals::ZERO };
        let there = Totals { counted: 1, success: 1, duration_ms: month_s, ..Totals::ZERO };
        assert_eq!(totals(&[], &[Changed { before, after }]), [here, there]);
    }

    #[test]
    fn only_an_execution_that_enters_a_closed_period_is_late() {
        let counted = |late| decided(ended(Status::Success, 1), true, late);
        let uncounted = decided(ended(Status::Canceled, 1), false, false);
        let elsewhere = decided(ended(Status::Success, 30 * 24 * 3_600), true, false);
        for (before, after, closed, late, apart) in [
            (counted(false), counted(false), true, false, 0),
            (counted(false), counted(false), false, false, 0),
            (counted(true), counted(false), true, true, 0),
            (uncounted.clone(), counted(false), true, true, 0),
            (uncounted.clone(), counted(false), false, false, -1),
            (elsewhere.clone(), counted(false), true, true, 0),
        ] {
            let mut changed = Changed { before, after };
            changed.settle_late(closed);
            assert_eq!(changed.after.late, late, "{changed:?}");
            let place = changed.after.placed.unwrap().period.start;
            assert_eq!(by_period(&[], &[changed])[&(2, place)].late_apart, apart);
        }
    }

    #[test]
    fn only_a_crash_is_replaced() {
        for before in Status::ALL {
            for after in Status::ALL {
                let expected = before == Status::Crashed && after != Status::Crashed;
                assert_eq!(replaces(before, after), expected, "{before:?} {after:?}");
            }
        }
    }
}
