//! Seals the notices that are due: from then on each is a mail to every recipient of the operator.

use std::{sync::Arc, time::Duration};

use catalog::{Language, Source, store::CatalogError};
use chassis::Rounds;
use messaging::error_chain;
use metering::Clock;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    Fact, Topic,
    notice::Sealed,
    smtp::Mailer,
    store::notices::{self, OpenNotice},
};

/// Interval for polling due notices if nothing wakes the loop.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Notices sealed in one transaction; the rest follows at once.
const NOTICES_PER_ROUND: usize = 50;

/// Why nobody is notified.
const NO_RECIPIENTS: &str = "there are no operator recipients";

/// The same, if the notice is about refused mail to the operator.
const ALL_REFUSED: &str = "mail to all operator recipients is refused";

/// The sealing loop. Several may run: each takes notices that no other holds.
pub struct Seal {
    /// Where the notices are.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Gives the mails their ids.
    pub mailer: Mailer,
    /// Who is notified.
    pub recipients: Vec<String>,
    /// In which language.
    pub language: Language,
    /// The dashboard that mails link to.
    pub dashboard_url: Url,
    /// Wakes this loop.
    pub wake: Arc<Notify>,
    /// Notified when there is something to send.
    pub mails: Arc<Notify>,
}

/// Notices cannot be sealed.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error("cannot seal notices")]
    Store(#[from] sqlx::Error),
    #[error("cannot check whether a source still exists")]
    Catalog(#[from] CatalogError),
}

impl Seal {
    /// Seals until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(POLL_INTERVAL, shutdown);
        while rounds.next_or(self.wake.notified()).await {
            match self.round().await {
                // There may be more.
                Ok(NOTICES_PER_ROUND) => self.wake.notify_one(),
                Ok(_) => {}
                // The facts are kept; the next round finds them.
                Err(error) => tracing::warn!(
                    error = error_chain(&error),
                    "cannot prepare notices to the operator; trying again"
                ),
            }
        }
    }

    async fn round(&self) -> Result<usize, SealError> {
        let mut transaction = self.pool.begin().await?;
        let due = notices::list_due(&mut transaction, self.clock.now(), NOTICES_PER_ROUND).await?;
        for notice in &due {
            if self.still_matters(&mut transaction, notice).await? {
                self.seal(&mut transaction, notice).await?;
            }
        }
        transaction.commit().await?;
        if !due.is_empty() {
            self.mails.notify_one();
        }
        Ok(due.len())
    }

    /// A source that was removed or paused since no longer fails: nobody sweeps it. If it is swept again, its
    /// next failure is reported.
    async fn still_matters(
        &self,
        connection: &mut PgConnection,
        notice: &OpenNotice,
    ) -> Result<bool, SealError> {
        let Fact::Failing(failing) = &notice.fact else { return Ok(true) };
        let source: Option<Source> = match catalog::store::find(&mut *connection, &failing.source_id).await {
            // A source that cannot be read does not keep the other notices waiting.
            Err(CatalogError::Damaged { .. }) => return Ok(true),
            source => source?,
        };
        if source.is_some_and(|source| !source.paused) {
            return Ok(true);
        }
        notices::withdraw(connection, Topic::Failing, &failing.source_id, jiff::Timestamp::MAX).await?;
        Ok(false)
    }

    /// A mail about refused recipients is not sent to these recipients: it would be refused, too.
    fn recipients_of(&self, fact: &Fact) -> Vec<&String> {
        let is_refused = |recipient: &str| matches!(fact, Fact::Refused(refused) if refused.names(recipient));
        self.recipients.iter().filter(|recipient| !is_refused(recipient)).collect()
    }

    async fn seal(&self, connection: &mut PgConnection, notice: &OpenNotice) -> Result<(), SealError> {
        let now = self.clock.now();
        let sealed =
            Sealed { sealed_at: now, language: self.language, dashboard_url: self.dashboard_url.to_string() };
        let recipients = self.recipients_of(&notice.fact);
        let skipped_reason = match (self.recipients.is_empty(), recipients.is_empty()) {
            (true, _) => Some(NO_RECIPIENTS),
            (false, true) => Some(ALL_REFUSED),
            (false, false) => None,
        };
        notices::seal(&mut *connection, &notice.id, &sealed, skipped_reason).await?;
        for recipient in recipients {
            let message_id = self.mailer.message_id(&notice.id, recipient);
            notices::add_notification(&mut *connection, &notice.id, recipient, &message_id, now).await?;
        }
        let topic = notice.fact.topic().as_str();
        let (tenant, source) = (notice.fact.tenant(), notice.fact.source());
        match skipped_reason {
            None => tracing::info!(tenant, source, notice = notice.id, topic, "the operator is notified"),
            Some(reason) => tracing::warn!(
                tenant,
                source,
                notice = notice.id,
                topic,
                reason,
                "a notice has no recipient; nobody is notified"
            ),
        }
        let outcome = if skipped_reason.is_none() { "sealed" } else { "skipped" };
        metrics::counter!("flowmeter_operator_notices_total", "topic" => topic, "outcome" => outcome)
            .increment(1);
        Ok(())
    }
}
