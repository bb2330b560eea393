//! Tenants over HTTP.

use axum::{Json, extract::State, http::StatusCode};
use catalog::{Entry, Tenant};
use jiff::Timestamp;
use metering::{PlanId, TenantId};
use proto::{timestamp, v1};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    error::{ApiError, ErrorJson},
    extract::{JsonBody, PathId},
};
use crate::change_catalog::Revised;

/// A tenant as it is written: `PUT /v1/tenants/{id}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantInput {
    /// For people.
    pub name: String,
    /// The id of its plan, which must exist.
    pub plan: String,
    /// IANA name, e.g. `Europe/Madrid`; `UTC` if missing.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Day of the month on which periods start, 1 to 31; 1 if missing.
    #[serde(default)]
    pub anchor_day: Option<u32>,
    /// Language of mails and messages: `en` or `es`; `en` if missing.
    #[serde(default)]
    pub language: Option<String>,
    /// Who is warned, as mail addresses.
    #[serde(default)]
    pub alert_recipients: Vec<String>,
    /// Its customer id at Stripe; null where it is not billed.
    #[serde(default)]
    pub stripe_customer_id: Option<String>,
    /// Replaces the plan's limit; null for the plan's own.
    #[serde(default)]
    pub limit_override: Option<u64>,
    /// When the override ends and the plan's limit holds again; null for as long as it stands.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub limit_override_until: Option<Timestamp>,
}

/// A tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TenantJson {
    /// The operator's word for it.
    pub id: String,
    /// Grows with every change.
    pub revision: u64,
    /// For people.
    pub name: String,
    /// The id of its plan.
    pub plan: String,
    /// IANA name.
    pub time_zone: String,
    /// Day of the month on which periods start; in shorter months the last day.
    pub anchor_day: u32,
    /// From when the calendar holds, where the current period began with another one; null where it holds, or where nothing
    /// is known of the period yet.
    pub calendar_from: Option<Timestamp>,
    /// Language of mails and messages.
    pub language: String,
    /// Who is warned.
    pub alert_recipients: Vec<String>,
    /// Its customer id at Stripe.
    pub stripe_customer_id: Option<String>,
    /// Replaces the plan's limit.
    pub limit_override: Option<u64>,
    /// When the override ends and the plan's limit holds again; null for as long as it stands.
    pub limit_override_until: Option<Timestamp>,
}

/// All tenants, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantList {
    /// The tenants.
    pub tenants: Vec<TenantJson>,
}

impl TenantInput {
    /// The tenant, checked as every service checks it.
    fn into_tenant(self, id: &TenantId) -> Result<Tenant, ApiError> {
        let plan = PlanId::parse(&self.plan).map_err(|error| ApiError::field("plan", error))?;
        let tenant = Tenant::from_wire(v1::Tenant {
            tenant_id: id.to_string(),
            revision: 0,
            removed: false,
            name: self.name,
            plan_id: plan.to_string(),
            time_zone: self.time_zone.unwrap_or_else(|| "UTC".to_owned()),
            anchor_day: match self.anchor_day {
                // On the wire 0 is "not said"; here it is a mistake.
                Some(0) => return Err(ApiError::field("anchor_day", "use 1 to 31")),
                day => day.unwrap_or(1),
            },
            language: self.language.unwrap_or_default(),
            alert_recipients: self.alert_recipients,
            stripe_customer_id: self.stripe_customer_id.unwrap_or_default(),
            limit_override: self.limit_override,
            limit_override_until: self.limit_override_until.map(timestamp),
        })?;
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
            limit_override: tenant.limit_override,
            limit_override_until: tenant.limit_override_until,
        }
    }
}

impl TenantJson {
    /// With the instant from which its calendar holds: a changed one decides the next period.
    fn dated(app: &App, tenant: Revised<Tenant>) -> Self {
        let now = app.clock.now();
        let counted = app.usage.of(&tenant.value.id).filter(|counted| counted.is_current(now));
        let end = counted.map(|counted| counted.period.end);
        let calendar_from = end.filter(|end| tenant.value.calendar.period_of(now).end != *end);
        Self { calendar_from, ..Self::from(tenant) }
    }
}

/// All tenants.
#[utoipa::path(get, path = "/v1/tenants", operation_id = "list_tenants", tag = "catalog", responses(
    (status = 200, body = TenantList),
    (status = "default", body = ErrorJson),
))]
pub async fn list(State(app): State<App>) -> Result<Json<TenantList>, ApiError> {
    let tenants = app.editor.list::<Tenant>().await?;
    Ok(Json(TenantList { tenants: tenants.into_iter().map(TenantJson::from).collect() }))
}

/// One tenant.
#[utoipa::path(get, path = "/v1/tenants/{id}", operation_id = "get_tenant", tag = "catalog", params(("id" = String, Path)), responses(
    (status = 200, body = TenantJson),
    (status = "default", body = ErrorJson),
))]
pub async fn get(State(app): State<App>, PathId(id): PathId) -> Result<Json<TenantJson>, ApiError> {
    let tenant = app.editor.find::<Tenant>(&id).await?;
    Ok(Json(TenantJson::dated(&app, tenant)))
}

/// Makes or changes a tenant. An equal one changes nothing.
#[utoipa::path(put, path = "/v1/tenants/{id}", operation_id = "put_tenant", tag = "catalog", params(("id" = String, Path)),
    request_body = TenantInput, responses(
    (status = 200, body = TenantJson),
    (status = "default", body = ErrorJson),
))]
pub async fn put(
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(input): JsonBody<TenantInput>,
) -> Result<Json<TenantJson>, ApiError> {
    let id = TenantId::parse(&id)?;
    let tenant = input.into_tenant(&id)?;
    let tenant = app.editor.put(id.as_str(), |_| Ok(tenant)).await?;
    Ok(Json(TenantJson::dated(&app, tenant)))
}

/// Removes a tenant that has no sources, and takes its tokens back.
#[utoipa::path(delete, path = "/v1/tenants/{id}", operation_id = "remove_tenant", tag = "catalog", params(("id" = String, Path)), responses(
    (status = 204),
    (status = "default", body = ErrorJson),
))]
pub async fn remove(State(app): State<App>, PathId(id): PathId) -> Result<StatusCode, ApiError> {
    app.editor.remove::<Tenant>(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(json: &str) -> Result<Tenant, ApiError> {
        let input: TenantInput = serde_json::from_str(json).unwrap();
        input.into_tenant(&TenantId::parse("north").unwrap())
    }

    #[test]
    fn a_tenant_survives_the_way_out_and_in() {
        let json = r#"{"name": "North", "plan": "pro", "time_zone": "Europe/Madrid", "anchor_day": 31, "language": "es",
            "alert_recipients": ["ops@north.example"], "stripe_customer_id": "cus_north", "limit_override": 0,
            "limit_override_until": "2026-12-01T00:00:00Z"}"#;
        let before = tenant(json).unwrap();
        let mut written =
            serde_json::to_value(TenantJson::from(Revised { value: before.clone(), revision: 7 })).unwrap();
        written
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key != "id" && key != "revision" && key != "calendar_from");
        assert_eq!(tenant(&written.to_string()).unwrap(), before);
    }

    #[test]
    fn a_mistake_names_its_field() {
        for (change, field) in [
            (r#""plan": "A b""#, "plan"),
            (r#""plan": "pro", "time_zone": "Mars/Olympus""#, "time_zone"),
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
