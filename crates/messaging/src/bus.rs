//! The connection to the broker.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{self, context::PublishErrorKind},
};
use proto::{Namespace, cloud_events, streams::Capacity};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    AddressError, Dispose, Disposition, Outgoing, PATIENCE, Waits,
    address::{self, Brokers},
    trace,
};

/// The header that says when the fact occurred (RFC 3339).
pub const OCCURRED_AT: &str = "Flowmeter-Occurred-At";

/// The header that says how a message is encoded, for messages that are not protobuf.
const CONTENT_TYPE: &str = "content-type";

/// Acknowledgements awaited at once; publishing waits beyond that (bounds memory, not speed).
const ACKS_IN_FLIGHT_MAX: usize = 4_096;

/// A broker that has not answered by then is treated as unavailable. `sync_interval: always` under load needs
/// seconds.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker that leaves the network refuses nothing. It counts as lost when two pings in a row are unanswered: 10 to 15
/// seconds, instead of 2 to 3 minutes with the library's interval.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Where the broker is, and who connects.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// e.g. `nats://127.0.0.1:4222`; several brokers of one cluster, separated by commas.
    pub url: String,
    /// The service's own user, if the broker has permissions.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<SecretString>,
    /// How much the streams may hold, if this connection creates them.
    pub capacity: Capacity,
}

impl BusConfig {
    /// Who connects: the user that is set, else the one in the URL, which the client library ignores.
    fn login(&self, brokers: &Brokers) -> Option<(String, String)> {
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            return Some((user.clone(), password.expose_secret().to_owned()));
        }
        brokers.login.clone()
    }
}

/// A connection to the broker, cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
    patience: Duration,
    waits: Waits,
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
    /// The address is malformed.
    #[error("{0}")]
    Address(AddressError),
}

impl ConnectError {
    /// Whether the configuration has to be changed; everything else is worth waiting for.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Connect { source, .. } => matches!(
                source.kind(),
                ConnectErrorKind::ServerParse
                    | ConnectErrorKind::Authentication
                    | ConnectErrorKind::AuthorizationViolation
            ),
        }
    }
}

/// The broker did not accept a message, or it is not known whether it did.
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
            .ping_interval(PING_INTERVAL)
            .custom_inbox_prefix(format!("_INBOX_{service}"));
        let brokers = address::parse(&config.url).map_err(ConnectError::Address)?;
        if let Some((user, password)) = config.login(&brokers) {
            options = options.user_and_password(user, password);
        }
        let client = options
            .connect(brokers.servers)
            .await
            .map_err(|source| ConnectError::Connect { url: brokers.shown, source })?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(PUBLISH_TIMEOUT)
            .ack_timeout(PUBLISH_TIMEOUT)
            .max_ack_inflight(ACKS_IN_FLIGHT_MAX)
            .backpressure_on_inflight(true)
            .build(client.clone());
        let inner = Inner { client, jetstream, namespace, service, capacity: config.capacity };
        Ok(Self { inner: Arc::new(inner), patience: PATIENCE, waits: Waits::default() })
    }

    /// The same connection; its readers note in `waits` what they wait for at their start.
    #[must_use]
    pub fn with_waits(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    /// What this process waits for.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// The same connection; messages consumed over it wait this long for what they refer to.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a message waits for what it refers to, before it is a dead letter.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Publishes one message and waits until the broker has it durably. Returns its sequence in its stream;
    /// for a repeat that the broker recognised, the sequence of the first one.
    pub async fn publish(&self, message: Outgoing) -> Result<u64, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, message.message_id.as_str());
        headers.insert(OCCURRED_AT, message.occurred_at.to_string());
        if let Some(traceparent) = &message.traceparent {
            headers.insert(trace::TRACEPARENT, traceparent.as_str());
        }
        if self.inner.namespace.is_cloud_event(&message.subject) {
            headers.insert(CONTENT_TYPE, cloud_events::CONTENT_TYPE);
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

    /// Whether the connection is up.
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

    /// How much the streams may hold.
    pub(crate) fn capacity(&self) -> Capacity {
        self.inner.capacity
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_is_set_wins_over_the_one_in_the_url() {
        let login = |url: &str, set: Option<&str>| {
            let (user, password) = (set.map(str::to_owned), set.map(Into::into));
            let config = BusConfig { url: url.to_owned(), user, password, capacity: Default::default() };
            config.login(&address::parse(url).unwrap())
        };
        let pair = |text: &str| Some((text.to_owned(), text.to_owned()));
        assert_eq!(login("nats://url:url@host:4222", None), pair("url"));
        assert_eq!(login("nats://url:url@host:4222", Some("set")), pair("set"));
        assert_eq!(login("nats://host:4222", None), None);
        assert_eq!(login("nats://one:4222,nats://url:url@two:4222", None), pair("url"));
    }
}
