//! One sweep of one source: reads what [`Sweep`] asks for, and publishes what follows. The argument that
//! nothing is lost is there, the one that nothing is counted twice in [`crate::sweep::epochs`].
//!
//! The order is: raise the latest published start, publish executions and gaps, publish `SourceSynced`,
//! commit the cursor, each after the broker has acknowledged the one before. A crash in between repeats
//! messages under the same ids or, after the broker has forgotten those, executions that the aggregator knows
//! already. It never skips any.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use messaging::error_chain;
use metering::{Clock, Execution, SourceId, Status};
use proto::v1::{GapReason, Origin};
use serde_json::Value;
use sqlx::PgPool;
use url::Url;

use crate::{
    checks::check::{self, Terms},
    events::{BATCH_EXECUTIONS_MAX, BadRow, Publisher, Received, Synced, digest},
    n8n::{
        client::{Listing, N8n, N8nError, OpenStatus, PAGE_ROWS_MAX},
        pages::Pages,
        row::{self, Row, RowError, RunId, Unreadable, born_at},
    },
    store::{self, Claim},
    sweep::{
        cursor::{Backlog, Begin, Cursor},
        failure::SweepError,
        pass::{Answer, Identity, Part, Question, SLICE_PAGES, Sweep},
        refusals,
        retention::{Forecast, Sight},
        stream_life::{self, Found},
        workflows::Workflows,
    },
};

/// Pages of each list of open executions: 10,000 executions, which is more than n8n can hold.
const OPEN_PAGES_MAX: u32 = 40;

/// Pages of the list of all executions: a million, a hundred times what n8n keeps by default.
const LIST_PAGES_MAX: u32 = 4_000;

/// Dead letters that one sweep may write.
const LETTERS_MAX: usize = 1_000;

/// Answers of the aggregator about ids that were pushed and never listed: half a million of them between two sweeps.
const RECORDED_ANSWERS_MAX: usize = 100;

/// Listed in this order: see the argument at [`crate::sweep::pass`].
const OPEN_STATUSES: [OpenStatus; 4] =
    [OpenStatus::New, OpenStatus::Running, OpenStatus::Waiting, OpenStatus::Running];

/// The list of all executions.
const LISTING: Listing = Listing { status: None, rows_max: PAGE_ROWS_MAX };

/// What a sweep works with.
#[derive(Clone, Copy)]
pub struct Collect<'a> {
    /// The source.
    pub source: &'a SourceId,
    /// Its lease.
    pub claim: &'a Claim,
    /// Its address, as the cursor remembers it.
    pub base_url: &'a Url,
    /// Its API.
    pub n8n: &'a N8n,
    /// Where executions go.
    pub publisher: &'a Publisher,
    /// Stores names and dead letters.
    pub pool: &'a PgPool,
    /// The time.
    pub clock: &'a dyn Clock,
    /// How far the source's clock may be behind.
    pub clock_skew: SignedDuration,
    /// The skew above which its clock is reported as wrong.
    pub clock_skew_warning: SignedDuration,
    /// How often it is swept, as configured.
    pub interval: Duration,
    /// Rows that it is assumed to keep.
    pub rows_kept: u64,
    /// Whether it may push.
    pub pushes: bool,
    /// How old the last reading of its workflows may be.
    pub workflows_fresh_for: Duration,
}

/// A sweep that has been published and is still to be committed.
#[derive(Debug)]
pub struct Collected {
    /// The next cursor.
    pub cursor: Cursor,
    /// When the sweep began.
    pub started_at: Timestamp,
    /// Executions it published.
    pub executions_published: u32,
    /// When the source will prune what this sweep has not seen; `None` if no rate is known.
    pub forecast: Option<Forecast>,
}

