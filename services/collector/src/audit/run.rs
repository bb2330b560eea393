//! `flowmeter source audit`: lists a source from its newest row to its oldest, and compares each page with what the
//! aggregator has recorded. Changes nothing. See [`crate::audit::comparison`] for what is compared.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use catalog::{Source, sealing::OpeningKey, store::CatalogError};
use jiff::Timestamp;
use messaging::{
    Bus, PublishError,
    ask::{Answerer, AskError, Refusal},
    error_chain,
};
use metering::{Clock, SourceId};
use proto::{subjects::Question, timestamp, v1};
use sqlx::PgPool;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use crate::{
    audit::comparison::{Compared, Page, Records},
    events::Publisher,
    n8n::{
        client::{Client, Listing, N8n, N8nError, PAGE_ROWS_MAX},
        pages::Pages,
        row::{Row, RunId},
    },
    store,
    sweep::epochs::Epochs,
};

/// Audits of one collector at once: each holds a page and at most [`DIFFERENCES_MAX`] differences.
pub const AUDITS_MAX: usize = 4;

/// Differences that an audit lists; further ones are only counted.
const DIFFERENCES_MAX: usize = 1_000;

/// Interval between progress reports of an audit, in the machine's time.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Longest audit: enough for a million rows.
const AUDIT_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// Time for the aggregator's answer about a page.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers about one page and epoch: five million executions.
const ANSWERS_MAX: usize = 1_000;

/// A page with differences is compared once more after this pause: what was published just now may not be counted yet.
const CONFIRM_PAUSE: Duration = Duration::from_secs(2);

/// Pages that are compared once more; after this many pauses the aggregator is not just briefly behind.
const CONFIRMED_PAGES_MAX: u32 = 30;

/// Answers audit questions, and runs audits in the background.
pub struct Auditor {
    /// Reads sources.
    pub client: Client,
    /// Asks the aggregator.
    pub bus: Bus,
    /// Publishes the audits' progress.
    pub publisher: Publisher,
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Opens API keys.
    pub opening_key: OpeningKey,
    /// Where audits run.
    pub tasks: chassis::Tasks,
    /// Room for [`AUDITS_MAX`] audits.
    pub places: Arc<Semaphore>,
}

