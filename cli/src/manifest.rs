//! The YAML file of `flowmeter apply`: plans, tenants and sources.
//!
//! Everything is checked before anything is sent, by the same rules as the gateway's.

mod admission;
mod attribution;
mod bound;
mod document;

use std::{collections::BTreeSet, fs, io, path::Path, time::Duration};

use catalog::{CatalogKind, Entry, InvalidEntry};
use jiff::Timestamp;
use proto::{timestamp, v1};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use self::{
    admission::Admission,
    attribution::Attribution,
    bound::Bound,
    document::{Document, InvalidDocument, Written},
};
use crate::environment::{self, InvalidReference};

/// One plan, tenant or source, ready to be sent.
#[derive(Debug)]
pub struct Item {
    /// What it is.
    pub kind: CatalogKind,
    /// Its id.
    pub id: String,
    /// What is sent to the gateway, without secrets.
    pub body: Value,
    /// The API key of a source.
    pub api_key: Option<SecretString>,
    /// Paths of its keys in the file, e.g. `admission.grace`: keys that are left out have their defaults.
    pub keys: BTreeSet<String>,
}

/// The file cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No such file, or it may not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Not YAML, or not of this shape.
    #[error("cannot use {path}")]
    Document {
        /// The file.
        path: String,
        /// Where, and what was expected.
        source: InvalidDocument,
    },
    /// An item is invalid.
    #[error("{path}: {} {id}", kind.as_str())]
    Item {
        /// The file.
        path: String,
        /// What it is.
        kind: CatalogKind,
        /// Its id.
        id: String,
        /// What is wrong.
        source: InvalidItem,
    },
}

