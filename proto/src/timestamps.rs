//! Instants on the wire: `google.protobuf.Timestamp`, converted at the edge.

use jiff::Timestamp;

/// A timestamp that is out of range, or missing although the contract requires it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimestamp {
    /// The field is not set.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// The field is outside the years that can be represented.
    #[error("`{0}` is out of range")]
    OutOfRange(&'static str),
}

/// An instant as the wire carries it.
pub fn timestamp(instant: Timestamp) -> prost_types::Timestamp {
    // The wire wants nanoseconds that count forward, also before 1970.
    let nanos = instant.as_nanosecond();
    let second = nanos.div_euclid(1_000_000_000);
    let rest = nanos.rem_euclid(1_000_000_000);
    prost_types::Timestamp {
        seconds: i64::try_from(second).unwrap_or(i64::MAX),
        nanos: i32::try_from(rest).unwrap_or(0),
    }
}

/// An optional instant from the wire. `field` names it in the error.
pub fn instant(
    wire: Option<&prost_types::Timestamp>,
    field: &'static str,
) -> Result<Option<Timestamp>, InvalidTimestamp> {
    wire.map(|wire| Timestamp::new(wire.seconds, wire.nanos).map_err(|_| InvalidTimestamp::OutOfRange(field)))
        .transpose()
}

/// An instant from the wire that must be there. `field` names it in the error.
pub fn required_instant(
    wire: Option<&prost_types::Timestamp>,
    field: &'static str,
) -> Result<Timestamp, InvalidTimestamp> {
    instant(wire, field)?.ok_or(InvalidTimestamp::Missing(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_the_wire_also_before_1970() {
        for text in ["2026-11-24T01:33:32.514Z", "1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z"] {
            let before: Timestamp = text.parse().unwrap();
            assert_eq!(required_instant(Some(&timestamp(before)), "at"), Ok(before));
        }
    }

    #[test]
    fn a_bad_instant_names_its_field() {
        let far = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(instant(Some(&far), "stopped_at"), Err(InvalidTimestamp::OutOfRange("stopped_at")));
        assert_eq!(required_instant(None, "stopped_at"), Err(InvalidTimestamp::Missing("stopped_at")));
    }
}
