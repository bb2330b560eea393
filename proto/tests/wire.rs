//! The bytes of version 1. A snapshot that changes here breaks the contract for every subscriber: add a
//! field with a new number instead, or begin version 2.

use std::fmt::Write;

use prost::Message;
use proto::{Namespace, cloud_events, v1::*};

fn at(second: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: second, nanos: 514_000_000 })
}

fn hex(message: &impl Message) -> String {
    message.encode_to_vec().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn period() -> Option<Period> {
    Some(Period { start: at(1_793_491_200), end: at(1_796_083_200) })
}

fn totals() -> Option<Totals> {
    Some(Totals {
        counted: 340,
        uncounted: 7,
        success: 300,
        error: 39,
        crashed: 1,
        canceled: 0,
        duration_ms: 13_600,
        late: 2,
        ..Totals::default()
    })
}

fn workflow() -> WorkflowUsage {
    WorkflowUsage {
        source_id: "north-n8n".into(),
        workflow_id: "fBUhacu27uqiL8Xb".into(),
        workflow_name: "Order sync".into(),
        totals: totals(),
    }
}

fn execution() -> Execution {
    Execution {
        execution_id: "575".into(),
        workflow_id: "fBUhacu27uqiL8Xb".into(),
        workflow_name: "Order sync".into(),
        status: ExecutionStatus::Crashed.into(),
        mode: ExecutionMode::Integrated.into(),
        started_at: at(1_795_484_012),
        stopped_at: at(1_795_484_013),
        retry_of: "571".into(),
        admitted_at: None,
    }
}

#[test]
fn executions() {
    insta::assert_snapshot!(hex(&ExecutionBatch {
        source_id: "north-n8n".into(),
        epoch: 1,
        received_at: at(1_795_484_020),
        origin: Origin::Push.into(),
        executions: vec![execution()],
        workflows: Vec::new(),
    }));
}

#[test]
fn sources() {
    insta::assert_snapshot!(hex(&SourceSynced {
        source_id: "north-n8n".into(),
        epoch: 1,
        complete_until: at(1_795_484_015),
        open_executions: 3,
        published_through: 77,
        sweep_started_at: at(1_795_484_020),
        sweep_ended_at: at(1_795_484_021),
        executions_published: 340,
        loss_expected_at: None,
        ..SourceSynced::default()
    }));
    insta::assert_snapshot!(hex(&SourceGap {
        source_id: "north-n8n".into(),
        epoch: 1,
        reason: GapReason::PrunedBeforeSeen.into(),
        first_execution_id: "100".into(),
        last_execution_id: "200".into(),
        found_at: at(1_795_484_021),
    }));
    insta::assert_snapshot!(hex(&SourceFailing {
        source_id: "north-n8n".into(),
        reason: FailureReason::Unauthorized.into(),
        detail: "the API key was refused".into(),
        failing_since: at(1_795_484_000),
        failed_at: at(1_795_484_021),
        consecutive_failures: 2,
    }));
    insta::assert_snapshot!(hex(&SourceRow {
        source_id: "north-n8n".into(),
        epoch: 1,
        row: r#"{"id":"1"}"#.into(),
        received_at: at(1_795_484_021),
    }));
}

#[test]
fn usage() {
    insta::assert_snapshot!(hex(&UsageCounted {
        tenant_id: "north".into(),
        period: period(),
        revision: 12,
        totals: totals(),
        workflows: vec![workflow()],
        workflows_omitted: 1,
        as_of: at(1_795_484_022),
        complete_until: at(1_795_484_015),
        counted_complete: 330,
        open_executions: 3,
        sources: vec![SourceFreshness {
            source_id: "north-n8n".into(),
            complete_until: at(1_795_484_015),
            open_executions: 3
        }],
        plan_id: "pro".into(),
        limit: None,
        ended_periods: Vec::new(),
        settled: Vec::new(),
        open_and_counted: 0,
        earlier_complete_until: None,
        earlier_open: 0,
        time_zone: String::new(),
    }));
    insta::assert_snapshot!(hex(&ThresholdCrossed {
        crossing_id: "8a6e0804-2bd0-4672-b79d-d97027f9071a".into(),
        tenant_id: "north".into(),
        period: period(),
        rule: "monthly-executions".into(),
        threshold_percent: 80,
        limit: 425,
        used: 340,
        crossed_at: at(1_795_484_022),
        plan_id: "pro".into(),
        ..ThresholdCrossed::default()
    }));
}

#[test]
fn periods() {
    let opened = PeriodOpened { tenant_id: "north".into(), period: period(), opened_at: at(1_793_491_300) };
    let closed = PeriodClosed {
        tenant_id: "north".into(),
        period: period(),
        revision: 13,
        totals: totals(),
        workflows: vec![workflow()],
        workflows_omitted: 0,
        closed_at: at(1_796_083_900),
        incomplete_sources: vec!["north-old".into()],
        plan_id: "pro".into(),
        time_zone: String::new(),
    };
    let late = LateUsage {
        tenant_id: "north".into(),
        period: period(),
        revision: 14,
        totals: totals(),
        found_at: at(1_796_090_000),
    };
    for (event, name) in [
        (period_event::Event::Opened(opened), "opened"),
        (period_event::Event::Closed(closed), "closed"),
        (period_event::Event::Late(late), "late"),
    ] {
        insta::assert_snapshot!(name, hex(&PeriodEvent { event: Some(event) }));
    }
}

#[test]
fn billing() {
    let reported = UsageReported {
        tenant_id: "north".into(),
        period: period(),
        identifier: "live-north-20261101-3".into(),
        quantity: -4,
        reported_total: 336,
        accepted_at: at(1_795_484_100),
    };
    let failed = ReportFailed {
        tenant_id: "north".into(),
        period: period(),
        identifier: "live-north-20261101-3".into(),
        quantity: 10,
        reason: "no such customer".into(),
        failed_at: at(1_795_484_100),
    };
    let drift = DriftFound {
        tenant_id: "north".into(),
        period: period(),
        billable: 340,
        stripe_total: 336,
        found_at: at(1_796_090_000),
    };
    for (event, name) in [
        (billing_event::Event::Reported(reported), "reported"),
        (billing_event::Event::Failed(failed), "failed"),
        (billing_event::Event::Drift(drift), "drift"),
    ] {
        insta::assert_snapshot!(name, hex(&BillingEvent { event: Some(event) }));
    }
}

#[test]
fn catalog() {
    let tenant = Tenant {
        tenant_id: "north".into(),
        revision: 2,
        removed: false,
        name: "North".into(),
        plan_id: "pro".into(),
        time_zone: "Europe/Madrid".into(),
        anchor_day: 15,
        language: "es".into(),
        alert_recipients: vec!["ops@north.example".into()],
        stripe_customer_id: "cus_north".into(),
        limit_override: Some(500),
        shared_customer: false,
        limit_override_until: None,
        archived_at: None,
    };
    let plan = Plan {
        plan_id: "pro".into(),
        revision: 3,
        removed: false,
        name: "Pro".into(),
        monthly_limit: Some(10_000),
        limit_kind: LimitKind::Hard.into(),
        thresholds_percent: vec![80, 100],
        counting: Some(CountingRule {
            manual: true,
            sub_workflow: false,
            error_workflow: false,
            canceled: false,
            other: true,
        }),
        price: Some(Price {
            currency: "eur".into(),
            base_fee_minor: 2_000,
            included_executions: 2_500,
            overage_per_thousand_minor: 150,
        }),
        meter_event_name: "executions".into(),
        outage_rule: OutageRule::Open.into(),
        admission: None,
    };
    let source = Source {
        source_id: "north-n8n".into(),
        revision: 4,
        removed: false,
        tenant_id: "north".into(),
        kind: SourceKind::N8n.into(),
        base_url: "https://n8n.north.example".into(),
        sealed_api_key: vec![1, 2, 3].into(),
        poll_interval: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        paused: true,
        push_token_sha256: Default::default(),
        attributions: Vec::new(),
    };
    for (entry, name) in [
        (catalog_entry::Entry::Tenant(tenant), "tenant"),
        (catalog_entry::Entry::Plan(plan), "plan"),
        (catalog_entry::Entry::Source(source), "source"),
    ] {
        insta::assert_snapshot!(name, hex(&CatalogEntry { entry: Some(entry) }));
    }
}

#[test]
fn dead_letters() {
    insta::assert_snapshot!(hex(&DeadLetter {
        service: "aggregator".into(),
        original_subject: "flowmeter.v1.executions.3.north-n8n".into(),
        original_payload: vec![0xff].into(),
        original_headers: vec![Header {
            name: "traceparent".into(),
            value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()
        }],
        reason: "not an ExecutionBatch".into(),
        failed_at: at(1_795_484_100),
        deliveries: 1,
    }));
}

/// Fields that were added after the first publication: their numbers are fixed as well.
#[test]
fn later_fields() {
    let batch = ExecutionBatch {
        workflows: vec![Workflow {
            workflow_id: "fBUhacu27uqiL8Xb".into(),
            name: "Order sync".into(),
            project_id: "p1".into(),
            tags: vec!["north".into()],
            read_at: at(1_795_484_020),
        }],
        ..ExecutionBatch::default()
    };
    let totals = Totals { voided: 1, adjusted: -2, ..Totals::default() };
    let counted = UsageCounted { limit: Some(500), ..UsageCounted::default() };
    let ended_periods = vec![EndedPeriod { period: period(), totals: Some(totals) }];
    let counted_later = UsageCounted { ended_periods, ..UsageCounted::default() };
    let tenant = Tenant { limit_override_until: at(1_796_083_200), ..Tenant::default() };
    let caps = Some(RunCaps { per_minute: Some(1), per_day: Some(2), concurrent: Some(3) });
    let plan = Plan {
        admission: Some(AdmissionRule {
            shadow: true,
            overage_max: Some(10),
            grace: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            open_at_most: Some(prost_types::Duration { seconds: 61, nanos: 0 }),
            tenant_caps: caps,
            workflow_caps: caps,
            workflow_share_percent: Some(50),
            loop_rule: LoopRule::Refuse.into(),
        }),
        ..Plan::default()
    };
    let synced = SourceSynced {
        unseen_ids_max: 40,
        unseen_since: at(1_795_484_000),
        unsaving_workflows: 2,
        ..SourceSynced::default()
    };
    let audit = SourceAudit {
        unseen_ids_max: 40,
        unseen_since: at(1_795_484_000),
        unsaving_workflows: 2,
        ..SourceAudit::default()
    };
    let attribution = |scope| Attribution { tenant_id: "north".into(), scope, from: at(1_795_484_000) };
    let source = Source {
        attributions: vec![
            attribution(None),
            attribution(Some(attribution::Scope::WorkflowId("w".into()))),
            attribution(Some(attribution::Scope::Tag("t".into()))),
            attribution(Some(attribution::Scope::ProjectId("p".into()))),
        ],
        ..Source::default()
    };
    for (name, bytes) in [
        ("later_batch", hex(&batch)),
        ("later_totals", hex(&totals)),
        ("later_counted", hex(&counted)),
        ("later_counted_2", hex(&counted_later)),
        ("later_tenant", hex(&tenant)),
        ("later_plan", hex(&plan)),
        ("later_source", hex(&source)),
        ("later_synced", hex(&synced)),
        ("later_audit", hex(&audit)),
    ] {
        insta::assert_snapshot!(name, bytes);
    }
}

#[test]
fn later_fields_of_a_correction() {
    let correction = CorrectionQuestion { reason_is_public: true, ..CorrectionQuestion::default() };
    insta::assert_snapshot!("later_correction", hex(&correction));
}

#[test]
fn loops_and_audits() {
    let detected = LoopDetected {
        tenant_id: "north".into(),
        source_id: "north-n8n".into(),
        workflow_id: "w".into(),
        runs_per_minute: 900,
        usual_runs_per_minute: 3,
        refusing: true,
        detected_at: at(1_795_484_000),
        ..LoopDetected::default()
    };
    let event = Some(admission_event::Event::LoopDetected(detected));
    insta::assert_snapshot!("loop_detected", hex(&AdmissionEvent { event }));
    let audit = SourceAudit {
        source_id: "north-n8n".into(),
        audit_id: "a".into(),
        started_at: at(1),
        ended_at: at(2),
        updated_at: at(3),
        listed: 4,
        equal: 5,
        differences: vec![AuditDifference {
            epoch: 1,
            execution_id: 7,
            finding: AuditFinding::NotRecorded.into(),
            detail: "d".into(),
        }],
        differences_total: 6,
        failure: "f".into(),
        ..SourceAudit::default()
    };
    insta::assert_snapshot!("audit", hex(&audit));
}

/// When a run was allowed, and which of the open ones and of the allowed ones are counted.
#[test]
fn fields_that_settle_reservations() {
    insta::assert_snapshot!(
        "later_settled",
        [
            hex(&Execution { admitted_at: at(1_795_484_020), ..Execution::default() }),
            hex(&SourceSynced { open_ids: vec![7, 300], ..SourceSynced::default() }),
            hex(&UsageCounted {
                settled: vec![SettledSlot { slot: 359_096_804, executions: 2 }],
                open_and_counted: 1,
                earlier_complete_until: at(1_795_484_010),
                earlier_open: 3,
                ..UsageCounted::default()
            }),
            hex(&AdmissionAnswer { admitted_at: at(1_795_484_020), ..AdmissionAnswer::default() }),
        ]
        .join("\n")
    );
}

/// The sequence of a batch with the life of its stream.
#[test]
fn a_sequence_carries_the_life_of_its_stream() {
    insta::assert_snapshot!(
        "later_synced_life",
        hex(&SourceSynced {
            source_id: "north-n8n".into(),
            epoch: 1,
            published_through: 77,
            stream_life: "2026-11-24T12:00:00.5Z".into(),
            ..SourceSynced::default()
        })
    );
}

/// What a sweep reports of a source's clock and of the pushes with its token.
#[test]
fn the_clock_and_the_instances_of_a_source() {
    insta::assert_snapshot!(
        "later_synced_clock",
        hex(&SourceSynced {
            source_id: "north-n8n".into(),
            clock_skew_ms: Some(-300_250),
            clock_measured_at: at(1_795_484_020),
            clock_wrong_since: at(1_795_484_000),
            token_shared_since: at(1_795_484_001),
            instances: vec!["1f2e".into(), "3d4c".into()],
            counted_twice_since: at(1_795_484_002),
            same_instance_sources: vec!["south-n8n".into()],
            ..SourceSynced::default()
        })
    );
}

#[test]
fn what_a_poll_shows_about_pushed_executions() {
    insta::assert_snapshot!(
        "contradicted",
        hex(&SourceContradicted {
            source_id: "north-n8n".into(),
            executions: 10,
            epoch: 1,
            execution_id: "926".into(),
            found_at: at(1_795_484_021),
        })
    );
    let recorded = Recorded {
        mode: ExecutionMode::Manual.into(),
        workflow_id: "w".into(),
        confirmed: true,
        ..Recorded::default()
    };
    insta::assert_snapshot!("later_recorded", hex(&recorded));
    insta::assert_snapshot!(
        "later_unmapped",
        hex(&UnmappedAnswer { executions_held: 3, ..UnmappedAnswer::default() })
    );
}

#[test]
fn archived_tenants_and_zones() {
    let tenant = Tenant { removed: true, archived_at: at(1_796_083_200), ..Tenant::default() };
    let counted = UsageCounted { time_zone: "Europe/Madrid".into(), ..UsageCounted::default() };
    let closed = PeriodClosed { time_zone: "Europe/Madrid".into(), ..PeriodClosed::default() };
    // Field 50 of each: two bytes of key.
    assert_eq!(hex(&tenant), "180192030c08809cb8d8061080898cf501");
    for bytes in [hex(&counted), hex(&closed)] {
        assert_eq!(bytes, format!("92030d{}", "4575726f70652f4d6164726964"));
    }
}

#[test]
fn cloud_events_are_json_for_ever() {
    let namespace = Namespace::default();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let crossed = ThresholdCrossed {
        crossing_id: "0f0e8f2e-6f0c-5b43-9d5c-0d4d6a2f7a55".into(),
        tenant_id: "north".into(),
        period: period(),
        rule: "monthly-executions".into(),
        threshold_percent: 80,
        limit: 400,
        used: 340,
        crossed_at: at(1_795_484_021),
        plan_id: "starter".into(),
        highest_percent: 100,
    };
    insta::assert_snapshot!("cloud_threshold", text(cloud_events::threshold_crossed(&namespace, &crossed)));
    let opened = PeriodOpened { tenant_id: "north".into(), period: period(), opened_at: at(1_793_491_201) };
    insta::assert_snapshot!(
        "cloud_opened",
        text(cloud_events::period_opened(&namespace, "opened:1", &opened))
    );
    let closed = PeriodClosed {
        tenant_id: "north".into(),
        period: period(),
        revision: 12,
        totals: totals(),
        workflows: vec![workflow()],
        workflows_omitted: 3,
        closed_at: at(1_796_083_800),
        incomplete_sources: vec!["north-two".into()],
        plan_id: "starter".into(),
        time_zone: "UTC".into(),
    };
    insta::assert_snapshot!(
        "cloud_closed",
        text(cloud_events::period_closed(&namespace, "closed:1", &closed))
    );
    let late = LateUsage {
        tenant_id: "north".into(),
        period: period(),
        revision: 13,
        totals: totals(),
        found_at: at(1_796_090_000),
    };
    insta::assert_snapshot!("cloud_late", text(cloud_events::late_usage(&namespace, "late:1", &late)));
}
