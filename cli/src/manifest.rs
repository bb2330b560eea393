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
mod tests {
    use super::*;

    const FILE: &str = r#"
plans:
  - id: starter
    name: Starter
    monthly_limit: 1000
    thresholds_percent: [100, 80]
tenants:
  - id: north
    name: North
    plan: starter
    alert_recipients: [ops@north.example]
sources:
  - id: north-n8n
    tenant: north
    base_url: ${SANDBOX_URL}/n8n/north
    api_key: ${NORTH_KEY}
    poll_interval: 5s
"#;

    fn variable(name: &str) -> Option<String> {
        match name {
            "SANDBOX_URL" => Some("http://127.0.0.1:9000".to_owned()),
            "NORTH_KEY" => Some("key-north".to_owned()),
            _ => None,
        }
    }

    /// The whole error, as `main` shows it.
    fn refused(text: &str) -> String {
        let error = parse(text, "demo.yaml", &variable).unwrap_err();
        format!("{:#}", anyhow::Error::from(error))
    }

    #[test]
    fn items_come_in_the_order_in_which_they_can_be_sent() {
        let items = parse(FILE, "demo.yaml", &variable).unwrap();
        let named: Vec<_> = items.iter().map(|item| (item.kind.as_str(), item.id.as_str())).collect();
        assert_eq!(named, [("plan", "starter"), ("tenant", "north"), ("source", "north-n8n")]);
    }

    #[test]
    fn missing_keys_have_the_gateways_defaults() {
        let items = parse(FILE, "demo.yaml", &variable).unwrap();
        assert_eq!(items[0].body["limit_kind"], "hard");
        assert_eq!(items[0].body["thresholds_percent"], json!([80, 100]));
        assert_eq!(items[1].body["time_zone"], "UTC");
        assert_eq!(items[1].body["stripe_customer_id"], Value::Null);
    }

    #[test]
    fn variables_are_substituted_and_keys_stay_hidden() {
        let items = parse(FILE, "demo.yaml", &variable).unwrap();
        assert_eq!(items[2].body["base_url"], "http://127.0.0.1:9000/n8n/north");
        assert_eq!(items[2].api_key.as_ref().unwrap().expose_secret(), "key-north");
        assert!(!format!("{items:?}").contains("key-north"));
    }

    #[test]
    fn an_error_names_the_place_of_the_mistake() {
        let typo = FILE.replace("monthly_limit", "montly_limit");
        let error = refused(&typo);
        assert!(error.contains("demo.yaml") && error.contains("plans[0]"), "{error}");
        assert!(error.contains("montly_limit") && error.contains("line"), "{error}");

        let error = refused(&FILE.replace("5s", "0s"));
        assert!(error.starts_with("demo.yaml: source north-n8n: poll_interval"), "{error}");

        let error = refused(&FILE.replace("NORTH_KEY", "SOUTH_KEY"));
        assert!(error.contains("source north-n8n: api_key: the environment variable SOUTH_KEY"), "{error}");
    }

    #[test]
    fn a_shared_source_says_whose_its_parts_are() {
        let shared = FILE.replace(
            "    tenant: north\n    base_url",
            "    attributions:\n      - {tenant: north, project: p1, from: 2026-11-01T00:00:00Z}\n    base_url",
        );
        let items = parse(&shared, "demo.yaml", &variable).unwrap();
        assert_eq!(items[2].body["tenant"], Value::Null);
        let expected = json!([{"tenant": "north", "project": "p1", "from": "2026-11-01T00:00:00Z"}]);
        assert_eq!(items[2].body["attributions"], expected);
        let both = refused(&shared.replace("project: p1", "project: p1, tag: t"));
        assert!(both.contains("source north-n8n: attributions"), "{both}");
    }

    #[test]
    fn a_plan_says_how_the_limit_check_decides() {
        let strict = FILE.replace(
            "    monthly_limit",
            "    admission: {grace: 24h, loop_rule: refuse}\n    monthly_limit",
        );
        let items = parse(&strict, "demo.yaml", &variable).unwrap();
        assert_eq!(items[0].body["admission"]["grace"], "24h");
        assert_eq!(items[0].body["admission"]["loop_rule"], "refuse");
        let error = refused(&strict.replace("24h", "soon"));
        assert!(error.contains("plan starter: admission.grace"), "{error}");
    }

    #[test]
    fn an_id_may_be_used_for_one_item_only() {
        let twice = FILE.replace("tenants:", "  - {id: starter, name: Again}\ntenants:");
        assert!(refused(&twice).contains("plan starter: is in the file twice"), "{}", refused(&twice));
    }

    #[test]
    fn the_demo_can_be_applied() {
        let demo = include_str!("../../dev/sandbox/demo.yaml");
        let items = parse(demo, "demo.yaml", &variable).unwrap();
        assert_eq!(items.len(), 9);
        assert!(items.iter().filter(|item| item.kind == CatalogKind::Source).all(|s| s.api_key.is_some()));
    }

