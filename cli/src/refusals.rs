//! `flowmeter refusals`: refused runs as figures.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    client::{Client, ClientError},
    table,
};

/// What refusals are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Reasons.
    Reason,
    /// Workflows.
    Workflow,
    /// Days in the tenant's time zone.
    Day,
}

/// Arguments of `flowmeter refusals`.
#[derive(Debug, Args)]
pub struct Refusals {
    /// The tenant.
    tenant: String,
    /// From this instant (RFC 3339) or date on; otherwise from the start of the current period.
    #[arg(long)]
    from: Option<String>,
    /// Until this instant or date, exclusive; otherwise until now.
    #[arg(long)]
    to: Option<String>,
    /// Divide by this; otherwise by reason and workflow.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Write them as CSV to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    csv: Option<PathBuf>,
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct Answer {
    from: Timestamp,
    to: Timestamp,
    group: Option<String>,
    totals: Runs,
    rows: Vec<Row>,
    omitted: Runs,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Runs {
    refused: u64,
    would_be_refused: u64,
}

#[derive(Debug, Deserialize)]
struct Row {
    reason: Option<String>,
    workflow: Option<String>,
    name: Option<String>,
    is_further: bool,
    day: Option<String>,
    #[serde(flatten)]
    runs: Runs,
}

impl Refusals {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let path = ["tenants", &self.tenant, "refusals"];
        let mut query = self.query();
        if let Some(file) = &self.csv {
            query.push(("format", "csv"));
            let text = client.get_text(&path, &query).await?;
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            writeln!(out, "Written to {}.", file.display())?;
        } else if self.json {
            let answer: Value = client.get_with(&path, &query).await?;
            writeln!(out, "{answer:#}")?;
        } else {
            let answer: Answer = client.get_with(&path, &query).await?;
            writeln!(out, "{}", table::or_none(&refusal_table(&answer), "No run was refused."))?;
            writeln!(out, "From {} to {}.", answer.from, answer.to)?;
        }
        Ok(())
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let group = self.by.map(|by| match by {
            By::Reason => "reason",
            By::Workflow => "workflow",
            By::Day => "day",
        });
        let given = [("from", self.from.as_deref()), ("to", self.to.as_deref()), ("group", group)];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The refusals of a tenant's current period by reason, in one line; `None` if there are none, or if the
/// gateway's version has no such figures.
pub async fn line(client: &Client, tenant: &str) -> Option<String> {
    match client.get_with(&["tenants", tenant, "refusals"], &[("group", "reason")]).await {
        Ok(answer) => sentence(&answer),
        Err(ClientError::NotFound(_)) => None,
        // The figures beside it are still valid.
        Err(error) => Some(format!("Refused runs: unknown, {error}.")),
    }
}

fn sentence(answer: &Answer) -> Option<String> {
    let line = |name: &str, runs: fn(&Runs) -> u64| {
        let rows = answer.rows.iter().filter(|row| runs(&row.runs) > 0);
        let reasons = rows.map(|row| {
            format!("{} {}", table::number(runs(&row.runs)), row.reason.as_deref().unwrap_or("other"))
        });
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let total = runs(&answer.totals);
        (total > 0).then(|| format!("{name}: {} ({reasons}).", table::number(total)))
    };
    let refused = line("Refused runs", |runs| runs.refused);
    let watched = line("Would have been refused", |runs| runs.would_be_refused);
    let sentences: Vec<_> = refused.into_iter().chain(watched).collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn refusal_table(answer: &Answer) -> Table {
    let who: &[&str] = match answer.group.as_deref() {
        Some("reason") => &["reason"],
        Some("workflow") => &["workflow"],
        Some("day") => &["day"],
        _ => &["reason", "workflow"],
    };
    let header: Vec<&str> = who.iter().copied().chain(["refused", "would be refused"]).collect();
    let mut table = table::new(&header);
    let line = |names: Vec<String>, runs: Runs| {
        names.into_iter().chain([table::number(runs.refused), table::number(runs.would_be_refused)])
    };
    for row in &answer.rows {
        let names = who.iter().map(|column| match *column {
            "reason" => row.reason.clone().unwrap_or_default(),
            "day" => row.day.clone().unwrap_or_default(),
            _ => row.workflow(),
        });
        table.add_row(line(names.collect(), row.runs));
    }
    let named = |name: &str| {
        [name.to_owned()].into_iter().chain(who.iter().skip(1).map(|_| String::new())).collect::<Vec<_>>()
    };
    if answer.omitted.refused + answer.omitted.would_be_refused > 0 {
        table.add_row(line(named("not listed"), answer.omitted));
    }
    if !answer.rows.is_empty() {
        table.add_row(line(named("total"), answer.totals));
    }
    table::right(&mut table, &[who.len(), who.len() + 1]);
    table
}

impl Row {
    fn workflow(&self) -> String {
        let known = self.name.as_ref().or(self.workflow.as_ref());
        match known {
            Some(known) => known.clone(),
            None if self.is_further => "further workflows".to_owned(),
            None => "none named".to_owned(),
        }
    }
}

#[cfg(test)]
crate::answers::reads!("list_refusals" => Answer);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(group: Option<&str>) -> Answer {
        let row = |reason: &str, workflow: Option<&str>, is_further: bool, refused: u64, watched: u64| {
            json!({ "reason": reason, "workflow": workflow, "name": null, "is_further": is_further, "day": null,
                    "refused": refused, "would_be_refused": watched })
        };
        serde_json::from_value(json!({
            "from": "2026-11-01T00:00:00Z", "to": "2026-11-24T13:00:00Z", "group": group,
            "totals": { "refused": 1_234, "would_be_refused": 7 }, "omitted": { "refused": 3, "would_be_refused": 0 },
            "rows": [row("limit_reached", Some("w1"), false, 1_230, 0), row("loop_detected", None, true, 1, 7),
                     row("limit_reached", None, false, 0, 0)],
        }))
        .unwrap()
    }

    #[test]
    fn refusals_are_listed_with_their_total_and_watched_ones_apart() {
        let shown = refusal_table(&answer(None)).to_string();
        for part in
            ["w1", "1,230", "would be refused", "further workflows", "none named", "not listed", "1,234"]
        {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }

    #[test]
    fn usage_says_in_a_line_what_was_refused() {
        let line = sentence(&answer(Some("reason"))).unwrap();
        assert_eq!(
            line,
            "Refused runs: 1,234 (1,230 limit_reached, 1 loop_detected). Would have been refused: 7 (7 loop_detected)."
        );
        let none = Runs { refused: 0, would_be_refused: 0 };
        assert_eq!(sentence(&Answer { totals: none, rows: Vec::new(), ..answer(None) }), None);
    }
}
