//! The name of a report at Stripe: the same for every attempt, different for every report.

use std::fmt;

use jiff::tz::TimeZone;
use metering::{Period, TenantId};
use sha2::{Digest, Sha256};

/// Bytes of the hash that are kept: enough to distinguish the environments, meters and period starts of one
/// tenant and day.
const HASH_BYTES: usize = 6;

/// Where a tenant's usage is reported: a customer and a meter's event name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// Stripe's id of the customer.
    pub customer: String,
    /// The event name of the meter.
    pub event_name: String,
}

/// Stripe's `identifier` of a meter event, at most 100 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(String);

impl Identifier {
    /// The identifier of a report: a function of what it reports, so that every attempt has the same one.
    pub fn of(environment: &str, event_name: &str, tenant: &TenantId, period: Period, version: u32) -> Self {
        let mut hash = Sha256::new();
        let start = period.start.as_second().to_string();
        for part in [environment, event_name, tenant.as_str(), start.as_str()] {
            // Length prefixes: ("ab", "c") and ("a", "bc") must differ.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let short = hex::encode(hash.get(..HASH_BYTES).unwrap_or_default());
        let day = period.start.to_zoned(TimeZone::UTC).strftime("%Y%m%d").to_string();
        // 64 + 1 + 8 + 1 + 10 + 1 + 12 characters at most.
        Self(format!("{tenant}-{day}-{version}-{short}"))
    }

    /// An identifier that was made earlier.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn period(start: &str) -> Period {
        Period { start: start.parse().unwrap(), end: "2026-12-31T00:00:00Z".parse().unwrap() }
    }

    fn identifier(
        environment: &str,
        event_name: &str,
        tenant: &str,
        start: &str,
        version: u32,
    ) -> Identifier {
        Identifier::of(environment, event_name, &TenantId::parse(tenant).unwrap(), period(start), version)
    }

    const START: &str = "2026-11-01T00:00:00Z";

    #[test]
    fn it_fits_whatever_the_operator_chose() {
        let longest = identifier(&"e".repeat(32), &"m".repeat(100), &"t".repeat(64), START, u32::MAX);
        assert!(longest.as_str().len() <= 100, "{longest}");
    }

    #[test]
    fn every_part_counts() {
        let all = [
            identifier("live", "executions", "north", START, 1),
            identifier("test", "executions", "north", START, 1),
            identifier("live", "runs", "north", START, 1),
            identifier("live", "executions", "south", START, 1),
            identifier("live", "executions", "north", "2026-11-01T01:00:00Z", 1),
            identifier("live", "executions", "north", START, 2),
            identifier("live", "executions", "north-20261101-1", START, 1),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn it_never_changes_between_releases() {
        assert_eq!(
            identifier("live", "executions", "north", START, 3).as_str(),
            "north-20261101-3-15c248b43ea3"
        );
    }
}
