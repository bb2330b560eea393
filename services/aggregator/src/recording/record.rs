//! Recording: many messages in one transaction. New executions are added to their periods, and the resulting
//! messages go into the outbox. Repeats, in any order and however often, change nothing.
//!
//! The transaction locks the rows of all its sources, so only one recorder at a time records for a source,
//! and it knows all ids of the source: from the rows, or from memory if the source's version shows that
//! memory is valid. The primary key is the second guard. ADR 0007 has the whole argument.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use foldhash::{HashMap, HashMapExt};
use jiff::{SignedDuration, Timestamp, civil::Date};
use messaging::{Bus, Dispose, Disposition, InHand, PublishError, dead};
use metering::{Clock, SourceId, TenantId, WorkflowId};
use prost::Message;
use proto::v1;
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, interval_at};

use crate::{
    figures::tally::Decided,
    recording::{
        admitted,
        batch::Batch,
        decide::{Decisions, month_of},
        error::RecordError,
        id_chunks::place_of,
        source_cache::Memory,
        tenant_cache::Directory,
        write,
    },
    store,
};

/// Attempts at one transaction: the second finds memory refreshed, and the months' tables created.
const ATTEMPTS_MAX: usize = 3;

/// How often the messages of a slow batch are reported to the broker as in progress.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(1_500);

/// A message and its content.
pub(crate) struct Item {
    pub(crate) in_hand: InHand<v1::ExecutionBatch>,
    pub(crate) batch: Batch,
}

/// Reports these messages to the broker as in progress.
pub(crate) async fn report_progress(items: &[Item]) {
    for item in items {
        item.in_hand.progress().await;
    }
}

/// Records for one worker.
pub(crate) struct Recorder {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    /// How long an ended period waits for sources that are not complete.
    grace: SignedDuration,
    memory: Memory,
    directory: Directory,
    numbers: HashMap<SourceId, i32>,
    months: HashSet<Date>,
}

