//! Users of the broker for programs that only read: what each may do, for the topics that it was made for.
//!
//! A subscriber has one durable consumer per stream, named like itself. So its permissions name exactly that consumer,
//! and it can neither read with, nor acknowledge for, nor change another one.

use std::fmt::Write;

use crate::{Namespace, consumers::Consumer, streams::Stream, subjects::PARTITIONS};

/// The users of the broker that are no subscribers.
const RESERVED: [&str; 7] = ["collector", "aggregator", "billing", "alerts", "gateway", "operator", "admin"];

/// Longest name of a subscriber: the broker's consumers may have longer ones, people's tools show no more.
const NAME_CHARS_MAX: usize = 32;

/// What a subscriber may be allowed to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// `UsageCounted`.
    Usage,
    /// `ThresholdCrossed`.
    Thresholds,
    /// `PeriodEvent`.
    Periods,
    /// `ThresholdCrossed` as CloudEvents.
    CloudThresholds,
    /// `PeriodEvent` as CloudEvents.
    CloudPeriods,
    /// `BillingEvent`.
    Billing,
    /// `SourceSynced`, `SourceFailing` and `SourceAudit`.
    Sources,
    /// `SourceGap`.
    Gaps,
    /// `AdmissionEvent`.
    Admissions,
    /// `ExecutionBatch`.
    Executions,
}

impl Topic {
    /// All topics. Not among them: the catalog, dead letters, rows and questions, which are the services' own.
    pub const ALL: [Self; 10] = [
        Self::Usage,
        Self::Thresholds,
        Self::Periods,
        Self::CloudThresholds,
        Self::CloudPeriods,
        Self::Billing,
        Self::Sources,
        Self::Gaps,
        Self::Admissions,
        Self::Executions,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Thresholds => "thresholds",
            Self::Periods => "periods",
            Self::CloudThresholds => "cloudevents-thresholds",
            Self::CloudPeriods => "cloudevents-periods",
            Self::Billing => "billing",
            Self::Sources => "sources",
            Self::Gaps => "gaps",
            Self::Admissions => "admissions",
            Self::Executions => "executions",
        }
    }

    /// The topic of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == name)
    }

    /// The streams that keep it, which keep nothing else.
    pub fn streams(self) -> Vec<Stream> {
        match self {
            Self::Usage => vec![Stream::UsageState],
            Self::Thresholds => vec![Stream::Thresholds],
            Self::Periods => vec![Stream::Periods],
            Self::CloudThresholds => vec![Stream::CloudThresholds],
            Self::CloudPeriods => vec![Stream::CloudPeriods],
            Self::Billing => vec![Stream::Billing],
            Self::Sources => vec![Stream::SourceState],
            Self::Gaps => vec![Stream::SourceEvents],
            Self::Admissions => vec![Stream::Admissions],
            Self::Executions => (0..PARTITIONS).map(Stream::Executions).collect(),
        }
    }
}

/// The text cannot name a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubscriber {
    /// It has other characters, or too many.
    #[error(
        "`{0}` cannot name a subscriber: use 1 to {max} lower-case letters, digits, `_` or `-`, a letter first",
        max = NAME_CHARS_MAX
    )]
    Name(String),
    /// It is a user or a consumer of the services.
    #[error("`{0}` is a name of Flowmeter's own: choose another one")]
    Reserved(String),
}

/// A user of the broker that only reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber(String);

impl Subscriber {
    /// Reads the name of a subscriber.
    pub fn parse(name: &str) -> Result<Self, InvalidSubscriber> {
        let well_formed = (1..=NAME_CHARS_MAX).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        if !well_formed {
            return Err(InvalidSubscriber::Name(name.to_owned()));
        }
        let is_a_consumer = Consumer::all().any(|consumer| consumer.name() == name);
        if RESERVED.contains(&name) || is_a_consumer {
            return Err(InvalidSubscriber::Reserved(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name of its user, and of its durable consumer on each stream.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The prefix of its inbox, where all answers and messages arrive.
    pub fn inbox_prefix(&self) -> String {
        format!("_INBOX_{}", self.0)
    }

    /// What it may publish for one stream: requests for its own consumer, and acknowledgements of what that consumer
    /// has delivered.
    pub fn requests(&self, namespace: &Namespace, stream: Stream) -> Vec<String> {
        let stream = stream.name(namespace);
        let consumer = format!("{stream}.{}", self.0);
        vec![
            format!("$JS.API.STREAM.INFO.{stream}"),
            // With and without a filter.
            format!("$JS.API.CONSUMER.CREATE.{consumer}"),
            format!("$JS.API.CONSUMER.CREATE.{consumer}.>"),
            format!("$JS.API.CONSUMER.INFO.{consumer}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"),
            format!("$JS.ACK.{consumer}.>"),
        ]
    }

    /// The user as an element of `users` in the broker's configuration, which is also a flow mapping of YAML.
    /// `password` is the password or its bcrypt hash; it must not contain quotes or backslashes.
    pub fn user(&self, namespace: &Namespace, topics: &[Topic], password: &str) -> String {
        let mut topics = topics.to_vec();
        topics.sort_unstable();
        topics.dedup();
        let requests: Vec<String> = topics
            .iter()
            .flat_map(|topic| topic.streams())
            .flat_map(|stream| self.requests(namespace, stream))
            .map(|subject| format!("      \"{subject}\""))
            .collect();
        let mut text = String::new();
        let _ = writeln!(text, "{{user: {}, password: \"{password}\", permissions: {{", self.0);
        let _ = writeln!(text, "    publish: [\n{}\n    ],", requests.join(",\n"));
        let _ = writeln!(text, "    subscribe: [\"{}.>\"]\n}}}}", self.inbox_prefix());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_has_no_name_of_the_services() {
        for bad in ["", "Books", "1st", "a.b", "a*", "a b", "a\"", &"a".repeat(33)] {
            assert_eq!(Subscriber::parse(bad), Err(InvalidSubscriber::Name(bad.to_owned())));
        }
        for reserved in ["operator", "gateway", "billing-periods", "aggregator-executions-3"] {
            assert_eq!(Subscriber::parse(reserved), Err(InvalidSubscriber::Reserved(reserved.to_owned())));
        }
        assert_eq!(Subscriber::parse("billing-books_2").unwrap().name(), "billing-books_2");
    }

    #[test]
    fn a_topic_is_read_by_its_name() {
        for topic in Topic::ALL {
            assert_eq!(Topic::parse(topic.as_str()), Some(topic));
        }
        assert_eq!(Topic::parse("catalog"), None);
    }

    #[test]
    fn a_user_reads_each_chosen_topic_once() {
        let books = Subscriber::parse("books").unwrap();
        let namespace = Namespace::parse("other").unwrap();
        let user = books.user(&namespace, &[Topic::Periods, Topic::Usage, Topic::Periods], "hash");
        insta::assert_snapshot!(user);
    }
}
