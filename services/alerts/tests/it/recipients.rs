//! Recipients that a mail server refuses, and those whose names go beyond ASCII.

use jiff::SignedDuration;
use proto::v1;
use sandbox::mail::MailFault;
use testkit::eventually;

use crate::harness::{A_MINUTE, Harness, NOON, header, tenant};

const OPERATOR: &str = "ops@example.com";
const GONE: &str = "gone@rej.example";

impl Harness {
    async fn count_of(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.bench.pool()).await.unwrap()
    }

    /// Waits until this many mails will not be sent.
    async fn failed(&self, count: i64) {
        eventually(&format!("{count} mails have failed"), || async {
            let failed = self.count_of("SELECT count(*) FROM notifications WHERE state = 'failed'").await;
            (failed == count).then_some(())
        })
        .await;
    }

    async fn find_a_gap(&self, first: &str) {
        let gap = v1::SourceGap {
            source_id: "north-n8n".into(),
            epoch: 1,
            first_execution_id: first.into(),
            last_execution_id: first.into(),
            found_at: Some(proto::timestamp(NOON.parse().unwrap())),
            ..v1::SourceGap::default()
        };
        self.bench.publish(self.bench.namespace().source_gap("north-n8n"), &gap).await;
    }
}

#[tokio::test]
async fn the_operator_is_notified_once_a_day_of_a_refused_recipient() {
    let desk = Harness::with_operator(&[OPERATOR]).await;
    desk.introduce(&tenant("rej", "en", &[GONE])).await;
    desk.sandbox.mail().fault_for(GONE, MailFault::Reject550, None);
    desk.cross("rej", 80).await;
    desk.failed(1).await;
    desk.cross("rej", 100).await;
    desk.failed(2).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.mails(1).await;
    assert_eq!(mails[0].subject, "Mail to gone@rej.example cannot be delivered");
    assert!(mails[0].text.as_deref().unwrap().contains("no such mailbox"), "{:?}", mails[0].text);

    // The next day, and not before.
    desk.bench.clock.advance(SignedDuration::from_hours(24));
    desk.cross("rej", 120).await;
    desk.failed(3).await;
    desk.bench.clock.advance(A_MINUTE);
    assert_eq!(desk.mails(2).await.len(), 2);
    desk.close().await;
}

#[tokio::test]
async fn refused_recipients_of_an_hour_are_one_mail() {
    let desk = Harness::with_operator(&[OPERATOR]).await;
    let names: Vec<String> = (0..15).map(|n| format!("gone{n}@rej.example")).collect();
    let recipients: Vec<&str> = names.iter().map(String::as_str).collect();
    desk.introduce(&tenant("rej", "en", &recipients)).await;
    desk.sandbox.mail().fault(MailFault::Reject550, Some(15));
    desk.cross("rej", 80).await;
    desk.failed(15).await;
    desk.bench.clock.advance(A_MINUTE);
    let mail = &desk.mails(1).await[0];
    assert_eq!(mail.subject, "Mail to 15 recipients cannot be delivered");
    for name in &recipients {
        assert!(mail.text.as_deref().unwrap().contains(name), "{name}");
    }
    desk.close().await;
}

#[tokio::test]
async fn a_refused_address_of_the_operator_causes_no_loop() {
    let desk = Harness::with_operator(&[OPERATOR, "cto@example.com"]).await;
    desk.sandbox.mail().fault_for("cto@example.com", MailFault::Reject550, None);
    desk.find_a_gap("7").await;
    eventually("the gap is gathered", || async {
        (desk.count_of("SELECT count(*) FROM notices").await == 1).then_some(())
    })
    .await;
    desk.bench.clock.advance(A_MINUTE);
    desk.failed(1).await;
    desk.bench.clock.advance(A_MINUTE);
    let mails = desk.mails(2).await;
    let about_cto = mails.iter().filter(|mail| mail.subject.contains("cto@example.com")).count();
    assert_eq!((mails.len(), about_cto), (2, 1));
    // Only the other address is notified of it.
    assert!(mails.iter().all(|mail| mail.to == [OPERATOR]), "{mails:?}");
    assert_eq!(
        desk.count_of("SELECT count(*) FROM notifications WHERE recipient = 'cto@example.com'").await,
        1
    );
    desk.close().await;
}

#[tokio::test]
async fn an_operator_whose_only_address_is_refused_causes_no_loop() {
    let desk = Harness::with_operator(&[OPERATOR]).await;
    desk.sandbox.mail().fault_for(OPERATOR, MailFault::Reject550, None);
    desk.find_a_gap("7").await;
    eventually("the gap is gathered", || async {
        (desk.count_of("SELECT count(*) FROM notices").await == 1).then_some(())
    })
    .await;
    desk.bench.clock.advance(A_MINUTE);
    desk.failed(1).await;
    desk.bench.clock.advance(A_MINUTE);
    let skipped = eventually("the notice of it is sealed", || async {
        sqlx::query_scalar::<_, Option<String>>(
            "SELECT skipped_reason FROM notices WHERE topic = 'refused' AND sealed_at IS NOT NULL",
        )
        .fetch_optional(desk.bench.pool())
        .await
        .unwrap()
    })
    .await;
    assert_eq!(skipped.as_deref(), Some("mail to all operator recipients is refused"));
    assert_eq!(desk.count_of("SELECT count(*) FROM notifications").await, 1);
    desk.close().await;
}

#[tokio::test]
async fn a_domain_beyond_ascii_is_sent_to_a_server_without_smtputf8() {
    let desk = Harness::open(&[tenant("north", "en", &["ops@bücher.example", "josé@idn.example"])]).await;
    desk.sandbox.mail().offer_smtputf8(false);
    desk.cross("north", 80).await;
    desk.progress("ops@bücher.example", "sent").await;
    let mails = desk.mails(1).await;
    assert_eq!(mails[0].to, ["ops@xn--bcher-kva.example"]);
    assert_eq!(header(&mails[0], "To"), Some("ops@xn--bcher-kva.example"));
    // An address without an ASCII form fails with a reason that names the server's limitation.
    let reason = desk.progress("josé@idn.example", "failed").await.reason.unwrap();
    assert!(reason.contains("SMTPUTF8"), "{reason}");
    desk.close().await;
}

#[tokio::test]
async fn a_local_part_beyond_ascii_is_sent_if_the_server_accepts_it() {
    let desk = Harness::open(&[tenant("north", "en", &["josé@bücher.example"])]).await;
    desk.cross("north", 80).await;
    desk.progress("josé@bücher.example", "sent").await;
    assert_eq!(desk.mails(1).await[0].to, ["josé@xn--bcher-kva.example"]);
    desk.close().await;
}
