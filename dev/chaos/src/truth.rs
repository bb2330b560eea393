//! The expected results: figures of each tenant, month and workflow, from what happened in the instances.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::cast::Month;

/// Figures over a set of executions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the contract's `Totals`")]
pub struct Figures {
    pub counted: u64,
    pub uncounted: u64,
    pub success: u64,
    pub error: u64,
    pub crashed: u64,
    pub canceled: u64,
    pub duration_ms: u64,
    pub late: u64,
}

impl Figures {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.counted += other.counted;
        self.uncounted += other.uncounted;
        self.success += other.success;
        self.error += other.error;
        self.crashed += other.crashed;
        self.canceled += other.canceled;
        self.duration_ms += other.duration_ms;
        self.late += other.late;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} counted ({} success, {} error, {} crashed, {} canceled, {} late), {} not counted, {} ms",
            self.counted,
            self.success,
            self.error,
            self.crashed,
            self.canceled,
            self.late,
            self.uncounted,
            self.duration_ms
        )
    }
}

/// Month, source and workflow.
pub type Key = (Month, String, String);

/// Adds the executions of one instance; `late` selects the ids that appeared after their month was closed.
pub fn tally(
    figures: &mut BTreeMap<Key, Figures>,
    source: &str,
    executions: &[Value],
    late: impl Fn(&str) -> bool,
) -> Result<u64> {
    let mut known = 0;
    for execution in executions {
        let text = |field: &str| execution.get(field).and_then(Value::as_str);
        let status = text("status").context("an execution has a status")?;
        if !matches!(status, "success" | "error" | "crashed" | "canceled") || text("gone").is_some() {
            continue;
        }
        let instant = |field: &str| -> Result<Timestamp> { Ok(text(field).context("an instant")?.parse()?) };
        let (started, stopped) = (instant("started_at")?, instant("stopped_at")?);
        let month = Month::of(stopped).context("everything happens in March and April")?;
        let workflow = text("workflow").context("a workflow")?.to_owned();
        let entry = figures.entry((month, source.to_owned(), workflow)).or_default();
        known += 1;
        // What a plan without switches counts.
        if status == "canceled" || !matches!(text("mode"), Some("webhook" | "trigger" | "retry")) {
            entry.uncounted += 1;
            continue;
        }
        entry.counted += 1;
        match status {
            "success" => entry.success += 1,
            "error" => entry.error += 1,
            _ => entry.crashed += 1,
        }
        entry.duration_ms += u64::try_from(stopped.duration_since(started).as_millis())?;
        entry.late += u64::from(late(text("id").unwrap_or_default()));
    }
    Ok(known)
}

/// Closed periods in the gateway's answer, by month.
pub fn closed(answer: &Value) -> Result<BTreeMap<Month, Figures>> {
    let mut months = BTreeMap::new();
    for period in answer.get("periods").and_then(Value::as_array).into_iter().flatten() {
        let start =
            period.pointer("/period/start").and_then(Value::as_str).context("a period has a start")?;
        // A changed calendar splits further periods off April, in which nothing happens.
        let Some(month) = Month::beginning(start.parse()?) else { continue };
        let number = |field: &str| period.get(field).and_then(Value::as_u64).unwrap_or_default();
        months.insert(
            month,
            Figures {
                counted: number("counted"),
                uncounted: number("uncounted"),
                success: number("success"),
                error: number("error"),
                crashed: number("crashed"),
                canceled: number("canceled"),
                duration_ms: number("duration_ms"),
                late: number("late"),
            },
        );
    }
    Ok(months)
}
