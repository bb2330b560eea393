//! The broker with an administrator's rights: plants bad messages, fills streams, and reads them at the end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use async_nats::{ConnectOptions, HeaderMap, ServerAddr, header::NATS_MESSAGE_ID, jetstream};
use futures_util::StreamExt;
use proto::{Namespace, consumers, streams::Stream};
use tokio::runtime::Runtime;

/// The broker may be down; callers retry.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How to connect as the administrator.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The broker, or all of a cluster, separated by commas.
    pub urls: String,
    /// Name and password, if they are not in the URL.
    pub login: Option<(String, String)>,
    /// The certificate of a private authority.
    pub authority: Option<PathBuf>,
}

/// A blocking connection. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    runtime: Arc<Runtime>,
    jetstream: jetstream::Context,
}

impl Broker {
    /// Connects; reconnects by itself afterwards.
    pub fn connect(access: &Access) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let addresses: Vec<ServerAddr> = access
            .urls
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("not a broker's address")?;
        let mut options =
            ConnectOptions::new().request_timeout(Some(ANSWER_WITHIN)).ping_interval(ANSWER_WITHIN);
        let login = access.login.clone().or_else(|| {
            let first = addresses.first()?;
            Some((first.username()?.to_owned(), first.password()?.to_owned()))
        });
        if let Some((user, password)) = login {
            options = options.user_and_password(user, password);
        }
        if let Some(authority) = &access.authority {
            options = options.add_root_certificates(authority.clone()).require_tls(true);
        }
        let client = runtime.block_on(options.connect(addresses)).context("cannot connect to the broker")?;
        // The context spawns a task that awaits its acknowledgements.
        let entered = runtime.enter();
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(ANSWER_WITHIN);
        drop(entered);
        Ok(Self { runtime: Arc::new(runtime), jetstream })
    }

    /// Publishes and waits for the broker's acknowledgement. Retries under the same id are stored once.
    pub fn publish(&self, subject: String, id: &str, payload: Vec<u8>) -> Result<()> {
        self.runtime.block_on(async {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, id);
            let sent = self.jetstream.publish_with_headers(subject, headers, payload.into()).await?;
            sent.await?;
            Ok(())
        })
    }

    /// Limits a stream to the bytes it holds now. Returns its former configuration.
    pub fn fill(&self, stream: Stream) -> Result<jetstream::stream::Config> {
        self.runtime.block_on(async {
            let info =
                self.jetstream.get_stream(stream.name(&Namespace::default())).await?.get_info().await?;
            let bytes_max = i64::try_from(info.state.bytes.max(1))?;
            let full = jetstream::stream::Config { max_bytes: bytes_max, ..info.config.clone() };
            self.jetstream.update_stream(full).await?;
            Ok(info.config)
        })
    }

    /// Restores a stream's configuration.
    pub fn make_room(&self, config: &jetstream::stream::Config) -> Result<()> {
        self.runtime.block_on(async { Ok(self.jetstream.update_stream(config.clone()).await.map(drop)?) })
    }

    /// Whether everything was delivered to the services' own consumers and acknowledged.
    pub fn is_drained(&self) -> Result<bool> {
        self.runtime.block_on(async {
            let namespace = Namespace::default();
            for stream in Stream::all() {
                let stream = self.jetstream.get_stream(stream.name(&namespace)).await?;
                let mut consumers = stream.consumers();
                while let Some(consumer) = consumers.next().await {
                    let consumer = consumer?;
                    let waits = consumer.num_pending > 0 || consumer.num_ack_pending > 0;
                    if waits && consumer.config.durable_name.is_some() {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })
    }

    /// Everything on a topic: the payloads, in order. `topic` is e.g. `usage.threshold`.
    pub fn read(&self, stream: Stream, topic: &str) -> Result<Vec<Vec<u8>>> {
        self.runtime.block_on(async {
            let namespace = Namespace::default();
            let mut stream = self.jetstream.get_stream(stream.name(&namespace)).await?;
            let mut payloads = Vec::new();
            if stream.info().await?.state.messages == 0 {
                return Ok(payloads);
            }
            let consumer = stream.create_consumer(consumers::live(&namespace, topic)).await?;
            let mut messages = consumer.messages().await?;
            while let Some(message) = messages.next().await {
                let message = message?;
                payloads.push(message.payload.to_vec());
                if message.info().map_err(|error| anyhow::anyhow!("{error}"))?.pending == 0 {
                    break;
                }
            }
            Ok(payloads)
        })
    }
}
