//! Tenants over HTTP.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Language of mails and messages.
    pub language: String,
    /// Who is warned.
    pub alert_recipients: Vec<String>,
    /// Its customer id at Stripe.
    pub stripe_customer_id: Option<String>,
    /// Replaces the plan's limit.
    pub limit_override: Option<u64>,
}

/// All tenants, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantList {
    /// The tenants.
    pub tenants: Vec<TenantJson>,
}
