//! Notices to the operator.

use std::time::Duration;

use alerts::SPACING;
use catalog::{Entry, Source};
use jiff::SignedDuration;
use proto::{consumers::Consumer, streams::Stream, v1};
use sandbox::mail::Message;
use sqlx::Row;
use testkit::eventually;

use crate::harness::{A_MINUTE, Harness, NOON, tenant};

const SOURCE: &str = "north-n8n";

/// The setting's default.
const FAILING_AFTER: SignedDuration = SignedDuration::from_mins(30);

fn at(text: &str) -> Option<prost_types::Timestamp> {
    Some(proto::timestamp(text.parse().unwrap()))
}

fn gap(first: &str, last: &str) -> v1::SourceGap {
    v1::SourceGap {
        source_id: SOURCE.into(),
        epoch: 1,
        reason: v1::GapReason::PrunedBeforeSeen.into(),
        first_execution_id: first.into(),
        last_execution_id: last.into(),
        found_at: at(NOON),
    }
}

fn failing(failed_at: &str) -> v1::SourceFailing {
    v1::SourceFailing {
        source_id: SOURCE.into(),
        reason: v1::FailureReason::Unauthorized.into(),
        detail: format!("refused at {failed_at}"),
        failing_since: at(NOON),
        failed_at: at(failed_at),
        consecutive_failures: 1,
    }
}

fn synced(ended_at: &str) -> v1::SourceSynced {
    v1::SourceSynced {
        source_id: SOURCE.into(),
        complete_until: at(ended_at),
        sweep_ended_at: at(ended_at),
        ..v1::SourceSynced::default()
    }
}

fn source(paused: bool) -> Source {
    Source::from_wire(v1::Source {
        source_id: SOURCE.into(),
        tenant_id: "north".into(),
        kind: v1::SourceKind::N8n.into(),
        base_url: "https://n8n.north.example".into(),
        sealed_api_key: vec![1_u8; 64].into(),
        paused,
        ..v1::Source::default()
    })
    .unwrap()
}

fn text(mail: &Message) -> &str {
    mail.text.as_deref().unwrap()
}

impl Harness {
    async fn operator() -> Self {
        let desk = Self::with_operator(&["ops@example.com", "cto@example.com"]).await;
        desk.bench.publish_entry(&source(false), 1).await;
        desk
    }

    async fn find_gap(&self, first: &str, last: &str) {
        self.bench.publish(self.bench.namespace().source_gap(SOURCE), &gap(first, last)).await;
    }

    async fn fail(&self, failed_at: &str) {
        self.bench.publish(self.bench.namespace().source_failing(SOURCE), &failing(failed_at)).await;
    }

    async fn sync(&self, message: &v1::SourceSynced) {
        self.bench.publish(self.bench.namespace().source_synced(SOURCE), message).await;
    }

    async fn loop_of(&self, workflow: &str) {
        let detected = v1::LoopDetected {
            tenant_id: "north".into(),
            workflow_id: workflow.into(),
            runs_per_minute: 61,
            usual_runs_per_minute: 3,
            detected_at: at(NOON),
            ..v1::LoopDetected::default()
        };
        let event = v1::admission_event::Event::LoopDetected(detected);
        let event = v1::AdmissionEvent { event: Some(event) };
        self.bench.publish(self.bench.namespace().admission("north"), &event).await;
    }

    /// Waits until everything that was published for `consumer` has been handled.
    async fn read(&self, consumer: Consumer) {
        eventually(&format!("{} has read all", consumer.name()), || async {
            let mut open = messaging::consume::open(&self.bench.context.bus, consumer).await.unwrap();
            let info = open.info().await.unwrap();
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        })
        .await;
    }

    /// Waits until a notice has this many facts.
    async fn gathered(&self, topic: &str, facts: i64) {
        eventually(&format!("{facts} facts of {topic}"), || async {
            let rows =
                sqlx::query("SELECT facts FROM notices WHERE topic = $1 ORDER BY first_at DESC, facts DESC")
                    .bind(topic)
                    .fetch_all(self.bench.pool())
                    .await
                    .unwrap();
            rows.iter().any(|row| row.get::<i64, _>("facts") == facts).then_some(())
        })
        .await;
    }

