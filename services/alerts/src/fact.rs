//! Problems that concern the operator: one fact, and how facts of one kind are merged.

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use metering::{InvalidId, SafeText, SourceId, TenantId, WorkflowId};
use prost::{DecodeError, Message};
use proto::{InvalidMessage, InvalidTimestamp, instant, required_instant, v1};
use uuid::Uuid;

use crate::RefusedMail;

/// Facts that belong together arrive together: a notice waits this long for more of them, unless it is
/// urgent.
pub const SETTLE: SignedDuration = SignedDuration::from_mins(1);

/// One topic sends at most one mail per subject in this time; facts found meanwhile are in the next one.
pub const SPACING: SignedDuration = SignedDuration::from_hours(1);

/// The subject of mails that were refused.
const MAIL: &str = "mail";

/// Longest text that is kept of a message, in characters; it may quote input from outside.
const TEXT_CHARS_MAX: usize = 500;

/// The namespace of the keys that are hashes; never changes, or facts would be reported twice.
const FACT_KEYS: Uuid = Uuid::from_u128(0x2b6f_0d55_90c4_4c0e_8f43_5c1d_9a37_6e12);

/// What a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Executions are missing.
    Gap,
    /// A source has not been swept for some time.
    Failing,
    /// A source that was reported as failing is swept again.
    Recovered,
    /// A source is about to prune executions that were not seen.
    Loss,
    /// A service could not handle a message.
    Dead,
    /// A report to Stripe needs a person.
    Report,
    /// Stripe's count differs.
    Drift,
    /// A workflow seems to start itself.
    Loop,
    /// A source's list contradicts what was pushed for it.
    Contradicted,
    /// A source's clock is wrong.
    Clock,
    /// Several n8n push with one token.
    SharedToken,
    /// One n8n pushes for several sources.
    CountedTwice,
    /// Mails will not be sent.
    Refused,
}

/// A fact from a checked message. A notice holds its facts as one of these.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// Executions that a source no longer shows; of several gaps, all ids from the lowest to the highest.
    Gap(v1::SourceGap),
    /// A source that cannot be swept; of several failures in a row, the last.
    Failing(v1::SourceFailing),
    /// A source that is swept again, after that failure.
    Recovered(v1::SourceFailing),
    /// A sweep that expects a loss.
    Loss(v1::SourceSynced),
    /// A dead letter without its payload; of several, the first.
    Dead(v1::DeadLetter),
    /// A report that failed; of several, the first.
    Report(v1::ReportFailed),
    /// A difference to Stripe's total; of several, the last.
    Drift(v1::DriftFound),
    /// A workflow that starts far more often than usual; of several, the first.
    Loop(v1::LoopDetected),
    /// Pushed executions that a source's list shows to be something else; of several such facts, the last.
    Contradicted(v1::SourceContradicted),
    /// A source whose clock is wrong; of several sweeps, the last.
    Clock(v1::SourceSynced),
    /// A source with whose token several n8n push; of several sweeps, the last.
    SharedToken(v1::SourceSynced),
    /// A source whose n8n pushes for other sources too; of several sweeps, the last.
    CountedTwice(v1::SourceSynced),
    /// Mails that a recipient will not get; of several, the first.
    Refused(RefusedMail),
}

/// The message is not a valid fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFact {
    /// A source or tenant id is malformed.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// An instant is missing or out of range.
    #[error(transparent)]
    Timestamp(#[from] InvalidTimestamp),
    /// The period is invalid.
    #[error(transparent)]
    Period(#[from] InvalidMessage),
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 13] = [
        Self::Gap,
        Self::Failing,
        Self::Recovered,
        Self::Loss,
        Self::Dead,
        Self::Report,
        Self::Drift,
        Self::Loop,
        Self::Contradicted,
        Self::Clock,
        Self::SharedToken,
        Self::CountedTwice,
        Self::Refused,
    ];

    /// The topic's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Failing => "failing",
            Self::Recovered => "recovered",
            Self::Loss => "loss",
            Self::Dead => "dead",
            Self::Report => "report",
            Self::Drift => "drift",
            Self::Loop => "loop",
            Self::Contradicted => "contradicted",
            Self::Clock => "clock",
            Self::SharedToken => "token",
            Self::CountedTwice => "twice",
            Self::Refused => "refused",
        }
    }

    /// The topic with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == name)
    }

    /// The shortest time between two mails of this topic and subject. Zero for topics whose keys occur only
    /// once a day or once per failure.
    pub fn spacing(self) -> SignedDuration {
        match self {
            Self::Recovered | Self::Loss => SignedDuration::ZERO,
            _ => SPACING,
        }
    }
}

