//! What the services have logged of the day: few lines, each with whom it is about.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::world::Day;
use crate::checks::Checks;

const SERVICES: [&str; 5] = ["collector", "aggregator", "billing", "alerts", "gateway"];

/// Far fewer than the sweeps, pushes and admissions of the day, each of which would be a line if it were logged.
const LINES_MAX: usize = 100;

/// About the process itself: the demo's clock is simulated.
const OF_THE_PROCESS: &str = "running on a simulated clock";

/// Reads the logs.
pub fn check(day: &Day, checks: &mut Checks) -> Result<()> {
    for service in SERVICES {
        let path = day.stack.profile().log(service);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        let lines = lines.with_context(|| format!("{service} has logged something that is not JSON"))?;
        let is_few = !lines.is_empty() && lines.len() <= LINES_MAX;
        checks.judged(&format!("lines logged by {service}"), "few", &lines.len().to_string(), is_few);
        let nameless: Vec<_> =
            lines.iter().filter(|line| asks_to_act(line) && !is_attributed(line)).collect();
        let named: Vec<_> = nameless.iter().filter_map(|line| line.get("message")?.as_str()).collect();
        let what = format!("warnings and errors of {service} without tenant, source or trace");
        checks.judged(&what, "none", &named.join(" | "), named.is_empty());
    }
    Ok(())
}

fn asks_to_act(line: &Value) -> bool {
    let level = line.get("level").and_then(Value::as_str).unwrap_or_default();
    let message = line.get("message").and_then(Value::as_str).unwrap_or_default();
    matches!(level, "WARN" | "ERROR") && message != OF_THE_PROCESS
}

fn is_attributed(line: &Value) -> bool {
    let names = |value: Option<&Value>| {
        value.is_some_and(|fields| fields.get("tenant").or_else(|| fields.get("source")).is_some())
    };
    (names(Some(line)) || names(line.get("span"))) && line.get("trace_id").is_some()
}