impl Recorder {
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>, grace: SignedDuration) -> Self {
        Self {
            pool,
            bus,
            clock,
            grace,
            memory: Memory::default(),
            directory: Directory::default(),
            numbers: HashMap::new(),
            months: HashSet::new(),
        }
    }

    /// Records messages, and settles each: acknowledged after the commit, or by its error's disposition.
    pub(crate) async fn record(&mut self, items: Vec<Item>) {
        match self.commit_with_progress(&items).await {
            Ok(refused) => self.settle(items, refused).await,
            // One of them may be the cause: each on its own, so that the others are recorded.
            Err(error) if items.len() > 1 && error.disposition() == Disposition::DeadLetter => {
                for item in items {
                    let alone = [item];
                    let outcome = self.commit(&alone).await;
                    let [item] = alone;
                    match outcome {
                        Ok(refused) => self.settle(vec![item], refused).await,
                        Err(error) => item.in_hand.failed(&error).await,
                    }
                }
            }
            Err(error) => {
                for item in items {
                    item.in_hand.failed(&error).await;
                }
            }
        }
    }

    async fn settle(&self, items: Vec<Item>, refused: Vec<(usize, RecordError)>) {
        let refused: BTreeMap<usize, RecordError> = refused.into_iter().collect();
        for (place, item) in items.into_iter().enumerate() {
            match refused.get(&place) {
                None => match self.put_aside(&item).await {
                    Ok(()) => item.in_hand.handled().await,
                    Err(error) => item.in_hand.failed(&RecordError::from(error)).await,
                },
                Some(error) => item.in_hand.failed(error).await,
            }
        }
    }

    /// Publishes the invalid executions of a message as one dead letter. The rest of the message is recorded
    /// by then, so that a message that waits for the database or for its source does not leave a letter with
    /// each attempt.
    async fn put_aside(&self, item: &Item) -> Result<(), PublishError> {
        let Some((_, first_reason)) = item.batch.unreadable.first() else { return Ok(()) };
        let Ok(message) = v1::ExecutionBatch::decode(item.in_hand.payload()) else { return Ok(()) };
        let total = message.executions.len();
        let reason = format!("{} of {total} executions: {first_reason}", item.batch.unreadable.len());
        let places: HashSet<usize> = item.batch.unreadable.iter().map(|(place, _)| *place).collect();
        let executions = message.executions.into_iter().enumerate();
        let executions =
            executions.filter(|(place, _)| places.contains(place)).map(|(_, execution)| execution).collect();
        let rest = v1::ExecutionBatch { executions, ..message };
        let delivery = &item.in_hand.delivery;
        let letter = dead::Dead {
            letter_id: format!("dead:aggregator-unreadable:{}", delivery.place),
            original_subject: delivery.subject.clone(),
            original_payload: rest.encode_to_vec().into(),
            original_headers: Vec::new(),
            reason,
            failed_at: self.clock.now(),
            deliveries: delivery.deliveries,
        };
        dead::publish(&self.bus, letter).await
    }

    /// Commits, and reports the messages to the broker as in progress while that takes long.
    async fn commit_with_progress(
        &mut self,
        items: &[Item],
    ) -> Result<Vec<(usize, RecordError)>, RecordError> {
        let mut progress = interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        let committing = self.commit(items);
        tokio::pin!(committing);
        loop {
            tokio::select! {
                outcome = &mut committing => return outcome,
                _ = progress.tick() => report_progress(items).await,
            }
        }
    }

    /// Records all messages in one transaction. Returns those that were left out, each with the reason.
    async fn commit(&mut self, items: &[Item]) -> Result<Vec<(usize, RecordError)>, RecordError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(items).await {
                Err(error) => {
                    // It may have committed all the same: only the database knows what is recorded.
                    self.memory.forget(
                        items.iter().filter_map(|item| self.numbers.get(&item.batch.source).copied()),
                    );
                    self.months.clear();
                    if !error.is_stale() || attempts >= ATTEMPTS_MAX {
                        return Err(error);
                    }
                    metrics::counter!("flowmeter_recording_retried_total").increment(1);
                }
                recorded => return recorded,
            }
        }
    }

    async fn attempt(&mut self, items: &[Item]) -> Result<Vec<(usize, RecordError)>, RecordError> {
        let now = self.clock.now();
        self.ensure_months(items).await?;
        let mut transaction = self.pool.begin().await?;
        let sources = self.hold(&mut transaction, items).await?;
        let moved = self.learn(&mut transaction, items).await?;
        self.load_chunks(&mut transaction, items).await?;
        let mut tenants: BTreeSet<TenantId> = BTreeSet::new();
        for source in sources {
            if let Some(known) = self.memory.of(source) {
                tenants.extend(known.ownership.tenants().into_iter().cloned());
            }
        }
        self.directory.load(&mut transaction, tenants.into_iter().collect()).await?;
        let (mut decisions, refused) = self.decide(items);
        decisions.settled = self.keep_admitted(&mut transaction, items, &decisions, now).await?;
        let (bus, directory) = (&self.bus, &mut self.directory);
        let touched = write::write(&mut transaction, bus, directory, decisions, self.grace, now).await?;
        let raised: Vec<i32> = touched.sources.union(&moved.touched).copied().collect();
        let map_again: Vec<i32> = moved.map_again.into_iter().collect();
        store::raise_versions(&mut transaction, &raised, &map_again).await?;
        transaction.commit().await?;
        self.memory.committed(&raised);
        metrics::counter!("flowmeter_executions_recorded_total").increment(touched.fresh);
        for (what, count) in touched.corrected {
            metrics::counter!("flowmeter_executions_corrected_total", "what" => what).increment(count);
        }
        Ok(refused)
    }

    /// Stores when executions were admitted. Returns the tenants of those that are already recorded: their
    /// reservations are settled from now on, which has to be published.
    async fn keep_admitted(
        &self,
        connection: &mut PgConnection,
        items: &[Item],
        decisions: &Decisions,
        now: Timestamp,
    ) -> Result<Vec<i32>, sqlx::Error> {
        let mut claims: BTreeMap<store::Key, i64> = BTreeMap::new();
        for item in items {
            let Some(source) = self.numbers.get(&item.batch.source).copied() else { continue };
            for (id, execution) in &item.batch.executions {
                if let Some(slot) = admitted::claimed(execution.admitted_at, now) {
                    claims.entry((source, item.batch.epoch, *id)).or_insert(slot);
                }
            }
        }
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let claims: Vec<_> = claims.into_iter().collect();
        let mut known = store::keep_admitted(&mut *connection, &claims).await?;
        let fresh: HashSet<store::Key> = decisions.fresh.iter().map(Decided::key).collect();
        known.retain(|key| !fresh.contains(key));
        if known.is_empty() {
            return Ok(Vec::new());
        }
        // A claim is minutes old at most, and its execution has stopped since.
        let since = month_of(now.saturating_sub(SignedDuration::from_hours(1)).unwrap_or(now));
        store::tenants_of_recorded(connection, &known, since).await
    }

    async fn ensure_months(&mut self, items: &[Item]) -> Result<(), sqlx::Error> {
        let executions = items.iter().flat_map(|item| &item.batch.executions);
        let mut last = None;
        for (_, execution) in executions {
            let day = execution.stopped_at.as_second().div_euclid(24 * 60 * 60);
            if last == Some(day) {
                continue;
            }
            last = Some(day);
            let month = month_of(execution.stopped_at);
            if !self.months.contains(&month) {
                store::ensure_month(&mut *self.pool.acquire().await?, month).await?;
                self.months.insert(month);
            }
        }
        Ok(())
    }

    /// Locks the sources of a batch, and forgets what is remembered of those that others have recorded for
    /// since.
    async fn hold(&mut self, connection: &mut PgConnection, items: &[Item]) -> Result<Vec<i32>, sqlx::Error> {
        let unknown: BTreeSet<&SourceId> = items
            .iter()
            .map(|item| &item.batch.source)
            .filter(|source| !self.numbers.contains_key(*source))
            .collect();
        if !unknown.is_empty() {
            let unknown: Vec<SourceId> = unknown.into_iter().cloned().collect();
            self.numbers.extend(store::source_numbers(connection, &unknown).await?);
        }
        let sources: BTreeSet<i32> =
            items.iter().filter_map(|item| self.numbers.get(&item.batch.source).copied()).collect();
        let sources: Vec<i32> = sources.into_iter().collect();
        let versions: HashMap<i32, i64> =
            store::lock_sources(connection, &sources).await?.into_iter().collect();
        let stale: Vec<i32> = versions
            .iter()
            .filter(|(source, version)| self.memory.recall(**source, **version).is_none())
            .map(|(source, _)| *source)
            .collect();
        if !stale.is_empty() {
            for (source, ownership) in store::ownerships(connection, &stale).await? {
                self.memory.begin(source, versions.get(&source).copied().unwrap_or_default(), ownership);
            }
        }
        Ok(sources)
    }

    /// Learns the workflows of a batch, and stores those that changed.
    async fn learn(&mut self, connection: &mut PgConnection, items: &[Item]) -> Result<Moved, sqlx::Error> {
        let mut wanted: BTreeSet<(i32, WorkflowId)> = BTreeSet::new();
        for item in items {
            let Some(number) = self.numbers.get(&item.batch.source).copied() else { continue };
            let Some(source) = self.memory.of(number) else { continue };
            let runs = item.batch.executions.iter().map(|(_, execution)| &execution.workflow);
            let facts = item.batch.workflows.iter().map(|facts| &facts.workflow);
            for workflow in runs.chain(facts) {
                if !source.workflows.contains_key(workflow) {
                    wanted.insert((number, workflow.clone()));
                }
            }
        }
        if !wanted.is_empty() {
            let wanted: Vec<_> = wanted.into_iter().collect();
            for (source, id, workflow) in store::workflows(connection, &wanted).await? {
                if let Some(source) = self.memory.of(source) {
                    source.workflows.insert(id, workflow);
                }
            }
            for (number, workflow) in wanted {
                let Some(source) = self.memory.of(number) else { continue };
                if source.workflows_kept.is_none() && !source.workflows.contains_key(&workflow) {
                    source.workflows_kept = Some(store::workflows_kept(connection, number).await?);
                }
            }
        }
        let mut moved = Moved::default();
        let mut dirty: BTreeSet<(i32, WorkflowId)> = BTreeSet::new();
        for item in items {
            let Some(number) = self.numbers.get(&item.batch.source).copied() else { continue };
            let Some(source) = self.memory.of(number) else { continue };
            for facts in &item.batch.workflows {
                if source.learn(facts.clone()) {
                    moved.map_again.insert(number);
                }
                dirty.insert((number, facts.workflow.clone()));
            }
            for (_, execution) in &item.batch.executions {
                let (name, received_at) = (execution.workflow_name.as_ref(), item.batch.received_at);
                let workflow = source.name(&execution.workflow, name, received_at, item.batch.polled);
                if source.workflows.get(&workflow).is_some_and(|known| known.dirty) {
                    dirty.insert((number, workflow));
                }
            }
        }
        for (number, id) in dirty {
            let Some(known) = self.memory.of(number).and_then(|source| source.workflows.get_mut(&id)) else {
                continue;
            };
            if known.dirty {
                known.number = store::put_workflow(connection, number, &id, known).await?;
                known.dirty = false;
                moved.touched.insert(number);
            }
        }
        Ok(moved)
    }

    async fn load_chunks(
        &mut self,
        connection: &mut PgConnection,
        items: &[Item],
    ) -> Result<(), sqlx::Error> {
        let mut wanted: BTreeSet<store::ChunkKey> = BTreeSet::new();
        for item in items {
            let Some(number) = self.numbers.get(&item.batch.source).copied() else { continue };
            let Some(source) = self.memory.of(number) else { continue };
            let epoch = item.batch.epoch;
            let chunks = item.batch.executions.iter().map(|(id, _)| place_of(*id).0);
            wanted.extend(
                chunks
                    .filter(|chunk| !source.chunks.contains_key(&(epoch, *chunk)))
                    .map(|chunk| (number, epoch, chunk)),
            );
        }
        let wanted: Vec<store::ChunkKey> = wanted.into_iter().collect();
        let chunks = store::chunks(connection, &wanted).await?;
        for ((number, epoch, chunk), ids) in wanted.into_iter().zip(chunks) {
            if let Some(source) = self.memory.of(number) {
                source.chunks.insert((epoch, chunk), ids);
            }
        }
        Ok(())
    }

    fn decide(&mut self, items: &[Item]) -> (Decisions, Vec<(usize, RecordError)>) {
        let executions = items.iter().map(|item| item.batch.executions.len()).sum();
        let (mut decisions, mut refused) = (Decisions::with_room(executions), Vec::new());
        for (place, item) in items.iter().enumerate() {
            let batch = &item.batch;
            let number = self.numbers.get(&batch.source).copied();
            let known = number.and_then(|number| Some((number, self.memory.of(number)?)));
            let outcome = match known {
                None => Err(RecordError::UnknownSource(batch.source.clone())),
                Some((number, memory)) => {
                    let trace = item.in_hand.delivery.traceparent.as_deref();
                    decisions.add(batch, number, memory, &self.directory, trace)
                }
            };
            if let Err(error) = outcome {
                refused.push((place, error));
            }
        }
        (decisions, refused)
    }
}

/// Sources whose workflows changed.
#[derive(Debug, Default)]
struct Moved {
    touched: BTreeSet<i32>,
    /// Those whose executions may belong to other tenants now.
    map_again: BTreeSet<i32>,
}
