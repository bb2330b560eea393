//! Every stream of the contract, with what it keeps and for how long.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, Source, StorageType};

use crate::{
    Namespace,
    subjects::{PARTITIONS, partition},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The broker remembers message ids this long. A retry guard only: the databases decide what is new.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(2 * 60);

const MIB: u64 = 1024 * 1024;

/// How much the streams may hold. The broker reserves it all when a stream is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Copies of each stream: 1 on a single node, 3 in a cluster.
    pub replicas: usize,
    /// Bytes of executions, in equal parts for each partition. A full stream refuses new messages (`discard:
    /// new`), so nothing unread is lost; the collector then waits.
    pub executions_bytes_max: u64,
    /// Bytes of each of the other streams.
    pub events_bytes_max: u64,
}

impl Default for Capacity {
    /// One node; about 20 million executions, packed.
    fn default() -> Self {
        Self { replicas: 1, executions_bytes_max: 2048 * MIB, events_bytes_max: 128 * MIB }
    }
}

/// A stream of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// `ExecutionBatch` of one partition, below [`PARTITIONS`]. A stream for each instead of a filter: with a
    /// filter, the broker would search the messages of all partitions for the next one of each reader (ADR
    /// 0010).
    Executions(u32),
    /// `SourceSynced`, `SourceFailing` and `SourceAudit`: the last of each per source.
    SourceState,
    /// `SourceGap`.
    SourceEvents,
    /// `SourceContradicted`. A stream of its own, because readers of gaps expect nothing else in theirs.
    Contradictions,
    /// `SourceRow`: rows to be read again.
    Rows,
    /// `UsageCounted`: the last per tenant.
    UsageState,
    /// `ThresholdCrossed`.
    Thresholds,
    /// `PeriodEvent`.
    Periods,
    /// `ThresholdCrossed` as a CloudEvent. Apart from [`Self::Thresholds`], because its readers expect protobuf.
    CloudThresholds,
    /// `PeriodEvent` as a CloudEvent.
    CloudPeriods,
    /// `BillingEvent`.
    Billing,
    /// `Tenant`, `Plan`, `Source`: the last per id.
    Catalog,
    /// `AdmissionEvent`.
    Admissions,
    /// `DeadLetter`.
    Dead,
}

impl Stream {
    const WHOLE: [Self; 13] = [
        Self::SourceState,
        Self::SourceEvents,
        Self::Contradictions,
        Self::Rows,
        Self::UsageState,
        Self::Thresholds,
        Self::Periods,
        Self::CloudThresholds,
        Self::CloudPeriods,
        Self::Billing,
        Self::Catalog,
        Self::Admissions,
        Self::Dead,
    ];

    /// All streams.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self::Executions).chain(Self::WHOLE)
    }

    /// The service that brings the stream's settings up to date; no other one may. The others create it if it
    /// is missing, so that services may start in any order.
    pub fn owner(self) -> &'static str {
        match self {
            Self::Executions(_) | Self::SourceState | Self::SourceEvents | Self::Rows => "collector",
            Self::UsageState
            | Self::Thresholds
            | Self::Periods
            | Self::CloudThresholds
            | Self::CloudPeriods
            | Self::Contradictions => "aggregator",
            Self::Billing => "billing",
            // Every service writes dead letters; the gateway runs in every installation.
            Self::Catalog | Self::Admissions | Self::Dead => "gateway",
        }
    }

    /// The stream of a source's executions.
    pub fn executions_of(source: &str) -> Self {
        Self::Executions(partition(source))
    }

    /// The stream's name in a namespace.
    pub fn name(self, namespace: &Namespace) -> String {
        namespace.stream(match self {
            Self::Executions(partition) => return namespace.stream(&format!("EXECUTIONS_{partition}")),
            Self::SourceState => "SOURCE_STATE",
            Self::SourceEvents => "SOURCE_EVENTS",
            Self::Contradictions => "CONTRADICTIONS",
            Self::Rows => "ROWS",
            Self::UsageState => "USAGE_STATE",
            Self::Thresholds => "THRESHOLDS",
            Self::Periods => "PERIODS",
            Self::CloudThresholds => "CLOUDEVENTS_THRESHOLDS",
            Self::CloudPeriods => "CLOUDEVENTS_PERIODS",
            Self::Billing => "BILLING",
            Self::Catalog => "CATALOG",
            Self::Admissions => "ADMISSIONS",
            Self::Dead => "DEAD",
        })
    }

    fn topics(self) -> &'static [&'static str] {
        match self {
            Self::Executions(_) => &["executions"],
            Self::SourceState => &["source.synced", "source.failing", "source.audit"],
            Self::SourceEvents => &["source.gap"],
            Self::Contradictions => &["source.contradicted"],
            Self::Rows => &["rows"],
            Self::UsageState => &["usage.counted"],
            Self::Thresholds => &["usage.threshold"],
            Self::Periods => &["usage.period"],
            Self::CloudThresholds => &["cloudevents.threshold"],
            Self::CloudPeriods => &["cloudevents.period"],
            Self::Billing => &["billing"],
            Self::Catalog => &["catalog"],
            Self::Admissions => &["admission"],
            Self::Dead => &["dead"],
        }
    }

    /// How long a message is kept; `None` means for as long as it is the last of its subject.
    fn age_max(self) -> Option<Duration> {
        match self {
            Self::SourceState | Self::UsageState | Self::Catalog => None,
            Self::Executions(_) | Self::Rows => Some(7 * DAY),
            Self::Dead => Some(30 * DAY),
            Self::SourceEvents
            | Self::Contradictions
            | Self::Thresholds
            | Self::CloudThresholds
            | Self::Billing
            | Self::Admissions => Some(90 * DAY),
            Self::Periods | Self::CloudPeriods => Some(400 * DAY),
        }
    }

    fn bytes_max(self, capacity: Capacity) -> i64 {
        let bytes = match self {
            Self::Executions(_) => capacity.executions_bytes_max / u64::from(PARTITIONS),
            _ => capacity.events_bytes_max,
        };
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    /// The stream's whole configuration.
    pub fn config(self, namespace: &Namespace, capacity: Capacity) -> Config {
        let keeps_last = self.age_max().is_none();
        Config {
            name: self.name(namespace),
            subjects: match self {
                Self::Executions(partition) => vec![namespace.executions_of(partition)],
                _ => self.topics().iter().map(|topic| namespace.all(topic)).collect(),
            },
            retention: match self {
                Self::Rows => RetentionPolicy::WorkQueue,
                _ => RetentionPolicy::Limits,
            },
            storage: StorageType::File,
            num_replicas: capacity.replicas,
            max_age: self.age_max().unwrap_or_default(),
            max_bytes: self.bytes_max(capacity),
            max_messages_per_subject: if keeps_last { 1 } else { -1 },
            discard: if keeps_last { DiscardPolicy::Old } else { DiscardPolicy::New },
            duplicate_window: DUPLICATE_WINDOW,
            allow_direct: true,
            ..Config::default()
        }
    }
}

