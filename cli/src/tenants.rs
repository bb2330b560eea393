//! `flowmeter tenants`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use serde::Deserialize;
use serde_json::Value;

use crate::{client::Client, table, warning::Warning};

/// Arguments of `flowmeter tenants`.
#[derive(Debug, Args)]
pub struct Tenants {
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct TenantList {
    tenants: Vec<Tenant>,
}

#[derive(Debug, Deserialize)]
struct Tenant {
    id: String,
    name: String,
    plan: String,
    time_zone: String,
    anchor_day: u32,
    language: String,
    #[serde(default)]
    alert_recipients: Vec<String>,
    stripe_customer_id: Option<String>,
    limit_override: Option<u64>,
    limit_override_until: Option<String>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

impl Tenants {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        if self.json {
            let answer: Value = client.get(&["tenants"]).await?;
            writeln!(out, "{answer:#}")?;
        } else {
            let list: TenantList = client.get(&["tenants"]).await?;
            let table = tenant_table(&list.tenants);
            writeln!(out, "{}", table::or_none(&table, "No tenants."))?;
            for tenant in &list.tenants {
                for warning in &tenant.warnings {
                    writeln!(out, "{}", warning.sentence(&tenant.id))?;
                }
            }
        }
        Ok(())
    }
}

fn tenant_table(tenants: &[Tenant]) -> Table {
    let header =
        ["tenant", "name", "plan", "own limit", "months", "language", "alerts to", "Stripe customer"];
    let mut table = table::new(&header);
    for tenant in tenants {
        table.add_row([
            tenant.id.clone(),
            tenant.name.clone(),
            tenant.plan.clone(),
            own_limit(tenant),
            format!("from day {}, {}", tenant.anchor_day, tenant.time_zone),
            tenant.language.clone(),
            tenant.alert_recipients.join(", "),
            tenant.stripe_customer_id.clone().unwrap_or_else(|| "not billed".to_owned()),
        ]);
    }
    table::right(&mut table, &[3]);
    table
}

fn own_limit(tenant: &Tenant) -> String {
    match (tenant.limit_override.map(table::number), &tenant.limit_override_until) {
        (None, _) => "-".to_owned(),
        (Some(limit), None) => limit,
        (Some(limit), Some(until)) => format!("{limit} until {until}"),
    }
}