    /// Waits for this many mails whose senders have reported back: a jump of time would end a lease.
    async fn settled(&self, count: usize) -> Vec<Message> {
        let mails = self.mails(count).await;
        eventually("every sender has reported back", || async {
            let open = self.count("SELECT count(*) FROM notifications WHERE state <> 'sent'").await;
            (open == 0).then_some(())
        })
        .await;
        mails
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.bench.pool()).await.unwrap()
    }
}

#[tokio::test]
async fn gaps_of_an_hour_are_one_mail_to_each_recipient() {
    let desk = Harness::operator().await;
    for _ in 0..3 {
        desk.find_gap("120", "180").await;
        desk.find_gap("99", "99").await;
    }
    desk.read(Consumer::ALERTS_GAPS).await;
    desk.gathered("gap", 2).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.settled(2).await;
    let mut recipients: Vec<&str> = mails.iter().map(|mail| mail.to[0].as_str()).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["cto@example.com", "ops@example.com"]);
    assert_eq!(mails[0].subject, "north-n8n has 2 gaps in its executions");
    assert!(text(&mails[0]).contains("(executions 99 to 180)"), "{}", text(&mails[0]));

    // A repeat opens nothing, and what is found soon after waits for its hour.
    desk.find_gap("120", "180").await;
    desk.find_gap("300", "310").await;
    desk.find_gap("320", "330").await;
    desk.read(Consumer::ALERTS_GAPS).await;
    desk.bench.clock.advance(SPACING - A_MINUTE * 2);
    desk.cross("north", 80).await;
    assert_eq!(desk.settled(3).await.len(), 3, "only the tenant's mail is added before the hour is over");
    desk.bench.clock.advance(A_MINUTE * 2);
    let mails = desk.settled(5).await;
    let later: Vec<&Message> =
        mails.iter().filter(|mail| text(mail).contains("(executions 300 to 330)")).collect();
    assert_eq!((mails.len(), later.len()), (5, 2));
    assert_eq!(later[0].subject, "north-n8n has 2 gaps in its executions");
    desk.close().await;
}

#[tokio::test]
async fn a_failure_that_lasts_is_reported_once_and_so_is_its_end() {
    let desk = Harness::operator().await;
    desk.fail("2026-11-24T12:00:00Z").await;
    desk.gathered("failing", 1).await;
    desk.bench.clock.advance(FAILING_AFTER - A_MINUTE);
    desk.fail("2026-11-24T12:29:00Z").await;
    desk.read(Consumer::ALERTS_FAILING).await;
    assert_eq!(desk.count("SELECT count(*) FROM notices WHERE sealed_at IS NOT NULL").await, 0);
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.settled(2).await;
    assert_eq!(mails[0].subject, "north-n8n cannot be swept");
    assert!(
        text(&mails[0]).contains("refused at 2026-11-24T12:29:00Z"),
        "the last detail: {}",
        text(&mails[0])
    );
    desk.fail("2026-11-24T12:40:00Z").await;
    desk.bench.clock.advance(SPACING);
    desk.sync(&synced("2026-11-24T12:50:00Z")).await;
    desk.sync(&synced("2026-11-24T13:00:00Z")).await;
    // It is over, and a late repeat does not reopen it.
    desk.read(Consumer::ALERTS_SYNCED).await;
    desk.fail("2026-11-24T12:40:00Z").await;
    desk.read(Consumer::ALERTS_FAILING).await;
    let mails = desk.settled(4).await;
    assert_eq!(mails[3].subject, "north-n8n is swept again");
    desk.bench.clock.advance(SPACING);
    let topics: Vec<String> = sqlx::query_scalar("SELECT topic FROM notices ORDER BY topic")
        .fetch_all(desk.bench.pool())
        .await
        .unwrap();
    assert_eq!(topics, ["failing", "recovered"]);
    assert_eq!(desk.settled(4).await.len(), 4);
    desk.close().await;
}

