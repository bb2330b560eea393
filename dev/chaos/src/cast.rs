//! Who takes part: tenants, their n8n instances, and the two months that are played.

use jiff::Timestamp;

/// A tenant of the play. Its plan has its own name.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    /// Its id.
    pub id: &'static str,
    /// Recipients of the mails about its crossings.
    pub recipients: &'static [&'static str],
    /// Its monthly limit, in percent of what is counted for it before the first month ends. Chosen so that the
    /// count is far from both thresholds (80 and 100 percent): no crossing depends on chance.
    pub limit_percent: u64,
    /// Whether it is billed.
    pub billed: bool,
    /// Whether it is added in the middle of the first month, while things break.
    pub joins_later: bool,
}

impl Tenant {
    /// Its customer at Stripe.
    pub fn customer(&self) -> String {
        format!("cus_{}", self.id)
    }
}

/// An n8n instance and the source that names it; both have this id.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Its id.
    pub id: &'static str,
    /// Its tenant: an index into [`TENANTS`].
    pub tenant: usize,
    /// Whether it pushes too; every source is polled.
    pub pushes: bool,
}

/// All tenants.
pub const TENANTS: [Tenant; 4] = [
    Tenant {
        id: "north",
        recipients: &["ops@north.example", "cto@north.example"],
        limit_percent: 50,
        billed: true,
        joins_later: false,
    },
    Tenant {
        id: "south",
        recipients: &["ops@south.example"],
        limit_percent: 112,
        billed: true,
        joins_later: false,
    },
    Tenant {
        id: "east",
        recipients: &["ops@east.example"],
        limit_percent: 1_000,
        billed: false,
        joins_later: false,
    },
    Tenant {
        id: "west",
        recipients: &["ops@west.example"],
        limit_percent: 60,
        billed: true,
        joins_later: true,
    },
];

/// All sources.
pub const SOURCES: [Source; 6] = [
    Source { id: "north-n8n", tenant: 0, pushes: false },
    Source { id: "north-push", tenant: 0, pushes: true },
    Source { id: "south-push", tenant: 1, pushes: true },
    Source { id: "east-n8n", tenant: 2, pushes: false },
    Source { id: "east-push", tenant: 2, pushes: true },
    Source { id: "west-push", tenant: 3, pushes: true },
];

/// Workflows of each source.
pub const WORKFLOWS: [&str; 3] = ["orderSync", "stockAlert", "nightlyReport"];

/// Workflow names as people and broken clients write them; `None` keeps the id. [`LONE_SURROGATE`] in a pushed name is
/// sent as half of a surrogate pair; in the instance, whose names are Unicode, it stays as it is.
pub const NAMES: [Option<&str>; 6] = [
    None,
    Some("Pedidos \u{0}diarios"),
    Some("Bestellungen \u{202E}\u{1b}[31m\u{7}"),
    Some("Stock @LONE-SURROGATE@ alert"),
    Some("在庫 🧾"),
    Some("   "),
];

/// Placeholder for half of a surrogate pair in a name.
pub const LONE_SURROGATE: &str = "@LONE-SURROGATE@";

/// Calendars that tenants change to, one after the other: time zone and anchor day. Whichever applies when March ends, its
/// first boundary in April comes after the last input of the play and before the curtain.
pub const CALENDARS: [(&str, u32); 9] = [
    ("UTC", 1),
    ("Europe/Madrid", 1),
    ("Asia/Kathmandu", 1),
    ("Pacific/Auckland", 1),
    ("America/New_York", 15),
    ("America/Santiago", 5),
    ("America/Havana", 31),
    ("Europe/Madrid", 30),
    ("Pacific/Apia", 3),
];

/// The meter that all plans report to.
pub const METER: &str = "executions";

/// A month of the play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Month {
    /// The first, whose end comes in the middle of the faults.
    March,
    /// The second.
    April,
}

impl Month {
    /// Both.
    pub const ALL: [Self; 2] = [Self::March, Self::April];

    /// Its first instant, in UTC, as the tenants' calendars have it.
    pub fn start(self) -> Timestamp {
        instant(match self {
            Self::March => "2027-03-01T00:00:00Z",
            Self::April => "2027-04-01T00:00:00Z",
        })
    }

    /// The month that begins at this instant.
    pub fn beginning(at: Timestamp) -> Option<Self> {
        Self::ALL.into_iter().find(|month| month.start() == at)
    }

    /// The month that an instant lies in.
    pub fn of(at: Timestamp) -> Option<Self> {
        let end = instant("2027-05-01T00:00:00Z");
        Self::ALL.into_iter().rev().find(|month| month.start() <= at && at < end)
    }
}

/// When the play begins: close enough to the month's end that no service mistakes the jump for a broken clock.
pub fn opening() -> Timestamp {
    instant("2027-03-31T06:00:00Z")
}

/// Where the clock jumps to from March.
pub fn april() -> Timestamp {
    instant("2027-04-01T00:10:00Z")
}

/// Where the clock jumps to at last: April is closed too.
pub fn curtain() -> Timestamp {
    instant("2027-05-01T00:10:00Z")
}

/// An instant that this file names; the tests parse every one of them.
fn instant(text: &str) -> Timestamp {
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_belongs_to_its_month() {
        let before = april().checked_sub(jiff::SignedDuration::from_mins(11)).unwrap();
        assert_eq!(Month::of(opening()), Some(Month::March));
        assert_eq!(Month::of(before), Some(Month::March));
        assert_eq!(Month::of(Month::April.start()), Some(Month::April));
        assert_eq!(Month::of(curtain()), None);
        assert_eq!(Month::of(Timestamp::UNIX_EPOCH), None);
        assert_eq!(Month::beginning(Month::April.start()), Some(Month::April));
        assert_eq!(Month::beginning(april()), None);
    }

    #[test]
    fn every_calendar_keeps_april_whole_until_the_play_is_over() {
        let (played, curtain) = (april() + jiff::SignedDuration::from_hours(12), curtain());
        for (zone, anchor_day) in CALENDARS {
            let calendar = metering::Calendar::new(zone, anchor_day).unwrap();
            let boundary = calendar.period_of(Month::April.start()).end;
            assert!(played < boundary && boundary < curtain, "{zone} {anchor_day}: {boundary}");
        }
    }
}
