//! `flowmeter plans`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use serde::Deserialize;
use serde_json::Value;

use self::admission::Admission;
use crate::{
    amount::Amount,
    client::Client,
    damaged::{self, Damaged},
    table,
};

mod admission;

/// Arguments of `flowmeter plans`.
#[derive(Debug, Args)]
pub struct Plans {
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct PlanList {
    plans: Vec<Plan>,
    #[serde(default)]
    damaged: Vec<Damaged>,
}

#[derive(Debug, Deserialize)]
struct Plan {
    id: String,
    name: String,
    monthly_limit: Option<u64>,
    limit_kind: String,
    #[serde(default)]
    thresholds_percent: Vec<u32>,
    price: Option<Price>,
    meter_event_name: Option<String>,
    outage_rule: String,
    #[serde(default)]
    admission: Admission,
}

#[derive(Debug, Deserialize)]
struct Price {
    currency: String,
    exponent: Option<u32>,
    base_fee_minor: i64,
    included_executions: u64,
    overage_per_thousand_minor: i64,
}

impl Plans {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        if self.json {
            let answer: Value = client.get(&["plans"]).await?;
            writeln!(out, "{answer:#}")?;
        } else {
            let list: PlanList = client.get(&["plans"]).await?;
            let table = plan_table(&list.plans);
            writeln!(out, "{}", table::or_none(&table, "No plans."))?;
            damaged::write(&list.damaged, "plan", out)?;
        }
        Ok(())
    }
}

fn plan_table(plans: &[Plan]) -> Table {
    let header = [
        "plan",
        "name",
        "limit",
        "past the limit",
        "caps",
        "each workflow",
        "loops",
        "warns at",
        "price",
        "Stripe meter",
        "in an outage",
    ];
    let mut table = table::new(&header);
    for plan in plans {
        let shares: Vec<String> = plan.thresholds_percent.iter().map(|share| format!("{share} %")).collect();
        table.add_row([
            plan.id.clone(),
            plan.name.clone(),
            plan.monthly_limit.map_or("no limit".to_owned(), |limit| {
                format!("{} ({})", table::number(limit), plan.limit_kind)
            }),
            plan.admission.past_the_limit(plan),
            plan.admission.tenant_caps.to_string(),
            plan.admission.of_each_workflow(),
            plan.admission.loop_rule.clone().unwrap_or_else(|| "tell".to_owned()),
            shares.join(", "),
            plan.price.as_ref().map_or("-".to_owned(), Price::to_string),
            plan.meter_event_name.clone().unwrap_or_else(|| "not billed".to_owned()),
            plan.admission.in_an_outage(&plan.outage_rule),
        ]);
    }
    table
}

impl std::fmt::Display for Price {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let amount = |minor| Amount { minor, currency: &self.currency, exponent: self.exponent };
        write!(
            f,
            "{} for {}, then {} per 1,000",
            amount(self.base_fee_minor),
            table::number(self.included_executions),
            amount(self.overage_per_thousand_minor)
        )
    }
}

#[cfg(test)]
crate::answers::reads!("list_plans" => PlanList);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_shows_its_limit_and_price() {
        let plan: Plan = serde_json::from_value(json!({
            "id": "growth", "revision": 1, "name": "Growth", "monthly_limit": 5_000, "limit_kind": "soft",
            "thresholds_percent": [80, 100], "counting": {}, "meter_event_name": "executions",
            "price": {
                "currency": "eur", "base_fee_minor": 4_900, "included_executions": 5_000,
                "overage_per_thousand_minor": 800,
            },
            "outage_rule": "open",
            "admission": {
                "shadow": true, "overage_max": 500, "grace": null, "open_at_most": "6h",
                "tenant_caps": { "per_minute": 60, "per_day": null, "concurrent": 5 },
                "workflow_caps": { "per_minute": null, "per_day": 1_000, "concurrent": null },
                "workflow_share_percent": 50, "loop_rule": "refuse",
            },
        }))
        .unwrap();
        let shown = plan_table(&[plan]).to_string();
        for part in [
            "5,000 (soft)",
            "80 %, 100 %",
            "EUR 49.00 for 5,000, then EUR 8.00 per 1,000",
            "shadow: never refuses",
            "60 a minute, 5 at once",
            "1,000 a day, 50 % of the limit",
            "refuse",
            "open for 6h",
        ] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }

    #[test]
    fn a_plan_shows_what_happens_past_its_limit() {
        let past = |kind: &str, admission: Value| {
            let plan: Plan = serde_json::from_value(json!({
                "id": "p", "name": "P", "monthly_limit": 100, "limit_kind": kind, "price": null,
                "meter_event_name": null, "outage_rule": "open", "admission": admission,
            }))
            .unwrap();
            plan.admission.past_the_limit(&plan)
        };
        assert_eq!(past("hard", json!({})), "refuses");
        assert_eq!(past("hard", json!({ "grace": "24h" })), "refuses after 24h");
        assert_eq!(past("soft", json!({})), "allows");
        assert_eq!(past("soft", json!({ "overage_max": 1_500 })), "allows 1,500 more");
    }
}
