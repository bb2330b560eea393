//! A plan's rule for the limit check, as JSON.

use catalog::{AdmissionRule, InvalidEntry, LoopRule, RunCaps};
use proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{duration, schema::LongDurationText};

/// How the limit check decides, beyond the monthly limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionRuleJson {
    /// Shadow mode: decide and record, but never refuse.
    pub shadow: bool,
    /// With a soft limit: executions allowed beyond it; null for any number.
    pub overage_max: Option<u64>,
    /// With a hard limit: how long runs are still allowed after it is reached, e.g. `24h`; null for not at
    /// all.
    #[schema(value_type = Option<LongDurationText>)]
    pub grace: Option<String>,
    /// How long the open outage rule holds after the usage was last up to date, e.g. `6h`; null for no limit.
    #[schema(value_type = Option<LongDurationText>)]
    pub open_at_most: Option<String>,
    /// Caps over all workflows of a tenant.
    pub tenant_caps: RunCapsJson,
    /// Caps for each workflow.
    pub workflow_caps: RunCapsJson,
    /// The largest share of the monthly limit that one workflow may use, in percent: 1 to 100; null for all
    /// of it.
    #[schema(minimum = 1, maximum = 100)]
    pub workflow_share_percent: Option<u32>,
    /// What happens if a workflow seems to start itself in a loop.
    pub loop_rule: LoopRuleJson,
}

/// How often runs may start; null for any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunCapsJson {
    /// Runs in a minute.
    pub per_minute: Option<u64>,
    /// Runs in any 24 hours.
    pub per_day: Option<u64>,
    /// Runs that were admitted and are not known to have ended.
    pub concurrent: Option<u64>,
}

/// What happens if a workflow seems to start itself in a loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoopRuleJson {
    /// It is reported.
    #[default]
    Tell,
    /// It is reported, and the workflow's runs are refused until its rate is back to usual.
    Refuse,
    /// Loops are not detected.
    Off,
}

impl AdmissionRuleJson {
    /// The rule in its wire form, where its bounds are checked.
    pub fn into_wire(self) -> Result<v1::AdmissionRule, InvalidEntry> {
        let span = |field, text: Option<String>| text.map(|text| duration::to_wire(field, &text)).transpose();
        Ok(v1::AdmissionRule {
            shadow: self.shadow,
            overage_max: self.overage_max,
            grace: span("admission.grace", self.grace)?,
            open_at_most: span("admission.open_at_most", self.open_at_most)?,
            tenant_caps: Some(self.tenant_caps.into()),
            workflow_caps: Some(self.workflow_caps.into()),
            workflow_share_percent: self.workflow_share_percent,
            loop_rule: match self.loop_rule {
                LoopRuleJson::Tell => v1::LoopRule::Tell,
                LoopRuleJson::Refuse => v1::LoopRule::Refuse,
                LoopRuleJson::Off => v1::LoopRule::Off,
            }
            .into(),
        })
    }
}

impl From<AdmissionRule> for AdmissionRuleJson {
    fn from(rule: AdmissionRule) -> Self {
        Self {
            shadow: rule.shadow,
            overage_max: rule.overage_max,
            grace: rule.grace.map(duration::text),
            open_at_most: rule.open_at_most.map(duration::text),
            tenant_caps: rule.tenant_caps.into(),
            workflow_caps: rule.workflow_caps.into(),
            workflow_share_percent: rule.workflow_share_percent,
            loop_rule: match rule.loop_rule {
                LoopRule::Tell => LoopRuleJson::Tell,
                LoopRule::Refuse => LoopRuleJson::Refuse,
                LoopRule::Off => LoopRuleJson::Off,
            },
        }
    }
}

impl From<RunCapsJson> for v1::RunCaps {
    fn from(caps: RunCapsJson) -> Self {
        Self { per_minute: caps.per_minute, per_day: caps.per_day, concurrent: caps.concurrent }
    }
}

impl From<RunCaps> for RunCapsJson {
    fn from(caps: RunCaps) -> Self {
        Self { per_minute: caps.per_minute, per_day: caps.per_day, concurrent: caps.concurrent }
    }
}
