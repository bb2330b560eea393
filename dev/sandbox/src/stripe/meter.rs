//! Meters, and the summaries of their events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::StripeError;
use super::form::Form;
use super::meter_event::{Fate, MeterEvent};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// How a meter adds its events up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Formula {
    /// The sum of the values.
    Sum,
    /// The number of events, whatever their value.
    Count,
    /// The value of the last event.
    Last,
}

/// The windows a meter pre-aggregates: the last event received for a window replaces the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A UTC hour.
    Hour,
    /// A UTC day.
    Day,
}

impl Window {
    pub(crate) fn parse(param: &str, value: &str) -> Result<Self, StripeError> {
        match value {
            "hour" => Ok(Window::Hour),
            "day" => Ok(Window::Day),
            _ => Err(StripeError::NotAllowed { param: param.to_owned(), allowed: "day or hour" }),
        }
    }

    fn seconds(self) -> i64 {
        match self {
            Window::Hour => HOUR_S,
            Window::Day => DAY_S,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Window::Hour => "hour",
            Window::Day => "day",
        }
    }
}

/// A meter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meter {
    /// Stripe's id.
    pub id: String,
    /// The name its events carry.
    pub event_name: String,
    /// The name a person reads.
    pub display_name: String,
    /// How it adds up.
    pub formula: Formula,
    /// The windows it pre-aggregates.
    pub window: Option<Window>,
    /// The key of the payload that names the customer.
    pub customer_key: String,
    /// The key of the payload that holds the value.
    pub value_key: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was archived, if it is.
    pub deactivated_at: Option<Timestamp>,
}

impl Meter {
    /// A `sum` meter with Stripe's default keys.
    pub fn summing(id: String, event_name: &str, created_at: Timestamp) -> Self {
        Self {
            id,
            event_name: event_name.to_owned(),
            display_name: event_name.to_owned(),
            formula: Formula::Sum,
            window: None,
            customer_key: "stripe_customer_id".to_owned(),
            value_key: "value".to_owned(),
            created_at,
            deactivated_at: None,
        }
    }

    /// Reads `POST /v1/billing/meters`.
    pub(crate) fn from_form(form: &Form, id: String, now: Timestamp) -> Result<Self, StripeError> {
        form.allow(&[
            "customer_mapping",
            "default_aggregation",
            "display_name",
            "event_name",
            "event_time_window",
            "value_settings",
        ])?;
        let mut meter = Meter::summing(id, form.text("event_name", 100)?, now);
        form.text("display_name", 250)?.clone_into(&mut meter.display_name);
        meter.formula = match form.require("default_aggregation[formula]")? {
            "sum" => Formula::Sum,
            "count" => Formula::Count,
            "last" => Formula::Last,
            _ => {
                let param = "default_aggregation[formula]".to_owned();
                return Err(StripeError::NotAllowed { param, allowed: "count, last, or sum" });
            }
        };
        let window = form.get("event_time_window");
        meter.window = window.map(|value| Window::parse("event_time_window", value)).transpose()?;
        if let Some(key) = form.get("customer_mapping[event_payload_key]") {
            key.clone_into(&mut meter.customer_key);
        }
        if let Some(key) = form.get("value_settings[event_payload_key]") {
            key.clone_into(&mut meter.value_key);
        }
        Ok(meter)
    }

    /// The object on the wire.
    pub(crate) fn object(&self) -> Value {
        let status = if self.deactivated_at.is_some() { "inactive" } else { "active" };
        json!({
            "id": self.id,
            "object": "billing.meter",
            "created": self.created_at.as_second(),
            "customer_mapping": {"event_payload_key": self.customer_key, "type": "by_id"},
            "default_aggregation": {"formula": self.formula},
            "display_name": self.display_name,
            "event_name": self.event_name,
            "event_time_window": self.window,
            "livemode": false,
            "status": status,
            "status_transitions": {"deactivated_at": self.deactivated_at.map(Timestamp::as_second)},
            "updated": self.deactivated_at.unwrap_or(self.created_at).as_second(),
            "value_settings": {"event_payload_key": self.value_key},
        })
    }

    /// The aggregate of these events, which come in the order in which Stripe received them.
    pub(crate) fn aggregate<'e>(&self, events: impl Iterator<Item = &'e MeterEvent>) -> i64 {
        let counted = events.filter(|event| event.fate == Fate::Counted);
        let kept: Vec<&MeterEvent> = match self.window {
            None => counted.collect(),
            Some(window) => {
                let by_window: BTreeMap<i64, &MeterEvent> =
                    counted.map(|event| (event.timestamp_s.div_euclid(window.seconds()), event)).collect();
                by_window.into_values().collect()
            }
        };
        match self.formula {
            Formula::Sum => {
                kept.iter().fold(0, |sum, event| sum.saturating_add(event.value.unwrap_or_default()))
            }
            Formula::Count => i64::try_from(kept.len()).unwrap_or(i64::MAX),
            Formula::Last => kept
                .iter()
                .max_by_key(|event| (event.timestamp_s, event.received_at))
                .and_then(|event| event.value)
                .unwrap_or_default(),
        }
    }
}

/// A summary query: `[start, end)` in seconds, in whole minutes, hours or days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SummaryQuery {
    pub(crate) customer: String,
    start_s: i64,
    end_s: i64,
    grouping: Option<Window>,
}

