//! Takes many messages of one consumer and settles them together: for a service that handles a batch in one
//! transaction. The rules are those of [`crate::consume`]: acknowledged after the commit, retried with backoff,
//! dead-lettered with the reason.

use std::{marker::PhantomData, sync::Arc};

use async_nats::jetstream::{
    self, AckKind,
    consumer::{PullConsumer, StreamError, pull},
};
use futures_util::StreamExt;
use metering::Clock;
use prost::Message;
use proto::consumers::Consumer;

use crate::{
    Bus, Dispose,
    consume::{ConsumeError, Delivery, HEARTBEAT, delivery_of, hand_back, open},
    error_chain,
    settle::Settler,
};

/// Messages that one pull asks for. With the largest packs this bounds the unread ones to about five
/// megabytes.
const MESSAGES_PER_PULL: usize = 128;

/// Reads one consumer.
pub struct Intake<M> {
    bus: Bus,
    consumer: Consumer,
    settler: Arc<Settler>,
    puller: PullConsumer,
    /// The last subscription broke: the consumer may be gone with it.
    broke: bool,
    messages: Option<pull::Stream>,
    marker: PhantomData<fn() -> M>,
}

/// A message that was taken and has to be settled, by exactly one of its methods. One that is dropped is delivered
/// again after the consumer's ack wait.
pub struct InHand<M> {
    /// The decoded message.
    pub delivery: Delivery<M>,
    settler: Arc<Settler>,
    raw: jetstream::Message,
}

impl<M: Message + Default> Intake<M> {
    /// Creates the consumer or brings it up to date.
    pub async fn open(bus: Bus, clock: Arc<dyn Clock>, consumer: Consumer) -> Result<Self, ConsumeError> {
        let puller = open(&bus, consumer).await?;
        let settler = Arc::new(Settler::new(bus.clone(), clock, consumer.name()));
        Ok(Self { bus, consumer, settler, puller, broke: false, messages: None, marker: PhantomData })
    }

    /// The next message that can be decoded; the others become dead letters on the way. `None` if the
    /// subscription broke: call again after a pause to resubscribe. Dropping the future loses no message.
    pub async fn next(&mut self) -> Option<InHand<M>> {
        loop {
            let messages = match &mut self.messages {
                Some(messages) => messages,
                none => {
                    if self.broke {
                        self.puller = open(&self.bus, self.consumer)
                            .await
                            .inspect_err(|error| {
                                tracing::warn!(
                                    consumer = self.settler.name(),
                                    error = error_chain(error),
                                    "cannot reopen the consumer; trying again"
                                );
                            })
                            .ok()?;
                    }
                    // Until the subscription is up: after a future that is dropped here, or fails, the next
                    // one opens again.
                    self.broke = true;
                    let messages = subscribe(&self.puller, self.settler.name()).await?;
                    self.broke = false;
                    none.insert(messages)
                }
            };
            match messages.next().await {
                Some(Ok(raw)) => match delivery_of::<M>(&raw) {
                    Ok(delivery) => {
                        return Some(InHand { delivery, settler: self.settler.clone(), raw });
                    }
                    Err(reason) => {
                        let answer = self.settler.write_dead_letter(&raw, 1, reason).await;
                        settle(self.settler.name(), &raw, answer).await;
                    }
                },
                Some(Err(error)) => {
                    tracing::warn!(
                        consumer = self.settler.name(),
                        error = error_chain(&error),
                        "the subscription broke; subscribing again"
                    );
                    (self.messages, self.broke) = (None, true);
                    return None;
                }
                None => {
                    (self.messages, self.broke) = (None, true);
                    return None;
                }
            }
        }
    }

    /// Gives back what was fetched and not yet taken, so that another process need not wait for it.
    pub async fn hand_back(self) {
        if let Some(messages) = self.messages {
            hand_back(messages).await;
        }
    }
}

impl<M> InHand<M> {
    /// Its effects are committed.
    pub async fn handled(self) {
        let answer = self.settler.handled(self.delivery.place);
        settle(self.settler.name(), &self.raw, answer).await;
    }

    /// Handling has failed: the error's disposition decides what happens to it.
    pub async fn failed(self, error: &dyn Dispose) {
        let answer = self.settler.failed(&self.raw, self.delivery.deliveries, error).await;
        settle(self.settler.name(), &self.raw, answer).await;
    }

    /// Not started: another process may take it at once.
    pub async fn hand_back(self) {
        settle(self.settler.name(), &self.raw, AckKind::Nak(None)).await;
    }

    /// Still in progress: the consumer's ack wait starts over.
    pub async fn progress(&self) {
        settle(self.settler.name(), &self.raw, AckKind::Progress).await;
    }

    /// Its bytes, for a dead letter of a part of it.
    pub fn payload(&self) -> &[u8] {
        &self.raw.payload
    }
}

async fn subscribe(puller: &PullConsumer, name: &str) -> Option<pull::Stream> {
    let subscribed: Result<_, StreamError> =
        puller.stream().max_messages_per_batch(MESSAGES_PER_PULL).heartbeat(HEARTBEAT).messages().await;
    subscribed
        .inspect_err(|error| {
            tracing::warn!(
                consumer = name,
                error = error_chain(error),
                "cannot subscribe to the stream; trying again"
            )
        })
        .ok()
}

/// A lost acknowledgement means one more delivery, which the handler must tolerate anyway.
async fn settle(consumer: &str, message: &jetstream::Message, answer: AckKind) {
    if let Err(error) = message.ack_with(answer).await {
        tracing::warn!(consumer, %error, "cannot acknowledge a message; it will be delivered again");
    }
}
