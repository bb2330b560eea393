//! A customer whose executions are metered.

use jiff::Timestamp;
use metering::{Calendar, InvalidCalendar, PlanId, TenantId};
use proto::{instant, subjects::CatalogKind, timestamp, v1};

use crate::{Entry, InvalidEntry, MailAddress, entry::checked_name};

/// Recipients of one tenant's alerts; bounds the mails that one crossing may cause.
const RECIPIENTS_MAX: usize = 20;

/// The language of mails and of sentences for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Spanish.
    Spanish,
}

impl Language {
    /// `en` or `es`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Spanish => "es",
        }
    }

    /// The language with this code; English if none is given.
    pub fn parse(code: &str) -> Result<Self, InvalidEntry> {
        match code {
            "" | "en" => Ok(Self::English),
            "es" => Ok(Self::Spanish),
            _ => Err(InvalidEntry::field("language", "use `en` or `es`")),
        }
    }
}

/// A customer whose executions are metered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id, chosen by the operator.
    pub id: TenantId,
    /// For people.
    pub name: String,
    /// What it may use.
    pub plan: PlanId,
    /// How its periods are cut.
    pub calendar: Calendar,
    /// The language of its mails.
    pub language: Language,
    /// Who is warned, as mail addresses.
    pub alert_recipients: Vec<String>,
    /// Its customer id at Stripe; missing if it is not billed.
    pub stripe_customer: Option<String>,
    /// Whether other tenants may have the same customer at Stripe.
    pub shared_customer: bool,
    /// Replaces the plan's limit.
    pub limit_override: Option<u64>,
    /// When it ends and the plan's limit applies again; missing if it does not end.
    pub limit_override_until: Option<Timestamp>,
}

impl Tenant {
    /// The tenant's own limit, if it has one at this instant.
    pub fn limit_override_at(&self, at: Timestamp) -> Option<u64> {
        self.limit_override.filter(|_| self.limit_override_until.is_none_or(|until| at < until))
    }

    /// Fails if mail cannot be sent to one of the recipients. Checked when a tenant is put; a tenant accepted
    /// before stays valid, and only the mail to such a recipient fails.
    pub fn check_recipients(&self) -> Result<(), InvalidEntry> {
        let checked = self.alert_recipients.iter().try_for_each(|text| MailAddress::parse(text).map(|_| ()));
        checked.map_err(|error| InvalidEntry::field("alert_recipients", error.to_string()))
    }
}

impl Entry for Tenant {
    type Wire = v1::Tenant;

    const KIND: CatalogKind = CatalogKind::Tenant;

    fn from_wire(wire: v1::Tenant) -> Result<Self, InvalidEntry> {
        let time_zone = if wire.time_zone.is_empty() { "UTC" } else { &wire.time_zone };
        let anchor_day = if wire.anchor_day == 0 { 1 } else { wire.anchor_day };
        Ok(Self {
            id: TenantId::parse(&wire.tenant_id)?,
            name: checked_name(wire.name)?,
            plan: PlanId::parse(&wire.plan_id)?,
            calendar: calendar(&wire.tenant_id, time_zone, anchor_day)?,
            language: Language::parse(&wire.language)?,
            alert_recipients: checked_recipients(wire.alert_recipients)?,
            stripe_customer: checked_customer(wire.stripe_customer_id)?,
            shared_customer: wire.shared_customer,
            limit_override: wire.limit_override,
            limit_override_until: checked_end(wire.limit_override, wire.limit_override_until)?,
        })
    }

    fn to_wire(&self, revision: u64) -> v1::Tenant {
        v1::Tenant {
            tenant_id: self.id.to_string(),
            revision,
            removed: false,
            name: self.name.clone(),
            plan_id: self.plan.to_string(),
            time_zone: self.calendar.time_zone_name().to_owned(),
            anchor_day: self.calendar.anchor_day(),
            language: self.language.as_str().to_owned(),
            alert_recipients: self.alert_recipients.clone(),
            stripe_customer_id: self.stripe_customer.clone().unwrap_or_default(),
            shared_customer: self.shared_customer,
            limit_override: self.limit_override,
            limit_override_until: self.limit_override_until.map(timestamp),
            archived_at: None,
        }
    }

