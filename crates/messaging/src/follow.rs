//! Live subscriptions: everything that the broker keeps of a topic, then new messages. A broken subscription
//! restarts from the beginning; listeners must tolerate repeats.

use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use prost::Message;
use proto::consumers::{self, LiveReader};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Bus, error_chain};

/// Pause before a broken subscription is renewed.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// A quiet subscription is polled this often: after a first missed heartbeat async-nats 0.51 returns without
/// registering a waker, and would never be polled again.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A listener of a topic.
pub trait Listen: Send + Sync + 'static {
    /// The topic's messages.
    type Message: Message + Default;

    /// Applies a message, which may be a repeat.
    fn apply_message(&self, message: Self::Message) -> Result<(), proto::InvalidMessage>;

    /// Everything that the broker keeps has been received.
    fn caught_up(&self) {}
}

/// The subscription cannot be created, or broke.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("cannot open the stream")]
    Open(#[source] jetstream::context::GetStreamError),
    #[error("cannot create the reader")]
    Create(#[source] jetstream::stream::ConsumerError),
    #[error("cannot subscribe")]
    Subscribe(#[source] jetstream::consumer::StreamError),
    #[error("the subscription broke")]
    Broke(#[source] jetstream::consumer::pull::OrderedError),
    #[error("the subscription ended")]
    Ended,
}

/// Follows the topic of `reader` until `shutdown`.
pub async fn follow<L: Listen>(bus: Bus, reader: LiveReader, listener: L, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = read(&bus, reader, &listener) => if let Err(error) = outcome {
                tracing::warn!(topic = reader.topic, error = error_chain(&error), "subscription ended, subscribing again");
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(RESUBSCRIBE_PAUSE) => {}
        }
    }
}

async fn read<L: Listen>(bus: &Bus, reader: LiveReader, listener: &L) -> Result<(), FollowError> {
    let stream = bus
        .jetstream()
        .get_stream_no_info(reader.stream.name(bus.namespace()))
        .await
        .map_err(FollowError::Open)?;
    let consumer = stream
        .create_consumer(consumers::live(bus.namespace(), reader.topic))
        .await
        .map_err(FollowError::Create)?;
    let kept = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.map_err(FollowError::Subscribe)?;
    if kept == 0 {
        listener.caught_up();
    }
    loop {
        let Ok(next) = timeout(LOOK_INTERVAL, messages.next()).await else { continue };
        let message = next.ok_or(FollowError::Ended)?.map_err(FollowError::Broke)?;
        apply_message(reader, listener, &message);
        if message.info().is_ok_and(|info| info.pending == 0) {
            listener.caught_up();
        }
    }
}

/// State cannot be a dead letter: the next message of the subject replaces it. It is logged and skipped.
fn apply_message<L: Listen>(reader: LiveReader, listener: &L, message: &jetstream::Message) {
    let outcome = match L::Message::decode(message.payload.clone()) {
        Ok(decoded) => listener.apply_message(decoded).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(reason) = outcome {
        metrics::counter!("flowmeter_live_messages_unreadable_total", "topic" => reader.topic).increment(1);
        tracing::warn!(topic = reader.topic, subject = %message.subject, reason, "skipped an unreadable message");
    }
}
