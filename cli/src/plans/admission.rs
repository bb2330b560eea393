//! How a plan's limit check decides, in a few words for a table.

use std::fmt;

use serde::Deserialize;

use super::Plan;
use crate::table;

/// The `admission` of a plan, as the gateway shows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Admission {
    shadow: bool,
    overage_max: Option<u64>,
    grace: Option<String>,
    open_at_most: Option<String>,
    pub(super) tenant_caps: Caps,
    workflow_caps: Caps,
    workflow_share_percent: Option<u32>,
    pub(super) loop_rule: Option<String>,
}

/// How often runs may start.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Caps {
    per_minute: Option<u64>,
    per_day: Option<u64>,
    concurrent: Option<u64>,
}

impl Admission {
    pub(super) fn past_the_limit(&self, plan: &Plan) -> String {
        match (plan.monthly_limit, plan.limit_kind.as_str()) {
            _ if self.shadow => "shadow: never refuses".to_owned(),
            (None, _) => "-".to_owned(),
            (Some(_), "soft") => match self.overage_max {
                Some(more) => format!("allows {} more", table::number(more)),
                None => "allows".to_owned(),
            },
            (Some(_), _) => match &self.grace {
                Some(grace) => format!("refuses after {grace}"),
                None => "refuses".to_owned(),
            },
        }
    }

    pub(super) fn of_each_workflow(&self) -> String {
        let share = self.workflow_share_percent.map(|percent| format!("{percent} % of the limit"));
        joined(self.workflow_caps.parts().into_iter().chain([share]))
    }

    pub(super) fn in_an_outage(&self, rule: &str) -> String {
        match &self.open_at_most {
            Some(span) if rule == "open" => format!("open for {span}"),
            _ => rule.to_owned(),
        }
    }
}

impl Caps {
    fn parts(&self) -> [Option<String>; 3] {
        let part = |bound: Option<u64>, unit| bound.map(|bound| format!("{} {unit}", table::number(bound)));
        [part(self.per_minute, "a minute"), part(self.per_day, "a day"), part(self.concurrent, "at once")]
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(self.parts()))
    }
}

fn joined(parts: impl IntoIterator<Item = Option<String>>) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}