/// An audit ended before everything was compared.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error("cannot read the source")]
    Read(#[from] N8nError),
    #[error("cannot read what was recorded")]
    Ask(#[from] AskError),
    #[error("the aggregator's answer about one page does not end")]
    Endless,
    #[error("cannot publish the audit's progress")]
    Publish(#[from] PublishError),
    #[error("the collector's database does not answer")]
    Store(#[from] sqlx::Error),
    #[error("not finished within {AUDIT_TIME_MAX:?}")]
    TooSlow,
    #[error("another audit of this source has begun")]
    Replaced,
    #[error("the source was restored while it was audited; audit it again")]
    Restored,
    #[error("the collector was stopped; audit it again")]
    Stopped,
}

struct Audit {
    source: SourceId,
    id: Uuid,
    n8n: N8n,
    epochs: Epochs,
    complete_until: Timestamp,
    left_out_before: Option<Timestamp>,
    progress: v1::SourceAudit,
    published_at: Instant,
    confirmed_pages: u32,
    _place: OwnedSemaphorePermit,
}

/// Answers [`Question::Audit`].
pub struct AnswerAudit(pub Arc<Auditor>);

#[async_trait]
impl Answerer for AnswerAudit {
    type Question = v1::AuditQuestion;
    type Answer = v1::SourceAudit;

    async fn answer(&self, question: v1::AuditQuestion) -> Result<v1::SourceAudit, Refusal> {
        let source = SourceId::parse(&question.source_id).map_err(Refusal::invalid)?;
        let audit = self.0.begin(source).await?;
        let progress = audit.progress.clone();
        let auditor = self.0.clone();
        self.0.tasks.spawn(async move { auditor.audit(audit).await });
        Ok(progress)
    }
}

impl Auditor {
    async fn begin(&self, source: SourceId) -> Result<Audit, Refusal> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Refusal::conflict(format!("{AUDITS_MAX} audits are running; ask again when one has ended"))
        })?;
        let found = catalog::store::find::<Source>(&self.pool, source.as_str()).await.map_err(unreadable)?;
        let found = found.ok_or_else(|| Refusal::not_found(format!("there is no source {source}")))?;
        let key = self.opening_key.open(&found.api_key).map_err(Refusal::invalid)?;
        let n8n = self
            .client
            .instance(&found.base_url, &key)
            .map_err(|error| Refusal::invalid(error_chain(&error)))?;
        let cursor = store::cursor(&self.pool, &source).await.map_err(unreadable)?;
        let Some(complete_until) = cursor.complete_until.filter(|_| cursor.backlog.is_none()) else {
            return Err(Refusal::conflict(format!(
                "{source} has not been read completely yet; ask again later"
            )));
        };
        let id = Uuid::new_v4();
        if !store::audits::begin(&self.pool, &source, id).await? {
            return Err(Refusal::conflict(format!("an audit of {source} is running; wait until it ends")));
        }
        let now = self.clock.now();
        let progress = v1::SourceAudit {
            source_id: source.to_string(),
            audit_id: id.to_string(),
            started_at: Some(timestamp(now)),
            updated_at: Some(timestamp(now)),
            unseen_ids_max: cursor.unseen.ids_max,
            unseen_since: cursor.unseen.since.map(timestamp),
            unsaving_workflows: cursor.unseen.kept.unsaving,
            ..v1::SourceAudit::default()
        };
        if let Err(error) = self.publisher.audit(&source, &progress, now).await {
            store::audits::end(&self.pool, &source, id).await?;
            return Err(Refusal::unavailable(error_chain(&error)));
        }
        Ok(Audit {
            source,
            id,
            n8n,
            epochs: cursor.epochs,
            complete_until,
            left_out_before: cursor.left_out_before,
            progress,
            published_at: Instant::now(),
            confirmed_pages: 0,
            _place: place,
        })
    }

    /// Runs an audit from the first page to the message that it has ended.
    async fn audit(&self, mut audit: Audit) {
        let shutdown = self.tasks.shutdown();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Err(AuditError::Stopped),
            outcome = timeout(AUDIT_TIME_MAX, self.compare_all(&mut audit)) => {
                outcome.unwrap_or(Err(AuditError::TooSlow))
            }
        };
        if let Err(error) = &outcome {
            tracing::warn!(source = %audit.source, error = error_chain(error), "an audit has failed");
            audit.progress.failure = error_chain(error).to_string();
        }
        // Before its end is published, so that whoever reads that can begin the next one. If this fails, the
        // lease runs out.
        if let Err(error) = store::audits::end(&self.pool, &audit.source, audit.id).await {
            tracing::warn!(source = %audit.source, error = error_chain(&error), "cannot end an audit, its lease will run out");
        }
        // The other audit publishes under the same subject.
        if matches!(outcome, Err(AuditError::Replaced)) {
            return;
        }
        audit.progress.ended_at = Some(timestamp(self.clock.now()));
        if let Err(error) = self.publish(&mut audit).await {
            tracing::warn!(source = %audit.source, error = error_chain(&error), "cannot publish that an audit has ended");
        }
    }

    async fn compare_all(&self, audit: &mut Audit) -> Result<(), AuditError> {
        let (mut pages, mut below) = (Pages::default(), None::<RunId>);
        loop {
            let listing = Listing { status: None, rows_max: PAGE_ROWS_MAX };
            let answer = audit.n8n.executions(listing, pages.cursor()).await?;
            let now = self.clock.now();
            let rows = answer.data.iter().map(|row| Row::parse(row, now).map_err(|row| row.id)).collect();
            if let Some(mut page) = Page::of(rows, below, &audit.epochs) {
                below = Some(page.ids.0);
                page.refused(&store::refusals::proven_between(&self.pool, &audit.source, page.ids).await?);
                self.compare(audit, &page).await?;
            }
            if audit.published_at.elapsed() >= PROGRESS_INTERVAL {
                if !store::audits::renew(&self.pool, &audit.source, audit.id).await? {
                    return Err(AuditError::Replaced);
                }
                self.publish(audit).await?;
            }
            if !pages.advance(answer.next_cursor)? {
                break;
            }
        }
        let is_same = store::epochs::of(&self.pool, &audit.source).await? == audit.epochs;
        if is_same { Ok(()) } else { Err(AuditError::Restored) }
    }

    async fn compare(&self, audit: &mut Audit, page: &Page) -> Result<(), AuditError> {
        let (until, from) = (audit.complete_until, audit.left_out_before);
        let due = |stopped_at| stopped_at < until && from.is_none_or(|from| stopped_at >= from);
        let mut compared = page.compare(&self.recorded(&audit.source, page).await?, due);
        if !compared.differences.is_empty() && audit.confirmed_pages < CONFIRMED_PAGES_MAX {
            audit.confirmed_pages += 1;
            sleep(CONFIRM_PAUSE).await;
            compared = page.compare(&self.recorded(&audit.source, page).await?, due);
        }
        let Compared { listed, equal, differences } = compared;
        let progress = &mut audit.progress;
        progress.listed += listed;
        progress.equal += equal;
        progress.differences_total += u64::try_from(differences.len()).unwrap_or(u64::MAX);
        let room = DIFFERENCES_MAX.saturating_sub(progress.differences.len());
        progress.differences.extend(differences.into_iter().take(room));
        Ok(())
    }

    /// What was recorded of the page's ids.
    async fn recorded(&self, source: &SourceId, page: &Page) -> Result<Records, AuditError> {
        let mut records = Records::new();
        for epoch in page.epochs() {
            let mut next = Some(page.ids.0.number());
            for answers in 0.. {
                let Some(first) = next else { break };
                if answers == ANSWERS_MAX {
                    return Err(AuditError::Endless);
                }
                let question = v1::RecordedQuestion {
                    source_id: source.to_string(),
                    epoch,
                    first_execution_id: first,
                    last_execution_id: page.ids.1.number(),
                };
                let answer: v1::RecordedAnswer =
                    self.bus.ask(Question::Recorded, &question, ASK_TIMEOUT).await?;
                records.extend(answer.executions.into_iter().map(|row| ((epoch, row.execution_id), row)));
                // Only forward, whatever the answer says.
                next = answer.next_execution_id.filter(|next| *next > first);
            }
        }
        Ok(records)
    }

    async fn publish(&self, audit: &mut Audit) -> Result<(), AuditError> {
        let now = self.clock.now();
        audit.progress.updated_at = Some(timestamp(now));
        audit.published_at = Instant::now();
        Ok(self.publisher.audit(&audit.source, &audit.progress, now).await?)
    }
}

/// A refusal for a reason that the caller cannot fix: the log has the cause.
fn unreadable(error: impl Into<Unreadable>) -> Refusal {
    let error = error.into();
    tracing::warn!(error = error_chain(&error), "cannot begin an audit");
    Refusal::unavailable("the collector's database does not answer; ask again")
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Cursor(#[from] crate::sweep::failure::SweepError),
}
