//! `flowmeter usage TENANT --by`: figures over time and by workflow.

use std::io::Write;

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::Table;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use crate::{client::Client, table};

/// What figures are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Hours of UTC.
    Hour,
    /// Days in the tenant's time zone.
    Day,
    /// The tenant's periods.
    Month,
    /// Workflows of one period, the largest first.
    Workflow,
}

/// Which figures.
#[derive(Debug, Args)]
pub struct Division {
    /// Divide the tenant's figures by time or workflow.
    #[arg(long, value_enum, requires = "tenant", conflicts_with_all = ["workflows", "periods"])]
    by: Option<By>,
    /// From this instant (RFC 3339) or date on.
    #[arg(long, requires = "by")]
    from: Option<String>,
    /// Until this instant or date, exclusive.
    #[arg(long, requires = "by")]
    to: Option<String>,
    /// Only this workflow, by its id at its source (by day or month).
    #[arg(long, requires = "by")]
    workflow: Option<String>,
    /// The workflow's source, where the tenant has several.
    #[arg(long, requires = "workflow")]
    source: Option<String>,
    /// With `--by workflow`: an instant or date in the period; otherwise the current one.
    #[arg(long, requires = "by")]
    period: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Series {
    grain: String,
    time_zone: String,
    as_of: Option<Timestamp>,
    slices: Vec<Slice>,
}

#[derive(Debug, Deserialize)]
struct Slice {
    start: Timestamp,
    end: Timestamp,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Deserialize)]
struct Figures {
    counted: u64,
    uncounted: u64,
    error: u64,
    crashed: u64,
    success_rate: Option<f64>,
    duration_p50_ms: Option<u64>,
    duration_p95_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct TopWorkflows {
    as_of: Option<Timestamp>,
    workflows: Vec<Workflow>,
    workflows_total: usize,
}

#[derive(Debug, Deserialize)]
struct Workflow {
    source: String,
    workflow: String,
    name: Option<String>,
    #[serde(flatten)]
    figures: Figures,
}

impl Division {
    /// Whether the figures are to be divided.
    pub fn is_asked(&self) -> bool {
        self.by.is_some()
    }

    /// Asks the gateway and prints a table, or with `json` its own answer.
    pub async fn run(&self, client: &Client, tenant: &str, json: bool, out: &mut dyn Write) -> Result<()> {
        let by = self.by.unwrap_or(By::Day);
        let last = if by == By::Workflow { "workflows" } else { "series" };
        let path = ["tenants", tenant, "usage", last];
        if json {
            let answer: Value = client.get_with(&path, &self.query(by)).await?;
            writeln!(out, "{answer:#}")?;
            return Ok(());
        }
        let as_of = if by == By::Workflow {
            let top: TopWorkflows = client.get_with(&path, &self.query(by)).await?;
            writeln!(out, "{}", table::or_none(&workflow_table(&top.workflows), "No workflow has run."))?;
            if top.workflows_total > top.workflows.len() {
                writeln!(out, "and {} more workflows", top.workflows_total - top.workflows.len())?;
            }
            top.as_of
        } else {
            let series: Series = client.get_with(&path, &self.query(by)).await?;
            writeln!(out, "{}", table::or_none(&series_table(&series), "Nothing ran in that time."))?;
            series.as_of
        };
        if let Some(as_of) = as_of {
            writeln!(out, "Everything that was counted until {as_of}.")?;
        }
        Ok(())
    }

    fn query(&self, by: By) -> Vec<(&'static str, &str)> {
        let grain = match by {
            By::Hour => Some("hour"),
            By::Day => Some("day"),
            By::Month => Some("period"),
            By::Workflow => None,
        };
        let given = [
            ("grain", grain),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("workflow", self.workflow.as_deref()),
            ("source", self.source.as_deref()),
            ("period", self.period.as_deref()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

const FIGURES: [&str; 7] = ["counted", "not counted", "errors", "crashed", "success", "p50", "p95"];

fn series_table(series: &Series) -> Table {
    let header: Vec<&str> = [series.grain.as_str()].into_iter().chain(FIGURES).collect();
    let mut table = table::new(&header);
    let zone = TimeZone::get(&series.time_zone).unwrap_or(TimeZone::UTC);
    for slice in &series.slices {
        let when = match series.grain.as_str() {
            "hour" => slice.start.to_string(),
            "day" => slice.start.to_zoned(zone.clone()).date().to_string(),
            _ => table::days(slice.start, slice.end, &series.time_zone),
        };
        table.add_row([when].into_iter().chain(slice.figures.cells()));
    }
    table::right(&mut table, &[1, 2, 3, 4, 5, 6, 7]);
    table
}

fn workflow_table(workflows: &[Workflow]) -> Table {
    let header: Vec<&str> = ["workflow", "source"].into_iter().chain(FIGURES).collect();
    let mut table = table::new(&header);
    for workflow in workflows {
        let name = workflow.name.clone().unwrap_or_else(|| workflow.workflow.clone());
        table.add_row([name, workflow.source.clone()].into_iter().chain(workflow.figures.cells()));
    }
    table::right(&mut table, &[2, 3, 4, 5, 6, 7, 8]);
    table
}

impl Figures {
    fn cells(&self) -> [String; 7] {
        let ms = |ms: Option<u64>| ms.map_or("-".to_owned(), |ms| format!("{} ms", table::number(ms)));
        [
            table::number(self.counted),
            table::number(self.uncounted),
            table::number(self.error),
            table::number(self.crashed),
            table::rate(self.success_rate),
            ms(self.duration_p50_ms),
            ms(self.duration_p95_ms),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures() -> Value {
        json!({ "counted": 1_234, "uncounted": 5, "error": 3, "crashed": 0, "success_rate": 0.9975,
                "duration_p50_ms": 400, "duration_p95_ms": null })
    }

    #[test]
    fn a_day_is_that_of_the_tenant() {
        let mut slice = figures();
        slice["start"] = "2026-11-23T23:00:00Z".into();
        slice["end"] = "2026-11-24T23:00:00Z".into();
        let series =
            json!({ "grain": "day", "time_zone": "Europe/Madrid", "as_of": null, "slices": [slice] });
        let shown = series_table(&serde_json::from_value(series).unwrap()).to_string();
        for part in ["2026-11-24", "1,234", "99.7 %", "400 ms"] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }

    #[test]
    fn a_workflow_without_a_name_shows_its_id() {
        let mut workflow = figures();
        workflow["source"] = "north-n8n".into();
        workflow["workflow"] = "w1".into();
        workflow["name"] = Value::Null;
        let shown = workflow_table(&[serde_json::from_value(workflow).unwrap()]).to_string();
        assert!(shown.contains("w1") && shown.contains("north-n8n"), "{shown}");
    }
}