/// Sweeps the source from `before` on. Ends with [`SweepError::Contradicted`] if a new epoch has to begin.
pub async fn collect(work: Collect<'_>, mut before: Cursor) -> Result<Collected, SweepError> {
    let started_at = work.clock.now();
    let bus = work.publisher.bus();
    let found = stream_life::look(bus, work.source, &before.stream, before.published_through).await?;
    if found.is_another {
        tracing::warn!(
            source = %work.source,
            "the broker's stream was created anew or restored: everything that the source shows is published again"
        );
        before.read_again();
    }
    let known_url = before.base_url.clone();
    let mut collecting = Collecting {
        work,
        published_through: before.published_through,
        latest_start: before.latest_start,
        sweep: Sweep::new(before, started_at, work.clock_skew),
        workflows: Workflows::new(work.pool, work.n8n, work.source, started_at, work.workflows_fresh_for),
        found,
        executions_published: 0,
        letters: 0,
        refusals_read: 0,
    };
    let newest = collecting.read_newest().await?;
    collecting.sweep.newest_is(newest.id, newest.row.as_ref());
    collecting.list_open().await?;
    collecting.sweep.compare(newest.row.as_ref());
    collecting.check()?;
    let moved = known_url.is_some_and(|known| known != work.base_url.as_str());
    let backlog = collecting.list_live(moved).await?;
    let backlog = collecting.list_backlog(backlog).await?;
    collecting.ask_one_by_one().await?;
    collecting.look_again().await?;
    collecting.finish(started_at, backlog).await
}

struct Collecting<'a> {
    work: Collect<'a>,
    sweep: Sweep,
    workflows: Workflows<'a>,
    found: Found,
    executions_published: u32,
    published_through: u64,
    latest_start: Option<Timestamp>,
    letters: usize,
    refusals_read: usize,
}

/// The first row of the list of all executions; at least its id, if that can be read.
#[derive(Default)]
struct Newest {
    id: Option<RunId>,
    row: Option<Row>,
}

