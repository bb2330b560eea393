//! Keeps the usage, the crossings and the closed periods that Flowmeter publishes in a database of its own.
//!
//! `flowmeter-subscriber` runs until it is stopped; `flowmeter-subscriber usage` prints what it has stored.

mod store;
mod table;

use std::{env, time::Duration};

use anyhow::{Context, Result};
use async_nats::{
    ConnectOptions,
    jetstream::{self, AckKind, consumer::pull},
};
use futures_util::StreamExt;
use prost::Message;
use proto::{
    Namespace,
    streams::Stream,
    v1::{PeriodEvent, ThresholdCrossed, UsageCounted},
};

use crate::store::Store;

/// Pause before a broker that has failed is asked again.
const RETRY: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = env::var("SUBSCRIBER_DB").unwrap_or_else(|_| "subscriber.db".to_owned());
    if env::args().nth(1).as_deref() == Some("usage") {
        return table::print(&Store::open(&path)?);
    }
    let url = env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let user = env::var("NATS_USER").context("set NATS_USER: `flowmeter subscriber NAME` makes a user")?;
    let password = env::var("NATS_PASSWORD").context("set NATS_PASSWORD")?;
    let client = ConnectOptions::with_user_and_password(user.clone(), password)
        // The user may read only this inbox. The client reconnects by itself, for as long as it takes.
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .retry_on_initial_connect()
        .connect(url)
        .await?;
    let jetstream = jetstream::new(client);
    tokio::try_join!(
        follow(&jetstream, &user, Stream::UsageState, Store::open(&path)?),
        follow(&jetstream, &user, Stream::Thresholds, Store::open(&path)?),
        follow(&jetstream, &user, Stream::Periods, Store::open(&path)?),
    )?;
    Ok(())
}

/// Reads one stream for ever, and begins again where it stopped whenever the broker fails.
async fn follow(jetstream: &jetstream::Context, user: &str, stream: Stream, mut store: Store) -> Result<()> {
    loop {
        let Err(error) = read(jetstream, user, stream, &mut store).await else { continue };
        // What the broker refuses is tried again; a store that fails is not: nothing may be acknowledged.
        if error.is::<rusqlite::Error>() {
            return Err(error);
        }
        eprintln!("{stream:?}: {error:#}; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

async fn read(jetstream: &jetstream::Context, user: &str, stream: Stream, store: &mut Store) -> Result<()> {
    // Its permissions name this consumer and no other. The broker keeps its place in the stream.
    let consumer = jetstream
        .get_stream_no_info(stream.name(&Namespace::default()))
        .await?
        .create_consumer(pull::Config { durable_name: Some(user.to_owned()), ..pull::Config::default() })
        .await?;
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        // Every message may come more than once: `store` recognises repeats. Acknowledged only after its commit.
        let stored = match stream {
            Stream::UsageState => UsageCounted::decode(&*message.payload).map(|usage| store.usage(&usage)),
            Stream::Thresholds => {
                ThresholdCrossed::decode(&*message.payload).map(|crossed| store.crossing(&crossed))
            }
            _ => PeriodEvent::decode(&*message.payload).map(|period| store.period(&period)),
        };
        let answer = match stored {
            Ok(stored) => stored.map(|()| AckKind::Ack)?,
            // It will never be readable: do not ask for it again.
            Err(error) => {
                eprintln!("{}: {error}", message.subject);
                AckKind::Term
            }
        };
        message.ack_with(answer).await.map_err(anyhow::Error::from_boxed)?;
    }
    Ok(())
}
