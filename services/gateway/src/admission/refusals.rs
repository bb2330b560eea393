//! Refused runs as figures: by hour, reason and workflow. Pure; `store::refusals` stores them.
//!
//! Every refusal is decided in the ledger, in a transaction that stores the verdicts of a whole batch of
//! requests. The figures are added in that transaction, only for verdicts that are new. So nothing is counted
//! twice or lost, whether a request is repeated, the outcome of a commit is unknown or the gateway is killed.

use std::collections::{BTreeMap, HashSet};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use metering::WorkflowId;

use crate::{
    admission::{decision::Reason, run_key::RunKey},
    store::write_behind::Entry,
};

/// Seconds of a row.
const HOUR_SECONDS: i64 = 60 * 60;

/// The hour that contains the instant, counted since 1970.
pub fn hour(instant: Timestamp) -> i64 {
    instant.as_second().div_euclid(HOUR_SECONDS)
}

/// The first hour that begins at or after the instant.
pub fn hour_after(instant: Timestamp) -> i64 {
    let begun = hour(instant);
    if start_of(begun) == instant { begun } else { begun.saturating_add(1) }
}

/// The start of an hour.
pub fn start_of(hour: i64) -> Timestamp {
    Timestamp::from_second(hour.saturating_mul(HOUR_SECONDS)).unwrap_or(Timestamp::MAX)
}

/// Why and for which workflow a run was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The plan is in shadow mode: the run was allowed.
    pub is_shadow: bool,
    /// Why it was refused, or would have been.
    pub reason: Reason,
    /// The workflow, if the request names one.
    pub workflow: Option<WorkflowId>,
}

/// The refusals among these verdicts, with their numbers of runs. Only those of `fresh` keys: another replica
/// may have decided the others.
pub fn tally(entries: &[Entry], fresh: &HashSet<RunKey>) -> BTreeMap<Refusal, u64> {
    let mut refusals = BTreeMap::new();
    for entry in entries.iter().filter(|entry| fresh.contains(&entry.key)) {
        let verdict = &entry.verdict;
        let reason = match verdict.shadow {
            Some(reason) => reason,
            None if !verdict.allowed => verdict.reason,
            None => continue,
        };
        let refusal =
            Refusal { is_shadow: verdict.shadow.is_some(), reason, workflow: entry.workflow.clone() };
        *refusals.entry(refusal).or_default() += 1;
    }
    refusals
}

/// Numbers of runs that were refused, and of runs that would have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Runs that were refused.
    pub refused: u64,
    /// Runs that were allowed only because the plan is in shadow mode.
    pub would_be_refused: u64,
}

impl Refused {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            refused: self.refused.saturating_add(other.refused),
            would_be_refused: self.would_be_refused.saturating_add(other.would_be_refused),
        }
    }

    /// These without the others.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            refused: self.refused.saturating_sub(other.refused),
            would_be_refused: self.would_be_refused.saturating_sub(other.would_be_refused),
        }
    }
}

/// Hours summed by the date on which they begin in the zone, oldest first.
pub fn by_day(hours: &[(i64, Refused)], zone: &TimeZone) -> Vec<(Date, Refused)> {
    let mut days: BTreeMap<Date, Refused> = BTreeMap::new();
    for (hour, refused) in hours {
        let day = days.entry(start_of(*hour).to_zoned(zone.clone()).date()).or_default();
        *day = day.plus(*refused);
    }
    days.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::verdict::{Verdict, tests::entry};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_instant_belongs_to_the_hour_that_contains_it() {
        let noon = hour(at("2026-11-24T12:00:00Z"));
        assert_eq!(hour(at("2026-11-24T12:59:59.999Z")), noon);
        assert_eq!(hour_after(at("2026-11-24T12:00:00Z")), noon);
        assert_eq!(hour_after(at("2026-11-24T12:00:00.001Z")), noon + 1);
        assert_eq!(start_of(noon), at("2026-11-24T12:00:00Z"));
    }

    #[test]
    fn only_new_refusals_are_counted_and_shadow_refusals_separately() {
        let with = |id, verdict: fn(Verdict) -> Verdict| {
            let entry = entry(id);
            Entry { verdict: verdict(entry.verdict), ..entry }
        };
        let refuse = |verdict| Verdict { allowed: false, reason: Reason::LimitReached, ..verdict };
        let watch =
            |verdict| Verdict { reason: Reason::Shadow, shadow: Some(Reason::LimitReached), ..verdict };
        let entries = [with(1, refuse), with(2, refuse), with(3, refuse), with(4, watch), entry(5)];
        let fresh = [1, 2, 4, 5].map(|id| entry(id).key).into();
        let refusal = |is_shadow| Refusal {
            is_shadow,
            reason: Reason::LimitReached,
            workflow: entries[0].workflow.clone(),
        };
        assert_eq!(tally(&entries, &fresh), [(refusal(false), 2), (refusal(true), 1)].into());
    }

    #[test]
    fn an_hour_belongs_to_the_day_on_which_it_begins_in_the_zone() {
        let refused = |refused| Refused { refused, would_be_refused: 1 };
        let hours = [
            (hour(at("2026-11-23T22:00:00Z")), refused(1)),
            (hour(at("2026-11-23T23:00:00Z")), refused(2)),
            (hour(at("2026-11-24T00:00:00Z")), refused(4)),
        ];
        let days = by_day(&hours, &TimeZone::get("Europe/Madrid").unwrap());
        let shown: Vec<_> =
            days.iter().map(|(day, of)| (day.to_string(), of.refused, of.would_be_refused)).collect();
        assert_eq!(shown, [("2026-11-23".to_owned(), 1, 1), ("2026-11-24".to_owned(), 6, 2)]);
    }
}
