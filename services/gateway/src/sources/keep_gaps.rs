//! Stores gaps, to show them with their source.

use std::sync::Arc;

use async_trait::async_trait;
use messaging::{Delivery, Dispose, Disposition, Handler};
use metering::{NAME_CHARS_MAX, SafeText, SourceId};
use proto::{InvalidMessage, required_instant, v1};
use sqlx::PgPool;

use crate::{
    sources::gap_counts::GapCounts,
    store::history::{self, Gap},
};

/// Handles `SourceGap`.
pub struct KeepGaps {
    pool: PgPool,
    counts: Arc<GapCounts>,
}

/// A gap cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum KeepGapError {
    /// The message is invalid.
    #[error("invalid gap")]
    Invalid(#[from] InvalidMessage),
    /// The database failed.
    #[error("cannot store the gap")]
    Database(#[from] sqlx::Error),
}

impl Dispose for KeepGapError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Invalid(_) => Disposition::DeadLetter,
            Self::Database(error) => error.disposition(),
        }
    }
}

impl KeepGaps {
    /// Stores gaps in `pool`, and notifies `counts`.
    pub fn new(pool: PgPool, counts: Arc<GapCounts>) -> Self {
        Self { pool, counts }
    }
}

#[async_trait]
impl Handler for KeepGaps {
    type Message = v1::SourceGap;
    type Error = KeepGapError;

    async fn handle(&self, delivery: Delivery<v1::SourceGap>) -> Result<(), KeepGapError> {
        let gap = read(delivery.message)?;
        history::put_gap(&self.pool, &gap).await?;
        self.counts.kept.notify_one();
        Ok(())
    }
}

fn read(wire: v1::SourceGap) -> Result<Gap, InvalidMessage> {
    let reason = match wire.reason() {
        v1::GapReason::OpenExecutionVanished => "open_execution_vanished",
        v1::GapReason::PrunedBeforeSeen => "pruned_before_seen",
        v1::GapReason::EpochEnded => "epoch_ended",
        v1::GapReason::Unspecified => "unspecified",
    };
    Ok(Gap {
        source: SourceId::parse(&wire.source_id)?,
        epoch: wire.epoch,
        reason: reason.to_owned(),
        found_at: required_instant(wire.found_at.as_ref(), "found_at")?,
        first_execution_id: SafeText::clean(&wire.first_execution_id, NAME_CHARS_MAX).into(),
        last_execution_id: SafeText::clean(&wire.last_execution_id, NAME_CHARS_MAX).into(),
    })
}
