//! Reads unreadable rows again, as `flowmeter dead replay` sends them.

use std::sync::Arc;

use async_trait::async_trait;
use messaging::{Delivery, Dispose, Disposition, Handler, PublishError};
use metering::{Clock, InvalidId, SourceId};
use proto::v1::{Origin, SourceRow};
use sqlx::PgPool;

use crate::{
    events::{Publisher, Received},
    n8n::{
        json,
        row::{Row, RowError, RunId, born_at},
    },
    store,
};

/// Reads rows again and publishes them. What still cannot be read becomes a dead letter again.
pub struct Replay {
    /// Where executions go.
    pub publisher: Publisher,
    /// Where the last sequence is kept.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A row cannot be read again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Its source id is malformed.
    #[error(transparent)]
    Source(#[from] InvalidId),
    /// It is not JSON.
    #[error("the row is not JSON")]
    Json(#[from] serde_json::Error),
    /// It still cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
    /// It had not ended; the sweep follows it.
    #[error("execution {0} had not ended when this row was read")]
    NotFinal(RunId),
    /// The broker did not take it.
    #[error("cannot publish")]
    Publish(#[from] PublishError),
    /// The database failed.
    #[error("cannot store the sequence")]
    Store(#[from] sqlx::Error),
}

impl Dispose for ReplayError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Source(_) | Self::Json(_) | Self::Row(_) | Self::NotFinal(_) => Disposition::DeadLetter,
            Self::Publish(error) => error.disposition(),
            Self::Store(error) => error.disposition(),
        }
    }
}

#[async_trait]
impl Handler for Replay {
    type Message = SourceRow;
    type Error = ReplayError;

    async fn handle(&self, delivery: Delivery<SourceRow>) -> Result<(), ReplayError> {
        let message = delivery.message;
        let source = SourceId::parse(&message.source_id)?;
        let value = json::read(&message.row)?;
        let execution = match Row::parse(&value, self.clock.now()).map_err(|unreadable| unreadable.error)? {
            Row::Final(_, execution) => execution,
            Row::Open(id, _) => return Err(ReplayError::NotFinal(id)),
        };
        let born_at = born_at(&execution);
        let epoch = store::epochs::raise_latest_start(&self.pool, &source, born_at).await?.of(born_at);
        let received = Received { epoch, origin: Origin::Replay, at: self.clock.now() };
        let sequence = self.publisher.executions(&source, received, &[execution], Vec::new()).await?;
        Ok(store::published(&self.pool, &source, sequence).await?)
    }
}
