//! `flowmeter watch`.

use std::io::Write;

use anyhow::{Context, Result};
use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, pull},
};
use clap::{Args, ValueEnum};
use futures_util::{
    StreamExt,
    stream::{BoxStream, select_all},
};
use messaging::Bus;
use proto::consumers;
use serde_json::{Value, json};

use crate::event::{Event, Topic};

/// Arguments of `flowmeter watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// What to follow; everything where nothing is said.
    topics: Vec<Topic>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Begin with everything that is kept, not only with the current state.
    #[arg(long)]
    history: bool,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

type Incoming = (Topic, Result<jetstream::Message>);

impl Watch {
    /// Runs until it has shown `--count` events, or until it is interrupted.
    pub async fn run(&self, bus: &Bus, out: &mut dyn Write) -> Result<()> {
        let topics = if self.topics.is_empty() { Topic::value_variants() } else { &self.topics };
        let mut subscriptions = Vec::new();
        for topic in topics {
            subscriptions.push(self.subscribe(bus, *topic).await?);
        }
        let mut incoming = select_all(subscriptions);
        // On the other stream, so that a pipe holds events only.
        eprintln!(
            "Watching {}; Ctrl-C ends it",
            topics.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ")
        );
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0
            && let Some((topic, message)) = incoming.next().await
        {
            self.show(topic, message?, out)?;
            left -= 1;
        }
        Ok(())
    }

    async fn subscribe(&self, bus: &Bus, topic: Topic) -> Result<BoxStream<'static, Incoming>> {
        let name = topic.stream().name(bus.namespace());
        let failed = || format!("cannot read {}; have the services been started once?", topic.name());
        let stream = bus.jetstream().get_stream(&name).await.with_context(failed)?;
        let everything = self.history || topic.is_state();
        let config = pull::OrderedConfig {
            deliver_policy: if everything { DeliverPolicy::All } else { DeliverPolicy::New },
            ..consumers::live(bus.namespace(), topic.name())
        };
        let consumer = stream.create_consumer(config).await.with_context(failed)?;
        let messages = consumer.messages().await.with_context(failed)?;
        Ok(messages.map(move |message| (topic, message.with_context(failed_reading(topic)))).boxed())
    }

    fn show(&self, topic: Topic, message: jetstream::Message, out: &mut dyn Write) -> Result<()> {
        let event = match topic.read(message.payload.clone()) {
            Ok(event) => event,
            Err(error) => {
                eprintln!("A message on {} cannot be read: {error}", message.subject);
                return Ok(());
            }
        };
        if self.json {
            writeln!(out, "{}", as_json(topic, event))?;
        } else {
            let at = event.at.as_deref().unwrap_or("-");
            writeln!(out, "{at:<28} {:<16} {:<16} {}", topic.name(), event.subject, event.text)?;
        }
        // A reader at the other end of a pipe wants the line now.
        out.flush()?;
        Ok(())
    }
}

fn failed_reading(topic: Topic) -> impl Fn() -> String {
    move || format!("the subscription to {} has ended", topic.name())
}

fn as_json(topic: Topic, event: Event) -> Value {
    let mut object = json!({ "topic": topic.name(), "id": event.subject, "at": event.at });
    if let (Some(all), Value::Object(details)) = (object.as_object_mut(), event.json) {
        all.extend(details);
    }
    object
}
