//! `flowmeter compare`: a period beside the one before it.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use comfy_table::Table;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use crate::{amount::Amount, client::Client, table};

/// An unknown figure: it is not zero.
const UNKNOWN: &str = "?";

/// Arguments of `flowmeter compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The tenant.
    tenant: String,
    /// An instant (RFC 3339) or date in the period; otherwise the current one.
    #[arg(long)]
    period: Option<String>,
    /// Write it as CSV to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    csv: Option<PathBuf>,
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct Comparison {
    as_of: Option<Timestamp>,
    current: Side,
    previous: Option<Side>,
    previous_whole: Option<Side>,
    change: Option<Changes>,
    change_to_whole: Option<Changes>,
}

#[derive(Debug, Deserialize)]
struct Side {
    period: Period,
    until: Timestamp,
    figures: Option<Figures>,
}

#[derive(Debug, Deserialize)]
struct Period {
    start: Timestamp,
    time_zone: String,
}

#[derive(Debug, Deserialize)]
struct Figures {
    executions: u64,
    adjusted: Option<i64>,
    duration_ms: u64,
    mean_duration_ms: Option<u64>,
    success_rate: Option<f64>,
    cost: Option<Cost>,
}

#[derive(Debug, Deserialize)]
struct Cost {
    amount_minor: i64,
    currency: String,
    exponent: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Changes {
    executions: Change,
    duration_ms: Change,
    mean_duration_ms: Option<Change>,
    success_rate_points: Option<f64>,
    cost_minor: Option<Change>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Change {
    absolute: i64,
    percent: Option<f64>,
}

impl Compare {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let path = ["tenants", &self.tenant, "usage", "comparison"];
        let mut query: Vec<_> = self.period.iter().map(|period| ("period", period.as_str())).collect();
        if let Some(file) = &self.csv {
            query.push(("format", "csv"));
            let text = client.get_text(&path, &query).await?;
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            writeln!(out, "Written to {}.", file.display())?;
        } else if self.json {
            let answer: Value = client.get_with(&path, &query).await?;
            writeln!(out, "{answer:#}")?;
        } else {
            let comparison: Comparison = client.get_with(&path, &query).await?;
            writeln!(out, "{}", comparison_table(&comparison))?;
            if comparison.previous_whole.is_none() {
                writeln!(out, "No earlier period is known.")?;
            }
            if let Some(as_of) = comparison.as_of {
                writeln!(out, "Everything that was counted until {as_of}.")?;
            }
        }
        Ok(())
    }
}

fn comparison_table(comparison: &Comparison) -> Table {
    let mut table = table::new(&[
        "",
        "this period",
        "previous, to the same point",
        "change",
        "previous, whole",
        "change",
    ]);
    let sides = [Some(&comparison.current), comparison.previous.as_ref(), comparison.previous_whole.as_ref()];
    let changes = [comparison.change.as_ref(), comparison.change_to_whole.as_ref()];
    let mut line = |name: &str, of: &dyn Fn(&Side) -> String, change: &dyn Fn(&Changes) -> String| {
        let [now, part, whole] = sides.map(|side| side.map_or_else(|| "-".to_owned(), of));
        let [to_part, to_whole] = changes.map(|changes| changes.map_or_else(|| "-".to_owned(), change));
        table.add_row([name.to_owned(), now, part, to_part, whole, to_whole]);
    };
    let figure = |of: fn(&Figures) -> String| {
        move |side: &Side| side.figures.as_ref().map_or_else(|| UNKNOWN.to_owned(), of)
    };
    let nothing = |_: &Changes| String::new();
    line("from", &|side| side.local(side.period.start), &nothing);
    line("until", &|side| side.local(side.until), &nothing);
    line("executions", &figure(|of| table::number(of.executions)), &|of| of.executions.shown(signed));
    line("adjusted by hand", &figure(|of| of.adjusted.map_or("-".to_owned(), table::signed)), &nothing);
    line("success", &figure(|of| table::rate(of.success_rate)), &|of| {
        of.success_rate_points.map_or("-".to_owned(), |points| format!("{points:+.2} points"))
    });
    line("duration", &figure(|of| ms(of.duration_ms)), &|of| of.duration_ms.shown(signed_ms));
    line("mean duration", &figure(|of| of.mean_duration_ms.map_or("-".to_owned(), ms)), &|of| {
        of.mean_duration_ms.map_or("-".to_owned(), |change| change.shown(signed_ms))
    });
    let currency = sides.iter().flatten().find_map(|side| side.figures.as_ref()?.cost.as_ref());
    line(
        "cost",
        &figure(|of| of.cost.as_ref().map_or("-".to_owned(), |cost| cost.shown(cost.amount_minor))),
        &|of| {
            let of_cost = of.cost_minor.zip(currency);
            of_cost.map_or("-".to_owned(), |(change, currency)| change.shown(|minor| currency.shown(minor)))
        },
    );
    table::right(&mut table, &[1, 2, 3, 4, 5]);
    table
}

fn signed(value: i64) -> String {
    if value == 0 { "0".to_owned() } else { table::signed(value) }
}

fn ms(ms: u64) -> String {
    format!("{} ms", table::number(ms))
}

fn signed_ms(value: i64) -> String {
    format!("{} ms", signed(value))
}

impl Change {
    fn shown(&self, absolute: impl Fn(i64) -> String) -> String {
        let percent = self.percent.map(|percent| format!(" ({percent:+.1} %)"));
        format!("{}{}", absolute(self.absolute), percent.unwrap_or_default())
    }
}

impl Side {
    fn local(&self, instant: Timestamp) -> String {
        let zone = TimeZone::get(&self.period.time_zone).unwrap_or(TimeZone::UTC);
        instant.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
    }
}

impl Cost {
    fn shown(&self, amount_minor: i64) -> String {
        Amount { minor: amount_minor, currency: &self.currency, exponent: self.exponent }.to_string()
    }
}

#[cfg(test)]
crate::answers::reads!("compare_usage" => Comparison);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn side(start: &str, until: &str, executions: u64) -> Value {
        json!({ "period": { "start": start, "end": until, "time_zone": "Europe/Madrid" }, "until": until,
                "figures": { "executions": executions, "adjusted": null, "duration_ms": 5_000, "mean_duration_ms": 4,
                             "success_rate": 0.985,
                             "cost": { "amount_minor": 2_150, "currency": "eur", "exponent": 2 } } })
    }

