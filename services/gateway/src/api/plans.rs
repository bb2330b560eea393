//! Plans over HTTP.

use axum::{Json, extract::State, http::StatusCode};
use catalog::{Entry, InvalidEntry, LimitKind, OutageRule, Plan};
use metering::{CountingRule, PlanId, Price};
use proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    admission_rules::AdmissionRuleJson,
    damaged::DamagedJson,
    error::ApiError,
    extract::{JsonBody, PathId},
    responses::{Conflict, Invalid, NotFound},
    schema::{AmountNumber, CurrencyText, MeterEventText, NameText, PlanIdText, ThresholdNumber},
};
use crate::directory::editor::Revised;

/// The body of `PUT /v1/plans/{id}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanInput {
    /// The name shown to people.
    #[schema(value_type = NameText)]
    pub name: String,
    /// Counted executions in a period; null for no limit.
    #[serde(default)]
    pub monthly_limit: Option<u64>,
    /// What happens at the limit.
    #[serde(default)]
    pub limit_kind: LimitKindJson,
    /// Shares of the limit at which the tenant is warned, in percent.
    #[serde(default = "default_thresholds")]
    #[schema(value_type = Vec<ThresholdNumber>, max_items = 10)]
    pub thresholds_percent: Vec<u32>,
    /// Which executions count, beyond production runs.
    #[serde(default)]
    pub counting: CountingJson,
    /// The price of usage; null if the plan has none.
    #[serde(default)]
    pub price: Option<PriceJson>,
    /// The event name of the Stripe meter; null if usage is not billed.
    #[serde(default)]
    #[schema(value_type = Option<MeterEventText>)]
    pub meter_event_name: Option<String>,
    /// The limit check's answer while usage figures are missing or too old.
    #[serde(default)]
    pub outage_rule: OutageRuleJson,
    /// How the limit check decides, beyond the monthly limit.
    #[serde(default)]
    pub admission: AdmissionRuleJson,
}

/// A plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PlanJson {
    /// Chosen by the operator.
    #[schema(value_type = PlanIdText)]
    pub id: String,
    /// Grows with every change.
    pub revision: u64,
    /// The name shown to people.
    pub name: String,
    /// Counted executions in a period; null for no limit.
    pub monthly_limit: Option<u64>,
    /// What happens at the limit.
    pub limit_kind: LimitKindJson,
    /// Shares of the limit at which the tenant is warned, in percent, ascending.
    pub thresholds_percent: Vec<u32>,
    /// Which executions count, beyond production runs.
    pub counting: CountingJson,
    /// The price of usage.
    pub price: Option<PriceJson>,
    /// The event name of the Stripe meter.
    pub meter_event_name: Option<String>,
    /// The limit check's answer while usage figures are missing or too old.
    pub outage_rule: OutageRuleJson,
    /// How the limit check decides, beyond the monthly limit.
    pub admission: AdmissionRuleJson,
}

/// All plans, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanList {
    /// The plans.
    pub plans: Vec<PlanJson>,
    /// Plans whose stored value cannot be read: put them again.
    pub damaged: Vec<DamagedJson>,
}

/// What happens at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitKindJson {
    /// The limit check refuses.
    #[default]
    Hard,
    /// The limit check allows, and reports that the limit is exceeded.
    Soft,
}

/// The limit check's answer while usage figures are missing or too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutageRuleJson {
    /// Allow.
    #[default]
    Open,
    /// Refuse.
    Closed,
}

/// Which executions count, beyond production runs (webhook, trigger, retry, cli, evaluation).
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CountingJson {
    /// Also runs from the editor.
    pub manual: bool,
    /// Also sub-workflow runs.
    pub sub_workflow: bool,
    /// Also error-workflow runs.
    pub error_workflow: bool,
    /// Also canceled runs.
    pub canceled: bool,
    /// Also modes that are none of the above.
    pub other: bool,
}

/// What a plan charges for a period. Amounts are in the currency's minor unit (cents).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceJson {
    /// ISO 4217, lower case, e.g. `eur`.
    #[schema(value_type = CurrencyText)]
    pub currency: String,
    /// The number of digits after the decimal point in the amounts: ISO 4217's exponent of the currency.
    /// Always in an answer; in a request it may be left out, but otherwise must be the currency's own.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 4)]
    pub exponent: Option<u32>,
    /// Charged whatever the usage.
    #[serde(default)]
    #[schema(value_type = AmountNumber)]
    pub base_fee_minor: i64,
    /// Executions that the base fee covers.
    #[serde(default)]
    pub included_executions: u64,
    /// For each 1,000 executions beyond the included ones.
    #[serde(default)]
    #[schema(value_type = AmountNumber)]
    pub overage_per_thousand_minor: i64,
}

