//! One sweep of one source: asks what [`Sweep`] wants to know, and publishes what follows. The argument why
//! nothing is lost stands there.
//!
//! The order is: publish executions and gaps, publish `SourceSynced`, commit the cursor, each after the broker
//! has acknowledged the one before. A crash in between repeats messages under the same ids or, after the
//! broker has forgotten those, executions that the aggregator knows already. It never skips any.

use jiff::{SignedDuration, Timestamp};
use metering::{Clock, Execution, SourceId};
use proto::v1::{GapReason, Origin};
use serde_json::Value;
use sqlx::PgPool;
use url::Url;

use crate::{
    cursor::Cursor,
    failure::SweepError,
    n8n::{Listing, N8n, N8nError, OpenStatus, PAGE_ROWS_MAX},
    names::Names,
    publish::{BATCH_EXECUTIONS_MAX, BadRow, Publisher, Synced, digest},
    row::{self, Row, RunId, Unreadable},
    store,
    sweep::{Answer, Identity, Question, Sweep},
};

/// Pages of each list of what has not ended: 10,000 executions, which is more than n8n can hold.
const OPEN_PAGES_MAX: u32 = 40;

/// Pages of the list of all: a million executions, a hundred times what n8n keeps by default.
const LIST_PAGES_MAX: u32 = 4_000;

/// Dead letters that one sweep may write.
const LETTERS_MAX: usize = 1_000;

/// Asked in this order: see the argument at [`crate::sweep`].
const OPEN_STATUSES: [OpenStatus; 4] =
    [OpenStatus::New, OpenStatus::Running, OpenStatus::Waiting, OpenStatus::Running];

/// What a sweep works with.
#[derive(Clone, Copy)]
pub struct Collect<'a> {
    /// The source.
    pub source: &'a SourceId,
    /// Its address, as the cursor remembers it.
    pub base_url: &'a Url,
    /// Its API.
    pub n8n: &'a N8n,
    /// Where executions go.
    pub publisher: &'a Publisher,
    /// Where names and letters are remembered.
    pub pool: &'a PgPool,
    /// The time.
    pub clock: &'a dyn Clock,
    /// How far the source's clock may be behind.
    pub clock_skew: SignedDuration,
}

/// A sweep that has been told to the world and is still to be committed.
#[derive(Debug)]
pub struct Collected {
    /// The next cursor.
    pub cursor: Cursor,
    /// When the sweep began.
    pub started_at: Timestamp,
    /// Executions it published.
    pub executions_published: u32,
}

/// Sweeps the source from `before` on.
pub async fn collect(work: Collect<'_>, before: Cursor) -> Result<Collected, SweepError> {
    let started_at = work.clock.now();
    let (known_url, published_through) = (before.base_url.clone(), before.published_through);
    let mut collecting = Collecting {
        work,
        sweep: Sweep::new(before, started_at, work.clock_skew),
        names: Names::new(work.pool, work.n8n, work.source, started_at),
        executions_published: 0,
        published_through,
        letters: 0,
    };
    let newest = collecting.read_newest().await?;
    collecting.list_open().await?;
    if collecting.sweep.was_restored(newest.as_ref()) {
        collecting.sweep.begin_epoch();
    }
    let moved = known_url.is_some_and(|known| known != work.base_url.as_str());
    collecting.list_all(moved).await?;
    collecting.ask_one_by_one().await?;
    collecting.finish(started_at).await
}

struct Collecting<'a> {
    work: Collect<'a>,
    sweep: Sweep,
    names: Names<'a>,
    executions_published: u32,
    published_through: u64,
    letters: usize,
}

