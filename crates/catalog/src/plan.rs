//! What a tenant may use, and what it costs.

use jiff::Timestamp;
use metering::{CountingRule, Currency, Percent, PlanId, Price};
use proto::{subjects::CatalogKind, v1};

use crate::{AdmissionRule, Entry, InvalidEntry, Tenant, entry::checked_name};

/// Thresholds of one plan; each is a mail per period.
const THRESHOLDS_MAX: usize = 10;

/// What happens at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitKind {
    /// The limit check refuses.
    #[default]
    Hard,
    /// The limit check allows, and says that the limit is passed.
    Soft,
}

/// What the limit check answers when usage is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutageRule {
    /// Allow: a customer's workflows matter more than a few free runs.
    #[default]
    Open,
    /// Refuse.
    Closed,
}

/// What a tenant may use, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its id, chosen by the operator.
    pub id: PlanId,
    /// For people.
    pub name: String,
    /// Counted executions in a period; missing for no limit.
    pub monthly_limit: Option<u64>,
    /// What happens at the limit.
    pub limit_kind: LimitKind,
    /// Shares of the limit at which the tenant is warned, ascending.
    pub thresholds: Vec<Percent>,
    /// Which executions count.
    pub counting: CountingRule,
    /// What usage costs; missing if the plan has no price.
    pub price: Option<Price>,
    /// The event name of the Stripe meter; missing if usage is not billed.
    pub meter_event_name: Option<String>,
    /// What the limit check answers when usage is unknown.
    pub outage_rule: OutageRule,
    /// How the limit check decides, beyond the monthly limit.
    pub admission: AdmissionRule,
}

impl Plan {
    /// The limit that applies to a tenant of this plan at this instant.
    pub fn limit_for(&self, tenant: &Tenant, at: Timestamp) -> Option<u64> {
        tenant.limit_override_at(at).or(self.monthly_limit)
    }
}

impl Plan {
    /// Fails if the price's currency is not in ISO 4217. Checked when a plan is put; a plan accepted before
    /// stays valid.
    pub fn check_currency(&self) -> Result<(), InvalidEntry> {
        let Some(price) = &self.price else { return Ok(()) };
        price.currency.check().map_err(|error| InvalidEntry::field("price.currency", error.to_string()))
    }
}

impl Entry for Plan {
    type Wire = v1::Plan;

    const KIND: CatalogKind = CatalogKind::Plan;

    fn from_wire(wire: v1::Plan) -> Result<Self, InvalidEntry> {
        let limit_kind = match wire.limit_kind() {
            v1::LimitKind::Unspecified | v1::LimitKind::Hard => LimitKind::Hard,
            v1::LimitKind::Soft => LimitKind::Soft,
        };
        let outage_rule = match wire.outage_rule() {
            v1::OutageRule::Unspecified | v1::OutageRule::Open => OutageRule::Open,
            v1::OutageRule::Closed => OutageRule::Closed,
        };
        let counting = wire.counting.unwrap_or_default();
        Ok(Self {
            id: PlanId::parse(&wire.plan_id)?,
            name: checked_name(wire.name)?,
            monthly_limit: wire.monthly_limit,
            limit_kind,
            thresholds: checked_thresholds(&wire.thresholds_percent)?,
            counting: CountingRule {
                manual: counting.manual,
                sub_workflow: counting.sub_workflow,
                error_workflow: counting.error_workflow,
                canceled: counting.canceled,
                other: counting.other,
            },
            price: wire.price.map(checked_price).transpose()?,
            meter_event_name: checked_event_name(wire.meter_event_name)?,
            outage_rule,
            admission: AdmissionRule::from_wire(wire.admission.unwrap_or_default())?,
        })
    }

    fn to_wire(&self, revision: u64) -> v1::Plan {
        v1::Plan {
            plan_id: self.id.to_string(),
            revision,
            removed: false,
            name: self.name.clone(),
            monthly_limit: self.monthly_limit,
            limit_kind: match self.limit_kind {
                LimitKind::Hard => v1::LimitKind::Hard,
                LimitKind::Soft => v1::LimitKind::Soft,
            }
            .into(),
            thresholds_percent: self.thresholds.iter().map(|threshold| threshold.get()).collect(),
            counting: Some(v1::CountingRule {
                manual: self.counting.manual,
                sub_workflow: self.counting.sub_workflow,
                error_workflow: self.counting.error_workflow,
                canceled: self.counting.canceled,
                other: self.counting.other,
            }),
            price: self.price.map(|price| v1::Price {
                currency: price.currency.as_str().to_owned(),
                base_fee_minor: price.base_fee_minor,
                included_executions: price.included_executions,
                overage_per_thousand_minor: price.overage_per_thousand_minor,
            }),
            meter_event_name: self.meter_event_name.clone().unwrap_or_default(),
            outage_rule: match self.outage_rule {
                OutageRule::Open => v1::OutageRule::Open,
                OutageRule::Closed => v1::OutageRule::Closed,
            }
            .into(),
            admission: Some(self.admission.to_wire()),
        }
    }