impl Fact {
    /// A gap.
    pub fn gap(wire: v1::SourceGap) -> Result<Self, InvalidFact> {
        SourceId::parse(&wire.source_id)?;
        required_instant(wire.found_at.as_ref(), "found_at")?;
        Ok(Self::Gap(v1::SourceGap {
            first_execution_id: shortened(&wire.first_execution_id),
            last_execution_id: shortened(&wire.last_execution_id),
            ..wire
        }))
    }

    /// A failure. Its instants are those that the collector gives: the series of failures is identified by
    /// its first.
    pub fn failing(wire: v1::SourceFailing) -> Result<Self, InvalidFact> {
        SourceId::parse(&wire.source_id)?;
        required_instant(wire.failing_since.as_ref(), "failing_since")?;
        required_instant(wire.failed_at.as_ref(), "failed_at")?;
        Ok(Self::Failing(v1::SourceFailing { detail: shortened(&wire.detail), ..wire }))
    }

    /// A sweep that expects a loss; `None` for one that does not.
    pub fn loss(wire: &v1::SourceSynced) -> Result<Option<Self>, InvalidFact> {
        SourceId::parse(&wire.source_id)?;
        required_instant(wire.sweep_ended_at.as_ref(), "sweep_ended_at")?;
        let expected = instant(wire.loss_expected_at.as_ref(), "loss_expected_at")?;
        Ok(expected.map(|_| Self::Loss(wire.clone())))
    }

    /// Problems of a source itself: its clock, or who uses its push token. The instants are those at which a
    /// problem began, so that each is one fact until it is fixed.
    pub fn warnings(wire: &v1::SourceSynced) -> Result<Vec<Self>, InvalidFact> {
        let wire = v1::SourceSynced {
            instances: wire.instances.iter().map(|instance| shortened(instance)).collect(),
            // No mail shows them, and there may be a thousand.
            open_ids: Vec::new(),
            ..wire.clone()
        };
        let clock = instant(wire.clock_wrong_since.as_ref(), "clock_wrong_since")?;
        let token = instant(wire.token_shared_since.as_ref(), "token_shared_since")?;
        let twice = instant(wire.counted_twice_since.as_ref(), "counted_twice_since")?;
        let facts = [
            clock.map(|_| Self::Clock(wire.clone())),
            token.map(|_| Self::SharedToken(wire.clone())),
            twice.map(|_| Self::CountedTwice(wire)),
        ];
        Ok(facts.into_iter().flatten().collect())
    }

    /// A dead letter.
    pub fn dead(wire: v1::DeadLetter) -> Result<Self, InvalidFact> {
        required_instant(wire.failed_at.as_ref(), "failed_at")?;
        Ok(Self::Dead(wire))
    }

    /// An event of billing; `None` for a report that succeeded, and for kinds of a later version.
    pub fn billing(wire: v1::BillingEvent) -> Result<Option<Self>, InvalidFact> {
        let checked = |tenant: &str, period: Option<v1::Period>| {
            TenantId::parse(tenant)?;
            let period = period.ok_or(InvalidMessage::Missing("period"))?;
            metering::Period::try_from(period).map(|_| ()).map_err(InvalidFact::from)
        };
        match wire.event {
            Some(v1::billing_event::Event::Failed(failed)) => {
                checked(&failed.tenant_id, failed.period)?;
                required_instant(failed.failed_at.as_ref(), "failed_at")?;
                let (reason, identifier) = (shortened(&failed.reason), shortened(&failed.identifier));
                Ok(Some(Self::Report(v1::ReportFailed { reason, identifier, ..failed })))
            }
            Some(v1::billing_event::Event::Drift(drift)) => {
                checked(&drift.tenant_id, drift.period)?;
                required_instant(drift.found_at.as_ref(), "found_at")?;
                Ok(Some(Self::Drift(drift)))
            }
            Some(v1::billing_event::Event::Reported(_)) | None => Ok(None),
        }
    }

    /// A workflow that seems to start itself; `None` for other events of the limit check.
    pub fn admission(wire: v1::AdmissionEvent) -> Result<Option<Self>, InvalidFact> {
        let Some(v1::admission_event::Event::LoopDetected(detected)) = wire.event else { return Ok(None) };
        TenantId::parse(&detected.tenant_id)?;
        WorkflowId::parse(&detected.workflow_id)?;
        required_instant(detected.detected_at.as_ref(), "detected_at")?;
        Ok(Some(Self::Loop(detected)))
    }

