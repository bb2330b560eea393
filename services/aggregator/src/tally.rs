//! From executions to changes of figures. Pure.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use metering::{Mode, Period, Status, run_time};

use crate::totals::Totals;

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: Status,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) stopped_at: Timestamp,
}

/// Whose an execution is, and in which of the tenant's periods it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) tenant: i32,
    pub(crate) period: Period,
}

/// An execution as it will be kept, with what was decided about it when it was first seen, which never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) source: i32,
    pub(crate) epoch: i32,
    /// The source's id as a number; the key's last part.
    pub(crate) number: i64,
    /// First day of the UTC month in which it stopped.
    pub(crate) month: Date,
    pub(crate) workflow: i32,
    pub(crate) mode: Mode,
    pub(crate) ended: Ended,
    /// Nothing while no attribution matches.
    pub(crate) placed: Option<Placed>,
    /// Decided by the plan.
    pub(crate) counted: bool,
    /// Whether its period had closed before.
    pub(crate) late: bool,
    /// Whether an operator has voided it since.
    pub(crate) voided: bool,
}

impl Decided {
    /// Its share in the figures, where it is known to have ended so.
    pub(crate) fn totals(&self, ended: &Ended) -> Totals {
        if self.voided {
            return Totals::VOIDED;
        }
        let duration = run_time(ended.started_at, ended.stopped_at);
        Totals::ended(ended.status, duration, self.counted, self.late)
    }
}

/// An execution that was counted before and is different now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) before: Decided,
    pub(crate) after: Ended,
}

impl Changed {
    /// What it does to the figures.
    pub(crate) fn totals(&self) -> Totals {
        let mut change = self.before.totals(&self.before.ended).negated();
        change += self.before.totals(&self.after);
        change
    }
}

/// A tenant's number and the start of one of its periods.
pub(crate) type PeriodKey = (i32, Timestamp);

/// What fresh and changed executions do to the figures of periods.
pub(crate) fn by_period(fresh: &[Decided], changed: &[Changed]) -> BTreeMap<PeriodKey, (Period, Totals)> {
    let mut periods: BTreeMap<PeriodKey, (Period, Totals)> = BTreeMap::new();
    for (decided, change) in shares(fresh, changed) {
        let Some(placed) = decided.placed else { continue };
        let key = (placed.tenant, placed.period.start);
        periods.entry(key).or_insert((placed.period, Totals::ZERO)).1 += change;
    }
    periods
}

fn shares<'a>(fresh: &'a [Decided], changed: &'a [Changed]) -> impl Iterator<Item = (&'a Decided, Totals)> {
    let new = fresh.iter().map(|decided| (decided, decided.totals(&decided.ended)));
    new.chain(changed.iter().map(|changed| (&changed.before, changed.totals())))
}

/// Whether what is seen now replaces what was counted. Only a crash is not the last word: its process died,
/// and its source may find out later how the run really ended. Every other repeat is a repeat, so the order
/// in which messages arrive cannot change the outcome.
pub(crate) fn replaces(before: Status, after: Status) -> bool {
    before == Status::Crashed && after != Status::Crashed
}

#[cfg(test)]
mod tests {
    use metering::Calendar;

    use super::*;

    fn ended(status: Status, seconds: i64) -> Ended {
        let started_at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let stopped_at = started_at + jiff::SignedDuration::from_secs(seconds);
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
        }
    }

    #[test]
    fn an_uncounted_execution_is_kept_apart() {
        let periods = by_period(&[decided(ended(Status::Success, 1), false, false)], &[]);
        let (_, totals) = periods.values().next().unwrap();
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
        let changed = [Changed { before, after: ended(Status::Error, 3) }];
        let expected = Totals { error: 1, crashed: -1, duration_ms: 2_000, ..Totals::ZERO };
        let periods: Vec<Totals> = by_period(&[], &changed).into_values().map(|(_, totals)| totals).collect();
        assert_eq!(periods, [expected]);
    }

    #[test]
    fn a_voided_execution_stays_voided_whatever_it_becomes() {
        let before = Decided { voided: true, ..decided(ended(Status::Crashed, 1), true, false) };
        assert_eq!(Changed { before, after: ended(Status::Error, 3) }.totals(), Totals::ZERO);
    }

    #[test]
    fn only_a_crash_gives_way() {
        for before in Status::ALL {
            for after in Status::ALL {
                let expected = before == Status::Crashed && after != Status::Crashed;
                assert_eq!(replaces(before, after), expected, "{before:?} {after:?}");
            }
        }
    }
}
