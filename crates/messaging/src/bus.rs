//! The connection to the broker.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions, HeaderMap, ServerAddr,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self, ErrorCode,
        context::{GetStreamErrorKind, PublishErrorKind},
    },
};
use proto::{
    Namespace,
    streams::{Capacity, ExecutionsBefore, Stream},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{Dispose, Disposition, Outgoing, PATIENCE, trace};

/// The header that says when the fact occurred (RFC 3339).
pub const OCCURRED_AT: &str = "Flowmeter-Occurred-At";

/// Acknowledgements awaited at once; publishing waits beyond that (bounds memory, not speed).
const ACKS_IN_FLIGHT_MAX: usize = 4_096;

/// A broker that has not answered by then is treated as away. `sync_interval: always` under load needs seconds.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the broker is, and who is asking.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// e.g. `nats://127.0.0.1:4222`.
    pub url: String,
    /// The service's own user, where the broker has permissions.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<SecretString>,
    /// How much the streams may hold, where this connection creates them.
    pub capacity: Capacity,
}

impl BusConfig {
    /// Who connects: the user that is set, else the one in the URL, which the client library passes over.
    fn login(&self) -> Option<(String, String)> {
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            return Some((user.clone(), password.expose_secret().to_owned()));
        }
        let address: ServerAddr = self.url.parse().ok()?;
        Some((address.username()?.to_owned(), address.password()?.to_owned()))
    }
}

/// A connection to the broker, cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
    patience: Duration,
}

struct Inner {
    client: Client,
    jetstream: jetstream::Context,
    namespace: Namespace,
    service: &'static str,
    capacity: Capacity,
}

/// The broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No connection.
    #[error("cannot connect to NATS at {url}; is it running, and are user and password right?")]
    Connect {
        /// Without credentials.
        url: String,
        /// Why.
        source: async_nats::ConnectError,
    },
    /// A stream is not there and cannot be made.
    #[error("cannot create the stream {name}; is JetStream on, and may this user create streams?")]
    Stream {
        /// The stream's name.
        name: String,
        /// Why.
        source: jetstream::context::CreateStreamError,
    },
    /// Whether there is a stream of the version before is not known.
    #[error("cannot look for the stream {name} of the version before; is JetStream on?")]
    LookAside {
        /// The stream's name.
        name: String,
        /// Why.
        source: jetstream::context::GetStreamError,
    },
    /// The stream of the version before keeps the subjects of executions.
    #[error("cannot set the stream {name} of the version before aside; may this user update streams?")]
    SetAside {
        /// The stream's name.
        name: String,
        /// Why.
        source: jetstream::context::UpdateStreamError,
    },
}

/// A message was not taken by the broker, or that is not known.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish to {subject}")]
pub struct PublishError {
    subject: String,
    source: jetstream::context::PublishError,
}

impl Dispose for PublishError {
    fn disposition(&self) -> Disposition {
        match self.source.kind() {
            PublishErrorKind::MaxPayloadExceeded => Disposition::DeadLetter,
            _ => Disposition::Wait,
        }
    }
}

impl Bus {
    /// Connects as `service`. Reconnects by itself afterwards.
    pub async fn connect(
        service: &'static str,
        namespace: Namespace,
        config: &BusConfig,
    ) -> Result<Self, ConnectError> {
        // Permissions name this prefix: a service can read only its own answers.
        let mut options = ConnectOptions::new()
            .name(format!("flowmeter-{service}"))
            .custom_inbox_prefix(format!("_INBOX_{service}"));
        if let Some((user, password)) = config.login() {
            options = options.user_and_password(user, password);
        }
        let client = options
            .connect(&config.url)
            .await
            .map_err(|source| ConnectError::Connect { url: without_credentials(&config.url), source })?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(PUBLISH_TIMEOUT)
            .ack_timeout(PUBLISH_TIMEOUT)
            .max_ack_inflight(ACKS_IN_FLIGHT_MAX)
            .backpressure_on_inflight(true)
            .build(client.clone());
        let inner = Inner { client, jetstream, namespace, service, capacity: config.capacity };
        Ok(Self { inner: Arc::new(inner), patience: PATIENCE })
    }

