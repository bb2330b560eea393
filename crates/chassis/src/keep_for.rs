//! How long something is kept. Pure.

use std::{fmt, str::FromStr};

use jiff::{Span, Timestamp, Unit, civil, tz::TimeZone};
use serde::{Deserialize, Deserializer, de::Error};

/// The word for what is never removed.
const FOREVER: &str = "forever";

/// How long something is kept: a span of whole days, weeks, months or years, such as `400d` or `13 months`; or `forever`.
#[derive(Debug, Clone, Copy)]
pub enum KeepFor {
    /// Nothing is removed.
    Forever,
    /// Anything older is removed.
    For(Span),
}

/// The text is not a retention time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a retention time: use whole days, such as `400d`, or `forever`")]
pub struct InvalidKeepFor(String);

impl KeepFor {
    /// This many days.
    pub fn days(days: u16) -> Self {
        Self::For(Span::new().days(i64::from(days)))
    }

    /// Anything that ended before this date (UTC) is removed; `None` if everything is kept.
    pub fn cutoff(&self, now: Timestamp) -> Option<civil::Date> {
        let Self::For(span) = self else { return None };
        now.to_zoned(TimeZone::UTC).date().checked_sub(*span).ok()
    }

    /// Whether it is at least this many days, however long its months are.
    pub fn is_at_least_days(&self, days: i32) -> bool {
        let Self::For(span) = self else { return true };
        // From the end of February, so that a month has 28 days.
        let from = civil::date(2026, 3, 1);
        from.checked_sub(*span).and_then(|then| then.until(from)).is_ok_and(|kept| kept.get_days() >= days)
    }
}

impl fmt::Display for KeepFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str(FOREVER),
            Self::For(span) => write!(f, "{span:#}"),
        }
    }
}

impl FromStr for KeepFor {
    type Err = InvalidKeepFor;

    fn from_str(text: &str) -> Result<Self, InvalidKeepFor> {
        if text.trim() == FOREVER {
            return Ok(Self::Forever);
        }
        let invalid = || InvalidKeepFor(text.chars().take(64).collect());
        let span: Span = text.trim().parse().map_err(|_| invalid())?;
        let is_whole = span.is_positive()
            && [
                Unit::Hour,
                Unit::Minute,
                Unit::Second,
                Unit::Millisecond,
                Unit::Microsecond,
                Unit::Nanosecond,
            ]
            .into_iter()
            .all(|unit| !uses(&span, unit));
        if is_whole { Ok(Self::For(span)) } else { Err(invalid()) }
    }
}

fn uses(span: &Span, unit: Unit) -> bool {
    match unit {
        Unit::Hour => span.get_hours() != 0,
        Unit::Minute => span.get_minutes() != 0,
        Unit::Second => span.get_seconds() != 0,
        Unit::Millisecond => span.get_milliseconds() != 0,
        Unit::Microsecond => span.get_microseconds() != 0,
        Unit::Nanosecond => span.get_nanoseconds() != 0,
        Unit::Day | Unit::Week | Unit::Month | Unit::Year => true,
    }
}

impl<'de> Deserialize<'de> for KeepFor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cutoff(text: &str) -> Option<String> {
        let now = "2026-03-31T00:30:00Z".parse().unwrap();
        text.parse::<KeepFor>().unwrap().cutoff(now).map(|date| date.to_string())
    }

    #[test]
    fn spans_of_days_and_months_and_forever_are_read() {
        assert_eq!(cutoff("400d").as_deref(), Some("2025-02-24"));
        assert_eq!(cutoff("400 days").as_deref(), Some("2025-02-24"));
        assert_eq!(cutoff("13 months").as_deref(), Some("2025-02-28"));
        assert_eq!(cutoff("forever"), None);
    }

    #[test]
    fn a_text_that_is_no_span_of_days_is_refused() {
        for text in ["", "0", "0d", "-3d", "10h", "1d 2h", "400", "never", "for ever and ever"] {
            assert!(text.parse::<KeepFor>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_shortest_reading_of_months_decides_whether_it_is_enough() {
        let is_enough = |text: &str| text.parse::<KeepFor>().unwrap().is_at_least_days(59);
        assert!(is_enough("59d") && is_enough("2 months") && is_enough("forever"));
        assert!(!is_enough("58d") && !is_enough("1 month"));
    }
}
