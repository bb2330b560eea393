//! A subscriber of your own: prints when a tenant has reached a share of its limit, each crossing once.
//!
//! ```text
//! NATS_URL=nats://127.0.0.1:4222 NATS_USER=operator NATS_PASSWORD=... cargo run -p flowmeter --example subscriber
//! ```
//!
//! `docs/topics.md` describes what else is published, and what subscribers may rely on.

use std::{collections::HashSet, env, time::Duration};

use anyhow::{Context, Result};
use async_nats::{
    ConnectOptions,
    jetstream::{
        self, AckKind,
        consumer::{AckPolicy, DeliverPolicy, pull},
    },
};
use futures_util::StreamExt;
use prost::Message;
use proto::{Namespace, streams::Stream, v1::ThresholdCrossed};

/// Names this program's place in the stream: after a restart it continues where it stopped, and two processes
/// of this name share the work.
const DURABLE: &str = "example-subscriber";

/// A message that is not acknowledged by then is delivered again.
const ACK_WAIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let client = options().connect(url).await.context("cannot connect to NATS")?;
    let namespace = Namespace::default();
    let stream = jetstream::new(client).get_stream(Stream::Thresholds.name(&namespace)).await?;
    let consumer = stream
        .create_consumer(pull::Config {
            durable_name: Some(DURABLE.to_owned()),
            // From the oldest that is kept; `New` begins with the next one.
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            ..pull::Config::default()
        })
        .await?;

    // Every message may come more than once. A program that acts on them keeps this set in its database, under
    // a unique key, and writes to it in the transaction of the action itself.
    let mut seen = HashSet::new();
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        let verdict = match ThresholdCrossed::decode(message.payload.clone()) {
            Ok(crossing) => {
                if seen.insert(crossing.crossing_id.clone()) {
                    say(&crossing);
                }
                AckKind::Ack
            }
            // It will never be readable: do not ask for it again.
            Err(error) => {
                eprintln!("{}: {error}", message.subject);
                AckKind::Term
            }
        };
        message.ack_with(verdict).await.map_err(anyhow::Error::from_boxed)?;
    }
    Ok(())
}

/// With a user of its own if the broker has users: such a user may read only its own inbox.
fn options() -> ConnectOptions {
    match (env::var("NATS_USER"), env::var("NATS_PASSWORD")) {
        (Ok(user), Ok(password)) => {
            let inbox = format!("_INBOX_{user}");
            ConnectOptions::with_user_and_password(user, password).custom_inbox_prefix(inbox)
        }
        _ => ConnectOptions::new(),
    }
}

fn say(crossing: &ThresholdCrossed) {
    println!(
        "{} has used {} of its {} executions ({} %)",
        crossing.tenant_id, crossing.used, crossing.limit, crossing.threshold_percent
    );
}
