//! The life of a stream: what distinguishes its sequences from those of another stream of the same name.
//!
//! A sequence is meaningful within one life only. A stream that is recreated starts at 1 again. One that is
//! restored from a backup continues from an older sequence and reuses sequences; its creation time is that of
//! the backup. So a life is the instant of creation and a mark in the stream's metadata, which the stream's
//! owner renews when it finds that the stream was set back. Brokers before 2.10 keep no metadata: there a
//! set-back stream keeps its life.

use async_nats::jetstream::{
    self,
    context::{GetStreamError, UpdateStreamError},
    stream::{DirectGetError, DirectGetErrorKind},
};
use jiff::Timestamp;
use proto::streams::Stream;

use crate::Bus;

/// The key of the mark in a stream's metadata.
const MARK: &str = "flowmeter-life";

/// A stream as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Which life it is; the same text for as long as the stream lives.
    pub id: String,
    /// The last sequence that it has given out.
    pub last_sequence: u64,
}

impl Life {
    /// Whether the stream was created again or set back since it was `before`.
    pub fn is_another_than(&self, before: &Self) -> bool {
        self.id != before.id || self.last_sequence < before.last_sequence
    }
}

/// The life of a stream cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The stream does not exist, or the broker does not answer.
    #[error("cannot inspect the stream {name}")]
    Look {
        /// The stream's name.
        name: String,
        /// Why.
        source: GetStreamError,
    },
    /// A message of the stream cannot be read.
    #[error("cannot read a message of the stream {name}")]
    Read {
        /// The stream's name.
        name: String,
        /// Why.
        source: DirectGetError,
    },
    /// The stream cannot be marked.
    #[error("cannot mark the stream {name} as set back; may this user update it?")]
    Mark {
        /// The stream's name.
        name: String,
        /// Why.
        source: UpdateStreamError,
    },
}

pub(crate) fn life_of(info: &jetstream::stream::Info) -> Life {
    let created = info.created.unix_timestamp_nanos();
    let id = match info.config.metadata.get(MARK) {
        Some(mark) => format!("{created}.{mark}"),
        None => created.to_string(),
    };
    Life { id, last_sequence: info.state.last_sequence }
}

impl Bus {
    /// The stream's life.
    pub async fn life(&self, stream: Stream) -> Result<Life, LifeError> {
        let name = stream.name(self.namespace());
        let found = self.jetstream().get_stream(&name).await;
        let found = found.map_err(|source| LifeError::Look { name, source })?;
        Ok(life_of(found.cached_info()))
    }

    /// When the broker stored the message with this sequence; `None` if the stream does not hold it (any
    /// more). Reveals a sequence that was used twice.
    pub async fn taken_at(&self, stream: Stream, sequence: u64) -> Result<Option<Timestamp>, LifeError> {
        let name = stream.name(self.namespace());
        let handle = self.jetstream().get_stream_no_info(&name).await;
        let handle = handle.map_err(|source| LifeError::Look { name: name.clone(), source })?;
        match handle.direct_get(sequence).await {
            Ok(message) => Ok(Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok()),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(source) => Err(LifeError::Read { name, source }),
        }
    }

    /// The last message of a subject, as its bytes; `None` if the stream holds none.
    pub async fn last_of(
        &self,
        stream: Stream,
        subject: &str,
    ) -> Result<Option<(u64, bytes::Bytes)>, LifeError> {
        let name = stream.name(self.namespace());
        let handle = self.jetstream().get_stream_no_info(&name).await;
        let handle = handle.map_err(|source| LifeError::Look { name: name.clone(), source })?;
        match handle.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some((message.sequence, message.payload))),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(source) => Err(LifeError::Read { name, source }),
        }
    }

    /// Begins another life of the stream because it was set back, unless somebody has done so since `known`.
    /// Returns the life that it has now.
    pub async fn begin_life(&self, stream: Stream, known: &Life, mark: &str) -> Result<Life, LifeError> {
        let name = stream.name(self.namespace());
        let found = self.jetstream().get_stream(&name).await;
        let found = found.map_err(|source| LifeError::Look { name: name.clone(), source })?;
        let now = life_of(found.cached_info());
        if now.id != known.id {
            return Ok(now);
        }
        let mut config = found.cached_info().config.clone();
        config.metadata.insert(MARK.to_owned(), mark.to_owned());
        let marked = self.jetstream().update_stream(config).await;
        let marked = marked.map_err(|source| LifeError::Mark { name, source })?;
        let life = life_of(&marked);
        if life.id == now.id {
            tracing::warn!(
                stream = marked.config.name,
                "this broker cannot mark a stream as set back; use 2.10 or newer"
            );
        }
        Ok(life)
    }
}
