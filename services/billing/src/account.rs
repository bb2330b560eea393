//! The books of one tenant and period: what is billable, what is reported, and when the rest is sealed.

use std::time::Duration;

use jiff::Timestamp;
use metering::{Period, TenantId};

use crate::{
    identifier::Destination,
    minutes,
    owed::{Part, Route},
};

/// Usage counted up to this long before the invoice may become final is still reported. The margin leaves
/// time to seal it, send it and retry.
pub const GRACE_MARGIN: Duration = Duration::from_secs(5 * 60);

/// Sending stops this long before the invoice may become final: longer than a call to Stripe may take, so that no
/// event arrives on a final invoice.
pub const SEND_MARGIN: Duration = Duration::from_secs(2 * 60);

/// A period closes within 7 days of its end, the longest `aggregator.close_grace`. If it has not closed a day
/// after that, its late usage is announced anyway instead of being held back for ever.
const CLOSED_WITHIN: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// When reports are sealed and sent.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Interval between two reports of a tenant.
    pub report_interval: Duration,
    /// Events are dated at least this far in the past.
    pub seal_delay: Duration,
    /// How long after its end a period's usage still reaches its invoice.
    pub invoice_grace: Duration,
}

impl Rules {
    /// Usage counted from this instant on is too late for the period's invoice.
    pub fn counted_before(&self, period: Period) -> Timestamp {
        later(period.end, self.invoice_grace.saturating_sub(GRACE_MARGIN))
    }

    /// No event of the period is sent from this instant on.
    pub fn send_before(&self, period: Period) -> Timestamp {
        later(period.end, self.invoice_grace.saturating_sub(SEND_MARGIN))
    }
}

/// The books of one tenant and period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose usage.
    pub tenant: TenantId,
    /// In which period.
    pub period: Period,
    /// The billable executions, by the largest revision seen.
    pub billable_total: i64,
    /// That revision.
    pub revision: u64,
    /// The last total that was counted in time for the invoice.
    pub in_time_total: i64,
    /// The sum of what was sealed and not refused.
    pub reported_total: i64,
    /// The version of the next report.
    pub next_version: u32,
    /// When the period was closed.
    pub closed_at: Option<Timestamp>,
    /// Never reported: the tenant was not billed while there was still time.
    pub waived: bool,
    /// The last destination that refused a report.
    pub refused: Option<Destination>,
}

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

impl Account {
    /// Empty books.
    pub fn open(tenant: TenantId, period: Period) -> Self {
        Self {
            tenant,
            period,
            billable_total: 0,
            revision: 0,
            in_time_total: 0,
            reported_total: 0,
            next_version: 1,
            closed_at: None,
            waived: false,
            refused: None,
        }
    }

    /// Records a total counted at `counted_at`, unless a newer one is known: messages may arrive twice and in
    /// any order. Returns whether it was recorded.
    pub fn observe(
        &mut self,
        rules: &Rules,
        period: Period,
        revision: u64,
        billable_total: i64,
        counted_at: Timestamp,
    ) -> bool {
        if revision < self.revision {
            return false;
        }
        // A changed calendar may move the end; sealed reports stay as they are.
        self.period = period;
        self.revision = revision;
        self.billable_total = billable_total;
        if counted_at < rules.counted_before(period) {
            self.in_time_total = billable_total;
        }
        true
    }

    /// Closes the period; only the first call counts.
    pub fn close(&mut self, closed_at: Timestamp) {
        self.closed_at.get_or_insert(closed_at);
    }

    /// Usage that is not reported yet; negative if too much was.
    pub fn unreported(&self) -> i64 {
        self.billable_total.saturating_sub(self.reported_total)
    }

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

    fn last_instant(&self) -> Timestamp {
        earlier(self.period.end, Duration::from_secs(1))
    }

    /// Moves the unreported part, up to this total, to a report. Returns the report's quantity and version.
    pub fn seal(&mut self, up_to: i64) -> (i64, u32) {
        let (quantity, version) = (up_to.saturating_sub(self.reported_total), self.next_version);
        self.reported_total = up_to;
        self.next_version = self.next_version.saturating_add(1);
        (quantity, version)
    }

    /// Returns the quantity of a refused report to the account: it was not executed, so it is reported again.
    pub fn give_back(&mut self, quantity: i64, refused_by: &Destination) {
        self.reported_total = self.reported_total.saturating_sub(quantity);
        self.refused = Some(refused_by.clone());
    }
}

/// `instant + by`, stopping at the end of the calendar.
pub fn later(instant: Timestamp, by: Duration) -> Timestamp {
    instant.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// `instant - by`, stopping at the beginning of the calendar.
pub fn earlier(instant: Timestamp, by: Duration) -> Timestamp {
    instant.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