impl Collecting<'_> {
    /// (0)
    async fn read_newest(&self) -> Result<Newest, SweepError> {
        let page = self.work.n8n.executions(Listing { status: None, rows_max: 1 }, None).await?;
        Ok(match page.data.first().map(|row| self.parse(row)) {
            Some(Ok(row)) => Newest { id: Some(row.id()), row: Some(row) },
            // The sweep ends here, and no row becomes a dead letter.
            Some(Err(Unreadable { error: RowError::ForeignId(id), .. })) => {
                return Err(SweepError::ForeignIds(id));
            }
            Some(Err(unreadable)) => Newest { id: unreadable.id, row: None },
            None => Newest::default(),
        })
    }

    /// (1)
    async fn list_open(&mut self) -> Result<(), SweepError> {
        for status in OPEN_STATUSES {
            let listing = Listing { status: Some(status), rows_max: PAGE_ROWS_MAX };
            let mut pages = Pages::default();
            for page_number in 0.. {
                if page_number == OPEN_PAGES_MAX {
                    return Err(SweepError::Endless { what: "open", pages_max: OPEN_PAGES_MAX });
                }
                let page = match self.work.n8n.executions(listing, pages.cursor()).await {
                    // Version 1 does not know this status as a filter; there the list of all shows such rows.
                    Err(N8nError::BadRequest(_)) if status == OpenStatus::New && page_number == 0 => break,
                    answer => answer?,
                };
                for row in self.read(page.data).await? {
                    self.sweep.listed_open(&row);
                }
                if !pages.advance(page.next_cursor)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// (2) Returns what is left to read on a first contact.
    async fn list_live(&mut self, moved: bool) -> Result<Option<Backlog>, SweepError> {
        let is_first = self.sweep.before().floor.is_none();
        let mut pages = Pages::default();
        let mut rows_read = 0;
        for page_number in 0..LIST_PAGES_MAX {
            let page = self.work.n8n.executions(LISTING, pages.cursor()).await?;
            rows_read += count(page.data.len());
            let rows = self.read(page.data).await?;
            if page_number == 0 {
                self.recognise(&rows, moved).await?;
            }
            self.publish_listed(rows, Part::Live).await?;
            let has_more = pages.advance(page.next_cursor)?;
            if self.sweep.has_listed_enough(!has_more) {
                return Ok(self.sweep.before().backlog.clone());
            }
            if is_first && page_number + 1 == SLICE_PAGES {
                return Ok(pages.into_next().map(|next_page| Backlog { next_page, rows_read }));
            }
        }
        Err(SweepError::Endless { what: "listed", pages_max: LIST_PAGES_MAX })
    }

    /// Continues a first contact where the last sweep stopped. Returns what is left.
    async fn list_backlog(&mut self, backlog: Option<Backlog>) -> Result<Option<Backlog>, SweepError> {
        // Without a floor this sweep has read its slice already.
        let Some(backlog) = backlog.filter(|_| self.sweep.before().floor.is_some()) else {
            return Ok(None);
        };
        let Backlog { next_page, mut rows_read } = backlog;
        let mut pages = Pages::from(next_page);
        for _ in 0..SLICE_PAGES {
            let page = self.work.n8n.executions(LISTING, pages.cursor()).await?;
            rows_read += count(page.data.len());
            let rows = self.read(page.data).await?;
            self.publish_listed(rows, Part::Backlog).await?;
            if !pages.advance(page.next_cursor)? {
                return Ok(None);
            }
        }
        Ok(pages.into_next().map(|next_page| Backlog { next_page, rows_read }))
    }

    async fn publish_listed(&mut self, rows: Vec<Row>, part: Part) -> Result<(), SweepError> {
        let news = self.sweep.listed(rows, part);
        self.check()?;
        self.publish(news).await
    }

    fn check(&self) -> Result<(), SweepError> {
        self.sweep.contradiction().map_or(Ok(()), |begin| Err(SweepError::Contradicted(begin)))
    }

    /// Checks, before anything is published, that this is the source that the cursor was read from.
    async fn recognise(&mut self, first_page: &[Row], moved: bool) -> Result<(), SweepError> {
        let mut identity = self.sweep.identity(first_page);
        let known_ids = self.sweep.known_ids();
        for id in &known_ids {
            if identity != Identity::Unknown {
                break;
            }
            if let Some(row) = self.work.n8n.execution(*id).await? {
                identity = self.sweep.identity(self.parse(&row).iter());
            }
        }
        match identity {
            Identity::Other => Err(SweepError::Contradicted(Begin::Restored)),
            Identity::Unknown if moved && !known_ids.is_empty() => {
                Err(SweepError::Contradicted(Begin::Moved))
            }
            Identity::Same | Identity::Unknown => Ok(()),
        }
    }

    /// Checks at the end that what was read is still there: the database may have been restored meanwhile.
    async fn look_again(&mut self) -> Result<(), SweepError> {
        let newest = self.read_newest().await?;
        let is_unchanged = match (self.sweep.is_unchanged(newest.row.as_ref()), self.sweep.anchor()) {
            (Some(is_unchanged), _) => is_unchanged,
            (None, None) => true,
            (None, Some(anchor)) => {
                let row = self.work.n8n.execution(anchor).await?;
                row.is_some_and(|row| self.parse(&row).is_ok_and(|row| self.sweep.is_anchor(&row)))
            }
        };
        if !is_unchanged {
            return Err(SweepError::Changed);
        }
        let held_back = self.sweep.take_held_back();
        self.publish(held_back).await
    }

    /// (3)
    async fn ask_one_by_one(&mut self) -> Result<(), SweepError> {
        let mut news = Vec::new();
        for (id, question) in self.sweep.questions() {
            match self.ask(id, question).await? {
                Answer::Publish(execution) => news.push(*execution),
                Answer::Vanished => self.publish_gap(GapReason::OpenExecutionVanished, (id, id)).await?,
                Answer::Nothing => self.check()?,
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
        // One row in, at most one out: an unreadable one has become a dead letter.
        match self.read(vec![value]).await?.pop() {
            Some(row) => Ok(self.sweep.answered(id, question, Some(row))),
            None => Ok(Answer::Nothing),
        }
    }

    async fn finish(
        mut self,
        started_at: Timestamp,
        backlog: Option<Backlog>,
    ) -> Result<Collected, SweepError> {
        if let Some(range) = self.sweep.pruned() {
            self.publish_gap(GapReason::PrunedBeforeSeen, range).await?;
        }
        for id in self.sweep.replaced().collect::<Vec<_>>() {
            self.publish_gap(GapReason::OpenExecutionVanished, (id, id)).await?;
        }
        // Even without executions: names, tags and projects change without them.
        self.publish_workflows(&[]).await?;
        self.look_for_unseen().await;
        let kept = self.workflows.kept().unwrap_or(self.sweep.before().unseen.kept);
        let Collecting { work, sweep, found, executions_published, published_through, latest_start, .. } =
            self;
        let bus = work.publisher.bus();
        let anchor = sweep.before().stream.anchor;
        let mark = stream_life::mark(bus, work.source, &found, anchor, published_through).await?;
        let mark = mark.ok_or(SweepError::StreamReplaced)?;
        let before = sight(sweep.before());
        let mut cursor =
            sweep.finish(work.base_url.to_string(), published_through, latest_start, backlog, kept);
        cursor.stream = mark;
        if let Some(backlog) = &cursor.backlog {
            // `complete_until` is known only after everything was read.
            tracing::info!(source = %work.source, rows_read = backlog.rows_read, "reading all executions of the source continues with the next sweep");
            return Ok(Collected { cursor, started_at, executions_published, forecast: None });
        }
        let forecast =
            before.zip(sight(&cursor)).and_then(|(before, now)| Forecast::of(before, now, work.rows_kept));
        let terms = Terms { skew_max: work.clock_skew_warning, pushes: work.pushes, now: work.clock.now() };
        let standing = check::settle(work.pool, work.source, work.n8n.skew_ms(), terms).await?;
        let synced = Synced {
            epoch: cursor.epochs.current(),
            complete_until: cursor.complete_until.unwrap_or(started_at),
            open_executions: cursor.open_executions(),
            open_ids: cursor.open_ids(),
            published_through,
            stream_life: &found.life,
            started_at,
            ended_at: work.clock.now(),
            executions_published,
            loss_expected_at: forecast.and_then(|forecast| forecast.loss_expected_at(work.interval)),
            unseen_ids_max: cursor.unseen.ids_max,
            unseen_since: cursor.unseen.since,
            unsaving_workflows: cursor.unseen.kept.unsaving,
            standing: &standing,
        };
        work.publisher.synced(work.source, synced).await?;
        Ok(Collected { cursor, started_at, executions_published, forecast })
    }

    /// Removes pushed ids from those that the source never showed. Only the aggregator knows them all.
    async fn look_for_unseen(&mut self) {
        let Some((mut first, last)) = self.sweep.unseen().ends().filter(|_| self.work.pushes) else { return };
        let epoch = self.sweep.before().epochs.current();
        for _ in 0..RECORDED_ANSWERS_MAX {
            match self.work.publisher.recorded(self.work.source, epoch, (first, last)).await {
                Ok(answer) => {
                    let recorded = answer.executions.iter().filter_map(|row| RunId::new(row.execution_id));
                    recorded.for_each(|id| self.sweep.was_recorded(id));
                    match answer.next_execution_id.filter(|next| *next > first) {
                        Some(next) => first = next,
                        None => return,
                    }
                }
                Err(error) => {
                    tracing::debug!(source = %self.work.source, error = error_chain(&error), "cannot ask which ids were pushed");
                    self.sweep.cannot_tell_unseen();
                    return;
                }
            }
        }
    }

    async fn publish(&mut self, mut news: Vec<Execution>) -> Result<(), SweepError> {
        self.publish_workflows(&news).await?;
        self.workflows.name(&mut news);
        self.look_at_refusals(&mut news).await?;
        self.raise_latest_start(&news).await?;
        let Collect { source, publisher, clock, .. } = self.work;
        let mut by_epoch: BTreeMap<u32, Vec<Execution>> = BTreeMap::new();
        for execution in news {
            let epoch = self.sweep.before().epochs.of(born_at(&execution));
            by_epoch.entry(epoch).or_default().push(execution);
        }
        for (epoch, executions) in by_epoch {
            for batch in executions.chunks(BATCH_EXECUTIONS_MAX) {
                let received = Received { epoch, origin: Origin::Poll, at: clock.now() };
                let sequence = publisher.executions(source, received, batch, Vec::new()).await?;
                self.published_through = self.published_through.max(sequence);
                let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                self.executions_published = self.executions_published.saturating_add(count);
            }
        }
        Ok(())
    }

    /// Changes an error to canceled if the source's hook calls it a refusal and its data say so too: refused
    /// runs never count.
    async fn look_at_refusals(&mut self, news: &mut [Execution]) -> Result<(), SweepError> {
        let Collect { source, pool, n8n, .. } = self.work;
        let errors = news.iter_mut().filter(|execution| execution.status == Status::Error);
        let mut errors: BTreeMap<RunId, &mut Execution> =
            errors.filter_map(|execution| Some((id_of(execution)?, execution))).collect();
        if errors.is_empty() {
            return Ok(());
        }
        let ids: Vec<RunId> = errors.keys().copied().collect();
        for (id, known) in store::refusals::claimed(pool, source, &ids).await? {
            let is_proven = match known {
                Some(is_proven) => is_proven,
                None if self.refusals_read == refusals::READ_MAX => {
                    let read = refusals::READ_MAX;
                    tracing::warn!(%source, read, "more refused runs than one sweep checks; the rest count as listed");
                    return Ok(());
                }
                None => {
                    self.refusals_read += 1;
                    let data = match n8n.execution_with_data(id).await {
                        // A refused run has hardly any data.
                        Err(N8nError::TooLarge(_)) => None,
                        data => data?,
                    };
                    let is_proven = data.as_ref().is_some_and(refusals::is_refused);
                    store::refusals::prove(pool, source, id, is_proven).await?;
                    is_proven
                }
            };
            if let Some(execution) = errors.get_mut(&id).filter(|_| is_proven) {
                execution.status = Status::Canceled;
            }
        }
        Ok(())
    }

    /// Publishes workflows before their executions, and stores them afterwards: a tenant may depend on them.
    async fn publish_workflows(&mut self, executions: &[Execution]) -> Result<(), SweepError> {
        let news = self.workflows.learn(executions).await?;
        let Some(read_at) = news.read_at else { return Ok(()) };
        let Collect { source, publisher, clock, .. } = self.work;
        let workflows = news.changed.iter().map(|(id, workflow)| workflow.to_wire(id, read_at)).collect();
        let epoch = self.sweep.before().epochs.current();
        let received = Received { epoch, origin: Origin::Poll, at: clock.now() };
        let sequence = publisher.workflows(source, received, workflows).await?;
        self.published_through = self.published_through.max(sequence.unwrap_or(0));
        self.workflows.keep(&news).await
    }

    /// Called before anything with a later start is published: a new epoch begins after everything that may
    /// have been published.
    async fn raise_latest_start(&mut self, news: &[Execution]) -> Result<(), SweepError> {
        let latest = news.iter().map(born_at).max();
        if latest > self.latest_start
            && let Some(latest) = latest
        {
            store::epochs::announce(self.work.pool, self.work.claim, latest).await?;
            self.latest_start = Some(latest);
        }
        Ok(())
    }

    async fn publish_gap(&mut self, reason: GapReason, range: (RunId, RunId)) -> Result<(), SweepError> {
        let Collect { source, publisher, clock, .. } = self.work;
        tracing::warn!(%source, first = %range.0, last = %range.1, reason = reason.as_str_name(), "executions were gone before they were read; reported as a gap");
        Ok(publisher.gap(source, self.sweep.before().epochs.current(), reason, range, clock.now()).await?)
    }

    fn parse(&self, row: &Value) -> Result<Row, Unreadable> {
        Row::parse(row, self.work.clock.now())
    }

    /// The rows that can be read. The others become dead letters, once each.
    async fn read(&mut self, values: Vec<Value>) -> Result<Vec<Row>, SweepError> {
        let mut rows = Vec::with_capacity(values.len());
        for value in values {
            match self.parse(&value) {
                Ok(row) => rows.push(row),
                // The fault is the source's, not one row's: a dead letter for each row would help nobody.
                Err(Unreadable { error: RowError::ForeignId(id), .. }) => {
                    return Err(SweepError::ForeignIds(id));
                }
                Err(unreadable) => self.dead_letter(&value, &unreadable).await?,
            }
        }
        Ok(rows)
    }

    async fn dead_letter(&mut self, value: &Value, unreadable: &Unreadable) -> Result<(), SweepError> {
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
        let epoch = self.sweep.before().epochs.current();
        let bad = BadRow { epoch, row, digest: &digest, error: &unreadable.error, received_at };
        publisher.bad_row(source, bad).await?;
        Ok(store::remember_letter(pool, source, &digest, received_at).await?)
    }
}

fn id_of(execution: &Execution) -> Option<RunId> {
    RunId::new(execution.id.as_str().parse().ok()?)
}

/// What a sweep has seen, according to its cursor.
fn sight(cursor: &Cursor) -> Option<Sight> {
    cursor.floor.zip(cursor.swept_at).map(|(newest, at)| Sight { newest, at })
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
