//! Rows of n8n's list of executions.

use anyhow::{Context, Result};
use serde_json::Value;

/// Counted runs: n8n's own quota.
const COUNTED_MODES: [&str; 5] = ["webhook", "trigger", "retry", "cli", "evaluation"];
const COUNTED_STATUSES: [&str; 3] = ["success", "error", "crashed"];

/// n8n's statuses of an execution that has ended.
const FINAL_STATUSES: [&str; 4] = ["success", "error", "crashed", "canceled"];

/// One execution across all lives of its database: ids are assigned again, an id with its start is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Its id.
    pub id: u64,
    /// When it began, in UTC with milliseconds.
    pub started_at: String,
}

impl Run {
    /// From `id|start`.
    pub fn parse(line: &str) -> Result<Self> {
        let (id, started_at) = line.split_once('|').with_context(|| format!("`{line}` is not a run"))?;
        Ok(Self { id: id.parse()?, started_at: started_at.to_owned() })
    }
}

/// A row of n8n's list.
#[derive(Debug, Clone)]
pub struct Row(Value);

impl Row {
    /// As n8n returns it.
    pub fn new(row: Value) -> Self {
        Self(row)
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Which run it is.
    pub fn run(&self) -> Result<Run> {
        let id = self.text("id").parse().with_context(|| format!("{} has no id", self.0))?;
        Ok(Run { id, started_at: self.text("startedAt").to_owned() })
    }

    /// Its workflow's id.
    pub fn workflow(&self) -> &str {
        self.text("workflowId")
    }

    /// When it ended, if it did.
    pub fn stopped_at(&self) -> &str {
        self.text("stoppedAt")
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        FINAL_STATUSES.contains(&self.text("status"))
    }

    /// Whether it has ended without an error.
    pub fn succeeded(&self) -> bool {
        self.text("status") == "success"
    }

    /// Whether it counts by default.
    pub fn counts(&self) -> bool {
        COUNTED_MODES.contains(&self.text("mode")) && COUNTED_STATUSES.contains(&self.text("status"))
    }
}

/// A UTC instant to the second, which compares as text.
pub fn second(instant: &str) -> &str {
    instant.get(..19).unwrap_or(instant)
}
