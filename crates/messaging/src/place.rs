//! Where a message stands in its stream.

use std::fmt;

use async_nats::jetstream;

/// Identifies a message of a stream: the same for every delivery, and different for the message with the same
/// sequence in another life of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Place {
    sequence: u64,
    taken_at_ns: i128,
}

impl Place {
    pub(crate) fn of(info: &jetstream::message::Info<'_>) -> Self {
        Self::new(info.stream_sequence, info.published.unix_timestamp_nanos())
    }

    pub(crate) fn new(sequence: u64, taken_at_ns: i128) -> Self {
        Self { sequence, taken_at_ns }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sequence, self.taken_at_ns)
    }
}
