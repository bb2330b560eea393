//! Reading a topic as a subscriber does.

use std::marker::PhantomData;

use async_nats::jetstream::consumer::pull;
use futures_util::{StreamExt, stream::SelectAll};
use messaging::Bus;
use prost::Message;
use proto::{consumers, streams::Stream};
use tokio::time::timeout;

use crate::PATIENCE;

/// The messages of one topic, in order within each stream.
pub struct Topic<M> {
    messages: SelectAll<pull::Ordered>,
    name: String,
    marker: PhantomData<M>,
}

impl<M: Message + Default> Topic<M> {
    pub(crate) async fn open(bus: &Bus, streams: impl IntoIterator<Item = Stream>, topic: &str) -> Self {
        let mut messages = SelectAll::new();
        for stream in streams {
            let name = stream.name(bus.namespace());
            let stream = bus.jetstream().get_stream(name).await.expect("the stream exists");
            let consumer =
                stream.create_consumer(consumers::live(bus.namespace(), topic)).await.expect("a consumer");
            messages.push(consumer.messages().await.expect("a subscription"));
        }
        Self { messages, name: topic.to_owned(), marker: PhantomData }
    }

    /// The next message. Panics when none comes.
    pub async fn next(&mut self) -> M {
        self.next_with_payload().await.0
    }

    /// The next message and its bytes.
    pub async fn next_with_payload(&mut self) -> (M, Vec<u8>) {
        let message = timeout(PATIENCE, self.messages.next())
            .await
            .unwrap_or_else(|_| panic!("no message on {} within {PATIENCE:?}", self.name))
            .expect("the subscription continues")
            .expect("a message");
        let payload = message.payload.to_vec();
        (M::decode(payload.as_slice()).expect("a message of this topic"), payload)
    }

    /// The first message that `wanted` accepts; the ones before it are dropped.
    pub async fn next_where(&mut self, mut wanted: impl FnMut(&M) -> bool) -> M {
        loop {
            let message = self.next().await;
            if wanted(&message) {
                return message;
            }
        }
    }
}
