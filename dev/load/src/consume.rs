//! The streams of executions, read as fast as the broker delivers: an upper bound for any aggregator.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use clap::{Args, ValueEnum};
use futures_util::{StreamExt, stream::SelectAll};
use messaging::Bus;
use prost::Message;
use proto::{streams::Stream, subjects::PARTITIONS, v1};
use serde_json::{Value, json};

use crate::broker::Broker;

/// Messages that one pull asks for.
const MESSAGES_PER_PULL: usize = 500;

/// Deliveries in flight.
const ACK_PENDING_MAX: i64 = 100_000;

/// A consumer of a run that has died is removed after this.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Arguments of `flowmeter-load consume`.
#[derive(Debug, Args)]
pub struct Consume {
    #[command(flatten)]
    broker: Broker,
    /// Work on each message before it is acknowledged.
    #[arg(long)]
    work: Work,
    /// Messages to read.
    #[arg(long)]
    messages: u64,
}

/// Work on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Nothing: the broker's own rate.
    Nothing,
    /// Decodes it.
    Decode,
}

impl Consume {
    /// Reads all messages once, each acknowledged individually.
    pub async fn run(self) -> Result<Value> {
        let bus = self.broker.connect().await?;
        let begun = Instant::now();
        let mut messages = open(&bus).await?;
        let mut executions = 0;
        for _ in 0..self.messages {
            let message = messages.next().await.context("the subscription ended")??;
            if self.work == Work::Decode {
                executions += v1::ExecutionBatch::decode(message.payload.clone())?.executions.len();
            }
            message.ack().await.map_err(|error| anyhow::anyhow!("cannot acknowledge: {error}"))?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(json!({ "messages": self.messages, "executions": executions, "seconds": seconds }))
    }
}

/// Creates consumers over everything that the streams hold.
pub async fn open(bus: &Bus) -> Result<SelectAll<pull::Stream>> {
    let mut messages = SelectAll::new();
    for partition in 0..PARTITIONS {
        let stream = bus.jetstream().get_stream(Stream::Executions(partition).name(bus.namespace())).await?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: ACK_PENDING_MAX,
            inactive_threshold: IDLE_MAX,
            ..pull::Config::default()
        };
        let consumer: PullConsumer = stream.create_consumer(config).await?;
        messages.push(consumer.stream().max_messages_per_batch(MESSAGES_PER_PULL).messages().await?);
    }
    Ok(messages)
}
