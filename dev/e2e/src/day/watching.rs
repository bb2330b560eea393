//! What an operator watches: events, metrics, logs.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;
use stack::{Api, Program, install};

use super::world::Day;
use crate::checks::Checks;

/// Series that an operator has to find.
const WANTED: [(Program, &str); 8] = [
    (Program::Collector, "flowmeter_source_lag_max_seconds"),
    (Program::Collector, "flowmeter_sources{"),
    (Program::Gateway, "flowmeter_tenants{"),
    (Program::Gateway, "flowmeter_refusals_total{"),
    (Program::Gateway, "flowmeter_reservations_open"),
    (Program::Gateway, "flowmeter_dead_letters"),
    (Program::Gateway, "flowmeter_stream_bytes_ratio{"),
    (Program::Gateway, "process_resident_memory_bytes"),
];

pub fn check(day: &Day, checks: &mut Checks) -> Result<()> {
    let watched = day.flowmeter(&["watch", "--history", "--count", "100000", "--json"])?;
    let events = String::from_utf8_lossy(&watched.stdout).lines().count();
    checks.judged("watch --history --count ends", "> 0 events", &events.to_string(), events > 0);
    metrics(day, checks)?;
    logs(day, checks)
}

fn metrics(day: &Day, checks: &mut Checks) -> Result<()> {
    for service in Program::SERVICES {
        let base = day.stack.ops_url(service).context("a service has an address")?;
        let text = Api::new(&base).text("/metrics")?;
        for (_, series) in WANTED.iter().filter(|(of, _)| *of == service) {
            let is_there = text.lines().any(|line| line.starts_with(series));
            checks.judged(&format!("metric {series}"), "there", &is_there.to_string(), is_there);
        }
        let promtool = match install::on_path("promtool") {
            Some(promtool) => promtool,
            None => {
                install::apt_install("prometheus")?;
                install::on_path("promtool").context("promtool is missing: install Prometheus")?
            }
        };
        let mut check = Command::new(promtool);
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut check = check.spawn().context("cannot start promtool")?;
        check.stdin.take().context("promtool has an input")?.write_all(text.as_bytes())?;
        let output = check.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        checks.judged(
            &format!("promtool on {}", service.name()),
            "clean",
            said.trim(),
            output.status.success(),
        );
    }
    Ok(())
}

fn logs(day: &Day, checks: &mut Checks) -> Result<()> {
    let lines = |service: Program| -> Result<Vec<Value>> {
        let text = fs::read_to_string(day.stack.profile().log(service.name()))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    };
    let said = |line: &Value| line.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    let collector = lines(Program::Collector)?;
    checks.equal(
        "lines about sweeps",
        0,
        collector.iter().filter(|line| said(line).contains("swept")).count(),
    );
    let gateway = lines(Program::Gateway)?;
    let changes: Vec<&Value> = gateway.iter().filter(|line| said(line) == "changed by an operator").collect();
    let found = changes.len().to_string();
    checks.judged("changes of the catalog in the log", "> 3", &found, changes.len() > 3);
    let named =
        changes.iter().filter(|line| line.get("by").is_some() && line.get("trace_id").is_some()).count();
    checks.equal("of them with who and trace", changes.len(), named);
    let n8n = fs::read_to_string(day.stack.profile().log("n8n")).unwrap_or_default();
    checks.equal("stack traces of refusals in n8n's log", 0, n8n.matches("flowmeter-hooks.js:").count());
    Ok(())
}
