//! Tenants over HTTP.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{Json, extract::State, http::StatusCode};
use catalog::{ArchivedTenant, Entry, InvalidEntry, Tenant};
use jiff::Timestamp;
use metering::{PlanId, TenantId};
use proto::{timestamp, v1};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    damaged::DamagedJson,
    error::ApiError,
    extract::{JsonBody, PathId, QueryOf},
    responses::{Conflict, Invalid, NotFound},
    schema::{LanguageText, MailText, NameText, PlanIdText, StripeCustomerText, TenantIdText, TimeZoneText},
    warnings::{self, WarningJson},
};
use crate::directory::{editor::Revised, snapshot::Snapshot};

/// The body of `PUT /v1/tenants/{id}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantInput {
    /// The name shown to people.
    #[schema(value_type = NameText)]
    pub name: String,
    /// The id of its plan, which must exist.
    #[schema(value_type = PlanIdText)]
    pub plan: String,
    /// IANA name, e.g. `Europe/Madrid`; `UTC` if missing.
    #[serde(default)]
    #[schema(value_type = Option<TimeZoneText>)]
    pub time_zone: Option<String>,
    /// Day of the month on which periods start, 1 to 31; 1 if missing.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31)]
    pub anchor_day: Option<u32>,
    /// Language of mails and messages: `en` or `es`; `en` if missing.
    #[serde(default)]
    #[schema(value_type = Option<LanguageText>)]
    pub language: Option<String>,
    /// Mail addresses that receive alerts.
    #[serde(default)]
    #[schema(value_type = Vec<MailText>, max_items = 20)]
    pub alert_recipients: Vec<String>,
    /// Its Stripe customer id; null if it is not billed.
    #[serde(default)]
    #[schema(value_type = Option<StripeCustomerText>)]
    pub stripe_customer_id: Option<String>,
    /// Whether other tenants may have the same Stripe customer, with one invoice for all. Each of them must
    /// set this.
    #[serde(default)]
    pub shared_customer: bool,
    /// Replaces the plan's limit; null for the plan's own.
    #[serde(default)]
    pub limit_override: Option<u64>,
    /// When the override ends and the plan's limit holds again; null for never.
    #[serde(default)]
    pub limit_override_until: Option<Timestamp>,
}

/// A tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TenantJson {
    /// Chosen by the operator.
    #[schema(value_type = TenantIdText)]
    pub id: String,
    /// Grows with every change.
    pub revision: u64,
    /// The name shown to people.
    pub name: String,
    /// The id of its plan.
    #[schema(value_type = PlanIdText)]
    pub plan: String,
    /// IANA name.
    pub time_zone: String,
    /// Day of the month on which periods start; in shorter months the last day.
    pub anchor_day: u32,
    /// When this calendar takes effect, if the current period still follows another one; null if it is in
    /// effect, or if nothing is known of the period yet.
    pub calendar_from: Option<Timestamp>,
    /// Language of mails and messages.
    #[schema(value_type = LanguageText)]
    pub language: String,
    /// Mail addresses that receive alerts.
    pub alert_recipients: Vec<String>,
    /// Its Stripe customer id.
    pub stripe_customer_id: Option<String>,
    /// Whether other tenants may have the same Stripe customer.
    pub shared_customer: bool,
    /// Replaces the plan's limit.
    pub limit_override: Option<u64>,
    /// When the override ends and the plan's limit holds again; null for never.
    pub limit_override_until: Option<Timestamp>,
    /// Problems that a person should fix.
    pub warnings: Vec<WarningJson>,
    /// Whether it was removed: its figures stay readable, its id cannot be used for another tenant.
    pub archived: bool,
    /// When it was archived; null if it was not, or if it was removed before this was recorded.
    pub archived_at: Option<Timestamp>,
}

/// Tenants, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantList {
    /// The tenants.
    pub tenants: Vec<TenantJson>,
    /// Tenants whose stored value cannot be read: put them again.
    pub damaged: Vec<DamagedJson>,
}

/// The tenants to list.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Archived tenants, at most 10,000, instead of the others.
    #[serde(default)]
    archived: bool,
}

impl TenantInput {
    /// The tenant, checked as every service checks it.
    fn into_tenant(self, id: &TenantId) -> Result<Tenant, ApiError> {
        let plan = PlanId::parse(&self.plan).map_err(|error| ApiError::field("plan", error))?;
        let time_zone = self.time_zone.unwrap_or_else(|| "UTC".to_owned());
        // Stricter than reading: a name from before this check, or from an older time zone database, must not
        // make its tenant unreadable.
        metering::check_time_zone(&time_zone).map_err(|error| ApiError::field("time_zone", error))?;
        let tenant = Tenant::from_wire(v1::Tenant {
            tenant_id: id.to_string(),
            revision: 0,
            removed: false,
            name: self.name,
            plan_id: plan.to_string(),
            time_zone,
            anchor_day: match self.anchor_day {
                // On the wire 0 means "not set"; here it is an error.
                Some(0) => return Err(ApiError::field("anchor_day", "use 1 to 31")),
                day => day.unwrap_or(1),
            },
            language: match self.language.as_deref() {
                // On the wire empty means "not set".
                Some("") => return Err(ApiError::field("language", "use `en` or `es`")),
                language => language.unwrap_or_default().to_owned(),
            },
            alert_recipients: self.alert_recipients,
            stripe_customer_id: self.stripe_customer_id.unwrap_or_default(),
            shared_customer: self.shared_customer,
            limit_override: self.limit_override,
            limit_override_until: self.limit_override_until.map(timestamp),
            archived_at: None,
        })?;
        tenant.check_recipients()?;
        Ok(tenant)
    }
}

