//! The events that billing publishes, as messages for the outbox.

use jiff::Timestamp;
use messaging::Outgoing;
use metering::{Period, TenantId};
use proto::{
    Namespace, timestamp,
    v1::{BillingEvent, DriftFound, ReportFailed, UsageReported, billing_event::Event},
};

use crate::{
    identifier::Destination,
    report::{Report, State},
};

/// Stripe's total of a period differs from what it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose usage.
    pub tenant: TenantId,
    /// In which period.
    pub period: Period,
    /// Where it was reported.
    pub destination: Destination,
    /// The sum of what Stripe had accepted.
    pub accepted: i64,
    /// What Stripe's summary says.
    pub stripe_total: i64,
}

/// Stripe accepted a report. `reported_total` is what it has accepted for the period so far.
pub fn reported(namespace: &Namespace, report: &Report, reported_total: i64, now: Timestamp) -> Outgoing {
    let event = Event::Reported(UsageReported {
        tenant_id: report.tenant.to_string(),
        period: Some(report.period.into()),
        identifier: report.identifier.to_string(),
        quantity: report.quantity,
        reported_total: shown(reported_total),
        accepted_at: Some(timestamp(now)),
    });
    outgoing(namespace, &report.tenant, format!("billing:reported:{}", report.identifier), event, now)
}

/// A report needs an operator. `state` is its new state.
pub fn failed(
    namespace: &Namespace,
    report: &Report,
    state: State,
    reason: &str,
    now: Timestamp,
) -> Outgoing {
    let event = Event::Failed(ReportFailed {
        tenant_id: report.tenant.to_string(),
        period: Some(report.period.into()),
        identifier: report.identifier.to_string(),
        quantity: report.quantity,
        reason: format!("{reason}. {}", advice(report, state)),
        failed_at: Some(timestamp(now)),
    });
    let message_id = format!("billing:failed:{}:{}", report.identifier, state.as_str());
    outgoing(namespace, &report.tenant, message_id, event, now)
}

/// Stripe's summary differs.
pub fn drifted(namespace: &Namespace, drift: &Drift, now: Timestamp) -> Outgoing {
    let event = Event::Drift(DriftFound {
        tenant_id: drift.tenant.to_string(),
        period: Some(drift.period.into()),
        billable: shown(drift.accepted),
        stripe_total: shown(drift.stripe_total),
        found_at: Some(timestamp(now)),
    });
    let message_id = format!(
        "billing:drift:{}:{}:{}:{}:{}:{}",
        drift.tenant,
        drift.period.start.as_second(),
        drift.destination.customer,
        drift.destination.event_name,
        drift.accepted,
        drift.stripe_total
    );
    outgoing(namespace, &drift.tenant, message_id, event, now)
}

/// What the operator can do about it.
fn advice(report: &Report, state: State) -> String {
    let (quantity, customer) = (report.quantity, &report.destination.customer);
    match state {
        State::Late if quantity < 0 => {
            format!("Nothing was sent: credit {customer} for {} executions by hand", quantity.unsigned_abs())
        }
        State::Late => {
            format!("Nothing was sent: add an invoice item for {quantity} executions to {customer} by hand")
        }
        State::Rejected => format!(
            "Nothing was counted: correct the tenant's customer or the plan's meter; the {quantity} executions are \
             then reported again automatically"
        ),
        _ => format!(
            "It is not known whether this was counted: compare the usage of {customer} around {} with the {quantity} \
             executions of this report, and correct the invoice by hand",
            report.event_at
        ),
    }
}

fn outgoing(
    namespace: &Namespace,
    tenant: &TenantId,
    message_id: String,
    event: Event,
    now: Timestamp,
) -> Outgoing {
    Outgoing::new(namespace.billing(tenant.as_str()), message_id, &BillingEvent { event: Some(event) }, now)
}

/// The contract has no negative totals; Stripe, too, clamps them at 0.
fn shown(total: i64) -> u64 {
    u64::try_from(total).unwrap_or(0)
}
