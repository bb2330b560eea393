//! What the services publish, as a line for people and as JSON.

use bytes::Bytes;
use clap::ValueEnum;
use metering::Percent;
use prost::{DecodeError, Message};
use proto::{
    streams::Stream,
    v1::{self, billing_event, period_event},
};
use serde_json::{Value, json};

/// A topic that can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// A tenant's current figures.
    Counted,
    /// A tenant has reached a share of its limit.
    Threshold,
    /// A period was opened or closed, or late executions were found.
    Period,
    /// Reports to Stripe.
    Billing,
    /// Executions that a source no longer shows and that were never seen.
    Gap,
    /// A sweep of a source has succeeded.
    Synced,
    /// A source cannot be swept.
    Failing,
}

/// One event.
#[derive(Debug, PartialEq)]
pub struct Event {
    /// When the fact occurred, as its message says.
    pub at: Option<String>,
    /// The tenant or the source.
    pub subject: String,
    /// For people.
    pub text: String,
    /// All that the message says, without the figures of single workflows.
    pub json: Value,
}

impl Topic {
    /// The stream that keeps it.
    pub fn stream(self) -> Stream {
        match self {
            Self::Counted => Stream::UsageState,
            Self::Threshold => Stream::Thresholds,
            Self::Period => Stream::Periods,
            Self::Billing => Stream::Billing,
            Self::Gap => Stream::SourceEvents,
            Self::Synced | Self::Failing => Stream::SourceState,
        }
    }

    /// Its name in subjects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counted => "usage.counted",
            Self::Threshold => "usage.threshold",
            Self::Period => "usage.period",
            Self::Billing => "billing",
            Self::Gap => "source.gap",
            Self::Synced => "source.synced",
            Self::Failing => "source.failing",
        }
    }

    /// Whether the stream keeps the last message of each subject only, which is then the current state.
    pub fn is_state(self) -> bool {
        matches!(self, Self::Counted | Self::Synced | Self::Failing)
    }

    /// Reads a message of this topic.
    pub fn read(self, payload: Bytes) -> Result<Event, DecodeError> {
        Ok(match self {
            Self::Counted => counted(v1::UsageCounted::decode(payload)?),
            Self::Threshold => threshold(v1::ThresholdCrossed::decode(payload)?),
            Self::Period => period(v1::PeriodEvent::decode(payload)?),
            Self::Billing => billing(v1::BillingEvent::decode(payload)?),
            Self::Gap => gap(v1::SourceGap::decode(payload)?),
            Self::Synced => synced(v1::SourceSynced::decode(payload)?),
            Self::Failing => failing(v1::SourceFailing::decode(payload)?),
        })
    }
}

fn counted(message: v1::UsageCounted) -> Event {
    let totals = message.totals.unwrap_or_default();
    let complete_until = instant(message.complete_until.as_ref());
    let complete = complete_until.as_deref().unwrap_or("no sweep yet");
    Event {
        at: instant(message.as_of.as_ref()),
        text: format!(
            "{} counted, {} not counted, {} open, complete until {complete} (revision {})",
            totals.counted, totals.uncounted, message.open_executions, message.revision
        ),
        json: json!({
            "period": period_json(message.period.as_ref()),
            "revision": message.revision,
            "totals": totals_json(&totals),
            "as_of": instant(message.as_of.as_ref()),
            "complete_until": complete_until,
            "counted_complete": message.counted_complete,
            "open_executions": message.open_executions,
            "plan": message.plan_id,
        }),
        subject: message.tenant_id,
    }
}

fn threshold(message: v1::ThresholdCrossed) -> Event {
    let share = Percent::new(message.threshold_percent).map_or("?".to_owned(), |share| share.to_string());
    Event {
        at: instant(message.crossed_at.as_ref()),
        text: format!("{share} of {} reached: {} of {}", message.rule, message.used, message.limit),
        json: json!({
            "crossing_id": message.crossing_id,
            "period": period_json(message.period.as_ref()),
            "rule": message.rule,
            "threshold_percent": message.threshold_percent,
            "limit": message.limit,
            "used": message.used,
            "crossed_at": instant(message.crossed_at.as_ref()),
            "plan": message.plan_id,
        }),
        subject: message.tenant_id,
    }
}

