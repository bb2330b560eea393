//! The ledger of one tenant and period (table `accounts`): what is billable, what is reported, and when the rest is sealed.

use std::time::Duration;

use jiff::Timestamp;
use metering::{Period, TenantId, earlier, later};

use crate::identifier::Destination;

/// Usage counted up to this long before the invoice may become final is still reported. The margin leaves
/// time to seal it, send it and retry.
pub const GRACE_MARGIN: Duration = Duration::from_secs(5 * 60);

/// Sending stops this long before the invoice may become final: longer than a call to Stripe may take, so that no
/// event arrives on a final invoice.
pub const SEND_MARGIN: Duration = Duration::from_secs(2 * 60);

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
pub struct Ledger {
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

impl Ledger {
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

    /// The last instant at which an event belongs to the period.
    pub fn last_instant(&self) -> Timestamp {
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

#[cfg(test)]
mod tests;
