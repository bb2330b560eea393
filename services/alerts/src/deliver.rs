//! Sends due mails, each on its own, until it is accepted or given up.
//!
//! A crash between the server's acceptance and the row's `sent` leaves the row as `sending`. When its lease
//! has ended the mail is sent again, the same bytes under the same `Message-ID`: a mail may arrive twice, and
//! is never lost.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use messaging::{error_chain, trace};
use metering::{Clock, SafeText};
use sqlx::PgPool;
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Cause, Event, Fact, Topic,
    gather::gather_own,
    schedule,
    smtp::Mailer,
    store::{self, Claimed, Outcome},
};

/// Longest reason that is kept, in characters: a mail server may answer at length.
const REASON_CHARS_MAX: usize = 1_000;

/// Mails that this process sends at once, so that a slow recipient does not block the others.
const SENDING_MAX: usize = 16;

/// Interval for polling due mails if nothing wakes the loop; waits are in minutes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a sender may keep a mail without reporting back: well over `smtp::SEND_TIMEOUT`.
pub const LEASE: Duration = Duration::from_secs(180);

/// The reason of a mail whose last sender never reported back.
const NO_REPORT: &str = "all attempts are used up, and the last one did not report back";

/// The delivery loop. Several may run, in one process or in many: each takes mails that no other holds.
#[derive(Clone)]
pub struct Deliver {
    /// Where the mails are.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The mail server.
    pub mailer: Mailer,
    /// Wakes the loop when there is something new.
    pub wake: Arc<Notify>,
}

impl Deliver {
    /// Delivers until `shutdown`, then finishes the mails in progress.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut sending = JoinSet::new();
        while !shutdown.is_cancelled() {
            let free = SENDING_MAX.saturating_sub(sending.len());
            match store::claim(&self.pool, self.clock.now(), LEASE, free).await {
                Ok(claimed) => {
                    for mail in claimed {
                        sending.spawn(self.clone().deliver(mail));
                    }
                }
                Err(error) => tracing::warn!(error = error_chain(&error), "cannot look for due mails"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                // A place is free.
                Some(_) = sending.join_next() => {}
                () = self.wake.notified() => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
        while sending.join_next().await.is_some() {}
    }

    async fn deliver(self, mail: Claimed) {
        let span = tracing::info_span!(
            parent: None,
            "deliver",
            otel.name = "alerts deliver",
            otel.kind = "client",
            notification = mail.id,
            cause = mail.cause.id(),
            attempt = mail.attempt
        );
        trace::continue_from(&span, mail.traceparent.as_deref());
        self.attempt(&mail).instrument(span).await;
    }

    async fn attempt(&self, mail: &Claimed) {
        let (mut event, reason) = if mail.attempt > schedule::ATTEMPTS_MAX {
            (Event::Exhausted, Some(NO_REPORT.to_owned()))
        } else {
            match self.mailer.send(&mail.cause, &mail.recipient, &mail.message_id).await {
                Ok(()) => (Event::Accepted, None),
                Err(error) => {
                    (error.event(), Some(SafeText::clean(&error_chain(&error), REASON_CHARS_MAX).into()))
                }
            }
        };
        let now = self.clock.now();
        let due_at = if event == Event::Deferred { self.next_attempt(mail, now) } else { None };
        if event == Event::Deferred && due_at.is_none() {
            event = Event::Exhausted;
        }
        report(event, reason.as_deref(), &mail.cause);
        let outcome = Outcome { event, now, due_at, reason: reason.as_deref() };
        match self.settle(mail, &outcome).await {
            Ok(true) => {}
            Ok(false) => tracing::info!("the lease of a mail had expired; another sender sends it"),
            // The lease ends by itself, and the mail is sent again.
            Err(error) => tracing::warn!(
                error = error_chain(&error),
                "cannot store the outcome of a mail; it may be sent again"
            ),
        }
    }

    /// Records the outcome of an attempt, and a fact for the operator if the mail will never be sent.
    async fn settle(&self, mail: &Claimed, outcome: &Outcome<'_>) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let is_settled = store::settle(&mut *transaction, mail, outcome).await?;
        // A mail about refused mails is not followed by another one about itself.
        let is_about_refusals =
            matches!(&mail.cause, Cause::Notice(notice) if notice.fact.topic() == Topic::Refused);
        if is_settled && matches!(outcome.event, Event::Refused | Event::Exhausted) && !is_about_refusals {
            let reason = outcome.reason.unwrap_or_default();
            let fact = Fact::refused_mail(&mail.recipient, reason, outcome.now);
            gather_own(&mut transaction, fact, outcome.now).await?;
        }
        transaction.commit().await?;
        Ok(is_settled)
    }

    fn next_attempt(&self, mail: &Claimed, now: Timestamp) -> Option<Timestamp> {
        let wait = schedule::wait_after(mail.attempt, &mail.message_id)?;
        now.checked_add(wait).ok()
    }
}

fn report(event: Event, reason: Option<&str>, cause: &Cause) {
    let outcome = match event {
        Event::Claimed | Event::Superseded => return,
        Event::Accepted => "sent",
        Event::Deferred => "deferred",
        Event::Refused => "refused",
        Event::Exhausted => "exhausted",
    };
    metrics::counter!("flowmeter_mails_total", "outcome" => outcome).increment(1);
    let (tenant, source) = match cause {
        Cause::Crossing(alert) => (Some(alert.tenant.as_str()), None),
        Cause::Notice(notice) => (notice.fact.tenant(), notice.fact.source()),
    };
    match event {
        Event::Refused | Event::Exhausted => {
            tracing::error!(tenant, source, outcome, reason, "a mail will not be sent");
        }
        Event::Deferred => {
            tracing::warn!(tenant, source, outcome, reason, "cannot send a mail; trying again")
        }
        Event::Claimed | Event::Accepted | Event::Superseded => {
            tracing::info!(tenant, source, outcome, "a mail was sent")
        }
    }
}
