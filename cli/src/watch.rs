//! `flowmeter watch`.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};
use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, pull},
};
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use messaging::Bus;
use proto::consumers;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use crate::event::{Event, Topic};

/// Messages that are read ahead of what is shown.
const READ_AHEAD_MESSAGES: usize = 64;

/// A broker that restarts forgets our place. We resubscribe at this interval, this many times: two minutes.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(2);
const RESUBSCRIBES_MAX: u32 = 60;

/// Arguments of `flowmeter watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// What to follow; everything if missing.
    topics: Vec<Topic>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Begin with everything that is kept, not only with the current state.
    #[arg(long)]
    history: bool,
    /// End after this many events; with `--history` also when no more are kept.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// What a topic's reader sends.
enum Incoming {
    Message(Topic, Box<jetstream::Message>),
    /// All kept messages of the topic have been sent.
    CaughtUp,
    Failed(anyhow::Error),
}

impl Watch {
    /// Runs until it has shown `--count` events, or until it is interrupted.
    pub async fn run(&self, bus: &Bus, out: &mut dyn Write) -> Result<()> {
        let topics = if self.topics.is_empty() { Topic::value_variants() } else { &self.topics };
        let (sender, mut incoming) = mpsc::channel(READ_AHEAD_MESSAGES);
        for topic in topics {
            let mut follower = Follower::of(bus, *topic, self.history).await?;
            let messages = follower.subscribe().await?;
            tokio::spawn(follower.follow(messages, sender.clone()));
        }
        let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        // On standard error, so that a pipe gets events only.
        eprintln!("Watching {}; Ctrl-C ends it", names.join(", "));
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut behind = topics.len();
        let ends_with_history = self.history && self.count.is_some();
        while left > 0
            && !(ends_with_history && behind == 0)
            && let Some(next) = incoming.recv().await
        {
            match next {
                Incoming::Message(topic, message) => {
                    self.show(topic, *message, out)?;
                    left -= 1;
                }
                Incoming::CaughtUp => behind = behind.saturating_sub(1),
                Incoming::Failed(error) => return Err(error),
            }
        }
        Ok(())
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

/// Reads one topic, and finds its place again when the broker has lost it.
struct Follower {
    bus: Bus,
    topic: Topic,
    next_sequence: u64,
    /// The life of the stream that the sequence belongs to.
    life: Option<String>,
    /// Messages that were kept when it subscribed and are not read yet.
    pending: u64,
    is_caught_up: bool,
}

impl Follower {
    async fn of(bus: &Bus, topic: Topic, history: bool) -> Result<Self> {
        let mut follower =
            Self { bus: bus.clone(), topic, next_sequence: 1, life: None, pending: 0, is_caught_up: false };
        if !history && !topic.is_state() {
            follower.next_sequence = follower.stream().await?.cached_info().state.last_sequence + 1;
        }
        Ok(follower)
    }

    async fn stream(&self) -> Result<jetstream::stream::Stream> {
        let name = self.topic.stream().name(self.bus.namespace());
        self.bus.jetstream().get_stream(name).await.with_context(|| self.cannot_read())
    }

    fn cannot_read(&self) -> String {
        format!("cannot read {}; have the services been started once?", self.topic.name())
    }

    async fn subscribe(&mut self) -> Result<pull::Ordered> {
        let stream = self.topic.stream();
        let life = self.bus.life(stream).await.with_context(|| self.cannot_read())?;
        let is_another = self.life.as_ref().is_some_and(|known| *known != life.id);
        if is_another || life.last_sequence.saturating_add(1) < self.next_sequence {
            // The broker was recreated or restored: its sequences have started over.
            self.next_sequence = 1;
        }
        self.life = Some(life.id);
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next_sequence },
            ..consumers::live(self.bus.namespace(), self.topic.name())
        };
        let failed = || format!("cannot read {}; may this NATS user create consumers?", self.topic.name());
        let consumer = self.stream().await?.create_consumer(config).await.with_context(failed)?;
        self.pending = consumer.cached_info().num_pending;
        consumer.messages().await.with_context(failed)
    }

    /// Reads until nobody listens or the broker stays unavailable.
    async fn follow(mut self, mut messages: pull::Ordered, listener: mpsc::Sender<Incoming>) {
        loop {
            if self.pending == 0 && !self.is_caught_up {
                self.is_caught_up = true;
                if listener.send(Incoming::CaughtUp).await.is_err() {
                    return;
                }
            }
            let next = match messages.next().await {
                Some(Ok(message)) => {
                    if let Ok(info) = message.info() {
                        self.next_sequence = info.stream_sequence + 1;
                        self.pending = info.pending;
                    }
                    Incoming::Message(self.topic, Box::new(message))
                }
                _ => match self.resubscribe().await {
                    Ok(again) => {
                        messages = again;
                        continue;
                    }
                    Err(error) => Incoming::Failed(error),
                },
            };
            let ends = matches!(next, Incoming::Failed(_));
            if listener.send(next).await.is_err() || ends {
                return;
            }
        }
    }

    async fn resubscribe(&mut self) -> Result<pull::Ordered> {
        for _ in 1..RESUBSCRIBES_MAX {
            sleep(RESUBSCRIBE_PAUSE).await;
            if let Ok(messages) = self.subscribe().await {
                return Ok(messages);
            }
        }
        self.subscribe().await
    }
}

fn as_json(topic: Topic, event: Event) -> Value {
    let mut object = json!({ "topic": topic.name(), "id": event.subject, "at": event.at });
    if let (Some(all), Value::Object(details)) = (object.as_object_mut(), event.json) {
        all.extend(details);
    }
    object
}
