//! The `admission` of a plan in the file.

use catalog::InvalidEntry;
use proto::v1;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{bound::Bound, span};

/// How the limit check decides, beyond the monthly limit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admission {
    shadow: bool,
    overage_max: Bound,
    grace: Option<String>,
    open_at_most: Option<String>,
    tenant_caps: Caps,
    workflow_caps: Caps,
    workflow_share_percent: Option<u32>,
    loop_rule: LoopRule,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Caps {
    per_minute: Bound,
    per_day: Bound,
    concurrent: Bound,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LoopRule {
    #[default]
    Tell,
    Refuse,
    Off,
}

impl Admission {
    /// The rule for the wire; reading the wire checks its bounds.
    pub fn to_wire(&self) -> Result<v1::AdmissionRule, InvalidEntry> {
        let spanned = |field, text: Option<&str>| text.map(|text| span(field, text)).transpose();
        Ok(v1::AdmissionRule {
            shadow: self.shadow,
            overage_max: self.overage_max.0,
            grace: spanned("admission.grace", self.grace.as_deref())?,
            open_at_most: spanned("admission.open_at_most", self.open_at_most.as_deref())?,
            workflow_share_percent: self.workflow_share_percent,
            ..v1::AdmissionRule::default()
        })
    }

    /// The rule as the gateway accepts it.
    pub fn to_json(&self) -> Value {
        json!({
            "shadow": self.shadow,
            "overage_max": self.overage_max.0,
            "grace": self.grace,
            "open_at_most": self.open_at_most,
            "tenant_caps": self.tenant_caps.to_json(),
            "workflow_caps": self.workflow_caps.to_json(),
            "workflow_share_percent": self.workflow_share_percent,
            "loop_rule": match self.loop_rule {
                LoopRule::Tell => "tell",
                LoopRule::Refuse => "refuse",
                LoopRule::Off => "off",
            },
        })
    }
}

impl Caps {
    fn to_json(self) -> Value {
        json!({ "per_minute": self.per_minute.0, "per_day": self.per_day.0, "concurrent": self.concurrent.0 })
    }
}
