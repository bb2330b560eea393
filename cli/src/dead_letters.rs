//! Dead letters as the broker keeps them: read, replayed, removed.

use std::{str::FromStr, time::Duration};

use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    header::NATS_MESSAGE_ID,
    jetstream::{
        consumer::pull,
        context::{GetStreamError, PublishError},
        stream::{ConsumerError, DeleteMessageError, RawMessageError, Stream as Stored},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use messaging::Bus;
use prost::{DecodeError, Message};
use proto::{consumers, streams::Stream, v1};
use tokio::time::timeout;
use uuid::Uuid;

/// The topic of all dead letters.
const TOPIC: &str = "dead";

/// A broker that has not delivered a letter that it holds by then is treated as unavailable.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The broker's own headers begin with this; a replay brings its own.
const BROKER_HEADERS: &str = "Nats-";

/// A dead letter with its place in the stream.
#[derive(Debug)]
pub struct Letter {
    /// Its sequence in the stream: how a person names it.
    pub sequence: u64,
    /// Its content.
    pub content: v1::DeadLetter,
}

/// Dead letters cannot be read, replayed or removed.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The stream does not exist.
    #[error("cannot open the dead letters; have the services been started once?")]
    Open(#[source] GetStreamError),
    /// The stream cannot be read.
    #[error("cannot read the dead letters; may this NATS user create consumers?")]
    Subscribe(#[source] ConsumerError),
    /// Reading broke off.
    #[error("the broker has stopped sending dead letters; try again")]
    Interrupted,
    /// There is no letter of this sequence.
    #[error("there is no dead letter {sequence}; `flowmeter dead list` shows those that are kept")]
    NotFound {
        /// What was asked for.
        sequence: u64,
        /// The broker's error.
        source: RawMessageError,
    },
    /// The letter itself is damaged.
    #[error("dead letter {sequence} cannot be read")]
    Undecodable {
        /// Which one.
        sequence: u64,
        /// Why.
        source: DecodeError,
    },
    /// The letter's subject is not one of this installation.
    #[error("dead letter {sequence} came from {subject}, which is not a subject of this namespace")]
    Foreign {
        /// Which one.
        sequence: u64,
        /// Where it came from.
        subject: String,
    },
    /// A header cannot be sent.
    #[error("dead letter {sequence} has a header that cannot be sent: {name}")]
    Header {
        /// Which one.
        sequence: u64,
        /// The header's name.
        name: String,
    },
    /// The broker did not accept the message.
    #[error("dead letter {sequence} was not replayed, and is kept; may this NATS user publish to {subject}?")]
    Replay {
        /// Which one.
        sequence: u64,
        /// Where it was to go.
        subject: String,
        /// Why.
        source: PublishError,
    },
    /// The broker has the replay, and the letter is still there.
    #[error(
        "dead letter {sequence} was replayed but not removed; may this NATS user delete messages of {stream}?"
    )]
    Remove {
        /// Which one.
        sequence: u64,
        /// The stream's name.
        stream: String,
        /// Why.
        source: DeleteMessageError,
    },
}

/// The dead letters of an installation.
pub struct Letters {
    bus: Bus,
    stream: Stored,
}

impl Letters {
    /// Opens the stream.
    pub async fn open(bus: &Bus) -> Result<Self, LetterError> {
        let name = Stream::Dead.name(bus.namespace());
        let stream = bus.jetstream().get_stream(name).await.map_err(LetterError::Open)?;
        Ok(Self { bus: bus.clone(), stream })
    }

    /// Reads the letters that are there now, the oldest first; only those of one service if it is given.
    pub async fn read(&self, service: Option<&str>) -> Result<Reading, LetterError> {
        let namespace = self.bus.namespace();
        let mut config = consumers::live(namespace, TOPIC);
        if let Some(service) = service {
            config.filter_subject = namespace.dead(service);
        }
        let consumer = self.stream.create_consumer(config).await.map_err(LetterError::Subscribe)?;
        let left = consumer.cached_info().num_pending;
        let last_sequence = self.stream.cached_info().state.last_sequence;
        let messages = consumer.messages().await.map_err(|_| LetterError::Interrupted)?;
        Ok(Reading { messages, last_sequence, at_end: left == 0 })
    }

