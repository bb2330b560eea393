//! The aggregator's messages, with deterministic ids.

use catalog::Tenant;
use jiff::{Timestamp, tz::TimeZone};
use messaging::Outgoing;
use metering::Period;
use proto::{
    Namespace, cloud_events, timestamp,
    v1::{self, correction_question::Change, period_event::Event},
};

use crate::{
    figures::totals::Totals,
    periods::thresholds::Crossing,
    recording::word::Contradicted,
    store::{Correcting, Correction, DuePeriod, Ended, Settled, Snapshot},
};

/// Workflows in one message: the largest ones; keeps a message far below the broker's 1 MB.
pub(crate) const WORKFLOWS_MAX: i64 = 1_000;

/// Ended periods that are not closed, in one message: two years of months. All but the last one or two come
/// from a new source, and close at once.
pub(crate) const ENDED_MAX: i64 = 24;

/// A figure from the database. None is negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Figures in their wire form.
pub(crate) fn totals(totals: &Totals) -> v1::Totals {
    v1::Totals {
        counted: unsigned(totals.counted),
        uncounted: unsigned(totals.uncounted),
        success: unsigned(totals.success),
        error: unsigned(totals.error),
        crashed: unsigned(totals.crashed),
        canceled: unsigned(totals.canceled),
        duration_ms: unsigned(totals.duration_ms),
        late: unsigned(totals.late),
        voided: unsigned(totals.voided),
        adjusted: totals.adjusted,
    }
}

fn workflows(snapshot: &Snapshot) -> (Vec<v1::WorkflowUsage>, u32) {
    let workflows: Vec<v1::WorkflowUsage> = snapshot
        .workflows
        .iter()
        .map(|workflow| v1::WorkflowUsage {
            source_id: workflow.source_id.clone(),
            workflow_id: workflow.workflow_id.clone(),
            workflow_name: workflow.workflow_name.clone().unwrap_or_default(),
            totals: Some(totals(&workflow.totals)),
        })
        .collect();
    let shown = i64::try_from(workflows.len()).unwrap_or(i64::MAX);
    let omitted = u32::try_from(snapshot.workflows_total - shown).unwrap_or(0);
    (workflows, omitted)
}

/// `SourceContradicted`: once for each step of a day.
pub(crate) fn source_contradicted(namespace: &Namespace, found: &Contradicted) -> Outgoing {
    let (_, epoch, execution_id) = found.example;
    let day = found.found_at.to_zoned(TimeZone::UTC).date();
    let message = v1::SourceContradicted {
        source_id: found.source_id.clone(),
        executions: unsigned(found.executions),
        epoch: epoch.unsigned_abs(),
        execution_id: execution_id.to_string(),
        found_at: Some(timestamp(found.found_at)),
    };
    let message_id = format!("contradicted:{}:{day}:{}", found.source_id, found.step);
    Outgoing::new(namespace.source_contradicted(&found.source_id), message_id, &message, found.found_at)
}

/// `UsageCounted`.
#[expect(clippy::too_many_arguments, reason = "everything that one message says")]
pub(crate) fn usage_counted(
    namespace: &Namespace,
    tenant: &Tenant,
    limit: Option<u64>,
    (period, time_zone): (Period, &str),
    revision: i64,
    (snapshot, settled): (&Snapshot, &Settled),
    ended: &[Ended],
    now: Timestamp,
) -> Outgoing {
    let (workflows, workflows_omitted) = workflows(snapshot);
    let ended = ended.iter().map(|ended| v1::EndedPeriod {
        period: Some(ended.period.into()),
        totals: Some(totals(&ended.totals)),
    });
    let sources = snapshot.sources.iter().map(|source| v1::SourceFreshness {
        source_id: source.source_id.clone(),
        complete_until: source.counted_until.map(timestamp),
        open_executions: u32::try_from(source.counted_open).unwrap_or(0),
    });
    let by_slot = settled
        .by_slot
        .iter()
        .map(|(slot, executions)| v1::SettledSlot { slot: *slot, executions: unsigned(*executions) });
    let message = v1::UsageCounted {
        tenant_id: tenant.id.to_string(),
        period: Some(period.into()),
        revision: unsigned(revision),
        totals: Some(totals(&snapshot.totals)),
        workflows,
        workflows_omitted,
        as_of: Some(timestamp(now)),
        complete_until: snapshot.complete_until().map(timestamp),
        counted_complete: unsigned(snapshot.counted_complete),
        open_executions: unsigned(snapshot.sources.iter().map(|source| source.counted_open).sum()),
        sources: sources.collect(),
        plan_id: tenant.plan.to_string(),
        limit,
        ended_periods: ended.collect(),
        settled: by_slot.collect(),
        open_and_counted: unsigned(settled.open_and_counted),
        earlier_complete_until: settled.earlier_until.map(timestamp),
        earlier_open: unsigned(settled.earlier_open),
        time_zone: time_zone.to_owned(),
    };
    let id = format!("usage:{}:{revision}", tenant.id);
    Outgoing::new(namespace.usage_counted(tenant.id.as_str()), id, &message, now)
}