impl From<Revised<Tenant>> for TenantJson {
    fn from(Revised { value: tenant, revision }: Revised<Tenant>) -> Self {
        Self {
            id: tenant.id.to_string(),
            revision,
            name: tenant.name,
            plan: tenant.plan.to_string(),
            time_zone: tenant.calendar.time_zone_name().to_owned(),
            anchor_day: tenant.calendar.anchor_day(),
            calendar_from: None,
            language: tenant.language.as_str().to_owned(),
            alert_recipients: tenant.alert_recipients,
            stripe_customer_id: tenant.stripe_customer,
            shared_customer: tenant.shared_customer,
            limit_override: tenant.limit_override,
            limit_override_until: tenant.limit_override_until,
            warnings: Vec::new(),
            archived: false,
            archived_at: None,
        }
    }
}

impl From<ArchivedTenant> for TenantJson {
    fn from(ArchivedTenant { tenant, revision, archived_at }: ArchivedTenant) -> Self {
        Self { archived: true, archived_at, ..Self::from(Revised { value: tenant, revision }) }
    }
}

impl TenantJson {
    /// With warnings.
    fn warned(catalog: &Snapshot, tenant: Revised<Tenant>) -> Self {
        let warnings = warnings::of_tenant(catalog, &tenant.value.id);
        Self { warnings, ..Self::from(tenant) }
    }

    /// With warnings, and the instant from which its calendar holds: a changed one only takes effect with the
    /// next period.
    async fn dated(app: &App, tenant: Revised<Tenant>) -> Result<Json<Self>, ApiError> {
        let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
        let now = app.clock.now();
        let counted = app.usage.of(&tenant.value.id).filter(|counted| counted.is_current(now));
        let end = counted.map(|counted| counted.period.end);
        let calendar_from = end.filter(|end| tenant.value.calendar.period_of(now).end != *end);
        Ok(Json(Self { calendar_from, ..Self::warned(&catalog, tenant) }))
    }
}

/// All tenants, or all archived ones.
#[utoipa::path(get, path = "/v1/tenants", operation_id = "list_tenants", tag = "catalog", params(ListQuery), responses(
    (status = 200, body = TenantList),
))]
pub async fn list(
    State(app): State<App>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<TenantList>, ApiError> {
    let (tenants, damaged) = if query.archived {
        let (tenants, damaged) = app.editor.list_archived().await?;
        (tenants.into_iter().map(TenantJson::from).collect(), damaged)
    } else {
        let listing = app.editor.list::<Tenant>().await?;
        let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
        let tenants = listing.values.into_iter().map(|tenant| TenantJson::warned(&catalog, tenant));
        (tenants.collect(), listing.damaged)
    };
    Ok(Json(TenantList { tenants, damaged: damaged.into_iter().map(DamagedJson::from).collect() }))
}

/// One tenant. An archived one is `not_found` here: `GET /v1/tenants?archived=true` lists those.
#[utoipa::path(get, path = "/v1/tenants/{id}", operation_id = "get_tenant", tag = "catalog", params(("id" = TenantIdText, Path)), responses(
    (status = 200, body = TenantJson),
    NotFound,
))]
pub async fn get(State(app): State<App>, PathId(id): PathId) -> Result<Json<TenantJson>, ApiError> {
    let tenant = app.editor.find::<Tenant>(&id).await?;
    TenantJson::dated(&app, tenant).await
}

/// Whether a removed value may be restored.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PutQuery {
    /// A removed tenant of this id is the same customer, or a removed source the same n8n: it is restored,
    /// with its figures. Without this, the id of a removed one is refused.
    #[serde(default)]
    pub restore: bool,
}

/// Creates or changes a tenant. An equal one changes nothing. The id of a removed tenant cannot be used for
/// another.
#[utoipa::path(put, path = "/v1/tenants/{id}", operation_id = "put_tenant", tag = "catalog", params(("id" = TenantIdText, Path), PutQuery),
    request_body = TenantInput, responses(
    (status = 200, body = TenantJson),
    Conflict, Invalid,
))]
pub async fn put(
    State(app): State<App>,
    PathId(id): PathId,
    QueryOf(query): QueryOf<PutQuery>,
    JsonBody(input): JsonBody<TenantInput>,
) -> Result<Json<TenantJson>, ApiError> {
    let id = TenantId::parse(&id)?;
    let tenant = input.into_tenant(&id)?;
    let tenant = match query.restore {
        true => app.editor.put_or_restore(id.as_str(), |_| Ok(tenant)).await?,
        false => {
            let now = app.clock.now();
            app.editor.put(id.as_str(), |present| current(tenant, present, now)).await?
        }
    };
    TenantJson::dated(&app, tenant).await
}

