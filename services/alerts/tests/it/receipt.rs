//! From the topic to the mail.

use proto::{streams::Stream, v1};
use testkit::eventually;

use crate::harness::{Harness, header, tenant};

#[tokio::test]
async fn each_recipient_gets_one_mail_whatever_is_redelivered() {
    let desk = Harness::open(&[tenant("north", "en", &["ops@north.example", "cto@north.example"])]).await;
    for _ in 0..3 {
        desk.cross("north", 80).await;
    }
    desk.mails(2).await;
    for recipient in ["ops@north.example", "cto@north.example"] {
        desk.progress(recipient, "sent").await;
    }
    // The topic is read in order: when the mails of a later crossing are there, the repeats are behind us.
    desk.cross("north", 100).await;
    let mails = desk.mails(4).await;
    let mut recipients: Vec<(&str, &str)> =
        mails.iter().map(|mail| (mail.to[0].as_str(), mail.subject.as_str())).collect();
    recipients.sort_unstable();
    assert_eq!(
        recipients,
        [
            ("cto@north.example", "North has used 100 % of its executions for November 2026"),
            ("cto@north.example", "North has used 80 % of its executions for November 2026"),
            ("ops@north.example", "North has used 100 % of its executions for November 2026"),
            ("ops@north.example", "North has used 80 % of its executions for November 2026"),
        ]
    );
    desk.close().await;
}

#[tokio::test]
async fn each_tenant_is_notified_in_its_language() {
    let north = tenant("north", "en", &["ops@north.example"]);
    let south = tenant("south", "es", &["ops@south.example"]);
    let desk = Harness::open(&[north, south]).await;
    desk.cross("north", 80).await;
    desk.cross("south", 100).await;
    let mails = desk.mails(2).await;
    let to = |address: &str| mails.iter().find(|mail| mail.to == [address]).unwrap();
    let (english, spanish) = (to("ops@north.example"), to("ops@south.example"));
    assert_eq!(english.subject, "North has used 80 % of its executions for November 2026");
    assert_eq!(spanish.subject, "South ha usado el 100 % de sus ejecuciones de noviembre de 2026");
    for body in [&english.text, &english.html] {
        let body = body.as_deref().unwrap();
        assert!(
            body.contains("8,000 of 10,000 executions") && body.contains("https://usage.example.com/"),
            "{body}"
        );
    }
    for body in [&spanish.text, &spanish.html] {
        let body = body.as_deref().unwrap();
        assert!(body.contains("10.000 de 10.000 ejecuciones"), "{body}");
        assert!(
            body.contains("24 de noviembre de 2026 a las 13:00"),
            "noon in UTC is one o'clock in Madrid: {body}"
        );
    }
    desk.close().await;
}

#[tokio::test]
async fn the_headers_say_that_no_person_wrote_it() {
    let desk = Harness::open(&[tenant("north", "en", &["ops@north.example"])]).await;
    desk.cross("north", 80).await;
    let mails = desk.mails(1).await;
    assert_eq!(mails[0].from, "alerts@example.com");
    assert_eq!(header(&mails[0], "Auto-Submitted"), Some("auto-generated"));
    assert_eq!(header(&mails[0], "Date"), Some("Tue, 24 Nov 2026 12:00:00 +0000"));
    assert_eq!(mails[0].message_id.as_deref(), Some("a7e40ae4-30b7-5385-8308-ce27c14413b9@example.com"));
    desk.close().await;
}

#[tokio::test]
async fn a_crossing_may_come_before_its_tenant() {
    let desk = Harness::open(&[]).await;
    desk.cross("north", 80).await;
    let refused = eventually("a delivery that must come again", || async {
        let consumer = proto::consumers::Consumer::ALERTS_THRESHOLDS;
        let mut open = messaging::consume::open(&desk.bench.context.bus, consumer).await.unwrap();
        let info = open.info().await.unwrap();
        (info.num_redelivered > 0).then_some(info.num_ack_pending)
    })
    .await;
    assert_eq!(refused, 1);
    desk.introduce(&tenant("north", "en", &["ops@north.example"])).await;
    assert_eq!(desk.mails(1).await[0].to, ["ops@north.example"]);
    desk.close().await;
}

#[tokio::test]
async fn a_tenant_without_recipients_is_skipped_with_a_reason() {
    let silent = tenant("north", "en", &[]);
    let desk = Harness::open(&[silent, tenant("south", "es", &["ops@south.example"])]).await;
    desk.cross("north", 80).await;
    desk.cross("south", 80).await;
    assert_eq!(desk.mails(1).await[0].to, ["ops@south.example"]);
    // A crossing that came before its tenant is delivered again, after the other one.
    let reasons = eventually("both crossings", || async {
        let reasons: Vec<(String, Option<String>)> =
            sqlx::query_as("SELECT tenant_id, skipped_reason FROM crossings ORDER BY tenant_id")
                .fetch_all(desk.bench.pool())
                .await
                .unwrap();
        (reasons.len() == 2).then_some(reasons)
    })
    .await;
    let skipped = Some("the tenant has no alert recipients".to_owned());
    assert_eq!(reasons, [("north".to_owned(), skipped), ("south".to_owned(), None)]);
    desk.close().await;
}

#[tokio::test]
async fn an_unreadable_message_is_a_dead_letter_and_the_rest_goes_on() {
    let desk = Harness::open(&[tenant("north", "en", &["ops@north.example"])]).await;
    let mut dead = desk.bench.topic::<v1::DeadLetter>(Stream::Dead, "dead").await;
    let subject = desk.bench.namespace().usage_threshold("north");
    desk.bench.publish_bytes(subject.clone(), b"not protobuf").await;
    let later = v1::ThresholdCrossed { rule: "weekly".to_owned(), ..crate::harness::crossing("north", 80) };
    desk.bench.publish(subject.clone(), &later).await;
    desk.cross("north", 80).await;
    let letter = dead.next().await;
    assert_eq!((letter.service.as_str(), &letter.original_subject), ("alerts", &subject));
    assert_eq!(letter.original_payload.as_ref(), b"not protobuf");
    assert!(letter.reason.contains("not a ThresholdCrossed"), "{}", letter.reason);
    let letter = dead.next().await;
    assert!(letter.reason.contains("no words for the rule \"weekly\""), "{}", letter.reason);
    assert_eq!(desk.mails(1).await[0].to, ["ops@north.example"]);
    desk.close().await;
}
