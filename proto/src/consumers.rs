//! Every durable consumer of the services. Your own subscribers bring theirs: see `docs/topics.md`.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};

use uuid::Uuid;

use crate::{Namespace, streams::Stream, subjects::PARTITIONS};

/// How long a delivery may go without an acknowledgement or a heartbeat before it is delivered again. The
/// messages that a killed process had fetched wait this long. Slow handlers send heartbeats well within it.
pub const ACK_WAIT: Duration = Duration::from_secs(15);

/// The same for a partition of executions: after this time another replica counts what a killed one had
/// fetched. Longer than a transaction takes; slower ones send heartbeats.
pub const EXECUTIONS_ACK_WAIT: Duration = Duration::from_secs(5);

/// Deliveries in flight to one consumer: enough for several batches, little enough to bound memory.
const ACK_PENDING_MAX: i64 = 1_000;

/// The same for a partition of executions: three transactions of messages that hold one execution each.
const EXECUTIONS_ACK_PENDING_MAX: i64 = 20_000;

/// A durable consumer: who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer {
    /// The reading service.
    pub service: &'static str,
    /// What it reads.
    pub stream: Stream,
    /// The topic it reads, if the stream carries several.
    topic: Option<&'static str>,
}

impl Consumer {
    /// The collector reads the catalog.
    pub const COLLECTOR_CATALOG: Self = Self::of("collector", Stream::Catalog);
    /// The collector reads rows again.
    pub const COLLECTOR_ROWS: Self = Self::of("collector", Stream::Rows);
    /// The collector learns which tenants are near their limit.
    pub const COLLECTOR_USAGE: Self = Self::of("collector", Stream::UsageState);
    /// The aggregator learns how complete sources are.
    pub const AGGREGATOR_SYNCED: Self = Self::topic("aggregator", Stream::SourceState, "source.synced");
    /// The aggregator reads the catalog.
    pub const AGGREGATOR_CATALOG: Self = Self::of("aggregator", Stream::Catalog);
    /// Billing reads usage.
    pub const BILLING_USAGE: Self = Self::of("billing", Stream::UsageState);
    /// Billing reads closed periods and late usage.
    pub const BILLING_PERIODS: Self = Self::of("billing", Stream::Periods);
    /// Billing reads the catalog.
    pub const BILLING_CATALOG: Self = Self::of("billing", Stream::Catalog);
    /// Alerts reads crossings.
    pub const ALERTS_THRESHOLDS: Self = Self::of("alerts", Stream::Thresholds);
    /// Alerts reads the catalog.
    pub const ALERTS_CATALOG: Self = Self::of("alerts", Stream::Catalog);
    /// Alerts notifies the operator of gaps.
    pub const ALERTS_GAPS: Self = Self::of("alerts", Stream::SourceEvents);
    /// Alerts notifies the operator of sources whose poll contradicts what was pushed.
    pub const ALERTS_CONTRADICTIONS: Self = Self::of("alerts", Stream::Contradictions);
    /// Alerts learns that a source is swept again, and what it may lose.
    pub const ALERTS_SYNCED: Self = Self::topic("alerts", Stream::SourceState, "source.synced");
    /// Alerts learns that a source cannot be swept.
    pub const ALERTS_FAILING: Self = Self::topic("alerts", Stream::SourceState, "source.failing");
    /// Alerts notifies the operator of dead letters.
    pub const ALERTS_DEAD: Self = Self::of("alerts", Stream::Dead);
    /// Alerts notifies the operator of failed reports and of drift.
    pub const ALERTS_BILLING: Self = Self::of("alerts", Stream::Billing);
    /// Alerts notifies the operator of workflows that seem to start themselves.
    pub const ALERTS_LOOPS: Self = Self::of("alerts", Stream::Admissions);
    /// The gateway keeps final figures.
    pub const GATEWAY_PERIODS: Self = Self::of("gateway", Stream::Periods);
    /// The gateway keeps gaps to show them.
    pub const GATEWAY_GAPS: Self = Self::of("gateway", Stream::SourceEvents);

    /// The aggregator counts the executions of one partition, below [`crate::subjects::PARTITIONS`].
    pub const fn aggregator_executions(partition: u32) -> Self {
        Self::of("aggregator", Stream::Executions(partition))
    }

    const WHOLE: [Self; 19] = [
        Self::COLLECTOR_CATALOG,
        Self::COLLECTOR_ROWS,
        Self::COLLECTOR_USAGE,
        Self::AGGREGATOR_SYNCED,
        Self::AGGREGATOR_CATALOG,
        Self::BILLING_USAGE,
        Self::BILLING_PERIODS,
        Self::BILLING_CATALOG,
        Self::ALERTS_THRESHOLDS,
        Self::ALERTS_CATALOG,
        Self::ALERTS_GAPS,
        Self::ALERTS_CONTRADICTIONS,
        Self::ALERTS_SYNCED,
        Self::ALERTS_FAILING,
        Self::ALERTS_DEAD,
        Self::ALERTS_BILLING,
        Self::ALERTS_LOOPS,
        Self::GATEWAY_PERIODS,
        Self::GATEWAY_GAPS,
    ];