#[tokio::test]
async fn a_short_failure_is_not_reported() {
    let desk = Harness::operator().await;
    desk.fail("2026-11-24T12:00:00Z").await;
    desk.gathered("failing", 1).await;
    desk.sync(&synced("2026-11-24T12:10:00Z")).await;
    eventually("nothing left to report", || async {
        (desk.count("SELECT count(*) FROM notices").await == 0).then_some(())
    })
    .await;
    // The topics arrive in any order.
    desk.fail("2026-11-24T12:05:00Z").await;
    desk.read(Consumer::ALERTS_FAILING).await;
    assert_eq!(desk.count("SELECT count(*) FROM notices").await, 0);
    desk.close().await;
}

#[tokio::test]
async fn a_paused_source_does_not_fail() {
    let desk = Harness::operator().await;
    desk.fail("2026-11-24T12:00:00Z").await;
    desk.gathered("failing", 1).await;
    desk.bench.publish_entry(&source(true), 2).await;
    desk.read(Consumer::ALERTS_CATALOG).await;
    desk.bench.clock.advance(FAILING_AFTER);
    eventually("nothing left to report", || async {
        (desk.count("SELECT count(*) FROM notices").await == 0).then_some(())
    })
    .await;
    desk.close().await;
}

#[tokio::test]
async fn an_expected_loss_is_reported_once_a_day() {
    let desk = Harness::operator().await;
    let ahead = |ended_at, loss_expected_at: &str| v1::SourceSynced {
        loss_expected_at: at(loss_expected_at),
        ..synced(ended_at)
    };
    desk.sync(&ahead("2026-11-24T12:00:00Z", "2026-11-24T12:07:00Z")).await;
    let mails = desk.settled(2).await;
    assert_eq!(mails[0].subject, "north-n8n is about to lose executions");
    assert!(text(&mails[0]).contains("about 24 November 2026, 12:07 UTC"), "{}", text(&mails[0]));
    desk.sync(&ahead("2026-11-24T12:10:00Z", "2026-11-24T12:17:00Z")).await;
    desk.sync(&ahead("2026-11-25T00:10:00Z", "2026-11-25T00:17:00Z")).await;
    let mails = desk.settled(4).await;
    assert!(text(&mails[3]).contains("about 25 November 2026, 00:17 UTC"), "{}", text(&mails[3]));
    assert_eq!(desk.count("SELECT count(*) FROM notices").await, 2);
    desk.close().await;
}

#[tokio::test]
async fn each_problem_of_a_source_is_one_mail_until_it_is_fixed() {
    let desk = Harness::operator().await;
    let unsound = |ended_at, since: &str| v1::SourceSynced {
        clock_skew_ms: Some(300_250),
        clock_wrong_since: at(since),
        ..synced(ended_at)
    };
    let everything = |ended_at| v1::SourceSynced {
        token_shared_since: at(NOON),
        instances: vec!["1f2e".into(), "3d4c".into()],
        counted_twice_since: at(NOON),
        same_instance_sources: vec!["south-n8n".into()],
        ..unsound(ended_at, NOON)
    };
    desk.sync(&everything("2026-11-24T12:00:01Z")).await;
    desk.sync(&everything("2026-11-24T12:00:31Z")).await;
    for topic in ["clock", "token", "twice"] {
        desk.gathered(topic, 1).await;
    }
    desk.bench.clock.advance(A_MINUTE);
    // Three, to two recipients each.
    let mails = desk.settled(6).await;
    let mail = |subject: &str| mails.iter().find(|mail| mail.subject == subject).unwrap();
    let clock = mail("The clock of north-n8n is 5m ahead");
    assert!(text(clock).contains("Set the clock of that machine by NTP"), "{}", text(clock));
    assert!(text(mail("Several n8n push as north-n8n")).contains("1f2e, 3d4c"));
    assert!(text(mail("The n8n of north-n8n is metered more than once")).contains("south-n8n"));

    // Hours later it is still not fixed; then it is fixed, and then it breaks again.
    desk.bench.clock.advance(SignedDuration::from_hours(2));
    desk.sync(&everything("2026-11-24T14:01:00Z")).await;
    desk.sync(&synced("2026-11-24T14:02:00Z")).await;
    // Fixed before anybody was notified.
    desk.sync(&unsound("2026-11-24T14:03:00Z", "2026-11-24T14:03:00Z")).await;
    desk.sync(&synced("2026-11-24T14:04:00Z")).await;
    desk.read(Consumer::ALERTS_SYNCED).await;
    assert_eq!(desk.count("SELECT count(*) FROM notices").await, 3, "it is withdrawn");
    desk.sync(&unsound("2026-11-24T14:05:00Z", "2026-11-24T14:05:00Z")).await;
    desk.read(Consumer::ALERTS_SYNCED).await;
    desk.bench.clock.advance(A_MINUTE);
    desk.settled(8).await;
    assert_eq!(desk.count("SELECT count(*) FROM notices").await, 4);
    desk.close().await;
}

