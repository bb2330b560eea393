//! Arithmetic of instants that ends at the calendar's ends instead of failing.

use jiff::{Timestamp, TimestampArithmetic};

/// `instant + by`, stopping at the end of the calendar.
pub fn later(instant: Timestamp, by: impl Into<TimestampArithmetic>) -> Timestamp {
    instant.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// `instant - by`, stopping at the beginning of the calendar.
pub fn earlier(instant: Timestamp, by: impl Into<TimestampArithmetic>) -> Timestamp {
    instant.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_instant_stops_at_the_ends_of_the_calendar() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(earlier(later(Timestamp::UNIX_EPOCH, hour), hour), Timestamp::UNIX_EPOCH);
        for by in [hour, Duration::MAX] {
            assert_eq!(later(Timestamp::MAX, by), Timestamp::MAX);
            assert_eq!(earlier(Timestamp::MIN, by), Timestamp::MIN);
        }
    }
}
