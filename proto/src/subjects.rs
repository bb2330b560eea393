//! Every subject of the contract. No other place formats one.

use std::fmt;

/// The first token of every subject and the prefix of every stream: `flowmeter`, or another name if
/// several installations (or tests) share one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

/// The text is not a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a namespace: use 1 to 32 lower-case letters, digits or `_`, a letter first")]
pub struct InvalidNamespace(String);

/// How many partitions the executions are spread over; fixed, because a source must stay where it is.
pub const PARTITIONS: u32 = 16;

/// The token of all subjects that carry CloudEvents.
const CLOUD_EVENTS: &str = "cloudevents";

/// Which value of the catalog a subject carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CatalogKind {
    /// A `Tenant`.
    Tenant,
    /// A `Plan`.
    Plan,
    /// A `Source`.
    Source,
}

impl CatalogKind {
    /// The kind's token in subjects, and its name in stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Plan => "plan",
            Self::Source => "source",
        }
    }

    /// The kind with this token.
    pub fn parse(token: &str) -> Option<Self> {
        [Self::Tenant, Self::Plan, Self::Source].into_iter().find(|kind| kind.as_str() == token)
    }
}

/// A question that one service may ask another; it gets one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// `AdmissionQuestion`, answered by the gateway.
    Admission,
    /// `AuditQuestion`, answered by the collector.
    Audit,
    /// `SweepQuestion`, answered by the collector.
    Sweep,
    /// `PlacementQuestion`, answered by the collector.
    Placement,
    /// `RecordedQuestion`, answered by the aggregator.
    Recorded,
    /// `UsageQuestion`, answered by the aggregator.
    Usage,
    /// `WorkflowsQuestion`, answered by the aggregator.
    Workflows,
    /// `ExplainQuestion`, answered by the aggregator.
    Explain,
    /// `CorrectionQuestion`, answered by the aggregator.
    Correct,
    /// `PeriodEndQuestion`, answered by the aggregator.
    EndPeriod,
    /// `UnmappedQuestion`, answered by the aggregator.
    Unmapped,
}

impl Question {
    /// The question's token in subjects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Audit => "audit",
            Self::Sweep => "sweep",
            Self::Placement => "placement",
            Self::Recorded => "recorded",
            Self::Usage => "usage",
            Self::Workflows => "workflows",
            Self::Explain => "explain",
            Self::Correct => "correct",
            Self::EndPeriod => "end_period",
            Self::Unmapped => "unmapped",
        }
    }
}

impl Namespace {
    /// The namespace of an installation that has the broker to itself.
    pub const DEFAULT: &'static str = "flowmeter";

    /// Reads a namespace: 1 to 32 of `a-z`, `0-9`, `_`, beginning with a letter.
    pub fn parse(text: &str) -> Result<Self, InvalidNamespace> {
        let well_formed = (1..=32).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if well_formed { Ok(Self(text.to_owned())) } else { Err(InvalidNamespace(text.to_owned())) }
    }

    fn subject(&self, rest: fmt::Arguments<'_>) -> String {
        format!("{}.v1.{rest}", self.0)
    }

    /// `ExecutionBatch` messages of one source.
    pub fn executions(&self, source: &str) -> String {
        self.subject(format_args!("executions.{}.{source}", partition(source)))
    }

    /// `ExecutionBatch` messages of all sources of a partition, as a filter.
    pub(crate) fn executions_of(&self, partition: u32) -> String {
        self.subject(format_args!("executions.{partition}.>"))
    }

    /// `SourceSynced` of one source.
    pub fn source_synced(&self, source: &str) -> String {
        self.subject(format_args!("source.synced.{source}"))
    }

    /// `SourceFailing` of one source.
    pub fn source_failing(&self, source: &str) -> String {
        self.subject(format_args!("source.failing.{source}"))
    }

    /// `SourceGap` of one source.
    pub fn source_gap(&self, source: &str) -> String {
        self.subject(format_args!("source.gap.{source}"))
    }

    /// `SourceContradicted` of one source.
    pub fn source_contradicted(&self, source: &str) -> String {
        self.subject(format_args!("source.contradicted.{source}"))
    }

    /// `SourceRow` of one source: a row to be read again.
    pub fn rows(&self, source: &str) -> String {
        self.subject(format_args!("rows.{source}"))
    }

    /// `UsageCounted` of one tenant.
    pub fn usage_counted(&self, tenant: &str) -> String {
        self.subject(format_args!("usage.counted.{tenant}"))
    }

    /// `ThresholdCrossed` of one tenant.
    pub fn usage_threshold(&self, tenant: &str) -> String {
        self.subject(format_args!("usage.threshold.{tenant}"))
    }