#[tokio::test]
async fn a_burst_of_dead_letters_is_one_mail_with_the_first_reason() {
    let desk = Harness::operator().await;
    let subject = desk.bench.namespace().dead("billing");
    for number in 0..120 {
        let letter = v1::DeadLetter {
            service: "billing".into(),
            original_subject: "flowmeter.v1.usage.period.north".into(),
            original_payload: vec![number].into(),
            reason: format!("no tenant {number}"),
            failed_at: at(NOON),
            ..v1::DeadLetter::default()
        };
        desk.bench.publish(subject.clone(), &letter).await;
    }
    desk.gathered("dead", 120).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.settled(2).await;
    assert_eq!(mails[0].subject, "billing could not handle 120 messages");
    assert!(text(&mails[0]).contains("The reason of the first: no tenant 0."), "{}", text(&mails[0]));
    desk.close().await;
}

#[tokio::test]
async fn failed_reports_and_drift_are_reported() {
    let desk = Harness::operator().await;
    let subject = desk.bench.namespace().billing("north");
    let period = Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") });
    let failed = v1::ReportFailed {
        tenant_id: "north".into(),
        period,
        identifier: "live-north-3".into(),
        quantity: 12,
        reason: "Stripe does not know the customer".into(),
        failed_at: at(NOON),
    };
    let drift = v1::DriftFound {
        tenant_id: "north".into(),
        period,
        billable: 10,
        stripe_total: 12,
        found_at: at(NOON),
    };
    let reported = v1::UsageReported { tenant_id: "north".into(), ..v1::UsageReported::default() };
    for event in [
        v1::billing_event::Event::Reported(reported),
        v1::billing_event::Event::Failed(failed),
        v1::billing_event::Event::Drift(drift),
    ] {
        let event = v1::BillingEvent { event: Some(event) };
        desk.bench.publish(subject.clone(), &event).await;
        desk.bench.publish(subject.clone(), &event).await;
    }
    desk.read(Consumer::ALERTS_BILLING).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.settled(4).await;
    let mut subjects: Vec<&str> = mails.iter().map(|mail| mail.subject.as_str()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    assert_eq!(subjects, ["A report to Stripe about north has failed", "Stripe counts otherwise for north"]);
    desk.close().await;
}

#[tokio::test]
async fn the_operator_is_notified_in_its_language() {
    let desk = Harness::closed().await;
    let mut settings = desk.settings();
    settings.operator_recipients = vec!["ops@example.com".into()];
    settings.operator_language = catalog::Language::Spanish;
    settings.operator_failing_after = Duration::ZERO;
    desk.serve_with(settings).await;
    desk.find_gap("120", "180").await;
    desk.gathered("gap", 1).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.settled(1).await;
    assert_eq!(mails[0].subject, "north-n8n tiene un hueco en sus ejecuciones");
    desk.close().await;
}

#[tokio::test]
async fn without_recipients_the_facts_are_kept_and_nobody_is_notified() {
    let desk = Harness::open(&[tenant("north", "en", &["ops@north.example"])]).await;
    desk.find_gap("120", "180").await;
    desk.gathered("gap", 1).await;
    desk.bench.clock.advance(A_MINUTE);
    let reason = eventually("the notice is sealed", || async {
        sqlx::query_scalar::<_, Option<String>>(
            "SELECT skipped_reason FROM notices WHERE sealed_at IS NOT NULL",
        )
        .fetch_optional(desk.bench.pool())
        .await
        .unwrap()
    })
    .await;
    assert_eq!(reason.as_deref(), Some("there are no operator recipients"));
    desk.cross("north", 80).await;
    assert_eq!(desk.settled(1).await.len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn a_restart_reports_nothing_twice() {
    let mut desk = Harness::operator().await;
    desk.find_gap("120", "180").await;
    desk.gathered("gap", 1).await;
    desk.bench.restart().await;
    desk.find_gap("120", "180").await;
    desk.bench.clock.advance(A_MINUTE);
    desk.serve_operator(&["ops@example.com", "cto@example.com"]).await;
    let mails = desk.settled(2).await;
    desk.read(Consumer::ALERTS_GAPS).await;
    assert_eq!(mails[0].subject, "north-n8n has a gap in its executions");
    assert_eq!(desk.count("SELECT count(*) FROM notifications").await, 2);
    desk.close().await;
}

#[tokio::test]
async fn an_invalid_message_is_a_dead_letter_and_reported_as_such() {
    let desk = Harness::operator().await;
    let mut dead = desk.bench.topic::<v1::DeadLetter>(Stream::Dead, "dead").await;
    let subject = desk.bench.namespace().source_gap(SOURCE);
    desk.bench.publish(subject, &v1::SourceGap { found_at: None, ..gap("1", "2") }).await;
    let letter = dead.next().await;
    assert!(letter.reason.contains("not a fact for the operator"), "{}", letter.reason);
    desk.gathered("dead", 1).await;
    desk.bench.clock.advance(A_MINUTE);
    assert_eq!(desk.settled(2).await[0].subject, "alerts could not handle a message");
    desk.close().await;
}

#[tokio::test]
async fn a_loop_is_reported_once_however_often_its_event_comes() {
    let desk = Harness::operator().await;
    for _ in 0..3 {
        desk.loop_of("orderSync").await;
    }
    desk.read(Consumer::ALERTS_LOOPS).await;
    desk.gathered("loop", 1).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.settled(2).await;
    assert!(mails.iter().all(|mail| text(mail).contains("orderSync") && text(mail).contains("61")));

    // Another workflow of the tenant is another detection: reported after the hour between two mails.
    desk.loop_of("orderSync").await;
    desk.loop_of("invoices").await;
    desk.read(Consumer::ALERTS_LOOPS).await;
    desk.gathered("loop", 1).await;
    desk.bench.clock.advance(SPACING);
    let mails = desk.settled(4).await;
    let of_the_other = mails.iter().filter(|mail| text(mail).contains("invoices")).count();
    assert_eq!(of_the_other, 2);
    assert_eq!(desk.count("SELECT count(*) FROM notices WHERE topic = 'loop'").await, 2);
    desk.close().await;
}

#[tokio::test]
async fn a_source_that_contradicts_its_pushes_is_reported_once_a_step() {
    let desk = Harness::operator().await;
    let found = |executions| v1::SourceContradicted {
        source_id: SOURCE.into(),
        executions,
        epoch: 1,
        execution_id: "926".into(),
        found_at: at(NOON),
    };
    let subject = desk.bench.namespace().source_contradicted(SOURCE);
    for _ in 0..3 {
        desk.bench.publish(subject.clone(), &found(10)).await;
    }
    desk.read(Consumer::ALERTS_CONTRADICTIONS).await;
    desk.gathered("contradicted", 1).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.settled(2).await;
    assert!(mails.iter().all(|mail| text(mail).contains("926") && text(mail).contains("push-token")));

    desk.bench.publish(subject, &found(100)).await;
    desk.read(Consumer::ALERTS_CONTRADICTIONS).await;
    desk.gathered("contradicted", 1).await;
    desk.bench.clock.advance(SPACING);
    let mails = desk.settled(4).await;
    assert_eq!(mails.iter().filter(|mail| text(mail).contains("100")).count(), 2);
    desk.close().await;
}