fn period(message: v1::PeriodEvent) -> Event {
    match message.event {
        Some(period_event::Event::Opened(opened)) => Event {
            at: instant(opened.opened_at.as_ref()),
            text: format!("period {} opened", period_text(opened.period.as_ref())),
            json: json!({ "event": "opened", "period": period_json(opened.period.as_ref()) }),
            subject: opened.tenant_id,
        },
        Some(period_event::Event::Closed(closed)) => {
            let totals = closed.totals.unwrap_or_default();
            let incomplete = match closed.incomplete_sources.as_slice() {
                [] => String::new(),
                sources => format!(", incomplete: {}", sources.join(", ")),
            };
            Event {
                at: instant(closed.closed_at.as_ref()),
                text: format!(
                    "period {} closed with {} counted{incomplete} (revision {})",
                    period_text(closed.period.as_ref()),
                    totals.counted,
                    closed.revision
                ),
                json: json!({
                    "event": "closed",
                    "period": period_json(closed.period.as_ref()),
                    "revision": closed.revision,
                    "totals": totals_json(&totals),
                    "incomplete_sources": closed.incomplete_sources,
                    "plan": closed.plan_id,
                }),
                subject: closed.tenant_id,
            }
        }
        Some(period_event::Event::Late(late)) => {
            let totals = late.totals.unwrap_or_default();
            Event {
                at: instant(late.found_at.as_ref()),
                text: format!(
                    "late executions: period {} now has {} counted, {} of them late (revision {})",
                    period_text(late.period.as_ref()),
                    totals.counted,
                    totals.late,
                    late.revision
                ),
                json: json!({
                    "event": "late",
                    "period": period_json(late.period.as_ref()),
                    "revision": late.revision,
                    "totals": totals_json(&totals),
                }),
                subject: late.tenant_id,
            }
        }
        None => newer(),
    }
}

fn billing(message: v1::BillingEvent) -> Event {
    match message.event {
        Some(billing_event::Event::Reported(reported)) => Event {
            at: instant(reported.accepted_at.as_ref()),
            text: format!(
                "{} reported, {} in period {} so far ({})",
                reported.quantity,
                reported.reported_total,
                period_text(reported.period.as_ref()),
                reported.identifier
            ),
            json: json!({
                "event": "reported",
                "period": period_json(reported.period.as_ref()),
                "identifier": reported.identifier,
                "quantity": reported.quantity,
                "reported_total": reported.reported_total,
            }),
            subject: reported.tenant_id,
        },
        Some(billing_event::Event::Failed(failed)) => Event {
            at: instant(failed.failed_at.as_ref()),
            text: format!("report of {} failed: {} ({})", failed.quantity, failed.reason, failed.identifier),
            json: json!({
                "event": "failed",
                "period": period_json(failed.period.as_ref()),
                "identifier": failed.identifier,
                "quantity": failed.quantity,
                "reason": failed.reason,
            }),
            subject: failed.tenant_id,
        },
        Some(billing_event::Event::Drift(drift)) => Event {
            at: instant(drift.found_at.as_ref()),
            text: format!(
                "drift in period {}: {} billable, {} at Stripe",
                period_text(drift.period.as_ref()),
                drift.billable,
                drift.stripe_total
            ),
            json: json!({
                "event": "drift",
                "period": period_json(drift.period.as_ref()),
                "billable": drift.billable,
                "stripe_total": drift.stripe_total,
            }),
            subject: drift.tenant_id,
        },
        None => newer(),
    }
}

fn gap(message: v1::SourceGap) -> Event {
    let reason = match message.reason() {
        v1::GapReason::OpenExecutionVanished => "was open and is gone",
        v1::GapReason::PrunedBeforeSeen => "pruned before seen",
        v1::GapReason::EpochEnded => "the database was restored or replaced",
        v1::GapReason::Unspecified => "unknown reason",
    };
    let range = match (message.first_execution_id.as_str(), message.last_execution_id.as_str()) {
        ("", "") => "executions whose ids are not known".to_owned(),
        (first, "") => format!("executions {first} and later"),
        (first, last) if first == last => format!("execution {first}"),
        (first, last) => format!("executions {first} to {last}"),
    };
    Event {
        at: instant(message.found_at.as_ref()),
        text: format!("{range}: {reason}"),
        json: json!({
            "epoch": message.epoch,
            "reason": reason_name(message.reason().as_str_name(), "GAP_REASON_"),
            "first_execution_id": message.first_execution_id,
            "last_execution_id": message.last_execution_id,
        }),
        subject: message.source_id,
    }
}

fn synced(message: v1::SourceSynced) -> Event {
    let complete_until = instant(message.complete_until.as_ref());
    let loss_expected_at = instant(message.loss_expected_at.as_ref());
    let loss =
        loss_expected_at.as_ref().map_or_else(String::new, |at| format!(", will lose executions about {at}"));
    Event {
        at: instant(message.sweep_ended_at.as_ref()),
        text: format!(
            "complete until {}, {} published, {} open{loss}",
            complete_until.as_deref().unwrap_or("?"),
            message.executions_published,
            message.open_executions
        ),
        json: json!({
            "epoch": message.epoch,
            "complete_until": complete_until,
            "open_executions": message.open_executions,
            "published_through": message.published_through,
            "stream_life": message.stream_life,
            "executions_published": message.executions_published,
            "loss_expected_at": loss_expected_at,
            "clock_skew_ms": message.clock_skew_ms,
            "clock_wrong_since": instant(message.clock_wrong_since.as_ref()),
            "token_shared_since": instant(message.token_shared_since.as_ref()),
            "counted_twice_since": instant(message.counted_twice_since.as_ref()),
        }),
        subject: message.source_id,
    }
}

