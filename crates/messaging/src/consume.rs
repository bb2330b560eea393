//! The consume loop: one message at a time, acknowledged after its handler returned.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use async_nats::jetstream::{
    self, AckKind, ErrorCode,
    consumer::{PullConsumer, StreamError, pull},
    stream::ConsumerErrorKind,
};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use metering::Clock;
use prost::Message;
use proto::consumers::{ACK_WAIT, Consumer};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{Bus, Dispose, bus::OCCURRED_AT, error_chain, place::Place, settle::Settler, trace};

/// Messages that one pull asks for: enough to hide the round trip, little enough to hand over on shutdown.
const MESSAGES_PER_PULL: usize = 64;

/// The broker sends a heartbeat this often; two misses recreate the subscription.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// A handler that takes longer reports progress to the broker this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(ACK_WAIT.as_secs() / 3);

/// Pause before a broken subscription is renewed.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// A decoded message with what the broker knows about it.
#[derive(Debug, Clone)]
pub struct Delivery<M> {
    /// The message.
    pub message: M,
    /// The subject it came on.
    pub subject: String,
    /// Its place in its stream.
    pub stream_sequence: u64,
    /// The same, but distinct even after the stream was recreated or restored.
    pub place: Place,
    /// 1 for the first delivery.
    pub deliveries: u64,
    /// When the fact occurred, by its publisher.
    pub occurred_at: Option<Timestamp>,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

/// Handles messages of one type. Must be idempotent: every message may come more than once.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// What it handles.
    type Message: Message + Default;
    /// How it fails.
    type Error: Dispose;

    /// Handles one message. Its effects must be committed when it returns `Ok`.
    async fn handle(&self, delivery: Delivery<Self::Message>) -> Result<(), Self::Error>;
}

/// The consume loop cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The stream does not exist, or the consumer cannot be created.
    #[error("cannot read {consumer}; may this user create consumers?")]
    Create {
        /// The consumer's name.
        consumer: String,
        /// Why.
        source: jetstream::stream::ConsumerError,
    },
    /// The consumer cannot be removed.
    #[error("cannot remove {consumer}; may this user delete consumers?")]
    Remove {
        /// The consumer's name.
        consumer: String,
        /// Why.
        source: jetstream::stream::ConsumerError,
    },
    /// The stream cannot be reached.
    #[error("cannot open the stream of {consumer}")]
    Stream {
        /// The consumer's name.
        consumer: String,
        /// Why.
        source: jetstream::context::GetStreamError,
    },
}

/// Reads `consumer` until `shutdown`, then finishes the current message and returns. Waits for a stream that
/// does not exist yet or a broker that is unavailable; [`Bus::waits`] shows that meanwhile.
pub async fn run<H: Handler>(
    bus: Bus,
    clock: Arc<dyn Clock>,
    consumer: Consumer,
    handler: Arc<H>,
    shutdown: CancellationToken,
) -> Result<(), ConsumeError> {
    let what = format!("the reader {}", consumer.name());
    let opening = bus.waits().until(&what, &shutdown, |_| false, || open(&bus, consumer));
    let Some(mut puller) = opening.await? else { return Ok(()) };
    let reader = Reader {
        settler: Settler::new(bus.clone(), clock, consumer.name()),
        name: consumer.name(),
        handler,
        shutdown: shutdown.clone(),
        marker: PhantomData,
    };
    while !shutdown.is_cancelled() {
        match subscribe(&puller).await {
            Ok(messages) => reader.read(messages).await,
            Err(error) => tracing::warn!(
                consumer = reader.name,
                error = error_chain(&error),
                "cannot subscribe to the stream; trying again"
            ),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(RESUBSCRIBE_PAUSE) => {}
        }
        // The consumer may be gone if the broker was recreated or restored; nobody else recreates it.
        match open(&bus, consumer).await {
            Ok(opened) => puller = opened,
            Err(error) => tracing::warn!(
                consumer = reader.name,
                error = error_chain(&error),
                "cannot reopen the consumer; trying again"
            ),
        }
    }
    Ok(())
}

async fn stream_of(bus: &Bus, consumer: Consumer) -> Result<jetstream::stream::Stream<()>, ConsumeError> {
    bus.jetstream()
        .get_stream_no_info(consumer.stream.name(bus.namespace()))
        .await
        .map_err(|source| ConsumeError::Stream { consumer: consumer.name(), source })
}

/// The durable consumer, created or brought up to date.
pub async fn open(bus: &Bus, consumer: Consumer) -> Result<PullConsumer, ConsumeError> {
    stream_of(bus, consumer)
        .await?
        .create_consumer(consumer.config(bus.namespace()))
        .await
        .map_err(|source| ConsumeError::Create { consumer: consumer.name(), source })
}

