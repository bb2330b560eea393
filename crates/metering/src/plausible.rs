//! Which instants an execution may have. One rule for all readers of executions: what one service accepts and
//! another refuses would be lost.

use jiff::{SignedDuration, Timestamp};

/// How far ahead of ours a source's clock may be. A clock that takes its local time for UTC is up to 14 hours ahead.
/// More is invalid: it would open periods that have not begun, and pin an epoch until that instant.
pub const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// 2019-01-01: no execution is older than n8n. Bounds the months and the durations that bad input can make, and keeps
/// instants within what the database can store.
pub const EARLIEST_SECOND: i64 = 1_546_300_800;

/// An instant that no execution has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    /// It lies in the future.
    #[error("{what} at {at}, which is more than a day ahead: check the source's clock")]
    Ahead {
        /// `started` or `stopped`.
        what: &'static str,
        /// The instant.
        at: Timestamp,
    },
    /// It is before n8n existed.
    #[error("{what} at {at}, before there was n8n: check the source's clock")]
    BeforeN8n {
        /// `started` or `stopped`.
        what: &'static str,
        /// The instant.
        at: Timestamp,
    },
}

/// Whether an execution may have this instant.
pub fn is_plausible(at: Timestamp, now: Timestamp) -> bool {
    at.as_second() >= EARLIEST_SECOND && at.duration_since(now) <= AHEAD_MAX
}

/// Checks when an execution started and stopped, if it did. A start after the stop is plausible: the source's
/// clock was set back meanwhile.
pub fn check_instants(
    started_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Implausible> {
    for (what, at) in [("stopped", stopped_at), ("started", started_at)] {
        let Some(at) = at.filter(|at| !is_plausible(*at, now)) else { continue };
        return Err(match at < now {
            true => Implausible::BeforeN8n { what, at },
            false => Implausible::Ahead { what, at },
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_instants_have_the_same_bounds() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let good = at("2026-11-24T11:59:00Z");
        for fine in ["2019-01-01T00:00:00Z", "2026-11-25T12:00:00Z"] {
            assert_eq!(check_instants(at(fine), good, now), Ok(()), "{fine}");
            assert_eq!(check_instants(good, at(fine), now), Ok(()), "{fine}");
        }
        for (bad, word) in [
            ("-009999-01-02T01:59:59Z", "before there was n8n"),
            ("0001-01-01T00:00:00Z", "before there was n8n"),
            ("2018-12-31T23:59:59.999Z", "before there was n8n"),
            ("2026-11-25T12:00:00.001Z", "more than a day ahead"),
            ("9999-12-30T22:00:00Z", "more than a day ahead"),
        ] {
            let start = check_instants(at(bad), good, now).unwrap_err().to_string();
            assert!(start.starts_with("started at") && start.contains(word), "{start}");
            let stop = check_instants(good, at(bad), now).unwrap_err().to_string();
            assert!(stop.starts_with("stopped at") && stop.contains(word), "{stop}");
        }
        assert_eq!(check_instants(None, None, now), Ok(()));
    }
}