    fn to_message(&self, revision: u64) -> v1::CatalogEntry {
        v1::CatalogEntry { entry: Some(v1::catalog_entry::Entry::Plan(self.to_wire(revision))) }
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

fn checked_thresholds(percents: &[u32]) -> Result<Vec<Percent>, InvalidEntry> {
    if percents.len() > THRESHOLDS_MAX {
        return Err(InvalidEntry::field("thresholds_percent", format!("at most {THRESHOLDS_MAX}")));
    }
    let mut thresholds =
        percents.iter().map(|percent| Percent::new(*percent)).collect::<Result<Vec<_>, _>>()?;
    thresholds.sort_unstable();
    thresholds.dedup();
    Ok(thresholds)
}

fn checked_price(wire: v1::Price) -> Result<Price, InvalidEntry> {
    if wire.base_fee_minor < 0 || wire.overage_per_thousand_minor < 0 {
        return Err(InvalidEntry::field("price", "amounts must not be negative"));
    }
    Ok(Price {
        currency: Currency::parse(&wire.currency)?,
        base_fee_minor: wire.base_fee_minor,
        included_executions: wire.included_executions,
        overage_per_thousand_minor: wire.overage_per_thousand_minor,
    })
}

/// Stripe accepts event names of at most 100 characters.
fn checked_event_name(name: String) -> Result<Option<String>, InvalidEntry> {
    match name.len() {
        0 => Ok(None),
        1..=100 if name.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(name)),
        _ => Err(InvalidEntry::field("meter_event_name", "use 1 to 100 printable characters without spaces")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::Plan {
        v1::Plan { plan_id: "pro".into(), name: "Pro".into(), ..v1::Plan::default() }
    }

    #[test]
    fn the_wire_gives_the_same_plan_back() {
        let price = Price {
            currency: Currency::parse("eur").unwrap(),
            base_fee_minor: 2_000,
            included_executions: 2_500,
            overage_per_thousand_minor: 150,
        };
        let plan = Plan {
            monthly_limit: Some(0),
            limit_kind: LimitKind::Soft,
            thresholds: vec![Percent::new(80).unwrap(), Percent::new(100).unwrap()],
            counting: CountingRule { manual: true, other: true, ..CountingRule::default() },
            price: Some(price),
            meter_event_name: Some("executions".into()),
            outage_rule: OutageRule::Closed,
            admission: AdmissionRule { shadow: true, ..AdmissionRule::default() },
            ..Plan::from_wire(wire()).unwrap()
        };
        assert_eq!(Plan::from_wire(plan.to_wire(7)).unwrap(), plan);
    }

    #[test]
    fn thresholds_are_sorted_and_unique() {
        let wire = v1::Plan { thresholds_percent: vec![100, 80, 80], ..wire() };
        let shares: Vec<u32> = Plan::from_wire(wire).unwrap().thresholds.iter().map(|t| t.get()).collect();
        assert_eq!(shares, [80, 100]);
    }

    #[test]
    fn money_is_not_negative() {
        let price = v1::Price { currency: "eur".into(), base_fee_minor: -1, ..v1::Price::default() };
        assert!(Plan::from_wire(v1::Plan { price: Some(price), ..wire() }).is_err());
    }

    #[test]
    fn a_tenants_own_limit_wins_until_it_ends() {
        let plan = Plan { monthly_limit: Some(100), ..Plan::from_wire(wire()).unwrap() };
        let mut tenant = Tenant::from_wire(v1::Tenant {
            tenant_id: "north".into(),
            name: "North".into(),
            plan_id: "pro".into(),
            ..v1::Tenant::default()
        })
        .unwrap();
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(plan.limit_for(&tenant, at("2026-11-24T12:00:00Z")), Some(100));
        tenant.limit_override = Some(150);
        assert_eq!(plan.limit_for(&tenant, at("2026-11-24T12:00:00Z")), Some(150));
        tenant.limit_override_until = Some(at("2026-11-24T12:00:00Z"));
        assert_eq!(plan.limit_for(&tenant, at("2026-11-24T11:59:59Z")), Some(150));
        assert_eq!(plan.limit_for(&tenant, at("2026-11-24T12:00:00Z")), Some(100));
    }
}
