//! The bytes of a message, made readable.

use std::fmt::Write as _;

use prost::Message;
use proto::{Namespace, v1};

/// Bytes of an unreadable payload that are shown.
const SHOWN_BYTES_MAX: usize = 256;

/// The content of a message on `subject`; text or bytes if it is not a message of that subject.
pub fn describe(namespace: &Namespace, subject: &str, payload: &[u8]) -> String {
    let topic = namespace.topic_of(subject).map_or("", |(topic, _)| topic);
    let decoded = match topic {
        "source.synced" => decode::<v1::SourceSynced>(payload),
        "source.failing" => decode::<v1::SourceFailing>(payload),
        "source.gap" => decode::<v1::SourceGap>(payload),
        "usage.counted" => decode::<v1::UsageCounted>(payload),
        "usage.threshold" => decode::<v1::ThresholdCrossed>(payload),
        "usage.period" => decode::<v1::PeriodEvent>(payload),
        "billing" => decode::<v1::BillingEvent>(payload),
        "rows" => row(payload),
        _ if topic.starts_with("executions.") => decode::<v1::ExecutionBatch>(payload),
        _ if topic.starts_with("catalog.") => decode::<v1::CatalogEntry>(payload),
        _ => None,
    };
    decoded.unwrap_or_else(|| undecoded(payload))
}

fn decode<M: Message + Default + std::fmt::Debug>(payload: &[u8]) -> Option<String> {
    M::decode(payload).ok().map(|message| format!("{message:#?}"))
}

/// A row is JSON inside protobuf: shown as JSON.
fn row(payload: &[u8]) -> Option<String> {
    let row = v1::SourceRow::decode(payload).ok()?;
    Some(format!("row of {} in epoch {}: {}", row.source_id, row.epoch, undecoded(&row.row)))
}

fn undecoded(payload: &[u8]) -> String {
    let shown = payload.get(..SHOWN_BYTES_MAX).unwrap_or(payload);
    let rest = match payload.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more bytes"),
    };
    match std::str::from_utf8(shown) {
        Ok(text) if !text.contains(|c: char| c.is_control() && !c.is_whitespace()) => format!("{text}{rest}"),
        _ => {
            let hex = shown.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x} ");
                hex
            });
            format!("{}{rest}", hex.trim_end())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_by_its_fields() {
        let namespace = Namespace::default();
        let batch = v1::ExecutionBatch { source_id: "north-n8n".into(), epoch: 3, ..Default::default() };
        let shown = describe(&namespace, &namespace.executions("north-n8n"), &batch.encode_to_vec());
        assert!(shown.contains("source_id: \"north-n8n\"") && shown.contains("epoch: 3"), "{shown}");
    }

    #[test]
    fn an_undecodable_payload_is_shown_as_it_is() {
        let namespace = Namespace::default();
        let subject = namespace.usage_counted("north");
        assert_eq!(describe(&namespace, &subject, b"<html>"), "<html>");
        assert_eq!(describe(&namespace, &subject, b"\xff\x00"), "ff 00");
        assert!(describe(&namespace, &subject, &[b'<'; 300]).ends_with("and 44 more bytes"));
    }
}
