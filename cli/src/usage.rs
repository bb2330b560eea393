//! `flowmeter usage`.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use comfy_table::Table;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{amount::Amount, client::Client, figures::Division, refusals, table};

/// An unknown figure: it is not zero.
const UNKNOWN: &str = "?";

/// Arguments of `flowmeter usage`.
#[derive(Debug, Args)]
pub struct Usage {
    /// One tenant; all of them if missing.
    tenant: Option<String>,
    /// Show the tenant's workflows.
    #[arg(long, requires = "tenant", conflicts_with = "periods")]
    workflows: bool,
    /// Show the tenant's closed periods instead of the current one.
    #[arg(long, requires = "tenant")]
    periods: bool,
    #[command(flatten)]
    division: Division,
    /// Write a period as CSV to this file: a line for each workflow, the adjustment by hand, the total, and
    /// costs.
    #[arg(long, value_name = "FILE", requires = "tenant", conflicts_with_all = ["workflows", "periods", "json"])]
    csv: Option<PathBuf>,
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct UsageList {
    usage: Vec<TenantUsage>,
}

#[derive(Debug, Deserialize)]
struct TenantUsage {
    tenant: String,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    archived_at: Option<String>,
    plan: String,
    period: Period,
    counted: Option<u64>,
    #[serde(default)]
    voided: Option<u64>,
    #[serde(default)]
    adjusted: Option<i64>,
    success_rate: Option<f64>,
    limit: Option<u64>,
    used_percent: Option<f64>,
    cost_estimate: Option<Cost>,
    lag_seconds: Option<u64>,
    forecast: Option<Forecast>,
    #[serde(default)]
    sources: Vec<SourceFreshness>,
    #[serde(default)]
    workflows: Vec<Workflow>,
    #[serde(default)]
    workflows_omitted: u32,
    #[serde(default)]
    workflows_omitted_totals: Option<Omitted>,
}

#[derive(Debug, Deserialize)]
struct Omitted {
    counted: u64,
}

#[derive(Debug, Deserialize)]
struct Period {
    start: Timestamp,
    end: Timestamp,
    time_zone: String,
}

#[derive(Debug, Deserialize)]
struct Cost {
    amount_minor: i64,
    currency: String,
    exponent: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Forecast {
    counted_at_end: u64,
    limit_reached_on: Option<String>,
    cost_estimate: Option<Cost>,
}

#[derive(Debug, Deserialize)]
struct SourceFreshness {
    source: String,
    #[serde(default)]
    paused: bool,
    failing: Option<Failing>,
}

#[derive(Debug, Deserialize)]
struct Failing {
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Workflow {
    source: String,
    workflow: String,
    name: Option<String>,
    counted: u64,
    uncounted: u64,
    success_rate: Option<f64>,
    mean_duration_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct PeriodList {
    periods: Vec<ClosedPeriod>,
}

#[derive(Debug, Deserialize)]
struct ClosedPeriod {
    period: Period,
    plan: Option<String>,
    closed_at: Timestamp,
    counted: u64,
    uncounted: u64,
    late: u64,
    #[serde(default)]
    voided: u64,
    #[serde(default)]
    adjusted: i64,
    success_rate: Option<f64>,
    #[serde(default)]
    incomplete_sources: Vec<String>,
}

impl Usage {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        if let (Some(tenant), Some(file)) = (&self.tenant, &self.csv) {
            let text = client
                .get_text(&["tenants", tenant, "usage", "statement"], &self.division.of_period())
                .await?;
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            writeln!(out, "Written to {}.", file.display())?;
            return Ok(());
        }
        if let (Some(tenant), true) = (&self.tenant, self.division.is_asked()) {
            return self.division.run(client, tenant, self.json, out).await;
        }
        let path = match (&self.tenant, self.periods) {
            (None, _) => vec!["usage"],
            (Some(tenant), false) => vec!["usage", tenant],
            (Some(tenant), true) => vec!["usage", tenant, "periods"],
        };
        if self.json {
            let answer: Value = client.get(&path).await?;
            writeln!(out, "{answer:#}")?;
        } else if self.periods {
            let list: PeriodList = client.get(&path).await?;
            let table = period_table(&list.periods);
            writeln!(out, "{}", table::or_none(&table, "No closed periods yet."))?;
        } else if self.tenant.is_some() {
            let usage: TenantUsage = client.get(&path).await?;
            writeln!(out, "{}", usage_table(std::slice::from_ref(&usage)))?;
            if let Some(forecast) = &usage.forecast {
                writeln!(out, "{forecast}")?;
            }
            if let Some(refused) = refusals::line(client, &usage.tenant).await {
                writeln!(out, "{refused}")?;
            }
            if self.workflows {
                writeln!(out, "{}", workflow_table(&usage))?;
            }
            if self.workflows && usage.workflows_omitted > 0 {
                writeln!(out, "and {} more workflows", usage.workflows_omitted)?;
            }
        } else {
            let list: UsageList = client.get(&path).await?;
            let table = usage_table(&list.usage);
            writeln!(out, "{}", table::or_none(&table, "No tenants."))?;
        }
        Ok(())
    }
}

fn usage_table(usage: &[TenantUsage]) -> Table {
    let header = [
        "tenant",
        "plan",
        "period",
        "counted",
        "adjusted",
        "voided",
        "limit",
        "%",
        "success",
        "cost estimate",
        "freshness",
    ];
    let mut table = table::new(&header);
    for tenant in usage {
        table.add_row([
            tenant.tenant.clone(),
            tenant.plan.clone(),
            tenant.period.to_string(),
            tenant.counted.map_or(UNKNOWN.to_owned(), table::number),
            tenant.adjusted.map_or("-".to_owned(), table::signed),
            tenant.voided.map_or("-".to_owned(), table::number),
            tenant.limit.map_or("no limit".to_owned(), table::number),
            tenant.used_percent.map_or("-".to_owned(), |percent| format!("{percent:.1} %")),
            table::rate(tenant.success_rate),
            tenant.cost_estimate.as_ref().map_or("-".to_owned(), Cost::to_string),
            freshness(tenant),
        ]);
    }
    table::right(&mut table, &[3, 4, 5, 6, 7, 8, 9]);
    table
}

fn workflow_table(usage: &TenantUsage) -> Table {
    let header = ["workflow", "source", "counted", "not counted", "success", "mean duration"];
    let mut table = table::new(&header);
    for workflow in &usage.workflows {
        table.add_row([
            workflow.name.clone().unwrap_or_else(|| workflow.workflow.clone()),
            workflow.source.clone(),
            table::number(workflow.counted),
            table::number(workflow.uncounted),
            table::rate(workflow.success_rate),
            workflow.mean_duration_ms.map_or("-".to_owned(), |ms| format!("{} ms", table::number(ms))),
        ]);
    }
    if usage.workflows_omitted_totals.is_some() || usage.adjusted.is_some_and(|adjusted| adjusted != 0) {
        let mut line = |name: &str, counted: String| {
            table.add_row([name.to_owned(), String::new(), counted]);
        };
        if let Some(omitted) = &usage.workflows_omitted_totals {
            line("other workflows", table::number(omitted.counted));
        }
        line("adjusted by hand", table::signed(usage.adjusted.unwrap_or_default()));
        line("total", usage.counted.map_or(UNKNOWN.to_owned(), table::number));
    }
    table::right(&mut table, &[2, 3, 4, 5]);
    table
}

fn period_table(periods: &[ClosedPeriod]) -> Table {
    let header = [
        "period",
        "plan",
        "counted",
        "adjusted",
        "voided",
        "not counted",
        "late",
        "success",
        "closed at",
        "incomplete",
    ];
    let mut table = table::new(&header);
    for closed in periods {
        table.add_row([
            closed.period.to_string(),
            closed.plan.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            table::number(closed.counted),
            table::signed(closed.adjusted),
            table::number(closed.voided),
            table::number(closed.uncounted),
            table::number(closed.late),
            table::rate(closed.success_rate),
            closed.closed_at.to_string(),
            closed.incomplete_sources.join(", "),
        ]);
    }
    table::right(&mut table, &[2, 3, 4, 5, 6, 7]);
    table
}

fn freshness(usage: &TenantUsage) -> String {
    if usage.archived {
        return usage.archived_at.as_ref().map_or("archived".to_owned(), |at| format!("archived {at}"));
    }
    let mut parts = vec![match usage.lag_seconds {
        Some(lag) => format!("{} behind", table::lag(lag)),
        None if usage.sources.is_empty() => "no source".to_owned(),
        None => "not swept yet".to_owned(),
    }];
    for source in &usage.sources {
        if let Some(failing) = &source.failing {
            parts.push(format!("{} failing: {}", source.source, failing.reason));
        } else if source.paused {
            parts.push(format!("{} paused", source.source));
        }
    }
    parts.join("; ")
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&table::days(self.start, self.end, &self.time_zone))
    }
}

impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forecast for the period's end: {} counted", table::number(self.counted_at_end))?;
        if let Some(cost) = &self.cost_estimate {
            write!(f, ", {cost}")?;
        }
        if let Some(date) = &self.limit_reached_on {
            write!(f, "; the limit is reached on {date}")?;
        }
        f.write_str(".")
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Amount { minor: self.amount_minor, currency: &self.currency, exponent: self.exponent }.fmt(f)
    }
}

