//! `flowmeter usage TENANT --by`: figures over time and by workflow.

use std::io::Write;

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::Table;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use crate::{amount::Amount, client::Client, table};

/// What figures are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Hours in the tenant's time zone.
    Hour,
    /// Days in the tenant's time zone.
    Day,
    /// The tenant's periods.
    Month,
    /// Workflows of one period, the largest first, with their shares of its cost.
    Workflow,
    /// Workflows of one period that failed, those with the most failures first.
    Failure,
}

impl By {
    fn is_workflows(self) -> bool {
        matches!(self, Self::Workflow | Self::Failure)
    }
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
    /// The workflow's source, if the tenant has several.
    #[arg(long, requires = "workflow")]
    source: Option<String>,
    /// By workflow or failure, and with `--csv`: an instant or date in the period; otherwise the current one.
    #[arg(long, requires = "tenant")]
    period: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Series {
    grain: String,
    time_zone: String,
    as_of: Option<Timestamp>,
    slices: Vec<Slice>,
    #[serde(default)]
    totals: Option<Figures>,
    #[serde(default)]
    adjustments: Vec<Adjusted>,
}

#[derive(Debug, Deserialize)]
struct Adjusted {
    start: Timestamp,
    end: Timestamp,
    adjusted: i64,
}

#[derive(Debug, Deserialize)]
struct Slice {
    start: Timestamp,
    end: Timestamp,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Clone, Deserialize)]
struct Figures {
    counted: u64,
    uncounted: u64,
    error: u64,
    crashed: u64,
    #[serde(default)]
    canceled: u64,
    #[serde(default)]
    voided: u64,
    #[serde(default)]
    adjusted: i64,
    success_rate: Option<f64>,
    duration_p50_ms: Option<u64>,
    duration_p95_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct TopWorkflows {
    as_of: Option<Timestamp>,
    workflows: Vec<Workflow>,
    workflows_total: usize,
    #[serde(default)]
    cost: Option<Costs>,
    #[serde(default)]
    omitted: Option<Figures>,
    #[serde(default)]
    totals: Option<Figures>,
}

#[derive(Debug, Deserialize)]
struct Workflow {
    source: String,
    workflow: String,
    name: Option<String>,
    #[serde(flatten)]
    figures: Figures,
    #[serde(default)]
    cost: Option<Cost>,
}

#[derive(Debug, Deserialize)]
struct Costs {
    total: Cost,
    base_fee: Cost,
    omitted: Cost,
    adjusted: Cost,
}

#[derive(Debug, Deserialize)]
struct Cost {
    amount_minor: i64,
    currency: String,
    exponent: Option<u32>,
}

impl Cost {
    fn shown(cost: Option<&Self>) -> String {
        cost.map_or("-".to_owned(), |cost| {
            Amount { minor: cost.amount_minor, currency: &cost.currency, exponent: cost.exponent }.to_string()
        })
    }
}

impl Division {
    /// The query for the chosen period.
    pub fn of_period(&self) -> Vec<(&'static str, &str)> {
        self.period.iter().map(|period| ("period", period.as_str())).collect()
    }

    /// Whether the figures are to be divided.
    pub fn is_asked(&self) -> bool {
        self.by.is_some()
    }

