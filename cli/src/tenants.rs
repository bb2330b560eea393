//! `flowmeter tenants`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    client::Client,
    damaged::{self, Damaged},
    table,
    warning::Warning,
};

/// Arguments of `flowmeter tenants`.
#[derive(Debug, Args)]
pub struct Tenants {
    /// List the tenants that were removed instead: `flowmeter usage TENANT` shows their figures.
    #[arg(long)]
    archived: bool,
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct TenantList {
    tenants: Vec<Tenant>,
    #[serde(default)]
    damaged: Vec<Damaged>,
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
    #[serde(default)]
    shared_customer: bool,
    #[serde(default)]
    archived_at: Option<String>,
    limit_override: Option<u64>,
    limit_override_until: Option<String>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

impl Tenants {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let query: &[(&str, &str)] = if self.archived { &[("archived", "true")] } else { &[] };
        if self.json {
            let answer: Value = client.get_with(&["tenants"], query).await?;
            writeln!(out, "{answer:#}")?;
        } else {
            let list: TenantList = client.get_with(&["tenants"], query).await?;
            let (table, none) = if self.archived {
                (archived_table(&list.tenants), "No archived tenants.")
            } else {
                (tenant_table(&list.tenants), "No tenants.")
            };
            writeln!(out, "{}", table::or_none(&table, none))?;
            for tenant in &list.tenants {
                for warning in &tenant.warnings {
                    writeln!(out, "{}", warning.sentence(&tenant.id))?;
                }
            }
            damaged::write(&list.damaged, "tenant", out)?;
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
            customer(tenant),
        ]);
    }
    table::right(&mut table, &[3]);
    table
}

fn archived_table(tenants: &[Tenant]) -> Table {
    let mut table = table::new(&["tenant", "name", "archived", "plan", "months", "Stripe customer"]);
    for tenant in tenants {
        table.add_row([
            tenant.id.clone(),
            tenant.name.clone(),
            tenant.archived_at.clone().unwrap_or_else(|| "not known".to_owned()),
            tenant.plan.clone(),
            format!("from day {}, {}", tenant.anchor_day, tenant.time_zone),
            customer(tenant),
        ]);
    }
    table
}

fn customer(tenant: &Tenant) -> String {
    match &tenant.stripe_customer_id {
        None => "not billed".to_owned(),
        Some(customer) if tenant.shared_customer => format!("{customer} (shared)"),
        Some(customer) => customer.clone(),
    }
}

fn own_limit(tenant: &Tenant) -> String {
    match (tenant.limit_override.map(table::number), &tenant.limit_override_until) {
        (None, _) => "-".to_owned(),
        (Some(limit), None) => limit,
        (Some(limit), Some(until)) => format!("{limit} until {until}"),
    }
}

#[cfg(test)]
crate::answers::reads!("list_tenants" => TenantList);
