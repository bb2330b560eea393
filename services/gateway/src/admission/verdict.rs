//! What the limit check is asked, what it answers, and why it cannot.

use std::{sync::Arc, time::Duration};

use catalog::{Tenant, store::CatalogError};
use jiff::{SignedDuration, Timestamp};
use metering::{Mode, TenantId, WorkflowId};

use crate::admission::{
    decision::{Decision, Reason, Terms},
    known::Known,
    message::{Figures, hint, sentence},
    run_key::RunKey,
};

/// Verdicts given from memory are stored within this time, or as soon as those before them are.
pub const WRITE_DELAY: Duration = Duration::from_millis(10);

/// A repeated id gets the same answer from every replica for at least this long.
pub const REPEAT_HORIZON: SignedDuration = SignedDuration::from_hours(1);

/// A run that wants to start.
#[derive(Debug, Clone)]
pub struct Request {
    /// The tenant whose run it is.
    pub tenant: TenantId,
    /// The run's key.
    pub key: RunKey,
    /// Which workflow.
    pub workflow: Option<WorkflowId>,
    /// What starts it; a missing mode counts.
    pub mode: Option<Mode>,
}

/// The verdict, with the figures behind it.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// Whether the run may start.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Why it would have been refused, if the plan is in shadow mode.
    pub shadow: Option<Reason>,
    /// When a refusal may end.
    pub retry_at: Option<Timestamp>,
    /// Executions that count against the limit, this one included if it was reserved.
    pub used: Option<u64>,
    /// Runs allowed and not yet counted, this one included if it was reserved.
    pub reserved: u64,
    /// Executions allowed in the period.
    pub limit: Option<u64>,
    /// The end of the period.
    pub resets_at: Timestamp,
    /// When the figures were read.
    pub as_of: Option<Timestamp>,
    /// All sources were counted up to here.
    pub complete_until: Option<Timestamp>,
    /// When the run's unit was taken; `None` if none was.
    pub admitted_at: Option<Timestamp>,
}

/// The limit check cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The tenant or its plan cannot be read.
    #[error("cannot read the tenant and its plan")]
    Terms(#[from] CatalogError),
    /// The ledger cannot be read or written.
    #[error("cannot use the ledger of admissions")]
    Ledger(#[from] sqlx::Error),
    /// The ledger holds a reason that this version does not know.
    #[error("the ledger holds the unknown reason {0:?}")]
    UnknownReason(String),
    /// The ledger did not answer in time.
    #[error("the ledger of admissions does not answer")]
    TimedOut,
    /// The request was in a batch that could not be decided.
    #[error("cannot decide the batch of requests")]
    Together(#[source] Arc<AdmitError>),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Stopping,
}

impl Verdict {
    /// A verdict on a run that is not reserved, while `reserved` others are.
    pub fn new(known: &Known, terms: &Terms, reserved: u64, decision: Decision) -> Self {
        Self {
            allowed: decision.allowed,
            reason: decision.reason,
            shadow: None,
            retry_at: None,
            used: known.used(reserved),
            reserved: known.unsettled(reserved),
            limit: terms.limit,
            resets_at: known.period.end,
            as_of: known.as_of,
            complete_until: known.complete_until,
            admitted_at: None,
        }
    }

    /// The same with the run itself reserved. Its unit is tallied at `admitted_at`.
    pub fn reserve(mut self, admitted_at: Timestamp) -> Self {
        // In microseconds, like the ledger, so that a repeated id gets the same answer from every replica.
        self.admitted_at = Timestamp::from_microsecond(admitted_at.as_microsecond()).ok();
        self.reserved = self.reserved.saturating_add(1);
        self.used = self.used.map(|used| used.saturating_add(1));
        self
    }

    /// The sentence for a person, in the tenant's language.
    pub fn message(&self, tenant: &Tenant) -> String {
        sentence(tenant, self.reason, self.figures(self.allowed))
    }

    /// Why the run would have been refused, for a person.
    pub fn shadow_message(&self, tenant: &Tenant) -> Option<String> {
        self.shadow.map(|reason| sentence(tenant, reason, self.figures(false)))
    }

    /// When runs may start again, for a person.
    pub fn hint(&self, tenant: &Tenant) -> Option<String> {
        self.retry_at.filter(|_| !self.allowed).map(|retry_at| hint(tenant, retry_at))
    }

    fn figures(&self, allowed: bool) -> Figures {
        let Self { used, limit, resets_at, retry_at, .. } = *self;
        Figures { allowed, used, limit, resets_at, retry_at }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::write_behind::Entry;

    /// A run that was allowed.
    pub(crate) fn verdict() -> Verdict {
        Verdict {
            allowed: true,
            reason: Reason::WithinLimit,
            shadow: None,
            retry_at: None,
            used: Some(1),
            reserved: 1,
            limit: Some(100),
            resets_at: "2026-12-01T00:00:00Z".parse().unwrap(),
            as_of: None,
            complete_until: None,
            admitted_at: None,
        }
    }

    /// The same with its run.
    pub(crate) fn entry(id: usize) -> Entry {
        let tenant = TenantId::parse("north").unwrap();
        let key = RunKey::of(&tenant, &id.to_string());
        let request = Request { tenant, key, workflow: None, mode: None };
        Entry::of(&request, verdict(), "2026-11-24T12:00:00Z".parse().unwrap())
    }
}