    fn to_message(&self, revision: u64) -> v1::CatalogEntry {
        v1::CatalogEntry { entry: Some(v1::catalog_entry::Entry::Tenant(self.to_wire(revision))) }
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

/// The calendar of a stored tenant. A zone that this machine's time zone database does not have (`localtime`
/// in a container, a name that a release has dropped) is read as UTC: an unreadable tenant would make the
/// whole catalog unreadable.
fn calendar(tenant: &str, time_zone: &str, anchor_day: u32) -> Result<Calendar, InvalidCalendar> {
    match Calendar::new(time_zone, anchor_day) {
        Err(InvalidCalendar::TimeZone(unknown)) => {
            tracing::warn!(tenant, time_zone = unknown, "unknown time zone, its periods are cut in UTC");
            Calendar::new("UTC", anchor_day)
        }
        known => known,
    }
}

fn checked_recipients(recipients: Vec<String>) -> Result<Vec<String>, InvalidEntry> {
    if recipients.len() > RECIPIENTS_MAX {
        return Err(InvalidEntry::field("alert_recipients", format!("at most {RECIPIENTS_MAX}")));
    }
    // Only keeps an address from breaking out of a mail header: a stored value must stay readable. The full
    // check is `Tenant::check_recipients`.
    let plausible = |address: &String| {
        address.len() <= 254
            && address.split('@').filter(|part| !part.is_empty()).count() == 2
            && !address.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;\"".contains(c))
    };
    match recipients.iter().find(|address| !plausible(address)) {
        Some(bad) => {
            let shown: String = bad.chars().take(80).collect();
            Err(InvalidEntry::field("alert_recipients", format!("{shown:?} is not a mail address")))
        }
        None => Ok(recipients),
    }
}

fn checked_end(
    limit_override: Option<u64>,
    until: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, InvalidEntry> {
    const FIELD: &str = "limit_override_until";
    if until.is_some() && limit_override.is_none() {
        return Err(InvalidEntry::field(FIELD, "says when an override ends: set limit_override too"));
    }
    instant(until.as_ref(), FIELD).map_err(|error| InvalidEntry::field(FIELD, error.to_string()))
}

fn checked_customer(customer: String) -> Result<Option<String>, InvalidEntry> {
    match customer.as_str() {
        "" => Ok(None),
        id if id.starts_with("cus_") && id.len() <= 255 && id.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(Some(customer))
        }
        _ => Err(InvalidEntry::field("stripe_customer_id", "a customer id begins with `cus_`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::Tenant {
        v1::Tenant {
            tenant_id: "north".into(),
            name: "North".into(),
            plan_id: "pro".into(),
            alert_recipients: vec!["ops@north.example".into()],
            ..v1::Tenant::default()
        }
    }

    #[test]
    fn missing_fields_have_defaults() {
        let tenant = Tenant::from_wire(wire()).unwrap();
        assert_eq!(tenant.calendar, Calendar::utc());
        assert_eq!(tenant.language, Language::English);
        assert_eq!(tenant.stripe_customer, None);
    }

    #[test]
    fn the_wire_gives_the_same_tenant_back() {
        let tenant = Tenant {
            calendar: Calendar::new("Europe/Madrid", 31).unwrap(),
            language: Language::Spanish,
            stripe_customer: Some("cus_north".into()),
            shared_customer: true,
            limit_override: Some(0),
            limit_override_until: Some("2026-12-01T00:00:00Z".parse().unwrap()),
            ..Tenant::from_wire(wire()).unwrap()
        };
        assert_eq!(Tenant::from_wire(tenant.to_wire(7)).unwrap(), tenant);
    }

    #[test]
    fn an_unknown_zone_does_not_make_its_tenant_unreadable() {
        let wire = v1::Tenant { time_zone: "right/Atlantis".into(), anchor_day: 5, ..wire() };
        let tenant = Tenant::from_wire(wire.clone()).unwrap();
        assert_eq!(tenant.calendar, Calendar::new("UTC", 5).unwrap());
        assert!(Tenant::from_wire(v1::Tenant { anchor_day: 32, ..wire }).is_err());
    }

    #[test]
    fn an_address_cannot_carry_a_second_header() {
        for bad in ["", "ops", "a@b@c", "a@b\r\nBcc: x@y", "a b@c", "<a@b>", "a@"] {
            let wire = v1::Tenant { alert_recipients: vec![bad.into()], ..wire() };
            assert!(Tenant::from_wire(wire).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_recipient_that_cannot_be_sent_to_is_named() {
        let tenant = |recipient: &str| {
            Tenant::from_wire(v1::Tenant {
                alert_recipients: vec!["ok@x.example".into(), recipient.into()],
                ..wire()
            })
        };
        assert_eq!(tenant("ops@bücher.example").unwrap().check_recipients(), Ok(()));
        // It was accepted once: a stored one must stay readable.
        for bad in ["ops@@at.example", "a..b@dot.example", "ops@-dot.example"] {
            let error = tenant(bad).unwrap().check_recipients().unwrap_err().to_string();
            assert!(error.starts_with("alert_recipients: ") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn only_an_override_can_end() {
        let limit_override_until = Some(timestamp("2026-12-01T00:00:00Z".parse().unwrap()));
        assert!(Tenant::from_wire(v1::Tenant { limit_override_until, ..wire() }).is_err());
    }

    #[test]
    fn a_customer_id_is_recognised() {
        let wire = v1::Tenant { stripe_customer_id: "sub_1".into(), ..wire() };
        assert!(Tenant::from_wire(wire).unwrap_err().to_string().contains("cus_"));
    }
}