    /// The letter of this sequence.
    pub async fn get(&self, sequence: u64) -> Result<Letter, LetterError> {
        let message = self
            .stream
            .get_raw_message(sequence)
            .await
            .map_err(|source| LetterError::NotFound { sequence, source })?;
        decode(sequence, message.payload)
    }

    /// Publishes the original to its subject again, with its headers and so in its trace, under an id that
    /// the broker has not seen. Returns when the broker has it.
    pub async fn replay(&self, letter: &Letter) -> Result<(), LetterError> {
        let sequence = letter.sequence;
        let subject = letter.content.original_subject.clone();
        if self.bus.namespace().topic_of(&subject).is_none() {
            return Err(LetterError::Foreign { sequence, subject });
        }
        let headers = headers_of(letter)?;
        let payload = letter.content.original_payload.clone();
        let failed = |source| LetterError::Replay { sequence, subject: subject.clone(), source };
        self.bus
            .jetstream()
            .publish_with_headers(subject.clone(), headers, payload)
            .await
            .map_err(failed)?
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Takes a letter off the stream.
    pub async fn remove(&self, letter: &Letter) -> Result<(), LetterError> {
        let sequence = letter.sequence;
        let stream = self.stream.cached_info().config.name.clone();
        self.stream.delete_message(sequence).await.map(|_| ()).map_err(|source| LetterError::Remove {
            sequence,
            stream,
            source,
        })
    }
}

/// Letters, one after the other.
pub struct Reading {
    messages: pull::Ordered,
    // What was there at the start: a replayed message that fails again is a new letter, and reading on would
    // replay it for ever.
    last_sequence: u64,
    at_end: bool,
}

impl Reading {
    /// The next letter; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Letter>, LetterError> {
        if self.at_end {
            return Ok(None);
        }
        let message = match timeout(READ_TIMEOUT, self.messages.next()).await {
            Ok(Some(Ok(message))) => message,
            _ => return Err(LetterError::Interrupted),
        };
        let (sequence, pending) = {
            let info = message.info().map_err(|_| LetterError::Interrupted)?;
            (info.stream_sequence, info.pending)
        };
        self.at_end = pending == 0 || sequence >= self.last_sequence;
        if sequence > self.last_sequence {
            return Ok(None);
        }
        decode(sequence, message.payload.clone()).map(Some)
    }
}

fn decode(sequence: u64, payload: Bytes) -> Result<Letter, LetterError> {
    let content =
        v1::DeadLetter::decode(payload).map_err(|source| LetterError::Undecodable { sequence, source })?;
    Ok(Letter { sequence, content })
}

fn headers_of(letter: &Letter) -> Result<HeaderMap, LetterError> {
    let mut headers = HeaderMap::new();
    for header in &letter.content.original_headers {
        if header.name.starts_with(BROKER_HEADERS) {
            continue;
        }
        let bad = || LetterError::Header { sequence: letter.sequence, name: header.name.clone() };
        let name = HeaderName::from_str(&header.name).map_err(|_| bad())?;
        let value = HeaderValue::from_str(&header.value).map_err(|_| bad())?;
        headers.append(name, value);
    }
    headers.insert(NATS_MESSAGE_ID, format!("replay:{}:{}", letter.sequence, Uuid::new_v4()).as_str());
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(headers: &[(&str, &str)]) -> Letter {
        let original_headers =
            headers.iter().map(|(name, value)| v1::Header { name: (*name).into(), value: (*value).into() });
        let content =
            v1::DeadLetter { original_headers: original_headers.collect(), ..v1::DeadLetter::default() };
        Letter { sequence: 7, content }
    }

    #[test]
    fn a_replay_keeps_the_trace_and_has_its_own_id() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let letter = letter(&[("traceparent", trace), ("Nats-Msg-Id", "first")]);
        let (one, other) = (headers_of(&letter).unwrap(), headers_of(&letter).unwrap());
        assert_eq!(one.get("traceparent").unwrap().as_str(), trace);
        assert!(one.get(NATS_MESSAGE_ID).unwrap().as_str().starts_with("replay:7:"));
        assert_ne!(one.get(NATS_MESSAGE_ID), other.get(NATS_MESSAGE_ID));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named() {
        let error = headers_of(&letter(&[("a b\r\n", "x")])).unwrap_err();
        assert!(matches!(error, LetterError::Header { sequence: 7, .. }), "{error}");
    }
}
