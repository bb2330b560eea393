//! How far each source is counted.
//!
//! `SourceSynced` says that everything up to `complete_until` is *published*, at or before the sequence
//! `published_through` of the stream of the source's partition. It may overtake those executions, because it
//! travels on its own stream and any of them may be waiting for a retry. They are *counted* once the consumer
//! of the source's partition has acknowledged that sequence and everything before it: a message is
//! acknowledged only after its commit (or after it went to the dead letters, where it is visible). Until then
//! `counted_until` does not move.
//!
//! A sequence is valid only within one life of the stream. If the stream was recreated or restored since, the
//! executions it refers to may be lost unread, so it proves nothing: the collector publishes everything
//! again, and then reports a sequence of the new life.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use async_nats::jetstream::consumer::PullConsumer;
use async_trait::async_trait;
use messaging::{Bus, Delivery, Dispose, Disposition, Handler, consume, error_chain};
use metering::{InvalidId, SourceId};
use proto::{
    InvalidTimestamp, consumers::Consumer, required_instant, streams::Stream, subjects::partition, v1,
};
use sqlx::PgPool;

use crate::store::{self, Acknowledged, Behind, SweptSource};

/// Handles `SourceSynced`.
pub(crate) struct SyncedHandler {
    pool: PgPool,
}

/// A `SourceSynced` cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncedError {
    #[error(transparent)]
    Source(#[from] InvalidId),
    #[error(transparent)]
    Instant(#[from] InvalidTimestamp),
    #[error("source {0} is not in the catalog; add it, then replay")]
    UnknownSource(SourceId),
    #[error("cannot store the source's progress")]
    Database(#[from] sqlx::Error),
}

impl Dispose for SyncedError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Source(_) | Self::Instant(_) => Disposition::DeadLetter,
            Self::UnknownSource(_) => Disposition::Retry,
            Self::Database(error) => error.disposition(),
        }
    }
}

impl SyncedHandler {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl Handler for SyncedHandler {
    type Message = v1::SourceSynced;
    type Error = SyncedError;

    async fn handle(&self, delivery: Delivery<v1::SourceSynced>) -> Result<(), SyncedError> {
        let synced = delivery.message;
        let source = SourceId::parse(&synced.source_id)?;
        let open_ids = synced.open_ids.iter().map(|id| i64::try_from(*id)).collect::<Result<Vec<i64>, _>>();
        let swept = SweptSource {
            source: &source,
            sweep_started_at: required_instant(synced.sweep_started_at.as_ref(), "sweep_started_at")?,
            complete_until: required_instant(synced.complete_until.as_ref(), "complete_until")?,
            published_through: i64::try_from(synced.published_through).unwrap_or(i64::MAX),
            stream_life: &synced.stream_life,
            open_executions: i64::from(synced.open_executions),
            // An invalid id is treated like a list that is too long: the ids are not known.
            open_ids: open_ids.as_deref().unwrap_or_default(),
            epoch: i32::try_from(synced.epoch).unwrap_or(i32::MAX),
        };
        let known = store::synced(&self.pool, swept).await?;
        if known { Ok(()) } else { Err(SyncedError::UnknownSource(source)) }
    }
}

/// Sources that one round checks; the others follow in the next.
const SOURCES_PER_ROUND: i64 = 1_000;

/// The consumers whose acknowledgements show what has been counted, one for each partition checked so far.
pub(crate) struct Progress {
    bus: Bus,
    consumers: HashMap<u32, PullConsumer>,
}

impl Progress {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus, consumers: HashMap::new() }
    }

    /// Up to where everything in the partition has been acknowledged.
    async fn through(&mut self, partition: u32) -> anyhow::Result<Acknowledged> {
        // Read before the consumer: one of a later life has acknowledged less, never more.
        let life = self.bus.life(Stream::Executions(partition)).await?;
        let consumer = match self.consumers.entry(partition) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(consume::open(&self.bus, Consumer::aggregator_executions(partition)).await?)
            }
        };
        let sequence = match consumer.info().await {
            Ok(info) => info.ack_floor.stream_sequence,
            Err(error) => {
                // It may be gone with its stream; the next round opens it again.
                self.consumers.remove(&partition);
                return Err(error.into());
            }
        };
        Ok(Acknowledged { sequence: i64::try_from(sequence).unwrap_or(i64::MAX), life: life.id })
    }

    /// Moves `counted_until` of every source whose published executions have all been acknowledged.
    pub(crate) async fn advance(&mut self, pool: &PgPool) -> anyhow::Result<()> {
        let mut by_partition: BTreeMap<u32, Vec<Behind>> = BTreeMap::new();
        for source in store::behind(pool, SOURCES_PER_ROUND).await? {
            by_partition.entry(partition(&source.source_id)).or_default().push(source);
        }
        let mut reached = Vec::new();
        for (partition, sources) in by_partition {
            let acknowledged = match self.through(partition).await {
                Ok(acknowledged) => acknowledged,
                Err(error) => {
                    // The other partitions, and publishing, need not wait for this one.
                    let error = error_chain(error.as_ref());
                    tracing::warn!(partition, error, "cannot read a partition's progress; trying again");
                    continue;
                }
            };
            let waiting = sources.into_iter().filter(|source| source.is_reached(&acknowledged));
            reached.extend(waiting.map(|source| (source.number, acknowledged.clone())));
        }
        if !reached.is_empty() {
            store::advance_counted(pool, &reached).await?;
        }
        Ok(())
    }
}