    /// The same connection; what is consumed over it waits this long for what it refers to.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a message waits for what it refers to, before it is a dead letter.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Creates the streams of the contract that are not there yet.
    pub async fn ensure_streams(&self) -> Result<(), ConnectError> {
        let Inner { jetstream, namespace, capacity, .. } = &*self.inner;
        let is_before = self.set_aside().await?;
        for stream in Stream::all() {
            let config = if is_before {
                ExecutionsBefore.copied_into(stream, namespace, *capacity)
            } else {
                stream.config(namespace, *capacity)
            };
            let name = config.name.clone();
            jetstream
                .get_or_create_stream(config)
                .await
                .map_err(|source| ConnectError::Stream { name, source })?;
        }
        Ok(())
    }

    /// Sets the stream of the version before aside, so that its subjects are free for the streams that take its place, and
    /// nothing that it holds is lost. Returns whether it is there.
    async fn set_aside(&self) -> Result<bool, ConnectError> {
        let Inner { jetstream, namespace, .. } = &*self.inner;
        let name = ExecutionsBefore.name(namespace);
        let stream = match jetstream.get_stream(&name).await {
            Ok(stream) => stream,
            Err(error) if is_not_there(&error) => return Ok(false),
            Err(source) => return Err(ConnectError::LookAside { name, source }),
        };
        let config = stream.cached_info().config.clone();
        let subjects = ExecutionsBefore.subjects_aside(namespace);
        if config.subjects != subjects {
            tracing::info!(stream = name, "set aside; the streams of the partitions copy what it holds");
            jetstream
                .update_stream(jetstream::stream::Config { subjects, ..config })
                .await
                .map_err(|source| ConnectError::SetAside { name, source })?;
        }
        Ok(true)
    }

    /// Publishes one message and waits until the broker has it durably. Returns its sequence in its stream;
    /// the first one's sequence where the broker recognised a repeat.
    pub async fn publish(&self, message: Outgoing) -> Result<u64, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, message.message_id.as_str());
        headers.insert(OCCURRED_AT, message.occurred_at.to_string());
        if let Some(traceparent) = &message.traceparent {
            headers.insert(trace::TRACEPARENT, traceparent.as_str());
        }
        let failed = |source| PublishError { subject: message.subject.clone(), source };
        let acknowledgement = self
            .inner
            .jetstream
            .publish_with_headers(message.subject.clone(), headers, message.payload)
            .await
            .map_err(failed)?;
        let acknowledgement = acknowledgement.await.map_err(failed)?;
        metrics::counter!("flowmeter_messages_published_total").increment(1);
        Ok(acknowledgement.sequence)
    }

    /// Whether the connection stands.
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The subjects and streams of this installation.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// The service that this connection belongs to.
    pub fn service(&self) -> &'static str {
        self.inner.service
    }

    /// Plain NATS, for questions and answers.
    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    /// JetStream, for what this crate does not wrap.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.inner.jetstream
    }
}

fn is_not_there(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{BusConfig, without_credentials};

    #[test]
    fn errors_show_no_credentials() {
        assert_eq!(without_credentials("nats://user:secret@host:4222"), "nats://host:4222");
        assert_eq!(without_credentials("nats://host:4222"), "nats://host:4222");
    }

    #[test]
    fn a_user_that_is_set_wins_over_the_one_in_the_url() {
        let login = |url: &str, set: Option<&str>| {
            let (user, password) = (set.map(str::to_owned), set.map(Into::into));
            BusConfig { url: url.to_owned(), user, password, capacity: Default::default() }.login()
        };
        let pair = |text: &str| Some((text.to_owned(), text.to_owned()));
        assert_eq!(login("nats://url:url@host:4222", None), pair("url"));
        assert_eq!(login("nats://url:url@host:4222", Some("set")), pair("set"));
        assert_eq!(login("nats://host:4222", None), None);
    }
}