/// What is wrong with an item.
#[derive(Debug, thiserror::Error)]
pub enum InvalidItem {
    /// The gateway would not accept it.
    #[error(transparent)]
    Entry(#[from] InvalidEntry),
    /// It names a variable that cannot be used.
    #[error("{field}")]
    Reference {
        /// The field.
        field: &'static str,
        /// Why.
        source: InvalidReference,
    },
    /// The id is in the file twice.
    #[error("is in the file twice")]
    Repeated,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    id: String,
    name: String,
    #[serde(default)]
    monthly_limit: Bound,
    #[serde(default)]
    limit_kind: LimitKind,
    #[serde(default = "default_thresholds")]
    thresholds_percent: Vec<u32>,
    #[serde(default)]
    counting: Counting,
    price: Option<Price>,
    meter_event_name: Option<String>,
    #[serde(default)]
    outage_rule: OutageRule,
    #[serde(default)]
    admission: Admission,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LimitKind {
    #[default]
    Hard,
    Soft,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutageRule {
    #[default]
    Open,
    Closed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Counting {
    manual: bool,
    sub_workflow: bool,
    error_workflow: bool,
    canceled: bool,
    other: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    currency: String,
    #[serde(default)]
    base_fee_minor: i64,
    #[serde(default)]
    included_executions: u64,
    #[serde(default)]
    overage_per_thousand_minor: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    id: String,
    name: String,
    plan: String,
    #[serde(default = "default_time_zone")]
    time_zone: String,
    #[serde(default = "default_anchor_day")]
    anchor_day: u32,
    #[serde(default = "default_language")]
    language: String,
    #[serde(default)]
    alert_recipients: Vec<String>,
    stripe_customer_id: Option<String>,
    #[serde(default)]
    shared_customer: bool,
    limit_override: Option<u64>,
    limit_override_until: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    id: String,
    tenant: Option<String>,
    #[serde(default)]
    attributions: Vec<Attribution>,
    #[serde(default)]
    kind: SourceKind,
    base_url: String,
    api_key: Option<SecretString>,
    poll_interval: Option<String>,
    #[serde(default)]
    paused: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SourceKind {
    #[default]
    N8n,
}

fn default_thresholds() -> Vec<u32> {
    vec![80, 100]
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn default_anchor_day() -> u32 {
    1
}

fn default_language() -> String {
    "en".to_owned()
}

/// The items of a file (`-` for standard input) in the order in which they can be sent: each after what it
/// refers to. `variable` looks up an environment variable.
pub fn read(path: &Path, variable: environment::Lookup<'_>) -> Result<Vec<Item>, ManifestError> {
    let shown = path.display().to_string();
    let text =
        if path == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    let text = text.map_err(|source| ManifestError::Read { path: shown.clone(), source })?;
    parse(&text, &shown, variable)
}

fn parse(text: &str, path: &str, variable: environment::Lookup<'_>) -> Result<Vec<Item>, ManifestError> {
    let document: Document<Plan, Tenant, Source> =
        document::read(text).map_err(|source| ManifestError::Document { path: path.to_owned(), source })?;
    let mut items: Vec<Item> = Vec::new();
    let mut add = |kind: CatalogKind, id: String, keys, item: Result<Item, InvalidItem>| {
        let repeated = items.iter().any(|other| other.kind == kind && other.id == id);
        let item = if repeated { Err(InvalidItem::Repeated) } else { item };
        let item = item.map(|item| Item { keys, ..item });
        items.push(item.map_err(|source| ManifestError::Item { path: path.to_owned(), kind, id, source })?);
        Ok(())
    };
    for Written { item: plan, keys } in document.plans {
        add(CatalogKind::Plan, plan.id.clone(), keys, plan.into_item())?;
    }
    for Written { item: tenant, keys } in document.tenants {
        add(CatalogKind::Tenant, tenant.id.clone(), keys, tenant.into_item())?;
    }
    for Written { item: source, keys } in document.sources {
        add(CatalogKind::Source, source.id.clone(), keys, source.into_item(variable))?;
    }
    Ok(items)
}

impl Plan {
    fn into_item(self) -> Result<Item, InvalidItem> {
        let wire = v1::Plan {
            plan_id: self.id,
            name: self.name,
            monthly_limit: self.monthly_limit.0,
            thresholds_percent: self.thresholds_percent,
            meter_event_name: self.meter_event_name.unwrap_or_default(),
            price: self.price.map(|price| v1::Price {
                currency: price.currency,
                base_fee_minor: price.base_fee_minor,
                included_executions: price.included_executions,
                overage_per_thousand_minor: price.overage_per_thousand_minor,
            }),
            admission: Some(self.admission.to_wire()?),
            ..v1::Plan::default()
        };
        let plan = catalog::Plan::from_wire(wire)?;
        plan.check_currency()?;
        let (kind, rule) = (self.limit_kind, self.outage_rule);
        let body = json!({
            "name": plan.name,
            "monthly_limit": plan.monthly_limit,
            "limit_kind": match kind { LimitKind::Hard => "hard", LimitKind::Soft => "soft" },
            "thresholds_percent": plan.thresholds.iter().map(|share| share.get()).collect::<Vec<_>>(),
            "counting": {
                "manual": self.counting.manual,
                "sub_workflow": self.counting.sub_workflow,
                "error_workflow": self.counting.error_workflow,
                "canceled": self.counting.canceled,
                "other": self.counting.other,
            },
            "price": plan.price.map(|price| json!({
                "currency": price.currency.as_str(),
                "base_fee_minor": price.base_fee_minor,
                "included_executions": price.included_executions,
                "overage_per_thousand_minor": price.overage_per_thousand_minor,
            })),
            "meter_event_name": plan.meter_event_name,
            "outage_rule": match rule { OutageRule::Open => "open", OutageRule::Closed => "closed" },
            "admission": self.admission.to_json(),
        });
        Ok(Item {
            kind: CatalogKind::Plan,
            id: plan.id.to_string(),
            body,
            api_key: None,
            keys: BTreeSet::new(),
        })
    }
}

impl Tenant {
    fn into_item(self) -> Result<Item, InvalidItem> {
        metering::check_time_zone(&self.time_zone)
            .map_err(|error| InvalidEntry::field("time_zone", error.to_string()))?;
        let tenant = catalog::Tenant::from_wire(v1::Tenant {
            tenant_id: self.id,
            name: self.name,
            plan_id: self.plan,
            time_zone: self.time_zone,
            anchor_day: self.anchor_day,
            language: self.language,
            alert_recipients: self.alert_recipients,
            stripe_customer_id: self.stripe_customer_id.unwrap_or_default(),
            shared_customer: self.shared_customer,
            limit_override: self.limit_override,
            limit_override_until: self.limit_override_until.map(timestamp),
            ..v1::Tenant::default()
        })?;
        let body = json!({
            "name": tenant.name,
            "plan": tenant.plan.as_str(),
            "time_zone": tenant.calendar.time_zone_name(),
            "anchor_day": tenant.calendar.anchor_day(),
            "language": tenant.language.as_str(),
            "alert_recipients": tenant.alert_recipients,
            "stripe_customer_id": tenant.stripe_customer,
            "shared_customer": tenant.shared_customer,
            "limit_override": tenant.limit_override,
            "limit_override_until": tenant.limit_override_until,
        });
        Ok(Item {
            kind: CatalogKind::Tenant,
            id: tenant.id.to_string(),
            body,
            api_key: None,
            keys: BTreeSet::new(),
        })
    }
}

impl Source {
    fn into_item(self, variable: environment::Lookup<'_>) -> Result<Item, InvalidItem> {
        let resolved = |field, text: &str| {
            environment::substitute(text, variable).map_err(|source| InvalidItem::Reference { field, source })
        };
        let base_url = resolved("base_url", &self.base_url)?;
        let api_key = match &self.api_key {
            Some(key) => Some(SecretString::from(resolved("api_key", key.expose_secret())?)),
            None => None,
        };
        let source = catalog::Source::from_wire(v1::Source {
            source_id: self.id,
            tenant_id: self.tenant.unwrap_or_default(),
            attributions: self.attributions.iter().map(Attribution::to_wire).collect::<Result<_, _>>()?,
            kind: match self.kind {
                SourceKind::N8n => v1::SourceKind::N8n.into(),
            },
            base_url,
            poll_interval: self
                .poll_interval
                .as_deref()
                .map(|text| span("poll_interval", text))
                .transpose()?,
            ..v1::Source::default()
        })?;
        let body = json!({
            "tenant": source.tenant.as_ref().map(metering::TenantId::as_str),
            "attributions": self.attributions.iter().map(Attribution::to_json).collect::<Vec<_>>(),
            "kind": match self.kind { SourceKind::N8n => "n8n" },
            // As the gateway stores it, so that applying the same file again changes nothing.
            "base_url": catalog::of_editor_page(&source.base_url).unwrap_or(source.base_url).as_str().trim_end_matches('/'),
            "poll_interval": self.poll_interval,
            "paused": self.paused,
        });
        Ok(Item {
            kind: CatalogKind::Source,
            id: source.id.to_string(),
            body,
            api_key,
            keys: BTreeSet::new(),
        })
    }
}

/// The duration in `text`, for the wire; reading the wire checks the bounds of `field`.
fn span(field: &'static str, text: &str) -> Result<prost_types::Duration, InvalidEntry> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .and_then(|span| prost_types::Duration::try_from(span).ok())
        .ok_or_else(|| InvalidEntry::field(field, "use a duration such as `24h`, `10m` or `30s`"))
}

#[cfg(test)]
mod tests;