    #[test]
    fn an_empty_file_has_no_items() {
        for file in ["{}", "", "tenants:", "x-a: {}\nplans:\ntenants: []"] {
            assert!(parse(file, "demo.yaml", &variable).unwrap().is_empty(), "{file:?}");
        }
    }

    #[test]
    fn merge_keys_are_resolved_and_own_keys_win() {
        let file = "
x-defaults: &base { plan: open, time_zone: Europe/Madrid }
x-spanish: &spanish { <<: *base, language: es }
tenants:
  - { <<: *base, id: y1, name: Y1 }
  - { id: y2, name: Y2, time_zone: UTC, <<: *spanish }
  - { id: y3, name: Y3, <<: [{ language: es }, { language: en, plan: small }, *base] }
";
        let items = parse(file, "demo.yaml", &variable).unwrap();
        let shown = |index: usize| {
            let body = &items[index].body;
            ["plan", "time_zone", "language"].map(|field| body[field].as_str().unwrap().to_owned())
        };
        assert_eq!(shown(0), ["open", "Europe/Madrid", "en"]);
        assert_eq!(shown(1), ["open", "UTC", "es"]);
        assert_eq!(shown(2), ["small", "Europe/Madrid", "es"]);
    }

    #[test]
    fn a_mistake_beside_a_merge_key_names_its_item() {
        let file = "
x-defaults: &base { plan: open, time_zone: Europe/Madrid }
tenants:
  - { <<: *base, id: y1, name: Y1 }
  - { <<: *base, id: y2, nam: Y2 }
";
        let error = refused(file);
        assert!(error.contains("demo.yaml: tenants[1]") && error.contains("`nam`"), "{error}");
        let error = refused("tenants: [{ <<: open, id: y1, name: Y1 }]");
        assert!(error.contains("tenants[0]: `<<` takes a mapping"), "{error}");
        let error = refused("y-defaults: { plan: open }\ntenants: []");
        assert!(error.contains("y-defaults"), "{error}");
    }

    #[test]
    fn a_key_without_a_value_is_refused_with_what_to_write() {
        for (blank, path) in [
            (
                FILE.replace("limit: 1000", "limit:"),
                "plans[0].monthly_limit has no value: write a number, or `unlimited`",
            ),
            (FILE.replace("limit: 1000", "limit: ~"), "plans[0].monthly_limit has no value"),
            (FILE.replace("limit: 1000", "limit: ''"), "plans[0].monthly_limit has no value"),
            (
                FILE.replace("limit: 1000", "limit: 9\n    admission: {tenant_caps: {per_minute: }}"),
                "plans[0].admission.tenant_caps.per_minute has no value: write a number, or `unlimited`",
            ),
            (FILE.replace("limit: 1000", "limit: 9\n    price:"), "plans[0].price has no value"),
            (
                FILE.replace("plan: starter", "plan: starter\n    time_zone:"),
                "tenants[0].time_zone has no value",
            ),
            (
                FILE.replace("plan: starter", "plan: starter\n    language: ''"),
                "tenants[0].language has no value",
            ),
            (
                FILE.replace("plan: starter", "plan: starter\n    limit_override:"),
                "tenants[0].limit_override",
            ),
            (FILE.replace("[ops@north.example]", "['']"), "tenants[0].alert_recipients[0] has no value"),
            (FILE.replace("api_key: ${NORTH_KEY}", "api_key:"), "sources[0].api_key has no value"),
            (FILE.replace("poll_interval: 5s", "poll_interval:"), "sources[0].poll_interval has no value"),
        ] {
            let error = refused(&blank);
            assert!(error.contains(path), "{path} is missing in: {error}");
        }
    }

    #[test]
    fn no_limit_is_a_key_left_out_or_the_word() {
        let limit =
            |file: &str| parse(file, "demo.yaml", &variable).unwrap()[0].body["monthly_limit"].clone();
        assert_eq!(limit(FILE), json!(1_000));
        assert_eq!(limit(&FILE.replace("    monthly_limit: 1000\n", "")), Value::Null);
        assert_eq!(limit(&FILE.replace("1000", "unlimited")), Value::Null);
        for bad in ["none", "-1", "1.5", "1_000"] {
            let error = refused(&FILE.replace("1000", bad));
            assert!(error.contains("monthly_limit") && error.contains("or `unlimited`"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_zone_that_browsers_do_not_know_is_refused() {
        for zone in ["localtime", "posixrules", "Factory", "posix/Europe/Madrid"] {
            let error =
                refused(&FILE.replace("plan: starter", &format!("plan: starter\n    time_zone: {zone}")));
            assert!(error.contains("tenant north: time_zone") && error.contains("Europe/Madrid"), "{error}");
        }
    }
}
