use super::{samples::*, *};

#[test]
fn keys_are_stable_and_unique() {
    let keys: Vec<String> = all().iter().map(Fact::key).collect();
    insta::assert_snapshot!(keys.join("\n"), @r"
    gap/north-n8n/1/120/180
    failing/north-n8n/2026-11-24T11:20:00Z
    recovered/north-n8n/2026-11-24T11:20:00Z
    loss/north-n8n/2026-11-24
    dead/b0bc2347-7645-5520-9114-a801dbd0e3f9
    report/north/live-north-1793491200-3/2026-11-24T12:00:00Z
    drift/north/2026-11-01T00:00:00Z/12400/12520
    loop/north/orderSync/2026-11-24T12:00:00Z
    contradicted/north-n8n/2026-11-24/1204
    clock/north-n8n/2026-11-24T11:50:00Z
    token/north-n8n/2026-11-24T11:51:00Z
    twice/north-n8n/2026-11-24T11:52:00Z
    refused/gone@rej.example/2026-11-24
    ");
}

#[test]
fn the_database_gives_the_same_fact_back() {
    for fact in all() {
        assert_eq!(Topic::parse(fact.topic().as_str()), Some(fact.topic()));
        assert_eq!(Fact::from_bytes(fact.topic(), &fact.to_bytes()).unwrap(), fact);
    }
}

#[test]
fn gaps_are_merged_from_the_lowest_to_the_highest_id() {
    let of = |first, last| Fact::Gap(gap(first, last));
    let vanished = v1::SourceGap { reason: v1::GapReason::OpenExecutionVanished.into(), ..gap("99", "99") };
    let Fact::Gap(all) = of("1000", "1200").and(of("900", "950")) else { panic!("a gap") };
    assert_eq!((all.first_execution_id.as_str(), all.last_execution_id.as_str()), ("900", "1200"));
    assert_eq!(all.reason(), v1::GapReason::PrunedBeforeSeen);
    let Fact::Gap(all) = Fact::Gap(all).and(Fact::Gap(vanished)) else { panic!("a gap") };
    assert_eq!((all.first_execution_id.as_str(), all.reason()), ("99", v1::GapReason::Unspecified));
    let Fact::Gap(all) = Fact::Gap(all).and(of("2000", "")) else { panic!("a gap") };
    assert_eq!(
        (all.first_execution_id.as_str(), all.last_execution_id.as_str()),
        ("99", ""),
        "no end is known"
    );
}

#[test]
fn of_dead_letters_the_first_is_kept_without_its_payload() {
    let later = Fact::Dead(v1::DeadLetter { reason: "another".into(), ..dead() });
    let Fact::Dead(dead_letter) = Fact::Dead(dead()).abridged().and(later) else { panic!("a dead letter") };
    assert_eq!(dead_letter.reason, dead().reason);
    assert!(dead_letter.original_payload.is_empty());
}

#[test]
fn an_invalid_message_is_no_fact() {
    assert!(Fact::gap(v1::SourceGap { found_at: None, ..gap("1", "2") }).is_err());
    assert!(Fact::gap(v1::SourceGap { source_id: "A B".into(), ..gap("1", "2") }).is_err());
    assert!(Fact::failing(v1::SourceFailing { failing_since: None, ..failing() }).is_err());
    assert!(Fact::contradicted(v1::SourceContradicted { found_at: None, ..contradicted() }).is_err());
    assert!(Fact::dead(v1::DeadLetter { failed_at: None, ..dead() }).is_err());
    assert!(Fact::loss(&v1::SourceSynced { sweep_ended_at: None, ..loss() }).is_err());
    let failed = v1::ReportFailed { period: None, ..report() };
    let event = v1::billing_event::Event::Failed(failed);
    assert!(Fact::billing(v1::BillingEvent { event: Some(event) }).is_err());
    for wrong in [
        v1::LoopDetected { detected_at: None, ..looping() },
        v1::LoopDetected { workflow_id: String::new(), ..looping() },
    ] {
        let event = v1::admission_event::Event::LoopDetected(wrong);
        assert!(Fact::admission(v1::AdmissionEvent { event: Some(event) }).is_err());
    }
}

#[test]
fn a_success_is_no_fact() {
    assert_eq!(Fact::loss(&v1::SourceSynced { loss_expected_at: None, ..loss() }), Ok(None));
    let event = v1::billing_event::Event::Reported(v1::UsageReported::default());
    assert_eq!(Fact::billing(v1::BillingEvent { event: Some(event) }), Ok(None));
    assert_eq!(Fact::billing(v1::BillingEvent { event: None }), Ok(None));
    assert_eq!(Fact::admission(v1::AdmissionEvent { event: None }), Ok(None));
}