/// One event in both of its forms, protobuf and CloudEvent: they go into the outbox together, so neither is published
/// without the other.
pub(crate) type BothForms = [Outgoing; 2];

/// `ThresholdCrossed`.
pub(crate) fn threshold_crossed(namespace: &Namespace, crossing: &Crossing) -> BothForms {
    let message = v1::ThresholdCrossed {
        crossing_id: crossing.crossing_id.to_string(),
        tenant_id: crossing.tenant.clone(),
        period: Some(crossing.period.into()),
        rule: crossing.rule.to_owned(),
        threshold_percent: crossing.threshold.get(),
        limit: crossing.limit,
        used: crossing.used,
        crossed_at: Some(timestamp(crossing.crossed_at)),
        plan_id: crossing.plan.clone(),
        highest_percent: crossing.highest.get(),
    };
    let (id, at) = (crossing.crossing_id.to_string(), crossing.crossed_at);
    let json = cloud_events::threshold_crossed(namespace, &message);
    [
        Outgoing::new(namespace.usage_threshold(&crossing.tenant), id.clone(), &message, at),
        Outgoing::encoded(namespace.cloud_threshold(&crossing.tenant), id, json, at),
    ]
}

/// `PeriodOpened`.
pub(crate) fn period_opened(
    namespace: &Namespace,
    tenant: &str,
    period: Period,
    now: Timestamp,
) -> BothForms {
    let opened = v1::PeriodOpened {
        tenant_id: tenant.to_owned(),
        period: Some(period.into()),
        opened_at: Some(timestamp(now)),
    };
    let id = format!("opened:{tenant}:{}", period.start);
    let json = cloud_events::period_opened(namespace, &id, &opened);
    period_event(namespace, tenant, id, (Event::Opened(opened), json), now)
}

/// `PeriodClosed`.
pub(crate) fn period_closed(
    namespace: &Namespace,
    (due, time_zone): (&DuePeriod, &str),
    revision: i64,
    snapshot: &Snapshot,
    incomplete_sources: Vec<String>,
    now: Timestamp,
) -> BothForms {
    let (workflows, workflows_omitted) = workflows(snapshot);
    let closed = v1::PeriodClosed {
        tenant_id: due.tenant_id.clone(),
        period: Some(due.period.into()),
        revision: unsigned(revision),
        totals: Some(totals(&snapshot.totals)),
        workflows,
        workflows_omitted,
        closed_at: Some(timestamp(now)),
        incomplete_sources,
        plan_id: due.plan_id.clone(),
        time_zone: time_zone.to_owned(),
    };
    let id = format!("closed:{}:{}", due.tenant_id, due.period.start);
    let json = cloud_events::period_closed(namespace, &id, &closed);
    period_event(namespace, &due.tenant_id, id, (Event::Closed(closed), json), now)
}

/// `LateUsage`.
pub(crate) fn late_usage(
    namespace: &Namespace,
    tenant: &str,
    period: Period,
    revision: i64,
    figures: &Totals,
    now: Timestamp,
) -> BothForms {
    let late = v1::LateUsage {
        tenant_id: tenant.to_owned(),
        period: Some(period.into()),
        revision: unsigned(revision),
        totals: Some(totals(figures)),
        found_at: Some(timestamp(now)),
    };
    let id = format!("late:{tenant}:{}:{revision}", period.start);
    let json = cloud_events::late_usage(namespace, &id, &late);
    period_event(namespace, tenant, id, (Event::Late(late), json), now)
}

fn period_event(
    namespace: &Namespace,
    tenant: &str,
    id: String,
    (event, json): (Event, Vec<u8>),
    now: Timestamp,
) -> BothForms {
    let message = v1::PeriodEvent { event: Some(event) };
    [
        Outgoing::new(namespace.usage_period(tenant), id.clone(), &message, now),
        Outgoing::encoded(namespace.cloud_period(tenant), id, json, now),
    ]
}

/// A stored correction.
pub(crate) fn correction(tenant: &str, made: &Correction) -> v1::Correction {
    let change = match &made.change {
        Correcting::Void(key) => Change::VoidExecution(v1::VoidExecution {
            source_id: key.source_id.clone(),
            epoch: key.epoch.unsigned_abs(),
            execution_id: unsigned(key.execution_id),
        }),
        Correcting::Adjust(quantity) => Change::AdjustCount(v1::AdjustCount {
            period_start: Some(timestamp(made.period.start)),
            quantity: *quantity,
            period_at: None,
        }),
    };
    v1::Correction {
        correction: Some(v1::CorrectionQuestion {
            correction_id: made.id.clone(),
            tenant_id: tenant.to_owned(),
            author: made.author.clone(),
            reason: made.reason.clone(),
            reason_is_public: made.reason_is_public,
            change: Some(change),
        }),
        period: Some(made.period.into()),
        corrected_at: Some(timestamp(made.corrected_at)),
    }
}