impl SummaryQuery {
    pub(crate) fn from_form(form: &Form) -> Result<Self, StripeError> {
        form.allow(&[
            "customer",
            "start_time",
            "end_time",
            "value_grouping_window",
            "limit",
            "starting_after",
            "ending_before",
        ])?;
        let required =
            |name: &str| form.integer(name)?.ok_or_else(|| StripeError::MissingParam(name.to_owned()));
        let customer = form.require("customer")?.to_owned();
        let (start_s, end_s) = (required("start_time")?, required("end_time")?);
        let grouping = form.get("value_grouping_window");
        let grouping = grouping.map(|value| Window::parse("value_grouping_window", value)).transpose()?;
        let (step, unit) = grouping.map_or((MINUTE_S, "minute"), |window| (window.seconds(), window.unit()));
        for (param, at) in [("start_time", start_s), ("end_time", end_s)] {
            if at.rem_euclid(step) != 0 {
                return Err(StripeError::NotAligned { param, unit });
            }
        }
        if end_s <= start_s {
            return Err(StripeError::EmptyRange);
        }
        Ok(Self { customer, start_s, end_s, grouping })
    }

    /// The summaries, newest first. Without grouping there is exactly one, even without events; with grouping, only the
    /// windows that hold an event have one.
    pub(crate) fn answer(&self, meter: &Meter, events: &[&MeterEvent]) -> Vec<Value> {
        let inside = |start_s: i64, end_s: i64| {
            events.iter().copied().filter(move |event| (start_s..end_s).contains(&event.timestamp_s))
        };
        let Some(window) = self.grouping else {
            let value = meter.aggregate(inside(self.start_s, self.end_s));
            return vec![self.summary(meter, self.start_s, self.end_s, value)];
        };
        let step = window.seconds();
        let starts: std::collections::BTreeSet<i64> = inside(self.start_s, self.end_s)
            .filter(|event| event.fate == Fate::Counted)
            .map(|event| event.timestamp_s.div_euclid(step) * step)
            .collect();
        starts
            .into_iter()
            .rev()
            .map(|start_s| {
                let value = meter.aggregate(inside(start_s, start_s + step));
                self.summary(meter, start_s, start_s + step, value)
            })
            .collect()
    }

    fn summary(&self, meter: &Meter, start_s: i64, end_s: i64, value: i64) -> Value {
        json!({
            "id": format!("mtrusg_test_{}_{}_{start_s}_{end_s}", meter.id, self.customer),
            "object": "billing.meter_event_summary",
            "aggregated_value": value,
            "end_time": end_s,
            "livemode": false,
            "meter": meter.id,
            "start_time": start_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(timestamp_s: i64, value: i64) -> MeterEvent {
        MeterEvent {
            identifier: format!("{timestamp_s}-{value}"),
            event_name: "executions".into(),
            customer: Some("cus_north".into()),
            value: Some(value),
            timestamp_s,
            received_at: Timestamp::from_second(1_795_484_000 + value).unwrap(),
            fate: Fate::Counted,
        }
    }

    fn query(start: i64, end: i64, grouping: &str) -> Result<SummaryQuery, StripeError> {
        let form = format!("customer=cus_north&start_time={start}&end_time={end}{grouping}");
        SummaryQuery::from_form(&Form::parse(form.as_bytes()))
    }

    fn values(summaries: &[Value]) -> Vec<(i64, i64)> {
        summaries
            .iter()
            .map(|it| (it["start_time"].as_i64().unwrap(), it["aggregated_value"].as_i64().unwrap()))
            .collect()
    }

    #[test]
    fn the_start_is_inside_and_the_end_is_not() {
        let meter = Meter::summing("mtr_1".into(), "executions", Timestamp::UNIX_EPOCH);
        let events = [event(60, 1), event(119, 2), event(120, 4), event(59, 8)];
        let events: Vec<_> = events.iter().collect();
        let answer = query(60, 120, "").unwrap().answer(&meter, &events);
        assert_eq!(values(&answer), [(60, 3)]);
    }

    #[test]
    fn bounds_lie_on_minutes_or_on_the_grouping() {
        assert!(matches!(query(61, 120, ""), Err(StripeError::NotAligned { unit: "minute", .. })));
        let hourly = query(60, 7_200, "&value_grouping_window=hour");
        assert!(matches!(hourly, Err(StripeError::NotAligned { unit: "hour", .. })));
        assert_eq!(query(120, 120, ""), Err(StripeError::EmptyRange));
    }

    #[test]
    fn grouping_gives_one_summary_for_each_window_with_events() {
        let meter = Meter::summing("mtr_1".into(), "executions", Timestamp::UNIX_EPOCH);
        let events = [event(10, 1), event(3_599, 2), event(7_200, 4)];
        let events: Vec<_> = events.iter().collect();
        let answer = query(0, 10_800, "&value_grouping_window=hour").unwrap().answer(&meter, &events);
        assert_eq!(values(&answer), [(7_200, 4), (0, 3)]);
    }

    #[test]
    fn a_windowed_meter_keeps_the_last_event_received_for_each_window() {
        let mut meter = Meter::summing("mtr_1".into(), "executions", Timestamp::UNIX_EPOCH);
        meter.window = Some(Window::Hour);
        let events = [event(3_599, 10), event(3_599, 12), event(7_199, 5)];
        assert_eq!(meter.aggregate(events.iter()), 17);
    }
}