/// n8n's own warning levels.
fn default_thresholds() -> Vec<u32> {
    vec![80, 100]
}

impl PlanInput {
    /// The plan, checked as every service checks it.
    fn into_plan(self, id: &PlanId) -> Result<Plan, InvalidEntry> {
        let exponent = self.price.as_ref().and_then(|price| price.exponent);
        let plan = Plan::from_wire(v1::Plan {
            plan_id: id.to_string(),
            revision: 0,
            removed: false,
            name: self.name,
            monthly_limit: self.monthly_limit,
            limit_kind: match self.limit_kind {
                LimitKindJson::Hard => v1::LimitKind::Hard,
                LimitKindJson::Soft => v1::LimitKind::Soft,
            }
            .into(),
            thresholds_percent: self.thresholds_percent,
            counting: Some(v1::CountingRule {
                manual: self.counting.manual,
                sub_workflow: self.counting.sub_workflow,
                error_workflow: self.counting.error_workflow,
                canceled: self.counting.canceled,
                other: self.counting.other,
            }),
            price: self.price.map(|price| v1::Price {
                currency: price.currency,
                base_fee_minor: price.base_fee_minor,
                included_executions: price.included_executions,
                overage_per_thousand_minor: price.overage_per_thousand_minor,
            }),
            meter_event_name: self.meter_event_name.unwrap_or_default(),
            outage_rule: match self.outage_rule {
                OutageRuleJson::Open => v1::OutageRule::Open,
                OutageRuleJson::Closed => v1::OutageRule::Closed,
            }
            .into(),
            admission: Some(self.admission.into_wire()?),
        })?;
        plan.check_currency()?;
        check_exponent(exponent, plan.price.as_ref())?;
        Ok(plan)
    }
}

/// A given exponent was used to compute the amounts: if it is not the currency's, they are wrong by powers of
/// ten.
fn check_exponent(said: Option<u32>, price: Option<&Price>) -> Result<(), InvalidEntry> {
    let (Some(said), Some(price)) = (said, price) else { return Ok(()) };
    let (code, own) = (price.currency.as_str(), price.currency.exponent());
    if said == own {
        return Ok(());
    }
    Err(InvalidEntry::field(
        "price.exponent",
        format!("{code} has the exponent {own}: compute the amounts with it"),
    ))
}

impl From<Revised<Plan>> for PlanJson {
    fn from(Revised { value: plan, revision }: Revised<Plan>) -> Self {
        Self {
            id: plan.id.to_string(),
            revision,
            name: plan.name,
            monthly_limit: plan.monthly_limit,
            limit_kind: match plan.limit_kind {
                LimitKind::Hard => LimitKindJson::Hard,
                LimitKind::Soft => LimitKindJson::Soft,
            },
            thresholds_percent: plan.thresholds.iter().map(|threshold| threshold.get()).collect(),
            counting: plan.counting.into(),
            price: plan.price.map(PriceJson::from),
            meter_event_name: plan.meter_event_name,
            outage_rule: match plan.outage_rule {
                OutageRule::Open => OutageRuleJson::Open,
                OutageRule::Closed => OutageRuleJson::Closed,
            },
            admission: plan.admission.into(),
        }
    }
}

impl From<CountingRule> for CountingJson {
    fn from(rule: CountingRule) -> Self {
        Self {
            manual: rule.manual,
            sub_workflow: rule.sub_workflow,
            error_workflow: rule.error_workflow,
            canceled: rule.canceled,
            other: rule.other,
        }
    }
}

impl From<Price> for PriceJson {
    fn from(price: Price) -> Self {
        Self {
            currency: price.currency.as_str().to_owned(),
            exponent: Some(price.currency.exponent()),
            base_fee_minor: price.base_fee_minor,
            included_executions: price.included_executions,
            overage_per_thousand_minor: price.overage_per_thousand_minor,
        }
    }
}

/// All plans.
#[utoipa::path(get, path = "/v1/plans", operation_id = "list_plans", tag = "catalog", responses(
    (status = 200, body = PlanList),
))]
pub async fn list(State(app): State<App>) -> Result<Json<PlanList>, ApiError> {
    let listing = app.editor.list::<Plan>().await?;
    Ok(Json(PlanList {
        plans: listing.values.into_iter().map(PlanJson::from).collect(),
        damaged: listing.damaged.into_iter().map(DamagedJson::from).collect(),
    }))
}