/// Removes a consumer that is no longer read. Returns whether it existed. What it has not acknowledged stays
/// in the stream.
pub async fn remove(bus: &Bus, consumer: Consumer) -> Result<bool, ConsumeError> {
    match stream_of(bus, consumer).await?.delete_consumer(&consumer.name()).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_there(&error) => Ok(false),
        Err(source) => Err(ConsumeError::Remove { consumer: consumer.name(), source }),
    }
}

fn is_not_there(error: &jetstream::stream::ConsumerError) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

async fn subscribe(puller: &PullConsumer) -> Result<pull::Stream, StreamError> {
    puller.stream().max_messages_per_batch(MESSAGES_PER_PULL).heartbeat(HEARTBEAT).messages().await
}

struct Reader<H: Handler> {
    settler: Settler,
    name: String,
    handler: Arc<H>,
    shutdown: CancellationToken,
    marker: PhantomData<H>,
}

impl<H: Handler> Reader<H> {
    /// Reads until shutdown or until the subscription breaks.
    async fn read(&self, mut messages: pull::Stream) {
        loop {
            let next = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return hand_back(messages).await,
                next = messages.next() => next,
            };
            match next {
                Some(Ok(message)) => self.settle(message).await,
                Some(Err(error)) => {
                    tracing::warn!(
                        consumer = self.name,
                        error = error_chain(&error),
                        "the subscription broke; subscribing again"
                    );
                    return;
                }
                None => return,
            }
        }
    }

    /// Handles one message and settles it with the broker.
    async fn settle(&self, message: jetstream::Message) {
        let span = tracing::info_span!(
            "consume",
            otel.name = format!("{} consume", self.name),
            consumer = self.name,
            subject = %message.subject
        );
        trace::continue_from(&span, traceparent_of(&message));
        async {
            let answer = self.answer(&message).await;
            // A lost acknowledgement means one more delivery, which the handler must tolerate anyway.
            if let Err(error) = message.ack_with(answer).await {
                tracing::warn!(consumer = self.name, %error, "cannot acknowledge a message; it will be delivered again");
            }
        }
        .instrument(span)
        .await;
    }

    async fn answer(&self, message: &jetstream::Message) -> AckKind {
        let started_at = tokio::time::Instant::now();
        let delivery = match delivery_of::<H::Message>(message) {
            Ok(delivery) => delivery,
            Err(reason) => return self.settler.write_dead_letter(message, 1, reason).await,
        };
        let (deliveries, place) = (delivery.deliveries, delivery.place);
        let outcome = self.handle_with_progress(message, delivery).await;
        metrics::histogram!("flowmeter_message_seconds", "consumer" => self.name.clone())
            .record(started_at.elapsed().as_secs_f64());
        match outcome {
            Ok(()) => self.settler.handled(place),
            Err(error) => self.settler.failed(message, deliveries, &error).await,
        }
    }

    async fn handle_with_progress(
        &self,
        message: &jetstream::Message,
        delivery: Delivery<H::Message>,
    ) -> Result<(), H::Error> {
        let handling = self.handler.handle(delivery);
        tokio::pin!(handling);
        let mut progress = interval(PROGRESS_INTERVAL);
        progress.tick().await;
        loop {
            tokio::select! {
                outcome = &mut handling => return outcome,
                _ = progress.tick() => {
                    let _ = message.ack_with(AckKind::Progress).await;
                }
            }
        }
    }
}

/// Gives fetched messages back at once, so that the next process need not wait for them.
pub(crate) async fn hand_back(mut messages: pull::Stream) {
    while let Some(Some(Ok(message))) = messages.next().now_or_never() {
        if message.ack_with(AckKind::Nak(None)).await.is_err() {
            return;
        }
    }
}

fn traceparent_of(message: &jetstream::Message) -> Option<&str> {
    message.headers.as_ref()?.get(trace::TRACEPARENT).map(|value| value.as_str())
}

pub(crate) fn delivery_of<M: Message + Default>(message: &jetstream::Message) -> Result<Delivery<M>, String> {
    let info = message.info().map_err(|error| format!("no delivery information: {error}"))?;
    let decoded = M::decode(message.payload.clone())
        .map_err(|error| format!("the payload is not a {}: {error}", short_name::<M>()))?;
    let occurred_at = message.headers.as_ref().and_then(|headers| headers.get(OCCURRED_AT));
    Ok(Delivery {
        message: decoded,
        subject: message.subject.to_string(),
        stream_sequence: info.stream_sequence,
        place: Place::of(&info),
        deliveries: u64::try_from(info.delivered).unwrap_or(1),
        occurred_at: occurred_at.and_then(|value| value.as_str().parse().ok()),
        traceparent: traceparent_of(message).map(str::to_owned),
    })
}

fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}
