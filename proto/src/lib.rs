//! The contract between the services, and with every other subscriber: the messages (protobuf, version 1),
//! the subjects they travel on, the streams that keep them and the consumers that read them.
//!
//! Subjects, streams and consumers are built here and nowhere else. A published message never changes its
//! bytes: `tests/wire.rs` checks them.

pub mod cloud_events;
pub mod consumers;
mod convert;
pub mod streams;
pub mod subjects;
pub mod subscribers;
mod timestamps;

pub use convert::InvalidMessage;
pub use subjects::Namespace;
pub use timestamps::{InvalidTimestamp, instant, required_instant, timestamp};

/// The messages of version 1.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/flowmeter.v1.rs"));
}