    /// `PeriodEvent` of one tenant.
    pub fn usage_period(&self, tenant: &str) -> String {
        self.subject(format_args!("usage.period.{tenant}"))
    }

    /// `ThresholdCrossed` of one tenant, as a CloudEvent.
    pub fn cloud_threshold(&self, tenant: &str) -> String {
        self.subject(format_args!("{CLOUD_EVENTS}.threshold.{tenant}"))
    }

    /// `PeriodEvent` of one tenant, as a CloudEvent.
    pub fn cloud_period(&self, tenant: &str) -> String {
        self.subject(format_args!("{CLOUD_EVENTS}.period.{tenant}"))
    }

    /// Whether messages of this subject are CloudEvents in JSON; all others are protobuf.
    pub fn is_cloud_event(&self, subject: &str) -> bool {
        self.topic_of(subject).is_some_and(|(topic, _)| topic.starts_with(CLOUD_EVENTS))
    }

    /// `BillingEvent` of one tenant.
    pub fn billing(&self, tenant: &str) -> String {
        self.subject(format_args!("billing.{tenant}"))
    }

    /// `Tenant`, `Plan` or `Source`, by `kind`.
    pub fn catalog(&self, kind: CatalogKind, id: &str) -> String {
        self.subject(format_args!("catalog.{}.{id}", kind.as_str()))
    }

    /// `SourceAudit` of one source.
    pub fn source_audit(&self, source: &str) -> String {
        self.subject(format_args!("source.audit.{source}"))
    }

    /// `AdmissionEvent` of one tenant.
    pub fn admission(&self, tenant: &str) -> String {
        self.subject(format_args!("admission.{tenant}"))
    }

    /// Where a question is asked; kept by no stream.
    pub fn ask(&self, question: Question) -> String {
        self.subject(format_args!("ask.{}", question.as_str()))
    }

    /// `DeadLetter` of one service.
    pub fn dead(&self, service: &str) -> String {
        self.subject(format_args!("dead.{service}"))
    }

    /// Every subject below a topic, for streams and filters: `topic` is e.g. `usage.threshold`.
    pub(crate) fn all(&self, topic: &str) -> String {
        self.subject(format_args!("{topic}.>"))
    }

    /// The name of a stream in this namespace.
    pub(crate) fn stream(&self, name: &str) -> String {
        format!("{}_{name}", self.0.to_ascii_uppercase())
    }

    /// What kind of value a subject carries, and for which id: `("usage.counted", "north")`.
    /// `None` for a subject outside this namespace.
    pub fn topic_of<'a>(&self, subject: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = subject.strip_prefix(self.0.as_str())?.strip_prefix(".v1.")?;
        rest.rsplit_once('.')
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The partition of a source. FNV-1a: small, and the same in every language a subscriber may use.
pub fn partition(source: &str) -> u32 {
    let hash =
        source.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % PARTITIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_the_published_ones() {
        let flowmeter = Namespace::default();
        insta::assert_debug_snapshot!([
            flowmeter.executions("north-n8n"),
            flowmeter.source_synced("north-n8n"),
            flowmeter.source_failing("north-n8n"),
            flowmeter.source_gap("north-n8n"),
            flowmeter.source_contradicted("north-n8n"),
            flowmeter.rows("north-n8n"),
            flowmeter.usage_counted("north"),
            flowmeter.usage_threshold("north"),
            flowmeter.usage_period("north"),
            flowmeter.billing("north"),
            flowmeter.catalog(CatalogKind::Plan, "pro"),
            flowmeter.dead("aggregator"),
            flowmeter.source_audit("north-n8n"),
            flowmeter.admission("north"),
            flowmeter.ask(Question::Usage),
            flowmeter.cloud_threshold("north"),
            flowmeter.cloud_period("north"),
        ]);
    }

    #[test]
    fn a_namespace_is_one_token() {
        for bad in ["", "a.b", "a*", "Flow", "1st", "a b", "a>"] {
            assert!(Namespace::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Namespace::parse("flow_2").is_ok());
    }

    #[test]
    fn a_subject_says_whether_its_messages_are_json() {
        let flowmeter = Namespace::default();
        assert!(flowmeter.is_cloud_event(&flowmeter.cloud_period("north")));
        assert!(!flowmeter.is_cloud_event(&flowmeter.usage_period("north")));
        assert!(!flowmeter.is_cloud_event(&flowmeter.usage_counted("cloudevents")));
    }

    #[test]
    fn a_subject_gives_its_topic_and_id() {
        let flowmeter = Namespace::default();
        assert_eq!(flowmeter.topic_of("flowmeter.v1.usage.counted.north"), Some(("usage.counted", "north")));
        assert_eq!(flowmeter.topic_of("other.v1.usage.counted.north"), None);
    }
}