fn failing(message: v1::SourceFailing) -> Event {
    Event {
        at: instant(message.failed_at.as_ref()),
        text: format!("failed {} times in a row: {}", message.consecutive_failures, message.detail),
        json: json!({
            "reason": reason_name(message.reason().as_str_name(), "FAILURE_REASON_"),
            "detail": message.detail,
            "failing_since": instant(message.failing_since.as_ref()),
            "consecutive_failures": message.consecutive_failures,
        }),
        subject: message.source_id,
    }
}

/// A kind of event that this version does not know.
fn newer() -> Event {
    let text = "an event of a newer kind; update this command line to read it".to_owned();
    Event { at: None, subject: String::new(), text, json: json!({ "event": "unknown" }) }
}

fn reason_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

fn instant(wire: Option<&prost_types::Timestamp>) -> Option<String> {
    // An instant that is out of range is shown as none: the line is for reading, not for computing.
    proto::instant(wire, "at").ok().flatten().map(|instant| instant.to_string())
}

fn period_json(period: Option<&v1::Period>) -> Value {
    period.map_or(
        Value::Null,
        |period| json!({ "start": instant(period.start.as_ref()), "end": instant(period.end.as_ref()) }),
    )
}

fn period_text(period: Option<&v1::Period>) -> String {
    let start = period.and_then(|period| instant(period.start.as_ref()));
    let end = period.and_then(|period| instant(period.end.as_ref()));
    format!("{}..{}", start.as_deref().unwrap_or("?"), end.as_deref().unwrap_or("?"))
}

fn totals_json(totals: &v1::Totals) -> Value {
    json!({
        "counted": totals.counted,
        "uncounted": totals.uncounted,
        "success": totals.success,
        "error": totals.error,
        "crashed": totals.crashed,
        "canceled": totals.canceled,
        "duration_ms": totals.duration_ms,
        "late": totals.late,
        "voided": totals.voided,
        "adjusted": totals.adjusted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_reads_as_a_sentence() {
        let message = v1::ThresholdCrossed {
            crossing_id: "north:2026-11-01:monthly-executions:80".into(),
            tenant_id: "north".into(),
            rule: "monthly-executions".into(),
            threshold_percent: 80,
            limit: 100,
            used: 80,
            crossed_at: Some(proto::timestamp("2026-11-24T12:00:00Z".parse().unwrap())),
            ..v1::ThresholdCrossed::default()
        };
        let event = Topic::Threshold.read(message.encode_to_vec().into()).unwrap();
        assert_eq!(event.text, "80 % of monthly-executions reached: 80 of 100");
        assert_eq!((event.subject.as_str(), event.at.as_deref()), ("north", Some("2026-11-24T12:00:00Z")));
        assert_eq!(event.json["threshold_percent"], 80);
    }

    #[test]
    fn a_newer_kind_of_event_is_no_failure() {
        let event = Topic::Period.read(Bytes::new()).unwrap();
        assert!(event.text.contains("update this command line"), "{}", event.text);
        assert!(Topic::Counted.read(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn a_gap_says_what_is_missing_and_why() {
        let gap = |first: &str, last: &str| v1::SourceGap {
            source_id: "north-n8n".into(),
            reason: v1::GapReason::EpochEnded.into(),
            first_execution_id: first.into(),
            last_execution_id: last.into(),
            ..v1::SourceGap::default()
        };
        for (first, last, text) in [
            ("120", "180", "executions 120 to 180: the database was restored or replaced"),
            ("120", "120", "execution 120: the database was restored or replaced"),
            ("181", "", "executions 181 and later: the database was restored or replaced"),
            ("", "", "executions whose ids are not known: the database was restored or replaced"),
        ] {
            let event = Topic::Gap.read(gap(first, last).encode_to_vec().into()).unwrap();
            assert_eq!(event.text, text);
            assert_eq!(event.json["reason"], "epoch_ended");
        }
    }

    #[test]
    fn an_expected_loss_is_shown() {
        let message = v1::SourceSynced {
            loss_expected_at: Some(proto::timestamp("2026-11-24T12:07:00Z".parse().unwrap())),
            ..v1::SourceSynced::default()
        };
        let event = Topic::Synced.read(message.encode_to_vec().into()).unwrap();
        assert!(event.text.ends_with(", will lose executions about 2026-11-24T12:07:00Z"), "{}", event.text);
        assert_eq!(event.json["loss_expected_at"], "2026-11-24T12:07:00Z");
        let event = Topic::Synced.read(v1::SourceSynced::default().encode_to_vec().into()).unwrap();
        assert_eq!(event.json["loss_expected_at"], Value::Null);
    }

    #[test]
    fn reasons_have_names_for_programs() {
        let message = v1::SourceFailing {
            source_id: "north-n8n".into(),
            reason: v1::FailureReason::Unauthorized.into(),
            ..v1::SourceFailing::default()
        };
        let event = Topic::Failing.read(message.encode_to_vec().into()).unwrap();
        assert_eq!(event.json["reason"], "unauthorized");
    }
}
