//! A removed tenant: its figures stay readable, so its tombstone keeps what is needed to read them.

use jiff::Timestamp;
use proto::{instant, timestamp, v1};

use crate::{Entry, InvalidEntry, Tenant};

/// The plan of a tenant that was removed before archived tenants kept theirs.
pub const PLAN_UNKNOWN: &str = "unknown";

/// A tenant that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedTenant {
    /// The tenant as it was, without mail recipients: nobody is warned any more, and addresses are personal
    /// data.
    pub tenant: Tenant,
    /// Its last revision.
    pub revision: u64,
    /// When it was removed; missing if it was removed before this was recorded.
    pub archived_at: Option<Timestamp>,
}

impl ArchivedTenant {
    /// The archived form of a tenant.
    pub fn new(tenant: Tenant, revision: u64, archived_at: Timestamp) -> Self {
        let tenant = Tenant { alert_recipients: Vec::new(), ..tenant };
        Self { tenant, revision, archived_at: Some(archived_at) }
    }

    /// Reads a tombstone. One that carries only the id is read with its id as the name, in UTC.
    pub fn from_wire(wire: v1::Tenant) -> Result<Self, InvalidEntry> {
        let (revision, archived_at) = (wire.revision, wire.archived_at);
        let archived_at = instant(archived_at.as_ref(), "archived_at")
            .map_err(|error| InvalidEntry::field("archived_at", error.to_string()))?;
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        let name = or(wire.name.clone(), &wire.tenant_id);
        let plan_id = or(wire.plan_id.clone(), PLAN_UNKNOWN);
        let tenant = Tenant::from_wire(v1::Tenant { name, plan_id, ..wire })?;
        Ok(Self { tenant, revision, archived_at })
    }

    /// The tombstone.
    pub fn to_wire(&self) -> v1::Tenant {
        let archived_at = self.archived_at.map(timestamp);
        v1::Tenant { removed: true, archived_at, ..self.tenant.to_wire(self.revision) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_keeps_the_tenant_but_not_its_recipients() {
        let tenant = Tenant::from_wire(v1::Tenant {
            tenant_id: "north".into(),
            name: "North".into(),
            plan_id: "pro".into(),
            time_zone: "Europe/Madrid".into(),
            alert_recipients: vec!["ops@north.example".into()],
            ..v1::Tenant::default()
        })
        .unwrap();
        let at = "2026-11-24T12:00:00Z".parse().unwrap();
        let archived = ArchivedTenant::new(tenant.clone(), 4, at);
        let wire = archived.to_wire();
        assert!(wire.removed && wire.alert_recipients.is_empty());
        assert_eq!(ArchivedTenant::from_wire(wire).unwrap(), archived);
        assert_eq!(archived.tenant, Tenant { alert_recipients: Vec::new(), ..tenant });
    }

    #[test]
    fn a_tombstone_that_has_only_an_id_can_be_read() {
        let wire =
            v1::Tenant { tenant_id: "north".into(), revision: 2, removed: true, ..v1::Tenant::default() };
        let archived = ArchivedTenant::from_wire(wire).unwrap();
        assert_eq!((archived.tenant.name.as_str(), archived.tenant.plan.as_str()), ("north", PLAN_UNKNOWN));
        assert_eq!((archived.revision, archived.archived_at), (2, None));
    }
}
