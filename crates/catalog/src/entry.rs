//! What tenants, plans and sources have in common.

use std::{ops::RangeInclusive, time::Duration};

use metering::{InvalidCalendar, InvalidCurrency, InvalidId, InvalidPercent};
use proto::{subjects::CatalogKind, v1};

/// A kind of catalog value, with its form on the wire.
pub trait Entry: Sized + Send {
    /// The form on the wire.
    type Wire: prost::Message + Default;

    /// Which kind it is.
    const KIND: CatalogKind;

    /// The value from the wire. Fails on what the gateway would not have accepted.
    fn from_wire(wire: Self::Wire) -> Result<Self, InvalidEntry>;

    /// The value for the wire, as revision `revision`.
    fn to_wire(&self, revision: u64) -> Self::Wire;

    /// The value as its subject carries it.
    fn to_message(&self, revision: u64) -> v1::CatalogEntry;

    /// The value's id, as a subject token.
    fn id(&self) -> &str;
}

/// The value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// Not protobuf of the kind.
    #[error("not a {kind}: {reason}")]
    Undecodable {
        /// What it should have been.
        kind: &'static str,
        /// The decoder's error.
        reason: String,
    },
    /// An id is malformed.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The time zone or anchor day is invalid.
    #[error(transparent)]
    Calendar(#[from] InvalidCalendar),
    /// A threshold is invalid.
    #[error(transparent)]
    Threshold(#[from] InvalidPercent),
    /// A currency is invalid.
    #[error(transparent)]
    Currency(#[from] InvalidCurrency),
    /// Another field is invalid.
    #[error("{field}: {reason}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong, and what to use instead.
        reason: String,
    },
}

impl InvalidEntry {
    /// An invalid field.
    pub fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Field { field, reason: reason.into() }
    }
}

/// Longest display name, in characters.
const NAME_CHARS_MAX: usize = 200;

/// A display name: not empty, bounded, without control characters.
pub(crate) fn checked_name(name: String) -> Result<String, InvalidEntry> {
    let length = name.chars().count();
    if (1..=NAME_CHARS_MAX).contains(&length) && !name.chars().any(char::is_control) {
        Ok(name)
    } else {
        Err(InvalidEntry::field("name", format!("use 1 to {NAME_CHARS_MAX} printable characters")))
    }
}

/// A duration within its bounds, both inclusive.
pub(crate) fn checked_duration(
    field: &'static str,
    wire: Option<prost_types::Duration>,
    bounds: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, InvalidEntry> {
    let Some(wire) = wire else { return Ok(None) };
    match Duration::try_from(wire) {
        Ok(duration) if bounds.contains(&duration) => Ok(Some(duration)),
        _ => {
            let reason = format!("use {:?} to {} h", bounds.start(), bounds.end().as_secs() / 3_600);
            Err(InvalidEntry::field(field, reason))
        }
    }
}

/// A duration for the wire.
pub(crate) fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