    /// What a source's list has contradicted.
    pub fn contradicted(wire: v1::SourceContradicted) -> Result<Self, InvalidFact> {
        SourceId::parse(&wire.source_id)?;
        required_instant(wire.found_at.as_ref(), "found_at")?;
        let execution_id = shortened(&wire.execution_id);
        Ok(Self::Contradicted(v1::SourceContradicted { execution_id, ..wire }))
    }

    /// A mail that will not be sent.
    pub fn refused_mail(recipient: &str, reason: &str, refused_at: Timestamp) -> Self {
        Self::Refused(RefusedMail::one(recipient, reason, refused_at))
    }

    /// What it is about.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Gap(_) => Topic::Gap,
            Self::Failing(_) => Topic::Failing,
            Self::Recovered(_) => Topic::Recovered,
            Self::Loss(_) => Topic::Loss,
            Self::Dead(_) => Topic::Dead,
            Self::Report(_) => Topic::Report,
            Self::Drift(_) => Topic::Drift,
            Self::Loop(_) => Topic::Loop,
            Self::Contradicted(_) => Topic::Contradicted,
            Self::Clock(_) => Topic::Clock,
            Self::SharedToken(_) => Topic::SharedToken,
            Self::CountedTwice(_) => Topic::CountedTwice,
            Self::Refused(_) => Topic::Refused,
        }
    }

    /// Which source, service or tenant it concerns.
    pub fn subject(&self) -> &str {
        match self {
            Self::Gap(gap) => &gap.source_id,
            Self::Failing(failing) | Self::Recovered(failing) => &failing.source_id,
            Self::Loss(synced)
            | Self::Clock(synced)
            | Self::SharedToken(synced)
            | Self::CountedTwice(synced) => &synced.source_id,
            Self::Dead(dead_letter) => &dead_letter.service,
            Self::Report(failed) => &failed.tenant_id,
            Self::Drift(drift) => &drift.tenant_id,
            Self::Loop(detected) => &detected.tenant_id,
            Self::Contradicted(found) => &found.source_id,
            // All refusals of an hour are one mail, whoever the recipients are.
            Self::Refused(_) => MAIL,
        }
    }

    /// The tenant that it is about, for a log line.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Report(_) | Self::Drift(_) | Self::Loop(_) => Some(self.subject()),
            _ => None,
        }
    }

    /// The source that it is about, for a log line.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Dead(_) | Self::Refused(_) => None,
            _ if self.tenant().is_some() => None,
            _ => Some(self.subject()),
        }
    }

    /// When it was found; for a source that is or was failing, or has a problem, since when.
    pub fn at(&self) -> Timestamp {
        let wire = match self {
            Self::Gap(gap) => &gap.found_at,
            Self::Failing(failing) | Self::Recovered(failing) => &failing.failing_since,
            Self::Loss(synced) => &synced.sweep_ended_at,
            Self::Clock(synced) => &synced.clock_wrong_since,
            Self::SharedToken(synced) => &synced.token_shared_since,
            Self::CountedTwice(synced) => &synced.counted_twice_since,
            Self::Dead(dead_letter) => &dead_letter.failed_at,
            Self::Report(failed) => &failed.failed_at,
            Self::Drift(drift) => &drift.found_at,
            Self::Loop(detected) => &detected.detected_at,
            Self::Contradicted(found) => &found.found_at,
            Self::Refused(refused) => &refused.refused_at,
        };
        // Each of them was checked when the message came.
        instant(wire.as_ref(), "at").ok().flatten().unwrap_or_default()
    }

    /// The same for every delivery of this fact. No id contains a `/`, so no two facts have the same key, nor
    /// do a fact and a crossing.
    pub fn key(&self) -> String {
        let (topic, subject, at) = (self.topic().as_str(), self.subject(), self.at());
        match self {
            Self::Gap(gap) => {
                let (first, last) = (&gap.first_execution_id, &gap.last_execution_id);
                format!("{topic}/{subject}/{}/{first}/{last}", gap.epoch)
            }
            Self::Failing(_)
            | Self::Recovered(_)
            | Self::Clock(_)
            | Self::SharedToken(_)
            | Self::CountedTwice(_) => format!("{topic}/{subject}/{at}"),
            // One a day.
            Self::Loss(_) => format!("{topic}/{subject}/{}", at.to_zoned(TimeZone::UTC).date()),
            // A dead letter has no id of its own; written again after a crash it has another instant.
            Self::Dead(dead_letter) => {
                format!("{topic}/{}", Uuid::new_v5(&FACT_KEYS, &dead_letter.encode_to_vec()))
            }
            Self::Report(failed) => format!("{topic}/{subject}/{}/{at}", failed.identifier),
            Self::Drift(drift) => {
                let start =
                    drift.period.and_then(|period| instant(period.start.as_ref(), "start").ok().flatten());
                let (billable, total) = (drift.billable, drift.stripe_total);
                format!("{topic}/{subject}/{}/{billable}/{total}", start.unwrap_or_default())
            }
            Self::Loop(detected) => format!("{topic}/{subject}/{}/{at}", detected.workflow_id),
            Self::Contradicted(found) => {
                format!("{topic}/{subject}/{}/{}", at.to_zoned(TimeZone::UTC).date(), found.executions)
            }
            // One a day for each address. Nothing follows the date, so an address with a `/` stays
            // unambiguous.
            Self::Refused(refused) => {
                let recipient = refused.refusals.first().map_or("", |refusal| refusal.recipient.as_str());
                format!("{topic}/{}/{}", recipient.to_lowercase(), at.to_zoned(TimeZone::UTC).date())
            }
        }
    }

    /// The fact as a notice keeps it: without what no mail shows.
    pub fn abridged(self) -> Self {
        match self {
            Self::Dead(dead_letter) => Self::Dead(v1::DeadLetter {
                service: shortened(&dead_letter.service),
                original_subject: shortened(&dead_letter.original_subject),
                reason: shortened(&dead_letter.reason),
                original_payload: Default::default(),
                original_headers: Vec::new(),
                ..dead_letter
            }),
            other => other,
        }
    }

    /// Both facts as one; `later` has the same topic and subject.
    pub fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::Gap(first), Self::Gap(later)) => Self::Gap(span(first, later)),
            (Self::Refused(first), Self::Refused(later)) => Self::Refused(first.and(later)),
            (first @ (Self::Dead(_) | Self::Report(_) | Self::Loop(_)), _) => first,
            (_, later) => later,
        }
    }

    /// As the database keeps it.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Gap(gap) => gap.encode_to_vec(),
            Self::Failing(failing) | Self::Recovered(failing) => failing.encode_to_vec(),
            Self::Loss(synced)
            | Self::Clock(synced)
            | Self::SharedToken(synced)
            | Self::CountedTwice(synced) => synced.encode_to_vec(),
            Self::Dead(dead_letter) => dead_letter.encode_to_vec(),
            Self::Report(failed) => failed.encode_to_vec(),
            Self::Drift(drift) => drift.encode_to_vec(),
            Self::Loop(detected) => detected.encode_to_vec(),
            Self::Contradicted(found) => found.encode_to_vec(),
            Self::Refused(refused) => refused.encode_to_vec(),
        }
    }

    /// As it was kept.
    pub fn from_bytes(topic: Topic, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match topic {
            Topic::Gap => Self::Gap(Message::decode(bytes)?),
            Topic::Failing => Self::Failing(Message::decode(bytes)?),
            Topic::Recovered => Self::Recovered(Message::decode(bytes)?),
            Topic::Loss => Self::Loss(Message::decode(bytes)?),
            Topic::Dead => Self::Dead(Message::decode(bytes)?),
            Topic::Report => Self::Report(Message::decode(bytes)?),
            Topic::Drift => Self::Drift(Message::decode(bytes)?),
            Topic::Loop => Self::Loop(Message::decode(bytes)?),
            Topic::Contradicted => Self::Contradicted(Message::decode(bytes)?),
            Topic::Clock => Self::Clock(Message::decode(bytes)?),
            Topic::SharedToken => Self::SharedToken(Message::decode(bytes)?),
            Topic::CountedTwice => Self::CountedTwice(Message::decode(bytes)?),
            Topic::Refused => Self::Refused(Message::decode(bytes)?),
        })
    }
}

/// From the lowest to the highest id; without an end if one of them has none. The reason is unspecified
/// unless both have the same.
fn span(first: v1::SourceGap, later: v1::SourceGap) -> v1::SourceGap {
    let reason = if first.reason == later.reason { first.reason } else { v1::GapReason::Unspecified.into() };
    let lowest = |a: String, b: String| if in_order(&a, &b) == Ordering::Greater { b } else { a };
    let highest = |a: String, b: String| match (a.as_str(), b.as_str()) {
        ("", _) | (_, "") => String::new(),
        _ if in_order(&a, &b) == Ordering::Less => b,
        _ => a,
    };
    v1::SourceGap {
        reason,
        first_execution_id: lowest(first.first_execution_id, later.first_execution_id),
        last_execution_id: highest(first.last_execution_id, later.last_execution_id),
        ..later
    }
}

/// Execution ids are numbers written as text.
fn in_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn shortened(text: &str) -> String {
    SafeText::clean(text, TEXT_CHARS_MAX).into()
}
