//! How far each source is counted.
//!
//! `SourceSynced` says that everything up to `complete_until` is *published*, at or before the sequence
//! `published_through` of the executions stream. It may overtake those executions, because it travels on a
//! stream of its own and any of them may be waiting for a retry. They are *counted* once the executions
//! consumer has acknowledged that sequence and all before it: a message is acknowledged after its commit only
//! (or after it went to the dead letters, where it can be seen). Until then `counted_until` does not move.

use async_nats::jetstream::consumer::PullConsumer;
use async_trait::async_trait;
use messaging::{Delivery, Dispose, Disposition, Handler};
use metering::{InvalidId, SourceId};
use proto::{InvalidTimestamp, required_instant, v1};
use sqlx::PgPool;

use crate::store;

/// Handles `SourceSynced`.
pub(crate) struct SyncedHandler {
    pool: PgPool,
}

/// A `SourceSynced` cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncedError {
    #[error(transparent)]
    Source(#[from] InvalidId),
    #[error(transparent)]
    Instant(#[from] InvalidTimestamp),
    #[error("source {0} is not in the catalog; add it, then replay")]
    UnknownSource(SourceId),
    #[error("cannot keep how far the source is")]
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
        let known = store::synced(
            &self.pool,
            &source,
            required_instant(synced.sweep_started_at.as_ref(), "sweep_started_at")?,
            required_instant(synced.complete_until.as_ref(), "complete_until")?,
            i64::try_from(synced.published_through).unwrap_or(i64::MAX),
            i64::from(synced.open_executions),
        )
        .await?;
        if known { Ok(()) } else { Err(SyncedError::UnknownSource(source)) }
    }
}

/// Moves `counted_until` of every source whose published executions have all been acknowledged.
pub(crate) async fn advance(pool: &PgPool, executions: &mut PullConsumer) -> anyhow::Result<()> {
    if !store::any_behind(pool).await? {
        return Ok(());
    }
    let acknowledged = executions.info().await?.ack_floor.stream_sequence;
    store::advance_counted(pool, i64::try_from(acknowledged).unwrap_or(i64::MAX)).await?;
    Ok(())
}
