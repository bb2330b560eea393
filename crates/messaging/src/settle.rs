//! How a message is settled with the broker: acknowledged, delivered again, or set aside as a dead letter.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{self, AckKind};
use metering::Clock;
use metrics::Counter;
use tokio::time::Instant;

use crate::{
    Bus, Dispose, Disposition, backoff::doubling, dead, error_chain, patience::Patience, place::Place,
};

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Settles the messages of one consumer.
pub(crate) struct Settler {
    bus: Bus,
    clock: Arc<dyn Clock>,
    name: String,
    patience: Patience,
    outcomes: Outcomes,
}

/// Counters of the consumer's messages, by outcome. Looked up once, not for each message.
struct Outcomes {
    handled: Counter,
    ignored: Counter,
    retried: Counter,
    dead: Counter,
}

impl Outcomes {
    fn of(consumer: &str) -> Self {
        let counter = |outcome| metrics::counter!("flowmeter_messages_total", "consumer" => consumer.to_owned(), "outcome" => outcome);
        Self {
            handled: counter("handled"),
            ignored: counter("ignored"),
            retried: counter("retried"),
            dead: counter("dead"),
        }
    }
}

impl Settler {
    pub(crate) fn new(bus: Bus, clock: Arc<dyn Clock>, name: String) -> Self {
        let outcomes = Outcomes::of(&name);
        Self { patience: Patience::new(bus.patience()), bus, clock, name, outcomes }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The handler's effects are committed.
    pub(crate) fn handled(&self, place: Place) -> AckKind {
        self.patience.settled(place);
        self.outcomes.handled.increment(1);
        AckKind::Ack
    }

    /// Handling has failed: the error's disposition decides.
    pub(crate) async fn failed(
        &self,
        message: &jetstream::Message,
        deliveries: u64,
        error: &dyn Dispose,
    ) -> AckKind {
        let failures = match error.disposition() {
            Disposition::Ignore => {
                tracing::debug!(consumer = self.name, error = error.with_sources(), "message ignored");
                self.patience.settled(place_of(message));
                self.outcomes.ignored.increment(1);
                return AckKind::Ack;
            }
            Disposition::DeadLetter => None,
            Disposition::Retry => self.patience.failed(place_of(message), Instant::now()),
            Disposition::Wait => Some(deliveries),
        };
        let Some(failures) = failures else {
            return self.write_dead_letter(message, deliveries, error.with_sources()).await;
        };
        tracing::warn!(
            consumer = self.name,
            deliveries,
            error = error.with_sources(),
            "cannot handle a message; it will be delivered again"
        );
        self.outcomes.retried.increment(1);
        AckKind::Nak(Some(doubling(BACKOFF_FIRST, failures, BACKOFF_MAX)))
    }

    /// Writes the dead letter first, then takes the message off the consumer. After a crash between the two,
    /// the same letter is written again under the same id, which the broker knows for two minutes; a message
    /// that comes again later than that has a second letter. A replay is a new message, with a letter of its
    /// own.
    pub(crate) async fn write_dead_letter(
        &self,
        message: &jetstream::Message,
        deliveries: u64,
        reason: String,
    ) -> AckKind {
        let letter = dead::Dead {
            letter_id: format!("dead:{}:{}", self.name, place_of(message)),
            original_subject: message.subject.to_string(),
            original_payload: message.payload.clone(),
            original_headers: dead::kept_headers(message.headers.as_ref()),
            reason,
            failed_at: self.clock.now(),
            deliveries,
        };
        match dead::publish(&self.bus, letter).await {
            Ok(()) => {
                self.patience.settled(place_of(message));
                self.outcomes.dead.increment(1);
                AckKind::Ack
            }
            Err(error) => {
                tracing::error!(
                    consumer = self.name,
                    error = error_chain(&error),
                    "cannot write a dead letter"
                );
                AckKind::Nak(Some(doubling(BACKOFF_FIRST, deliveries, BACKOFF_MAX)))
            }
        }
    }
}

/// An error with all its sources, whatever its type.
trait WithSources {
    fn with_sources(&self) -> String;
}

impl WithSources for dyn Dispose + '_ {
    fn with_sources(&self) -> String {
        error_chain(&self)
    }
}

/// The message's place in its stream: the same for every delivery.
fn place_of(message: &jetstream::Message) -> Place {
    message.info().map(|info| Place::of(&info)).unwrap_or_default()
}
