//! Crossings and periods as CloudEvents 1.0 in JSON (structured mode), for subscribers without protobuf.
//!
//! The data has the fields of the protobuf message under the same names, without the figures of single workflows:
//! intermediaries need not forward events above 64 KiB.

use jiff::Timestamp;
use serde::Serialize;

use crate::{Namespace, instant, v1};

/// The content type of a message that is one CloudEvent, by the NATS binding of CloudEvents. Spelled as the library of npm
/// wants it: it knows no other case of the letters.
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

const SPEC_VERSION: &str = "1.0";
const DATA_CONTENT_TYPE: &str = "application/json";

/// `ThresholdCrossed` as a CloudEvent.
pub fn threshold_crossed(namespace: &Namespace, message: &v1::ThresholdCrossed) -> Vec<u8> {
    let data = Threshold {
        crossing_id: &message.crossing_id,
        tenant_id: &message.tenant_id,
        period: message.period.as_ref().map(Bounds::from),
        rule: &message.rule,
        threshold_percent: message.threshold_percent,
        highest_percent: message.highest_percent,
        limit: message.limit,
        used: message.used,
        crossed_at: at(message.crossed_at.as_ref()),
        plan_id: &message.plan_id,
    };
    let kind = "flowmeter.v1.threshold.crossed";
    encode(namespace, &message.crossing_id, kind, &message.tenant_id, data.crossed_at, &data)
}

/// `PeriodOpened` as a CloudEvent with this id.
pub fn period_opened(namespace: &Namespace, id: &str, message: &v1::PeriodOpened) -> Vec<u8> {
    let data = Opened {
        tenant_id: &message.tenant_id,
        period: message.period.as_ref().map(Bounds::from),
        opened_at: at(message.opened_at.as_ref()),
    };
    encode(namespace, id, "flowmeter.v1.period.opened", &message.tenant_id, data.opened_at, &data)
}

/// `PeriodClosed` as a CloudEvent with this id.
pub fn period_closed(namespace: &Namespace, id: &str, message: &v1::PeriodClosed) -> Vec<u8> {
    let data = Closed {
        tenant_id: &message.tenant_id,
        period: message.period.as_ref().map(Bounds::from),
        revision: message.revision,
        totals: message.totals.as_ref().map(Figures::from),
        closed_at: at(message.closed_at.as_ref()),
        incomplete_sources: &message.incomplete_sources,
        plan_id: &message.plan_id,
        time_zone: &message.time_zone,
    };
    encode(namespace, id, "flowmeter.v1.period.closed", &message.tenant_id, data.closed_at, &data)
}

/// `LateUsage` as a CloudEvent with this id.
pub fn late_usage(namespace: &Namespace, id: &str, message: &v1::LateUsage) -> Vec<u8> {
    let data = Late {
        tenant_id: &message.tenant_id,
        period: message.period.as_ref().map(Bounds::from),
        revision: message.revision,
        totals: message.totals.as_ref().map(Figures::from),
        found_at: at(message.found_at.as_ref()),
    };
    encode(namespace, id, "flowmeter.v1.period.late", &message.tenant_id, data.found_at, &data)
}

/// The attributes of an event and its data. Structs, not maps: the order of their fields is part of the frozen bytes.
#[derive(Serialize)]
struct CloudEvent<'a, T> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    r#type: &'static str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    datacontenttype: &'static str,
    data: &'a T,
}

#[derive(Serialize)]
struct Bounds {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

#[derive(Serialize)]
struct Figures {
    counted: u64,
    uncounted: u64,
    success: u64,
    error: u64,
    crashed: u64,
    canceled: u64,
    duration_ms: u64,
    late: u64,
    voided: u64,
    adjusted: i64,
}

#[derive(Serialize)]
struct Threshold<'a> {
    crossing_id: &'a str,
    tenant_id: &'a str,
    period: Option<Bounds>,
    rule: &'a str,
    threshold_percent: u32,
    highest_percent: u32,
    limit: u64,
    used: u64,
    crossed_at: Option<Timestamp>,
    plan_id: &'a str,
}

#[derive(Serialize)]
struct Opened<'a> {
    tenant_id: &'a str,
    period: Option<Bounds>,
    opened_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct Closed<'a> {
    tenant_id: &'a str,
    period: Option<Bounds>,
    revision: u64,
    totals: Option<Figures>,
    closed_at: Option<Timestamp>,
    incomplete_sources: &'a [String],
    plan_id: &'a str,
    time_zone: &'a str,
}

#[derive(Serialize)]
struct Late<'a> {
    tenant_id: &'a str,
    period: Option<Bounds>,
    revision: u64,
    totals: Option<Figures>,
    found_at: Option<Timestamp>,
}

impl From<&v1::Period> for Bounds {
    fn from(period: &v1::Period) -> Self {
        Self { start: at(period.start.as_ref()), end: at(period.end.as_ref()) }
    }
}

impl From<&v1::Totals> for Figures {
    fn from(totals: &v1::Totals) -> Self {
        Self {
            counted: totals.counted,
            uncounted: totals.uncounted,
            success: totals.success,
            error: totals.error,
            crashed: totals.crashed,
            canceled: totals.canceled,
            duration_ms: totals.duration_ms,
            late: totals.late,
            voided: totals.voided,
            adjusted: totals.adjusted,
        }
    }
}

/// An instant of a message of ours; none of them is out of range.
fn at(wire: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    instant(wire, "at").ok().flatten()
}

fn encode(
    namespace: &Namespace,
    id: &str,
    kind: &'static str,
    tenant: &str,
    time: Option<Timestamp>,
    data: &impl Serialize,
) -> Vec<u8> {
    let event = CloudEvent {
        specversion: SPEC_VERSION,
        id,
        source: format!("/{namespace}"),
        r#type: kind,
        subject: tenant,
        time,
        datacontenttype: DATA_CONTENT_TYPE,
        data,
    };
    // Fails only for maps with other keys than text, and there are none.
    serde_json::to_vec(&event).unwrap_or_default()
}