    #[test]
    fn both_bounds_and_the_changes_are_shown() {
        let comparison = json!({
            "as_of": null,
            "current": side("2026-10-31T23:00:00Z", "2026-11-24T11:00:00Z", 1_234),
            "previous": side("2026-09-30T22:00:00Z", "2026-10-24T10:00:00Z", 1_000),
            "previous_whole": null,
            "change": { "executions": { "absolute": 234, "percent": 23.4 },
                        "duration_ms": { "absolute": 0, "percent": 0.0 },
                        "mean_duration_ms": null, "success_rate_points": -0.5,
                        "cost_minor": { "absolute": -150, "percent": null } },
            "change_to_whole": null,
        });
        let shown = comparison_table(&serde_json::from_value(comparison).unwrap()).to_string();
        for part in [
            "2026-11-01 00:00",
            "2026-11-24 12:00",
            "2026-10-24 12:00",
            "+234 (+23.4 %)",
            "-0.50 points",
            "EUR -1.50",
        ] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }

    #[test]
    fn an_unknown_figure_is_not_shown_as_zero() {
        let mut current = side("2026-10-31T23:00:00Z", "2026-10-31T23:00:00Z", 0);
        current["figures"] = Value::Null;
        let comparison = json!({ "as_of": null, "current": current, "previous": null, "previous_whole": null,
                                 "change": null, "change_to_whole": null });
        let shown = comparison_table(&serde_json::from_value(comparison).unwrap()).to_string();
        let executions = shown.lines().find(|line| line.contains("executions")).unwrap();
        assert!(executions.contains('?') && !executions.contains('0'), "{executions}");
    }
}
