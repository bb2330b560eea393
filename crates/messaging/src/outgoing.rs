//! A message on its way out.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;

use crate::trace;

/// A message with all that publishing needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Built by `proto::Namespace`.
    pub subject: String,
    /// Deterministic: the same fact always has the same id, so that a retry is recognised.
    pub message_id: String,
    /// The encoded message.
    pub payload: Bytes,
    /// The trace that caused it.
    pub traceparent: Option<String>,
    /// When the fact occurred.
    pub occurred_at: Timestamp,
}

impl Outgoing {
    /// A message that continues the current trace.
    pub fn new(subject: String, message_id: String, message: &impl Message, occurred_at: Timestamp) -> Self {
        Self::encoded(subject, message_id, message.encode_to_vec(), occurred_at)
    }

    /// The same for a message that is not protobuf.
    pub fn encoded(subject: String, message_id: String, payload: Vec<u8>, occurred_at: Timestamp) -> Self {
        Self { subject, message_id, payload: payload.into(), traceparent: trace::current(), occurred_at }
    }
}
