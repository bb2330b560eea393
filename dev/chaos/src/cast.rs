//! Who takes part: tenants, their n8n instances, and the two months that are played.

use jiff::Timestamp;

/// A tenant of the play. Its plan has its own name.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    /// Its id.
    pub id: &'static str,
    /// Who is told of its crossings.
    pub recipients: &'static [&'static str],
    /// Its monthly limit, in percent of what is counted of it before the first month's end. A limit that is
    /// far from 80 and 100 percent of that leaves no crossing to chance.
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
    /// Whose it is: an index into [`TENANTS`].
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

    /// The month that an instant lies in.
    pub fn of(at: Timestamp) -> Option<Self> {
        let end = instant("2027-05-01T00:00:00Z");
        Self::ALL.into_iter().rev().find(|month| month.start() <= at && at < end)
    }
}

/// When the play begins: close enough to the month's end that no service takes the jump for a broken clock.
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

/// An instant that this file names; the tests read every one of them.
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
    }
}
