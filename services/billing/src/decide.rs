//! What is to be done about unreported usage of an account now. Pure.

use std::time::Duration;

use jiff::Timestamp;
use metering::{earlier, later};

use crate::{
    ledger::{Ledger, Rules},
    minutes,
    owed::{Part, Route},
};

/// A period closes within 7 days of its end, the longest `aggregator.close_grace`. If it has not closed a day
/// after that, its late usage is announced anyway instead of being held back for ever.
const CLOSED_WITHIN: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// What to do about unreported usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Everything is reported.
    Nothing,
    /// Look again at this instant.
    Wait(Timestamp),
    /// Seal a report of this part, its event dated at this instant at the latest.
    Seal(Part, Timestamp),
    /// Too late for the invoice: an operator has to bill this part.
    Late(Part, Timestamp),
    /// The tenant was not billed in this period, and the period is over.
    Waive,
}

impl Ledger {
    /// What to do now.
    pub fn decide(&self, rules: &Rules, route: &Route, now: Timestamp) -> Decision {
        if self.waived || self.unreported() == 0 {
            return Decision::Nothing;
        }
        let (counted_before, send_before) =
            (rules.counted_before(self.period), rules.send_before(self.period));
        if now >= send_before {
            return self.decide_late(rules, route, now);
        }
        // Between the two deadlines, usage counted in time is still sent.
        let in_time = if now < counted_before { self.billable_total } else { self.in_time_total };
        let Some(part) = route.next(self, in_time) else { return Decision::Wait(send_before) };
        if part.destination.is_none() {
            // A customer or a meter may yet be set.
            return Decision::Wait(minutes::next_look(rules, self.period, 1, now));
        }
        let event_at = earlier(now, rules.seal_delay).min(self.last_instant());
        if event_at < self.period.start {
            return Decision::Wait(later(self.period.start, rules.seal_delay));
        }
        Decision::Seal(part, event_at)
    }

    fn decide_late(&self, rules: &Rules, route: &Route, now: Timestamp) -> Decision {
        let Some(part) = route.next(self, self.billable_total) else { return Decision::Nothing };
        if part.destination.is_none() {
            return Decision::Waive;
        }
        // The total may grow until the period closes; waiting for that makes it one late report.
        if self.closed_at.is_none() && now < later(self.period.end, CLOSED_WITHIN) {
            return Decision::Wait(minutes::next_look(rules, self.period, 1, now));
        }
        Decision::Late(part, self.last_instant())
    }
}
