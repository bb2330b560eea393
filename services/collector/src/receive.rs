//! Takes pushed executions: checks who pushes, publishes, and only then says so.

use std::sync::Arc;

use catalog::{Source, store::CatalogError};
use messaging::PublishError;
use metering::{Clock, Execution, SourceId};
use proto::v1::Origin;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use subtle::ConstantTimeEq;

use crate::{
    publish::{BATCH_EXECUTIONS_MAX, Publisher},
    store,
};

/// A push token is `fmp_<source>.<secret>`: it names its source, so that one row is read to check it.
const TOKEN_PREFIX: &str = "fmp_";

/// Takes pushed executions.
pub struct Receive {
    /// Where executions go.
    pub publisher: Publisher,
    /// The catalog's copy, and where the last sequence is kept.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A source that may push.
#[derive(Debug)]
pub struct Pusher {
    source: SourceId,
}

impl Pusher {
    /// The source.
    pub fn source(&self) -> &SourceId {
        &self.source
    }
}

/// Pushed executions are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Not a token of a source.
    #[error("the push token is not known")]
    UnknownToken,
    /// The source is paused, removed, or has no token.
    #[error("the source takes no pushed executions")]
    Resting,
    /// The catalog cannot be read.
    #[error("cannot check the push token")]
    Catalog(#[from] CatalogError),
    /// The broker did not take them.
    #[error("cannot publish")]
    Publish(#[from] PublishError),
    /// The database failed.
    #[error("cannot keep the sequence")]
    Store(#[from] sqlx::Error),
}

impl Receive {
    /// The source whose token it is.
    pub async fn admit(&self, token: &SecretString) -> Result<Pusher, ReceiveError> {
        let source = source_of(token).ok_or(ReceiveError::UnknownToken)?;
        let found = catalog::store::find::<Source>(&self.pool, source.as_str()).await?;
        let found = found.ok_or(ReceiveError::Resting)?;
        let expected = found.push_token_sha256.ok_or(ReceiveError::Resting)?;
        let hash: [u8; 32] = Sha256::digest(token.expose_secret().as_bytes()).into();
        // In a time that does not tell how much of it is right.
        if !bool::from(hash.ct_eq(&expected)) {
            return Err(ReceiveError::UnknownToken);
        }
        if found.paused { Err(ReceiveError::Resting) } else { Ok(Pusher { source }) }
    }

    /// Publishes the executions. Returns when the broker has all of them durably. A failure in between leaves
    /// some published: sent again, they are the same executions, and count once.
    pub async fn publish(&self, pusher: &Pusher, executions: Vec<Execution>) -> Result<(), ReceiveError> {
        if executions.is_empty() {
            return Ok(());
        }
        let source = &pusher.source;
        let epoch = store::epoch(&self.pool, source).await?;
        let mut published_through = 0;
        for batch in executions.chunks(BATCH_EXECUTIONS_MAX) {
            let now = self.clock.now();
            let sequence = self.publisher.executions(source, epoch, Origin::Push, now, batch).await?;
            published_through = published_through.max(sequence);
        }
        Ok(store::published(&self.pool, source, published_through).await?)
    }
}

fn source_of(token: &SecretString) -> Option<SourceId> {
    let (source, _) = token.expose_secret().strip_prefix(TOKEN_PREFIX)?.split_once('.')?;
    SourceId::parse(source).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_source() {
        let source = |text: &str| source_of(&text.into()).map(|source| source.to_string());
        assert_eq!(source("fmp_north-n8n.abc").as_deref(), Some("north-n8n"));
        for bad in ["", "fmp_", "fmp_north-n8n", "fm_north.abc", "fmp_.abc", "fmp_North!.abc"] {
            assert_eq!(source(bad), None, "{bad:?}");
        }
    }
}
