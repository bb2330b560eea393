//! Meter events: what Stripe refuses at once, and what it accepts with a 200 and then does not count.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::StripeError;
use super::form::Form;

/// Longest name of an event and longest identifier.
const NAME_CHARS_MAX: usize = 100;
/// Oldest timestamp Stripe accepts.
const PAST_MAX: SignedDuration = SignedDuration::from_hours(35 * 24);
/// Farthest future timestamp Stripe accepts.
const FUTURE_MAX: SignedDuration = SignedDuration::from_mins(5);
/// Most significant digits of a value.
const VALUE_DIGITS_MAX: usize = 15;

/// Why an event that got a 200 was not counted, in the codes of Stripe's error report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventError {
    /// No meter has this event name.
    NoMeter,
    /// The meter is archived.
    ArchivedMeter,
    /// There is no such customer, or it was deleted.
    MeterEventCustomerNotFound,
    /// The payload names no customer.
    MeterEventNoCustomerDefined,
    /// The payload has no value.
    MeterEventValueNotFound,
    /// The value is not a whole number of at most 15 digits.
    MeterEventInvalidValue,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It counts.
    Counted,
    /// An adjustment canceled it.
    Canceled,
    /// It got a 200 and does not count.
    Failed(EventError),
}

/// An event that Stripe accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterEvent {
    /// The sender's identifier, or one that Stripe generated.
    pub identifier: String,
    /// The name of its meter's events.
    pub event_name: String,
    /// The customer the payload names.
    pub customer: Option<String>,
    /// The value, if it is a whole number.
    pub value: Option<i64>,
    /// The time of the usage, in unix seconds.
    pub timestamp_s: i64,
    /// When Stripe accepted it.
    pub received_at: Timestamp,
    /// What became of it.
    pub fate: Fate,
}

/// A well-formed `POST /v1/billing/meter_events`.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) identifier: Option<String>,
    pub(crate) event_name: String,
    pub(crate) payload: BTreeMap<String, String>,
    pub(crate) timestamp_s: i64,
}

impl NewEvent {
    /// Refuses what Stripe refuses at once.
    pub(crate) fn from_form(form: &Form, now: Timestamp) -> Result<Self, StripeError> {
        form.allow(&["event_name", "payload", "identifier", "timestamp"])?;
        let event_name = form.text("event_name", NAME_CHARS_MAX)?.to_owned();
        let payload = form.map("payload");
        if payload.is_empty() {
            return Err(StripeError::MissingParam("payload".into()));
        }
        let identifier = match form.get("identifier") {
            None => None,
            Some(_) => Some(form.text("identifier", NAME_CHARS_MAX)?.to_owned()),
        };
        let timestamp_s = form.integer("timestamp")?.unwrap_or_else(|| now.as_second());
        let age = SignedDuration::from_secs(now.as_second().saturating_sub(timestamp_s));
        if age > PAST_MAX {
            return Err(StripeError::TimestampTooOld);
        }
        if age < -FUTURE_MAX {
            return Err(StripeError::TimestampInFuture);
        }
        Ok(Self { identifier, event_name, payload, timestamp_s })
    }

    /// The object on the wire. It has no id: an event cannot be read back.
    pub(crate) fn object(&self, identifier: &str, now: Timestamp) -> Value {
        json!({
            "object": "billing.meter_event",
            "created": now.as_second(),
            "event_name": self.event_name,
            "identifier": identifier,
            "livemode": false,
            "payload": self.payload,
            "timestamp": self.timestamp_s,
        })
    }
}

/// A value as Stripe counts it: a whole number of at most 15 digits.
pub(crate) fn parse_value(text: &str) -> Result<i64, EventError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || digits.len() > VALUE_DIGITS_MAX {
        return Err(EventError::MeterEventInvalidValue);
    }
    text.parse().map_err(|_| EventError::MeterEventInvalidValue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn parse(extra: &str) -> Result<NewEvent, StripeError> {
        let form = format!("event_name=executions&payload[stripe_customer_id]=cus_1&payload[value]=7{extra}");
        NewEvent::from_form(&Form::parse(form.as_bytes()), now())
    }

    #[test]
    fn the_timestamp_lies_within_35_days_and_5_minutes() {
        let at = |offset: SignedDuration| parse(&format!("&timestamp={}", (now() + offset).as_second()));
        assert!(at(-PAST_MAX).is_ok());
        assert_eq!(at(-PAST_MAX - SignedDuration::from_secs(1)).unwrap_err(), StripeError::TimestampTooOld);
        assert!(at(FUTURE_MAX).is_ok());
        assert_eq!(
            at(FUTURE_MAX + SignedDuration::from_secs(1)).unwrap_err(),
            StripeError::TimestampInFuture
        );
    }

    #[test]
    fn an_identifier_has_at_most_100_characters() {
        assert!(parse(&format!("&identifier={}", "x".repeat(100))).is_ok());
        let refused = parse(&format!("&identifier={}", "x".repeat(101)));
        assert!(matches!(refused, Err(StripeError::TooLong { max: 100, .. })));
    }

    #[test]
    fn a_value_is_a_whole_number() {
        assert_eq!(parse_value("42"), Ok(42));
        assert_eq!(parse_value("-3"), Ok(-3));
        for bad in ["", "1.5", "x", "1e3", "1234567890123456"] {
            assert_eq!(parse_value(bad), Err(EventError::MeterEventInvalidValue), "{bad}");
        }
    }
}
