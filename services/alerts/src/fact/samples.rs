//! One fact of each topic.

use super::*;

fn at(text: &str) -> Option<prost_types::Timestamp> {
    Some(proto::timestamp(text.parse().unwrap()))
}

pub(crate) fn gap(first: &str, last: &str) -> v1::SourceGap {
    v1::SourceGap {
        source_id: "north-n8n".into(),
        epoch: 1,
        reason: v1::GapReason::PrunedBeforeSeen.into(),
        first_execution_id: first.into(),
        last_execution_id: last.into(),
        found_at: at("2026-11-24T12:00:00Z"),
    }
}

pub(crate) fn failing() -> v1::SourceFailing {
    v1::SourceFailing {
        source_id: "north-n8n".into(),
        reason: v1::FailureReason::Unauthorized.into(),
        detail: "n8n refuses the API key: put a new one with `flowmeter apply`.".into(),
        failing_since: at("2026-11-24T11:20:00Z"),
        failed_at: at("2026-11-24T12:00:00Z"),
        consecutive_failures: 5,
    }
}

pub(crate) fn loss() -> v1::SourceSynced {
    v1::SourceSynced {
        source_id: "north-n8n".into(),
        sweep_ended_at: at("2026-11-24T12:00:00Z"),
        loss_expected_at: at("2026-11-24T12:07:00Z"),
        ..v1::SourceSynced::default()
    }
}

pub(crate) fn dead() -> v1::DeadLetter {
    v1::DeadLetter {
        service: "aggregator".into(),
        original_subject: "flowmeter.v1.executions.3.north-n8n".into(),
        original_payload: b"not protobuf".as_slice().into(),
        original_headers: Vec::new(),
        reason: "the payload is not an ExecutionBatch".into(),
        failed_at: at("2026-11-24T12:00:00Z"),
        deliveries: 1,
    }
}

fn period() -> Option<v1::Period> {
    Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") })
}

pub(crate) fn report() -> v1::ReportFailed {
    v1::ReportFailed {
        tenant_id: "north".into(),
        period: period(),
        identifier: "live-north-1793491200-3".into(),
        quantity: 120,
        reason: "Stripe does not know the customer: correct it with `flowmeter apply`.".into(),
        failed_at: at("2026-11-24T12:00:00Z"),
    }
}

pub(crate) fn drift() -> v1::DriftFound {
    v1::DriftFound {
        tenant_id: "north".into(),
        period: period(),
        billable: 12_400,
        stripe_total: 12_520,
        found_at: at("2026-11-24T12:00:00Z"),
    }
}

pub(crate) fn looping() -> v1::LoopDetected {
    v1::LoopDetected {
        tenant_id: "north".into(),
        source_id: String::new(),
        workflow_id: "orderSync".into(),
        runs_per_minute: 1_061,
        usual_runs_per_minute: 12,
        refusing: false,
        detected_at: at("2026-11-24T12:00:00Z"),
        usual_most: 60,
        started: 1_061,
        shadow: false,
    }
}

/// The same with a plan that refuses loops.
pub(crate) fn looping_refused() -> v1::LoopDetected {
    v1::LoopDetected { runs_per_minute: 61, refusing: true, started: 60, ..looping() }
}

/// The same with such a plan in shadow mode.
pub(crate) fn looping_watched() -> v1::LoopDetected {
    v1::LoopDetected { runs_per_minute: 61, shadow: true, started: 60, ..looping() }
}

pub(crate) fn contradicted() -> v1::SourceContradicted {
    v1::SourceContradicted {
        source_id: "north-n8n".into(),
        executions: 1_204,
        epoch: 1,
        execution_id: "926".into(),
        found_at: at("2026-11-24T12:00:00Z"),
    }
}

/// A source with every problem that is reported.
pub(crate) fn unsound() -> v1::SourceSynced {
    v1::SourceSynced {
        source_id: "north-n8n".into(),
        sweep_ended_at: at("2026-11-24T12:00:00Z"),
        clock_skew_ms: Some(300_250),
        clock_measured_at: at("2026-11-24T12:00:00Z"),
        clock_wrong_since: at("2026-11-24T11:50:00Z"),
        token_shared_since: at("2026-11-24T11:51:00Z"),
        instances: vec!["1f2e3d".into(), "4c5b6a".into()],
        counted_twice_since: at("2026-11-24T11:52:00Z"),
        same_instance_sources: vec!["south-n8n".into()],
        ..v1::SourceSynced::default()
    }
}

/// The same with a clock that is behind.
pub(crate) fn behind() -> v1::SourceSynced {
    v1::SourceSynced { clock_skew_ms: Some(-90_500), ..unsound() }
}

pub(crate) fn refused() -> Fact {
    let reason = "the mail server did not take it: permanent error (550): 5.1.1 no such mailbox";
    Fact::refused_mail("gone@rej.example", reason, "2026-11-24T12:00:00Z".parse().unwrap())
}

/// One of each.
pub(crate) fn all() -> [Fact; 13] {
    [
        Fact::Gap(gap("120", "180")),
        Fact::Failing(failing()),
        Fact::Recovered(failing()),
        Fact::Loss(loss()),
        Fact::Dead(dead()).abridged(),
        Fact::Report(report()),
        Fact::Drift(drift()),
        Fact::Loop(looping()),
        Fact::Contradicted(contradicted()),
        Fact::Clock(unsound()),
        Fact::SharedToken(unsound()),
        Fact::CountedTwice(unsound()),
        refused(),
    ]
}