    /// Asks the gateway and prints a table, or with `json` its own answer.
    pub async fn run(&self, client: &Client, tenant: &str, json: bool, out: &mut dyn Write) -> Result<()> {
        let by = self.by.unwrap_or(By::Day);
        let last = if by.is_workflows() { "workflows" } else { "series" };
        let path = ["tenants", tenant, "usage", last];
        if json {
            let answer: Value = client.get_with(&path, &self.query(by)).await?;
            writeln!(out, "{answer:#}")?;
            return Ok(());
        }
        let as_of = if by.is_workflows() {
            let top: TopWorkflows = client.get_with(&path, &self.query(by)).await?;
            writeln!(out, "{}", table::or_none(&workflow_table(&top), "No workflow has run."))?;
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
            By::Workflow | By::Failure => None,
        };
        let given = [
            ("grain", grain),
            ("sort", (by == By::Failure).then_some("failures")),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("workflow", self.workflow.as_deref()),
            ("source", self.source.as_deref()),
            ("period", self.period.as_deref()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

const FIGURES: [&str; 9] =
    ["counted", "not counted", "errors", "crashed", "canceled", "voided", "success", "p50", "p95"];

/// Figures in the lines that have nothing but a count.
const REST: usize = FIGURES.len() - 1;

fn series_table(series: &Series) -> Table {
    let header: Vec<&str> = [series.grain.as_str()].into_iter().chain(FIGURES).collect();
    let mut table = table::new(&header);
    let zone = TimeZone::get(&series.time_zone).unwrap_or(TimeZone::UTC);
    for slice in &series.slices {
        let when = match series.grain.as_str() {
            "hour" => slice.start.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string(),
            "day" => slice.start.to_zoned(zone.clone()).date().to_string(),
            _ => table::days(slice.start, slice.end, &series.time_zone),
        };
        table.add_row([when].into_iter().chain(slice.figures.cells()));
    }
    if let Some(totals) = series.totals.as_ref().filter(|_| !series.slices.is_empty()) {
        let is_whole = series.grain == "period";
        for adjusted in series.adjustments.iter().filter(|_| !is_whole) {
            let days = table::days(adjusted.start, adjusted.end, &series.time_zone);
            table.add_row(by_hand(&format!("adjusted by hand, {days}"), adjusted.adjusted));
        }
        if is_whole && totals.adjusted != 0 {
            table.add_row(by_hand("adjusted by hand, included", totals.adjusted));
        }
        let adjusted: i64 = series.adjustments.iter().map(|adjusted| adjusted.adjusted).sum();
        let counted = if is_whole { totals.counted } else { totals.counted.saturating_add_signed(adjusted) };
        let totals = Figures { counted, ..totals.clone() };
        table.add_row(["total".to_owned()].into_iter().chain(totals.cells()));
    }
    table::right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    table
}

fn workflow_table(top: &TopWorkflows) -> Table {
    let header: Vec<&str> = ["workflow", "source"].into_iter().chain(FIGURES).chain(["cost"]).collect();
    let mut table = table::new(&header);
    for workflow in &top.workflows {
        let name = workflow.name.clone().unwrap_or_else(|| workflow.workflow.clone());
        let cost = Cost::shown(workflow.cost.as_ref());
        let cells = [name, workflow.source.clone()].into_iter().chain(workflow.figures.cells());
        table.add_row(cells.chain([cost]));
    }
    let line = |name: &str, figures: &Figures, cost: Option<&Cost>| {
        let cells = [name.to_owned(), String::new()].into_iter().chain(figures.cells());
        cells.chain([Cost::shown(cost)]).collect::<Vec<_>>()
    };
    let costs = top.cost.as_ref();
    if let Some(totals) = top.totals.as_ref().filter(|_| !top.workflows.is_empty()) {
        if top.workflows_total > top.workflows.len() {
            top.omitted.iter().for_each(|omitted| {
                table.add_row(line("other workflows", omitted, costs.map(|costs| &costs.omitted)));
            });
        }
        if totals.adjusted != 0 {
            let mut cells = by_hand("adjusted by hand", totals.adjusted);
            cells.insert(1, String::new());
            cells.push(Cost::shown(costs.map(|costs| &costs.adjusted)));
            table.add_row(cells);
        }
        if let Some(costs) = costs {
            let empty = std::iter::repeat_n(String::new(), FIGURES.len() + 1);
            let cells = ["base fee".to_owned()].into_iter().chain(empty);
            table.add_row(cells.chain([Cost::shown(Some(&costs.base_fee))]));
        }
        table.add_row(line("total", totals, costs.map(|costs| &costs.total)));
    }
    table::right(&mut table, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    table
}

/// The line of what was adjusted by hand: it has a count and nothing else.
fn by_hand(name: &str, adjusted: i64) -> Vec<String> {
    let cells = [name.to_owned(), table::signed(adjusted)];
    cells.into_iter().chain(std::iter::repeat_n(String::new(), REST)).collect()
}

impl Figures {
    fn cells(&self) -> [String; 9] {
        let ms = |ms: Option<u64>| ms.map_or("-".to_owned(), |ms| format!("{} ms", table::number(ms)));
        [
            table::number(self.counted),
            table::number(self.uncounted),
            table::number(self.error),
            table::number(self.crashed),
            table::number(self.canceled),
            table::number(self.voided),
            table::rate(self.success_rate),
            ms(self.duration_p50_ms),
            ms(self.duration_p95_ms),
        ]
    }
}

#[cfg(test)]
crate::answers::reads!("list_top_workflows" => TopWorkflows, "get_usage_series" => Series);

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
    fn lines_add_up_to_the_total_with_what_was_adjusted_by_hand() {
        let row = |mut figures: Value, key: &str, value: &str| {
            figures[key] = value.into();
            figures
        };
        let totals = || {
            json!({ "counted": 1_231, "uncounted": 5, "error": 3, "crashed": 0, "success_rate": 0.9975,
                                "voided": 2, "adjusted": -3 })
        };
        let workflow = row(row(figures(), "source", "n8n"), "workflow", "w1");
        let top = json!({ "as_of": null, "workflows": [workflow], "workflows_total": 1, "totals": totals() });
        let by_workflow = workflow_table(&serde_json::from_value(top).unwrap()).to_string();
        let (start, end) = ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        let mut days = totals();
        days["counted"] = 1_234.into();
        let slice = row(row(figures(), "start", start), "end", "2026-11-02T00:00:00Z");
        let series = json!({ "grain": "day", "time_zone": "UTC", "as_of": null, "slices": [slice], "totals": days,
                             "adjustments": [{ "start": start, "end": end, "adjusted": -3 }] });
        let by_day = series_table(&serde_json::from_value(series).unwrap()).to_string();
        for shown in [by_workflow, by_day] {
            for part in ["1,234", "adjusted by hand", "-3", "total", "1,231"] {
                assert!(shown.contains(part), "{part} is missing:\n{shown}");
            }
        }
    }

    #[test]
    fn hours_are_those_of_the_tenant() {
        let mut slice = figures();
        slice["start"] = "2026-11-24T03:30:00Z".into();
        slice["end"] = "2026-11-24T04:30:00Z".into();
        let series =
            json!({ "grain": "hour", "time_zone": "Asia/Kolkata", "as_of": null, "slices": [slice] });
        let shown = series_table(&serde_json::from_value(series).unwrap()).to_string();
        assert!(shown.contains("2026-11-24 09:00 +05:30"), "{shown}");
    }

    #[test]
    fn a_workflow_without_a_name_shows_its_id() {
        let mut workflow = figures();
        workflow["source"] = "north-n8n".into();
        workflow["workflow"] = "w1".into();
        workflow["name"] = Value::Null;
        let top = json!({ "as_of": null, "workflows": [workflow], "workflows_total": 1 });
        let shown = workflow_table(&serde_json::from_value(top).unwrap()).to_string();
        assert!(shown.contains("w1") && shown.contains("north-n8n"), "{shown}");
    }
}
