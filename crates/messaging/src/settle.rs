//! What the broker is told about a message: done, deliver again, or put aside as a dead letter.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{self, AckKind};
use metering::Clock;

use crate::{Bus, Dispose, Disposition, consume::chain, dead};

/// Deliveries of a message that may succeed on retry, before it is given up: with the backoff below, after
/// about 15 seconds.
pub const DELIVERIES_MAX: u64 = 6;

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Settles the messages of one consumer.
pub(crate) struct Settler {
    bus: Bus,
    clock: Arc<dyn Clock>,
    name: String,
}

impl Settler {
    pub(crate) fn new(bus: Bus, clock: Arc<dyn Clock>, name: String) -> Self {
        Self { bus, clock, name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the handler decided is committed.
    pub(crate) fn handled(&self) -> AckKind {
        self.count("handled");
        AckKind::Ack
    }

    /// Handling has failed: the error's disposition decides.
    pub(crate) async fn failed(
        &self,
        message: &jetstream::Message,
        deliveries: u64,
        error: &dyn Dispose,
    ) -> AckKind {
        match error.disposition() {
            Disposition::Ignore => {
                tracing::debug!(consumer = self.name, error = error.told(), "message ignored");
                self.count("ignored");
                AckKind::Ack
            }
            Disposition::DeadLetter => self.bury(message, deliveries, error.told()).await,
            Disposition::Retry if deliveries >= DELIVERIES_MAX => {
                self.bury(message, deliveries, error.told()).await
            }
            Disposition::Retry | Disposition::Wait => {
                tracing::warn!(
                    consumer = self.name,
                    deliveries,
                    error = error.told(),
                    "will be delivered again"
                );
                self.count("retried");
                AckKind::Nak(Some(backoff(deliveries)))
            }
        }
    }

    /// Writes the dead letter first and takes the message off the consumer after it: a crash between the two
    /// writes the same letter again, under the same id.
    pub(crate) async fn bury(
        &self,
        message: &jetstream::Message,
        deliveries: u64,
        reason: String,
    ) -> AckKind {
        let sequence = message.info().map(|info| info.stream_sequence).unwrap_or_default();
        let letter = dead::Dead {
            letter_id: format!("dead:{}:{sequence}:{deliveries}", self.name),
            original_subject: message.subject.to_string(),
            original_payload: message.payload.clone(),
            original_headers: dead::kept_headers(message.headers.as_ref()),
            reason,
            failed_at: self.clock.now(),
            deliveries,
        };
        match dead::publish(&self.bus, letter).await {
            Ok(()) => {
                self.count("dead");
                AckKind::Ack
            }
            Err(error) => {
                tracing::error!(consumer = self.name, error = chain(&error), "cannot write a dead letter");
                AckKind::Nak(Some(backoff(deliveries)))
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!("flowmeter_messages_total", "consumer" => self.name.clone(), "outcome" => outcome)
            .increment(1);
    }
}

/// An error with all its sources, whatever its type.
trait Told {
    fn told(&self) -> String;
}

impl Told for dyn Dispose + '_ {
    fn told(&self) -> String {
        chain(&self)
    }
}

fn backoff(deliveries: u64) -> Duration {
    let doublings = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    BACKOFF_FIRST.saturating_mul(2_u32.pow(doublings)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        assert_eq!(backoff(1), Duration::from_millis(500));
        assert_eq!(backoff(3), Duration::from_secs(2));
        assert_eq!(backoff(u64::MAX), BACKOFF_MAX);
    }
}
