//! What the mail server may do, and what a crash may leave behind.

use std::collections::BTreeSet;

use alerts::{Alerts, Event, Mailer, Settings, deliver::LEASE, schedule::ATTEMPTS_MAX, store};
use chassis::Service;
use jiff::SignedDuration;
use sandbox::mail::MailFault;

use crate::harness::{A_MINUTE, Harness, tenant};

const OPS: &str = "ops@north.example";

fn north() -> catalog::Tenant {
    tenant("north", "en", &[OPS])
}

#[tokio::test]
async fn a_mail_that_is_refused_for_now_is_sent_later() {
    let desk = Harness::open(&[north()]).await;
    desk.sandbox.mail().fault(MailFault::Reject451, Some(1));
    desk.cross("north", 80).await;
    let progress = desk.progress(OPS, "retrying").await;
    assert_eq!(progress.attempts, 1);
    assert_eq!(
        progress.reason.as_deref(),
        Some("the mail server did not take it: transient error (451): 4.3.0 try again later")
    );
    assert_eq!(desk.sandbox.mail().messages().len(), 0);
    desk.bench.clock.advance(A_MINUTE);
    let progress = desk.progress(OPS, "sent").await;
    assert_eq!((progress.attempts, progress.reason), (2, None));
    assert_eq!(desk.mails(1).await.len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_fails_with_the_servers_words() {
    let desk = Harness::open(&[north()]).await;
    desk.sandbox.mail().fault(MailFault::Reject550, Some(1));
    desk.cross("north", 80).await;
    let progress = desk.progress(OPS, "failed").await;
    assert_eq!(progress.attempts, 1);
    let reason = progress.reason.unwrap();
    assert!(reason.contains("550") && reason.contains("no such mailbox"), "{reason}");
    // Days later another crossing is mailed, and this one still is not.
    desk.bench.clock.advance(SignedDuration::from_hours(72));
    desk.cross("north", 100).await;
    let mails = desk.mails(1).await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject.contains("100 %"));
    desk.close().await;
}

#[tokio::test]
async fn a_recipient_that_is_refused_does_not_block_the_other() {
    for fault in [MailFault::Reject451, MailFault::Reject550] {
        let desk = Harness::open(&[tenant("north", "en", &["gone@north.example", OPS])]).await;
        desk.sandbox.mail().fault_for("gone@north.example", fault, None);
        desk.cross("north", 80).await;
        let mails = desk.mails(1).await;
        assert_eq!((mails.len(), &mails[0].to[..]), (1, &[OPS.to_owned()][..]));
        let state = if fault == MailFault::Reject550 { "failed" } else { "retrying" };
        assert_eq!(desk.progress("gone@north.example", state).await.attempts, 1);
        desk.close().await;
    }
}

#[tokio::test]
async fn a_lost_answer_sends_the_same_mail_again() {
    let desk = Harness::open(&[north()]).await;
    desk.sandbox.mail().fault(MailFault::DropAfterData, Some(1));
    desk.cross("north", 80).await;
    desk.progress(OPS, "retrying").await;
    desk.bench.clock.advance(A_MINUTE);
    desk.progress(OPS, "sent").await;
    let mails = desk.mails(2).await;
    assert_eq!(mails.len(), 2);
    assert!(mails[0].message_id.is_some());
    assert_eq!(mails[0].message_id, mails[1].message_id);
    assert_eq!((&mails[0].headers, &mails[0].html), (&mails[1].headers, &mails[1].html));
    desk.close().await;
}

#[tokio::test]
async fn a_restart_continues_where_it_stopped() {
    let mut desk = Harness::open(&[north()]).await;
    desk.sandbox.mail().fault(MailFault::Reject451, None);
    desk.cross("north", 80).await;
    desk.progress(OPS, "retrying").await;
    desk.bench.restart().await;
    desk.sandbox.mail().clear_faults();
    desk.bench.clock.advance(A_MINUTE);
    desk.cross("north", 80).await;
    desk.serve().await;
    desk.progress(OPS, "sent").await;
    desk.cross("north", 100).await;
    let subjects: BTreeSet<String> = desk.mails(2).await.into_iter().map(|mail| mail.subject).collect();
    assert_eq!(subjects.len(), 2, "one mail for each crossing: {subjects:?}");
    desk.close().await;
}

#[tokio::test]
async fn a_crash_after_the_send_sends_again_when_the_lease_has_ended() {
    let mut desk = Harness::open(&[north()]).await;
    desk.sandbox.mail().fault(MailFault::Reject451, Some(1));
    desk.cross("north", 80).await;
    desk.progress(OPS, "retrying").await;
    desk.bench.restart().await;
    desk.bench.clock.advance(A_MINUTE);
    // A sender that claims and sends, and dies before it reports.
    let claimed = store::claim(desk.bench.pool(), desk.now(), LEASE, 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let settings = desk.settings();
    let mailer = Mailer::new(settings.smtp_url.as_ref(), settings.from).unwrap();
    mailer.send(&claimed[0].cause, &claimed[0].recipient, &claimed[0].message_id).await.unwrap();

    desk.serve().await;
    desk.introduce(&tenant("south", "en", &["ops@south.example"])).await;
    desk.cross("south", 100).await;
    assert_eq!(desk.mails(2).await.len(), 2, "the lease has not ended: only the other crossing is mailed");
    desk.bench.clock.advance(SignedDuration::try_from(LEASE).unwrap());
    let mails = desk.mails(3).await;
    assert_eq!(mails[2].message_id, mails[0].message_id);
    assert_eq!(mails[2].text, mails[0].text);
    let late = store::Outcome { event: Event::Refused, now: desk.now(), due_at: None, reason: Some("late") };
    assert!(
        !store::settle(desk.bench.pool(), &claimed[0], &late).await.unwrap(),
        "the dead sender's report is ignored"
    );
    desk.close().await;
}

#[tokio::test]
async fn an_unavailable_mail_server_is_waited_for() {
    let desk = Harness::closed().await;
    let mut settings = desk.settings();
    // A port that was free a moment ago, and that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.smtp_url = Some(format!("smtp://{}", listener.local_addr().unwrap()).into());
    drop(listener);
    Alerts::start(desk.bench.context.clone(), settings).await.unwrap();
    desk.introduce(&north()).await;
    desk.cross("north", 80).await;
    let progress = desk.progress(OPS, "retrying").await;
    assert!(progress.reason.unwrap().contains("Connection error"));
    desk.close().await;
}

#[tokio::test]
async fn without_a_mail_server_mails_wait_for_one() {
    let mut desk = Harness::closed().await;
    desk.serve_with(Settings { smtp_url: None, ..desk.settings() }).await;
    desk.introduce(&north()).await;
    desk.cross("north", 80).await;
    let progress = desk.progress(OPS, "retrying").await;
    assert!(progress.reason.unwrap().contains("alerts.smtp_url"));

    desk.bench.restart().await;
    desk.serve().await;
    desk.bench.clock.advance(A_MINUTE);
    desk.progress(OPS, "sent").await;
    assert_eq!(desk.mails(1).await.len(), 1);
    desk.close().await;
}

#[tokio::test]
async fn attempts_are_bounded_also_by_crashes() {
    const CRASHED: &str = "cto@north.example";
    let mut desk = Harness::open(&[tenant("north", "en", &[OPS, CRASHED])]).await;
    desk.sandbox.mail().fault(MailFault::Reject451, None);
    desk.cross("north", 80).await;
    desk.progress(OPS, "retrying").await;
    desk.progress(CRASHED, "retrying").await;
    desk.bench.restart().await;
    let last = i32::try_from(ATTEMPTS_MAX).unwrap();
    for (recipient, state, attempts) in [(OPS, "retrying", last - 1), (CRASHED, "sending", last)] {
        sqlx::query("UPDATE notifications SET state = $1, attempts = $2 WHERE recipient = $3")
            .bind(state)
            .bind(attempts)
            .bind(recipient)
            .execute(desk.bench.pool())
            .await
            .unwrap();
    }
    desk.bench.clock.advance(A_MINUTE);
    desk.serve().await;
    let refused = desk.progress(OPS, "failed").await;
    assert_eq!(refused.attempts, last);
    assert!(refused.reason.unwrap().contains("451"));
    let silent = desk.progress(CRASHED, "failed").await;
    assert!(silent.reason.unwrap().contains("did not report back"));
    desk.close().await;
}

#[tokio::test]
async fn two_senders_never_take_the_same_mail() {
    let desk = Harness::closed().await;
    desk.serve().await;
    desk.sandbox.mail().fault(MailFault::Reject451, None);
    let recipients: Vec<String> = (0..20).map(|n| format!("ops{n}@north.example")).collect();
    let names: Vec<&str> = recipients.iter().map(String::as_str).collect();
    desk.introduce(&tenant("north", "en", &names)).await;
    desk.cross("north", 80).await;
    for name in &names {
        desk.progress(name, "retrying").await;
    }
    desk.bench.context.tasks.stop().await;
    desk.bench.clock.advance(A_MINUTE);
    let (pool, at) = (desk.bench.pool(), desk.now());
    let claims = tokio::join!(
        store::claim(pool, at, LEASE, 12),
        store::claim(pool, at, LEASE, 12),
        store::claim(pool, at, LEASE, 12),
    );
    let ids: Vec<i64> =
        [claims.0, claims.1, claims.2].into_iter().flat_map(Result::unwrap).map(|mail| mail.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert_eq!(ids.len(), 20);
    desk.close().await;
}
