//! Durations as people write them: `10m`, `1h 30m`.

use std::time::Duration;

use catalog::InvalidEntry;
use jiff::SignedDuration;

/// The duration in `text`, in its wire form, where the bounds of `field` are checked.
pub fn to_wire(field: &'static str, text: &str) -> Result<prost_types::Duration, InvalidEntry> {
    let invalid = || InvalidEntry::field(field, "use a duration such as `24h`, `10m` or `30s`");
    let span: SignedDuration = text.parse().map_err(|_| invalid())?;
    if span.subsec_nanos() != 0 {
        return Err(InvalidEntry::field(field, "use whole seconds"));
    }
    Ok(prost_types::Duration { seconds: span.as_secs(), nanos: 0 })
}

/// The duration as text that [`to_wire`] can read.
pub fn text(span: Duration) -> String {
    SignedDuration::try_from(span).map_or_else(|_| String::new(), |signed| format!("{signed:#}"))
}