/// The one stream that held the executions of all partitions before each had its own. It is set aside under a
/// subject to which nobody publishes, and the streams of the partitions copy what it holds.
#[derive(Debug, Clone, Copy)]
pub struct ExecutionsBefore;

impl ExecutionsBefore {
    /// The stream's name in a namespace.
    pub fn name(self, namespace: &Namespace) -> String {
        namespace.stream("EXECUTIONS")
    }

    /// The subjects that it has once it is set aside.
    pub fn subjects_aside(self, namespace: &Namespace) -> Vec<String> {
        vec![namespace.all("before.executions")]
    }

    /// The configuration of a stream that is created while this one is there.
    pub fn copied_into(self, stream: Stream, namespace: &Namespace, capacity: Capacity) -> Config {
        let config = stream.config(namespace, capacity);
        let Stream::Executions(partition) = stream else { return config };
        let source = Source {
            name: self.name(namespace),
            filter_subject: Some(namespace.executions_of(partition)),
            ..Source::default()
        };
        Config { sources: Some(vec![source]), ..config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_kept_by_one_stream() {
        let namespace = Namespace::default();
        let subjects: Vec<String> = Stream::all()
            .flat_map(|stream| stream.config(&namespace, Capacity::default()).subjects)
            .collect();
        insta::assert_debug_snapshot!(subjects);
    }

    #[test]
    fn a_service_needs_its_own_streams_what_it_reads_and_the_dead_letters() {
        let names = |service| {
            let namespace = Namespace::default();
            Stream::needed_by(service)
                .into_iter()
                .filter(|stream| !matches!(stream, Stream::Executions(1..)))
                .map(|stream| stream.name(&namespace).replace("FLOWMETER_", ""))
                .collect::<Vec<_>>()
                .join(" ")
        };
        insta::assert_debug_snapshot!([
            names("collector"),
            names("aggregator"),
            names("billing"),
            names("alerts"),
            names("gateway"),
        ]);
        assert_eq!(Stream::needed_by("a tool").len(), Stream::all().count());
    }

    #[test]
    fn only_state_may_drop_what_is_old() {
        let namespace = Namespace::default();
        for stream in Stream::all() {
            let config = stream.config(&namespace, Capacity::default());
            // The next message of a subject replaces the last one. Everywhere else a full stream would lose unread events.
            let is_state = matches!(stream, Stream::SourceState | Stream::UsageState | Stream::Catalog);
            let (discard, per_subject) =
                if is_state { (DiscardPolicy::Old, 1) } else { (DiscardPolicy::New, -1) };
            assert_eq!(
                (config.discard, config.max_messages_per_subject),
                (discard, per_subject),
                "{stream:?}"
            );
            assert_eq!(config.max_age.is_zero(), is_state, "{stream:?}");
        }
    }
}