    /// Every durable consumer of the services. The broker's permissions are generated from it: one that is
    /// missing here is refused in production.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self::aggregator_executions).chain(Self::WHOLE)
    }

    const fn of(service: &'static str, stream: Stream) -> Self {
        Self { service, stream, topic: None }
    }

    const fn topic(service: &'static str, stream: Stream, topic: &'static str) -> Self {
        Self { service, stream, topic: Some(topic) }
    }

    /// The durable name; also what metrics and logs call the consumer.
    pub fn name(&self) -> String {
        let stream = match self.topic {
            Some(topic) => topic.replace('.', "-"),
            None => self.stream.name(&Namespace::default()).to_ascii_lowercase().replace("flowmeter_", ""),
        };
        match self.partition() {
            Some(partition) => format!("{}-executions-{partition}", self.service),
            None => format!("{}-{stream}", self.service),
        }
    }

    /// The partition it reads, if it reads executions.
    fn partition(&self) -> Option<u32> {
        match self.stream {
            Stream::Executions(partition) => Some(partition),
            _ => None,
        }
    }

    /// How long a delivery may go without an acknowledgement or a heartbeat.
    pub fn ack_wait(&self) -> Duration {
        if self.partition().is_some() { EXECUTIONS_ACK_WAIT } else { ACK_WAIT }
    }

    /// The subjects that it reads; empty if it reads the whole stream.
    pub fn filter(&self, namespace: &Namespace) -> String {
        self.topic.map(|topic| namespace.all(topic)).unwrap_or_default()
    }

    /// The consumer's whole configuration. The broker never gives up on a message: the consume loop decides when
    /// to, and writes the dead letter itself, so that a crash between the two loses nothing.
    pub fn config(&self, namespace: &Namespace) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait(),
            max_deliver: -1,
            max_ack_pending: match self.partition() {
                Some(_) => EXECUTIONS_ACK_PENDING_MAX,
                None => ACK_PENDING_MAX,
            },
            filter_subject: self.filter(namespace),
            ..pull::Config::default()
        }
    }
}

/// A service that follows a topic without a durable consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveReader {
    /// The reading service.
    pub service: &'static str,
    /// What it reads.
    pub stream: Stream,
    /// The topic, e.g. `usage.counted`.
    pub topic: &'static str,
}

impl LiveReader {
    /// The gateway's figures.
    pub const GATEWAY_USAGE: Self = Self::of("gateway", Stream::UsageState, "usage.counted");
    /// The gateway's view of sweeps.
    pub const GATEWAY_SYNCED: Self = Self::of("gateway", Stream::SourceState, "source.synced");
    /// The gateway's view of failing sources.
    pub const GATEWAY_FAILING: Self = Self::of("gateway", Stream::SourceState, "source.failing");
    /// The gateway's view of audits.
    pub const GATEWAY_AUDITS: Self = Self::of("gateway", Stream::SourceState, "source.audit");
    /// Changes of the catalog by other replicas of the gateway.
    pub const GATEWAY_CATALOG: Self = Self::of("gateway", Stream::Catalog, "catalog");

    const fn of(service: &'static str, stream: Stream, topic: &'static str) -> Self {
        Self { service, stream, topic }
    }

    /// The subjects that it reads.
    pub fn filter(&self, namespace: &Namespace) -> String {
        namespace.all(self.topic)
    }
}

/// Every service that follows a topic with [`live`]. The broker's permissions are generated from it.
pub const LIVE_READERS: [LiveReader; 5] = [
    LiveReader::GATEWAY_USAGE,
    LiveReader::GATEWAY_SYNCED,
    LiveReader::GATEWAY_FAILING,
    LiveReader::GATEWAY_AUDITS,
    LiveReader::GATEWAY_CATALOG,
];

/// A reader without a durable consumer, for live views: everything that is kept now, then everything new.
/// `topic` is e.g. `usage.counted`. Each has a name of its own: without one, the subject of the request does
/// not contain the filter, and the broker's permissions could not distinguish it from a reader of the whole
/// stream.
pub fn live(namespace: &Namespace, topic: &str) -> pull::OrderedConfig {
    pull::OrderedConfig {
        name: Some(Uuid::new_v4().simple().to_string()),
        filter_subject: namespace.all(topic),
        deliver_policy: DeliverPolicy::All,
        ..pull::OrderedConfig::default()
    }
}

impl Stream {
    /// The streams that a service needs: its own, those that it reads, and the dead letters. All of them for
    /// a program that is none of the services.
    pub fn needed_by(service: &str) -> Vec<Self> {
        let is_service = Self::all().any(|stream| stream.owner() == service)
            || Consumer::all().any(|consumer| consumer.service == service);
        Self::all()
            .filter(|stream| {
                !is_service
                    || *stream == Self::Dead
                    || stream.owner() == service
                    || Consumer::all().any(|reader| reader.service == service && reader.stream == *stream)
                    || LIVE_READERS.iter().any(|live| live.service == service && live.stream == *stream)
            })
            .collect()
    }
}
