//! Dead letters: what could not be handled, kept with its reason and replayable.

use async_nats::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use proto::v1;

use crate::{Bus, Outgoing, PublishError};

/// Longest reason that is kept, in characters; a reason may quote input from outside.
const REASON_CHARS_MAX: usize = 1_000;

/// What could not be handled.
#[derive(Debug, Clone)]
pub struct Dead {
    /// Identifies this letter: the same failure of the same message is one letter.
    pub letter_id: String,
    /// A replay publishes to this subject again.
    pub original_subject: String,
    /// The message as it came.
    pub original_payload: Bytes,
    /// Its headers.
    pub original_headers: Vec<v1::Header>,
    /// For a person to read.
    pub reason: String,
    /// When handling was given up.
    pub failed_at: Timestamp,
    /// How often it had been delivered.
    pub deliveries: u64,
}

/// Writes a dead letter and waits until the broker has it.
pub async fn publish(bus: &Bus, dead: Dead) -> Result<(), PublishError> {
    let reason: String = dead.reason.chars().take(REASON_CHARS_MAX).collect();
    tracing::error!(subject = dead.original_subject, %reason, "a message cannot be handled and becomes a dead letter: see flowmeter dead list");
    let letter = v1::DeadLetter {
        service: bus.service().to_owned(),
        original_subject: dead.original_subject,
        original_payload: dead.original_payload,
        original_headers: dead.original_headers,
        reason,
        failed_at: Some(proto::timestamp(dead.failed_at)),
        deliveries: dead.deliveries,
    };
    let subject = bus.namespace().dead(bus.service());
    bus.publish(Outgoing::new(subject, dead.letter_id, &letter, dead.failed_at)).await?;
    metrics::counter!("flowmeter_dead_letters_total").increment(1);
    Ok(())
}

/// Headers as a dead letter keeps them. Message ids are left out: a replay is a new message.
pub(crate) fn kept_headers(headers: Option<&HeaderMap>) -> Vec<v1::Header> {
    let Some(headers) = headers else { return Vec::new() };
    headers
        .iter()
        .filter(|(name, _)| !AsRef::<str>::as_ref(name).starts_with("Nats-"))
        .flat_map(|(name, values)| {
            values.iter().map(move |value| v1::Header { name: name.to_string(), value: value.to_string() })
        })
        .collect()
}
