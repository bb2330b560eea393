//! Which thresholds are mailed: the highest of a change, none lower after it, and a bounded number in a day.

use std::time::Duration;

use alerts::Settings;
use jiff::SignedDuration;
use proto::v1;
use sandbox::mail::Message;
use testkit::eventually;

use crate::harness::{Harness, crossing, tenant};

const OPS: &str = "ops@north.example";

async fn open() -> Harness {
    Harness::open(&[tenant("north", "en", &[OPS])]).await
}

/// Publishes a threshold that a change has crossed; `highest` is the highest that it has crossed.
async fn cross(desk: &Harness, percent: u32, highest: u32) {
    let message = v1::ThresholdCrossed { highest_percent: highest, ..crossing("north", percent) };
    desk.bench.publish(desk.bench.namespace().usage_threshold("north"), &message).await;
    eventually("it is recorded", || async {
        let recorded: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM crossings WHERE crossing_id = $1)")
                .bind(&message.crossing_id)
                .fetch_one(desk.bench.pool())
                .await
                .unwrap();
        recorded.then_some(())
    })
    .await;
}

/// Waits until nothing is due, and returns the shares that mails have named, in their order.
async fn mailed(desk: &Harness) -> Vec<u32> {
    eventually("all that is due is sent", || async {
        let due: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM notifications
             WHERE state = 'sending' OR (state IN ('pending', 'retrying') AND due_at <= $1)",
        )
        .bind(jiff_sqlx::ToSqlx::to_sqlx(desk.now()))
        .fetch_one(desk.bench.pool())
        .await
        .unwrap();
        (due == 0).then_some(())
    })
    .await;
    desk.sandbox.mail().messages().iter().map(share).collect()
}

fn share(mail: &Message) -> u32 {
    let (_, rest) = mail.subject.split_once("has used ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn of_thresholds_crossed_within_seconds_the_last_is_mailed() {
    let desk = Harness::closed().await;
    desk.serve_with(Settings { warning_delay: Duration::from_secs(10), ..desk.settings() }).await;
    desk.introduce(&tenant("north", "en", &[OPS])).await;
    cross(&desk, 50, 50).await;
    cross(&desk, 80, 80).await;
    assert_eq!(mailed(&desk).await, [0_u32; 0], "a higher one may come");
    desk.bench.clock.advance(SignedDuration::from_secs(5));
    cross(&desk, 100, 100).await;
    assert_eq!(mailed(&desk).await, [100], "the limit's mail waits for nothing");
    desk.bench.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(mailed(&desk).await, [100]);
    desk.bench.finish().await;
}

#[tokio::test]
async fn of_thresholds_that_one_change_crosses_the_highest_is_mailed() {
    let desk = open().await;
    cross(&desk, 80, 100).await;
    cross(&desk, 100, 100).await;
    assert_eq!(mailed(&desk).await, [100]);
    let reasons: Vec<(i32, Option<String>)> =
        sqlx::query_as("SELECT percent, skipped_reason FROM crossings ORDER BY percent")
            .fetch_all(desk.bench.pool())
            .await
            .unwrap();
    let reason = Some("a higher threshold was crossed at the same time".to_owned());
    assert_eq!(reasons, [(80, reason), (100, None)], "the lower one is recorded as passed");
    desk.close().await;
}

#[tokio::test]
async fn a_lower_threshold_is_not_mailed_after_a_higher_one() {
    let desk = open().await;
    cross(&desk, 80, 80).await;
    cross(&desk, 50, 50).await;
    cross(&desk, 100, 100).await;
    assert_eq!(mailed(&desk).await, [80, 100]);
    desk.close().await;
}

#[tokio::test]
async fn ten_thresholds_in_twenty_minutes_are_four_mails_that_name_them_all() {
    let desk = open().await;
    for percent in (1..=10).map(|ten| ten * 10) {
        cross(&desk, percent, percent).await;
        mailed(&desk).await;
        desk.bench.clock.advance(SignedDuration::from_mins(2));
    }
    assert_eq!(mailed(&desk).await, [10, 20, 30, 100], "the limit itself is mailed at once");
    let mails = desk.sandbox.mail().messages();
    let last = mails.last().unwrap().text.as_deref().unwrap();
    let last = last.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(last.contains("On the way it also passed 40 %, 50 %, 60 %, 70 %, 80 % and 90 %."), "{last}");
    desk.bench.clock.advance(SignedDuration::from_hours(30));
    assert_eq!(mailed(&desk).await.len(), 4, "nothing is mailed twice");
    desk.close().await;
}

#[tokio::test]
async fn crossings_that_were_held_back_are_one_mail_when_the_day_is_over() {
    let desk = open().await;
    for percent in [10, 20, 30, 40, 50, 60] {
        cross(&desk, percent, percent).await;
        mailed(&desk).await;
    }
    assert_eq!(mailed(&desk).await, [10, 20, 30]);
    desk.bench.clock.advance(SignedDuration::from_hours(24));
    let mails = desk.mails(4).await;
    let summary = mails.last().unwrap();
    assert_eq!(share(summary), 60);
    let text = summary.text.as_deref().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("On the way it also passed 40 % and 50 %."), "{text}");
    assert_eq!(mailed(&desk).await, [10, 20, 30, 60]);
    desk.close().await;
}