#[cfg(test)]
crate::answers::reads!("list_periods" => PeriodList, "get_usage" => TenantUsage, "list_usage" => UsageList);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usage(counted: Value) -> TenantUsage {
        let known = !counted.is_null();
        serde_json::from_value(json!({
            "tenant": "north", "name": "North", "plan": "starter", "added_later": true,
            "period": { "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z", "time_zone": "UTC" },
            "counted": counted,
            "success_rate": known.then_some(0.9999),
            "limit": 1_000,
            "used_percent": known.then_some(123.4),
            "cost_estimate": known.then(|| json!({ "amount_minor": 2_150, "currency": "eur" })),
            "lag_seconds": known.then_some(75),
            "sources": [{ "source": "north-n8n", "failing": { "reason": "unauthorized", "detail": "" } }],
        }))
        .unwrap()
    }

    #[test]
    fn a_row_shows_figures_cost_and_freshness() {
        let shown = usage_table(&[usage(json!(1_234))]).to_string();
        for part in ["2026-11-01 .. 2026-11-30", "1,234", "1,000", "123.4 %", "99.9 %", "EUR 21.50"] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
        assert!(shown.contains("1 min 15 s behind; north-n8n failing: unauthorized"), "{shown}");
    }

    #[test]
    fn an_unknown_figure_is_not_shown_as_zero() {
        let shown = usage_table(&[usage(Value::Null)]).to_string();
        assert!(shown.contains('?') && shown.contains("not swept yet"), "{shown}");
        assert!(!shown.contains(" 0 "), "{shown}");
    }

    #[test]
    fn a_workflow_without_a_name_shows_its_id() {
        let workflow = serde_json::from_value(json!({
            "source": "north-n8n", "workflow": "w1", "name": null, "counted": 3, "uncounted": 0,
            "success_rate": null, "mean_duration_ms": null,
        }));
        let usage = TenantUsage { workflows: vec![workflow.unwrap()], ..usage(json!(3)) };
        assert!(workflow_table(&usage).to_string().contains("w1"));
    }
}