/// Removes a tenant that has no sources, and revokes its tokens. It is archived: its figures stay readable
/// for the operator, its open usage is still billed, and its id cannot be used for another tenant.
#[utoipa::path(delete, path = "/v1/tenants/{id}", operation_id = "remove_tenant", tag = "catalog", params(("id" = TenantIdText, Path)), responses(
    (status = 204),
    NotFound, Conflict,
))]
pub async fn remove(State(app): State<App>, PathId(id): PathId) -> Result<StatusCode, ApiError> {
    app.editor.remove::<Tenant>(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses an override that has already ended, because a mistyped year would silently have no effect. A
/// stored override that has ended since may be sent again, so that the same file can be applied twice.
fn current(tenant: Tenant, present: Option<&Tenant>, now: Timestamp) -> Result<Tenant, InvalidEntry> {
    let is_kept = |until| present.is_some_and(|present| present.limit_override_until == Some(until));
    match tenant.limit_override_until {
        Some(until) if until <= now && !is_kept(until) => {
            let reason = format!("{until} is in the past: the override would never hold");
            Err(InvalidEntry::field("limit_override_until", reason))
        }
        _ => Ok(tenant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(json: &str) -> Result<Tenant, ApiError> {
        let input: TenantInput = serde_json::from_str(json).unwrap();
        input.into_tenant(&TenantId::parse("north").unwrap())
    }

    #[test]
    fn a_tenant_survives_a_round_trip() {
        let json = r#"{"name": "North", "plan": "pro", "time_zone": "Europe/Madrid", "anchor_day": 31, "language": "es",
            "alert_recipients": ["ops@north.example"], "stripe_customer_id": "cus_north", "limit_override": 0,
            "limit_override_until": "2026-12-01T00:00:00Z"}"#;
        let before = tenant(json).unwrap();
        let mut written =
            serde_json::to_value(TenantJson::from(Revised { value: before.clone(), revision: 7 })).unwrap();
        written.as_object_mut().unwrap().retain(|key, _| {
            !["id", "revision", "calendar_from", "warnings", "archived", "archived_at"]
                .contains(&key.as_str())
        });
        assert_eq!(tenant(&written.to_string()).unwrap(), before);
    }

    #[test]
    fn an_ended_override_is_refused_unless_it_is_already_stored() {
        let until = |until: &str| {
            let json = format!(
                r#"{{"name": "N", "plan": "pro", "limit_override": 9, "limit_override_until": "{until}"}}"#
            );
            tenant(&json).unwrap()
        };
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let old = until("2020-01-01T00:00:00Z");
        let refused = current(old.clone(), None, now).unwrap_err().to_string();
        assert!(refused.contains("limit_override_until") && refused.contains("in the past"), "{refused}");
        assert!(current(old.clone(), Some(&until("2026-12-01T00:00:00Z")), now).is_err());
        assert!(current(old.clone(), Some(&old), now).is_ok(), "the same file again");
        assert!(current(until("2026-12-01T00:00:00Z"), None, now).is_ok());
    }

    #[test]
    fn an_error_names_its_field() {
        for (change, field) in [
            (r#""plan": "A b""#, "plan"),
            (r#""plan": "pro", "time_zone": "Mars/Olympus""#, "time_zone"),
            (r#""plan": "pro", "time_zone": "localtime""#, "time_zone"),
            (r#""plan": "pro", "time_zone": "posixrules""#, "time_zone"),
            (r#""plan": "pro", "time_zone": "Factory""#, "time_zone"),
            (r#""plan": "pro", "time_zone": "right/Europe/Madrid""#, "time_zone"),
            (r#""plan": "pro", "time_zone": """#, "time_zone"),
            (r#""plan": "pro", "anchor_day": 0"#, "anchor_day"),
            (r#""plan": "pro", "anchor_day": 32"#, "anchor_day"),
            (r#""plan": "pro", "language": "de""#, "language"),
            (r#""plan": "pro", "alert_recipients": ["nobody"]"#, "alert_recipients"),
            (r#""plan": "pro", "stripe_customer_id": "sub_1""#, "stripe_customer_id"),
            (r#""plan": "pro", "limit_override_until": "2026-12-01T00:00:00Z""#, "limit_override_until"),
        ] {
            match tenant(&format!(r#"{{"name": "North", {change}}}"#)).unwrap_err() {
                ApiError::InvalidValue { field: named, .. } => assert_eq!(named, Some(field), "{change}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