impl Collecting<'_> {
    /// (0)
    async fn read_newest(&mut self) -> Result<Option<Row>, SweepError> {
        let page = self.work.n8n.executions(Listing { status: None, rows_max: 1 }, None).await?;
        let newest = page.data.first().map(Row::parse);
        self.sweep.newest_is(match &newest {
            Some(Ok(row)) => Some(row.id()),
            Some(Err(unreadable)) => unreadable.id,
            None => None,
        });
        Ok(newest.and_then(Result::ok))
    }

    /// (1)
    async fn list_open(&mut self) -> Result<(), SweepError> {
        for status in OPEN_STATUSES {
            let listing = Listing { status: Some(status), rows_max: PAGE_ROWS_MAX };
            let mut cursor: Option<String> = None;
            for page_number in 0.. {
                if page_number == OPEN_PAGES_MAX {
                    return Err(SweepError::Endless { what: "open", pages_max: OPEN_PAGES_MAX });
                }
                let page = match self.work.n8n.executions(listing, cursor.as_deref()).await {
                    // Version 1 does not know this status as a filter; there the list of all shows such rows.
                    Err(N8nError::BadRequest(_)) if status == OpenStatus::New && cursor.is_none() => break,
                    answer => answer?,
                };
                for row in self.read(page.data).await? {
                    self.sweep.listed_open(&row);
                }
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// (2)
    async fn list_all(&mut self, moved: bool) -> Result<(), SweepError> {
        let listing = Listing { status: None, rows_max: PAGE_ROWS_MAX };
        let mut cursor: Option<String> = None;
        for page_number in 0..LIST_PAGES_MAX {
            let page = self.work.n8n.executions(listing, cursor.as_deref()).await?;
            let rows = self.read(page.data).await?;
            if page_number == 0 {
                // Before anything is published: under which epoch depends on it.
                self.recognise(&rows, moved).await?;
            }
            let news = self.sweep.listed(rows);
            self.publish(news).await?;
            cursor = page.next_cursor;
            if self.sweep.has_listed_enough(cursor.is_none()) {
                return Ok(());
            }
        }
        Err(SweepError::Endless { what: "listed", pages_max: LIST_PAGES_MAX })
    }

    async fn recognise(&mut self, first_page: &[Row], moved: bool) -> Result<(), SweepError> {
        let mut identity = self.sweep.identity(first_page);
        let known_ids = self.sweep.known_ids();
        for id in &known_ids {
            if identity != Identity::Unknown {
                break;
            }
            if let Some(row) = self.work.n8n.execution(*id).await? {
                identity = self.sweep.identity(Row::parse(&row).iter());
            }
        }
        let unknown_place = moved && identity == Identity::Unknown && !known_ids.is_empty();
        if identity == Identity::Other || unknown_place {
            self.sweep.begin_epoch();
        }
        Ok(())
    }

    /// (3)
    async fn ask_one_by_one(&mut self) -> Result<(), SweepError> {
        let mut news = Vec::new();
        for (id, question) in self.sweep.questions() {
            match self.ask(id, question).await? {
                Answer::Publish(execution) => news.push(*execution),
                Answer::Vanished => self.tell_gap(GapReason::OpenExecutionVanished, (id, id)).await?,
                Answer::Nothing => {}
            }
            if news.len() == BATCH_EXECUTIONS_MAX {
                self.publish(std::mem::take(&mut news)).await?;
            }
        }
        self.publish(news).await
    }

    async fn ask(&mut self, id: RunId, question: Question) -> Result<Answer, SweepError> {
        let Some(value) = self.work.n8n.execution(id).await? else {
            return Ok(self.sweep.answered(id, question, None));
        };
        // One row in, at most one out: an unreadable one has been dealt with.
        match self.read(vec![value]).await?.pop() {
            Some(row) => Ok(self.sweep.answered(id, question, Some(row))),
            None => Ok(Answer::Nothing),
        }
    }

    async fn finish(mut self, started_at: Timestamp) -> Result<Collected, SweepError> {
        if self.sweep.has_begun_epoch() {
            tracing::warn!(
                source = %self.work.source,
                epoch = self.sweep.epoch(),
                "execution ids are handed out again: the database was restored, or it is another one"
            );
        }
        if let Some(range) = self.sweep.pruned() {
            self.tell_gap(GapReason::PrunedBeforeSeen, range).await?;
        }
        let Collecting { work, sweep, executions_published, published_through, .. } = self;
        let cursor = sweep.finish(work.base_url.to_string(), published_through);
        let synced = Synced {
            epoch: cursor.epoch,
            complete_until: cursor.complete_until.unwrap_or(started_at),
            open_executions: cursor.open_executions(),
            published_through,
            started_at,
            ended_at: work.clock.now(),
            executions_published,
        };
        work.publisher.synced(work.source, synced).await?;
        Ok(Collected { cursor, started_at, executions_published })
    }

    async fn publish(&mut self, mut news: Vec<Execution>) -> Result<(), SweepError> {
        self.names.fill(&mut news).await?;
        let Collect { source, publisher, clock, .. } = self.work;
        for batch in news.chunks(BATCH_EXECUTIONS_MAX) {
            let sequence =
                publisher.executions(source, self.sweep.epoch(), Origin::Poll, clock.now(), batch).await?;
            self.published_through = self.published_through.max(sequence);
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.executions_published = self.executions_published.saturating_add(count);
        }
        Ok(())
    }

    async fn tell_gap(&mut self, reason: GapReason, range: (RunId, RunId)) -> Result<(), SweepError> {
        let Collect { source, publisher, clock, .. } = self.work;
        tracing::warn!(%source, first = %range.0, last = %range.1, reason = reason.as_str_name(), "gap");
        Ok(publisher.gap(source, self.sweep.epoch(), reason, range, clock.now()).await?)
    }

    /// The rows that can be read. The others become dead letters, once each.
    async fn read(&mut self, values: Vec<Value>) -> Result<Vec<Row>, SweepError> {
        let mut rows = Vec::with_capacity(values.len());
        for value in values {
            match Row::parse(&value) {
                Ok(row) => rows.push(row),
                Err(unreadable) => self.bury(&value, &unreadable).await?,
            }
        }
        Ok(rows)
    }

    async fn bury(&mut self, value: &Value, unreadable: &Unreadable) -> Result<(), SweepError> {
        let Collect { source, publisher, pool, clock, .. } = self.work;
        if let Some(id) = unreadable.id {
            self.sweep.met_unreadable(id);
        }
        let row = row::kept(value);
        let digest = digest(&row);
        if store::has_letter(pool, source, &digest).await? {
            return Ok(());
        }
        self.letters += 1;
        if self.letters > LETTERS_MAX {
            return Err(SweepError::Unreadable(LETTERS_MAX));
        }
        let received_at = clock.now();
        let bad =
            BadRow { epoch: self.sweep.epoch(), row, digest: &digest, error: &unreadable.error, received_at };
        publisher.bad_row(source, bad).await?;
        Ok(store::remember_letter(pool, source, &digest, received_at).await?)
    }
}
