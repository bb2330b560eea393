//! A row that cannot be read does not affect the others.

use proto::v1;
use sqlx::Row;
use testkit::eventually;

use crate::harness::{A_MINUTE, Harness, NOON, tenant};
use sandbox::mail::MailFault;

const NORTH: &str = "ops@north.example";
const SOUTH: &str = "ops@south.example";

impl Harness {
    async fn run(&self, statement: &'static str) {
        let outcome = sqlx::query(statement).execute(self.bench.pool()).await.unwrap();
        assert_eq!(outcome.rows_affected(), 1, "{statement}");
    }

    async fn find_gap_at(&self, source: &str, first: &str) {
        let gap = v1::SourceGap {
            source_id: source.into(),
            epoch: 1,
            first_execution_id: first.into(),
            last_execution_id: first.into(),
            found_at: Some(proto::timestamp(NOON.parse().unwrap())),
            ..v1::SourceGap::default()
        };
        self.bench.publish(self.bench.namespace().source_gap(source), &gap).await;
    }

    async fn has_open_notice_of(&self, source: &str) {
        eventually(&format!("a notice of {source} gathers facts"), || async {
            sqlx::query("SELECT FROM notices WHERE subject = $1 AND sealed_at IS NULL")
                .bind(source)
                .fetch_optional(self.bench.pool())
                .await
                .unwrap()
        })
        .await;
    }
}

#[tokio::test]
async fn a_damaged_crossing_does_not_stop_other_mail() {
    let desk = Harness::open(&[tenant("north", "en", &[NORTH]), tenant("south", "en", &[SOUTH])]).await;
    desk.sandbox.mail().fault(MailFault::Reject451, Some(2));
    desk.cross("north", 80).await;
    desk.cross("south", 80).await;
    desk.progress(NORTH, "retrying").await;
    desk.progress(SOUTH, "retrying").await;
    desk.run("UPDATE crossings SET language = 'xx' WHERE tenant_id = 'north'").await;
    desk.bench.clock.advance(A_MINUTE);
    desk.progress(SOUTH, "sent").await;
    let reason = desk.progress(NORTH, "failed").await.reason.unwrap();
    assert!(reason.contains("cannot be read") && reason.contains("language"), "{reason}");
    desk.close().await;
}

#[tokio::test]
async fn a_damaged_notification_does_not_stop_other_mail() {
    let desk = Harness::open(&[tenant("north", "en", &[NORTH]), tenant("south", "en", &[SOUTH])]).await;
    desk.sandbox.mail().fault(MailFault::Reject451, Some(2));
    desk.cross("north", 80).await;
    desk.cross("south", 80).await;
    desk.progress(NORTH, "retrying").await;
    desk.progress(SOUTH, "retrying").await;
    desk.run("UPDATE notifications SET attempts = -7 WHERE recipient = 'ops@north.example'").await;
    desk.bench.clock.advance(A_MINUTE);
    desk.progress(SOUTH, "sent").await;
    assert!(desk.progress(NORTH, "failed").await.reason.unwrap().contains("attempts"));
    desk.close().await;
}

#[tokio::test]
async fn a_damaged_notice_does_not_stop_the_operators_mail() {
    let desk = Harness::with_operator(&["ops@example.com"]).await;
    desk.find_gap_at("bad-n8n", "1").await;
    desk.has_open_notice_of("bad-n8n").await;
    desk.run("UPDATE notices SET value = '\\xff' WHERE subject = 'bad-n8n'").await;
    desk.find_gap_at("good-n8n", "5").await;
    desk.has_open_notice_of("good-n8n").await;
    desk.bench.clock.advance(A_MINUTE);
    assert_eq!(desk.mails(1).await[0].subject, "good-n8n has a gap in its executions");
    let row = sqlx::query(
        "SELECT sealed_at IS NOT NULL AS sealed, skipped_reason FROM notices WHERE subject = 'bad-n8n'",
    )
    .fetch_one(desk.bench.pool())
    .await
    .unwrap();
    let reason: String = row.get("skipped_reason");
    assert!(row.get::<bool, _>("sealed") && reason.contains("cannot be read"), "{reason}");
    desk.close().await;
}

#[tokio::test]
async fn a_damaged_notice_does_not_swallow_what_is_found_after_it() {
    let desk = Harness::with_operator(&["ops@example.com"]).await;
    desk.find_gap_at("bad-n8n", "1").await;
    desk.has_open_notice_of("bad-n8n").await;
    desk.run("UPDATE notices SET value = '\\xff' WHERE subject = 'bad-n8n'").await;
    desk.find_gap_at("bad-n8n", "9").await;
    eventually("the damaged one is set aside", || async {
        sqlx::query("SELECT FROM notices WHERE subject = 'bad-n8n' AND skipped_reason IS NOT NULL")
            .fetch_optional(desk.bench.pool())
            .await
            .unwrap()
    })
    .await;
    desk.has_open_notice_of("bad-n8n").await;
    desk.bench.clock.advance(alerts::SPACING + A_MINUTE);
    let mails = desk.mails(1).await;
    assert!(mails[0].text.as_deref().unwrap().contains(" as 9,"), "{:?}", mails[0].text);
    desk.close().await;
}