/// One plan.
#[utoipa::path(get, path = "/v1/plans/{id}", operation_id = "get_plan", tag = "catalog", params(("id" = PlanIdText, Path)), responses(
    (status = 200, body = PlanJson),
    NotFound,
))]
pub async fn get(State(app): State<App>, PathId(id): PathId) -> Result<Json<PlanJson>, ApiError> {
    Ok(Json(app.editor.find::<Plan>(&id).await?.into()))
}

/// Creates or changes a plan. An equal one changes nothing.
#[utoipa::path(put, path = "/v1/plans/{id}", operation_id = "put_plan", tag = "catalog", params(("id" = PlanIdText, Path)),
    request_body = PlanInput, responses(
    (status = 200, body = PlanJson),
    Conflict, Invalid,
))]
pub async fn put(
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(input): JsonBody<PlanInput>,
) -> Result<Json<PlanJson>, ApiError> {
    let id = PlanId::parse(&id)?;
    let plan = input.into_plan(&id)?;
    Ok(Json(app.editor.put(id.as_str(), |_| Ok(plan)).await?.into()))
}

/// Removes a plan that no tenant has.
#[utoipa::path(delete, path = "/v1/plans/{id}", operation_id = "remove_plan", tag = "catalog", params(("id" = PlanIdText, Path)), responses(
    (status = 204),
    NotFound, Conflict,
))]
pub async fn remove(State(app): State<App>, PathId(id): PathId) -> Result<StatusCode, ApiError> {
    app.editor.remove::<Plan>(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Plan, ApiError> {
        let input: PlanInput = serde_json::from_str(json).unwrap();
        Ok(input.into_plan(&PlanId::parse("pro").unwrap())?)
    }

    #[test]
    fn a_plan_survives_a_round_trip() {
        let json = r#"{"name": "Pro", "monthly_limit": 2500, "limit_kind": "soft", "thresholds_percent": [100, 80],
            "counting": {"manual": true}, "meter_event_name": "executions", "outage_rule": "closed",
            "price": {"currency": "eur", "base_fee_minor": 2000, "included_executions": 2500, "overage_per_thousand_minor": 150},
            "admission": {"shadow": true, "overage_max": 50, "grace": "24h", "open_at_most": "1h 30m",
                "tenant_caps": {"per_minute": 60, "per_day": 1000, "concurrent": 5}, "workflow_caps": {"per_minute": 0},
                "workflow_share_percent": 50, "loop_rule": "refuse"}}"#;
        let before = plan(json).unwrap();
        let shown =
            serde_json::to_value(PlanJson::from(Revised { value: before.clone(), revision: 7 })).unwrap();
        assert_eq!(shown["thresholds_percent"], serde_json::json!([80, 100]));
        assert_eq!(shown["price"]["exponent"], 2);
        let mut written = shown;
        written.as_object_mut().unwrap().retain(|key, _| key != "id" && key != "revision");
        assert_eq!(plan(&written.to_string()).unwrap(), before);
    }

    #[test]
    fn missing_fields_have_defaults() {
        let plan = plan(r#"{"name": "Free"}"#).unwrap();
        assert_eq!((plan.monthly_limit, plan.limit_kind, plan.price), (None, LimitKind::Hard, None));
        assert_eq!((plan.thresholds.len(), plan.admission), (2, catalog::AdmissionRule::default()));
    }

    #[test]
    fn an_error_names_its_field() {
        for (json, field) in [
            (r#"{"name": ""}"#, "name"),
            (r#"{"name": "x", "thresholds_percent": [0]}"#, "thresholds_percent"),
            (r#"{"name": "x", "price": {"currency": "EUR"}}"#, "price.currency"),
            (r#"{"name": "x", "price": {"currency": "xyz"}}"#, "price.currency"),
            (r#"{"name": "x", "price": {"currency": "eur", "base_fee_minor": -1}}"#, "price"),
            (r#"{"name": "x", "price": {"currency": "huf", "exponent": 0}}"#, "price.exponent"),
            (r#"{"name": "x", "meter_event_name": "a b"}"#, "meter_event_name"),
            (r#"{"name": "x", "admission": {"grace": "a day"}}"#, "admission.grace"),
            (r#"{"name": "x", "admission": {"open_at_most": "-1s"}}"#, "admission.open_at_most"),
            (
                r#"{"name": "x", "admission": {"workflow_share_percent": 0}}"#,
                "admission.workflow_share_percent",
            ),
        ] {
            match plan(json).unwrap_err() {
                ApiError::InvalidValue { field: named, .. } => assert_eq!(named, Some(field), "{json}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(serde_json::from_str::<PlanInput>(r#"{"name": "x", "limit": 5}"#).is_err());
    }
}
