//! The same crossings and periods as CloudEvents, read and checked by the libraries `cloudevents` of npm and PyPI.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stack::Project;

use super::{Play, TENANTS, examples::Installed};
use crate::checks::Checks;

/// Reads them with each library, and compares what they say with the other form of the same events.
pub fn check(
    project: &Project,
    installed: &Installed,
    play: &mut Play<'_>,
    checks: &mut Checks,
) -> Result<()> {
    let scripts = project.root().join("dev/e2e/subscribers");
    let python_path = env::join_paths(&installed.python_path)?;
    for (library, name, program, script) in [
        ("npm", "events-npm", &installed.node, "read_cloudevents.mjs"),
        ("PyPI", "events-pypi", &installed.python, "read_cloudevents.py"),
    ] {
        let login = play.make_user(name, "cloudevents-thresholds,cloudevents-periods")?;
        let mut command = Command::new(program);
        command
            .arg(scripts.join(script))
            .envs(login)
            .env("TOOLS", project.tools())
            .env("EXAMPLE", project.root().join("examples/typescript"))
            .env("PYTHONPATH", &python_path)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let events = read(&mut command, &scripts.join(script))?;
        compare(play, library, &events, checks)?;
    }
    Ok(())
}

/// One event per line, as the library has parsed it.
fn read(command: &mut Command, script: &Path) -> Result<Vec<Value>> {
    let output = command.output().with_context(|| format!("cannot start {}", script.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", script.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).context("a line is no JSON")).collect()
}

fn compare(play: &Play<'_>, library: &str, events: &[Value], checks: &mut Checks) -> Result<()> {
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    let ids: BTreeSet<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    checks.equal(&format!("CloudEvents by {library}: different ids"), events.len(), ids.len());

    let crossings = play.watched("threshold")?;
    let same = crossings.iter().filter(|crossing| {
        of("flowmeter.v1.threshold.crossed").iter().any(|event| {
            let fields = ["crossing_id", "rule", "threshold_percent", "limit", "used", "crossed_at"];
            event["id"] == crossing["crossing_id"]
                && event["subject"] == crossing["id"]
                && fields.iter().all(|field| event["data"][field] == crossing[field])
        })
    });
    checks.equal(&format!("CloudEvents by {library}: the same crossings"), crossings.len(), same.count());

    let watched = play.watched("period")?;
    for (kind, event) in [
        ("opened", "flowmeter.v1.period.opened"),
        ("closed", "flowmeter.v1.period.closed"),
        ("late", "flowmeter.v1.period.late"),
    ] {
        let expected = watched.iter().filter(|event| event["event"] == kind).count();
        checks.equal(&format!("CloudEvents by {library}: periods {kind}"), expected, of(event).len());
    }
    // The last word about each period is its final figure.
    let mut last: BTreeMap<(String, String), (u64, Value)> = BTreeMap::new();
    for event in of("flowmeter.v1.period.closed").into_iter().chain(of("flowmeter.v1.period.late")) {
        let data = &event["data"];
        let key = (data["tenant_id"].to_string(), data["period"]["start"].to_string());
        let revision = data["revision"].as_u64().context("a period has a revision")?;
        if last.get(&key).is_none_or(|(known, _)| *known < revision) {
            last.insert(key, (revision, data["totals"].clone()));
        }
    }
    let (mut expected, mut equal) = (0, 0);
    for tenant in TENANTS {
        for period in play.closed(tenant)? {
            let key = (Value::from(tenant).to_string(), period["period"]["start"].to_string());
            let totals = last.get(&key).map(|(_, totals)| totals);
            for (field, figure) in [
                "counted",
                "uncounted",
                "success",
                "error",
                "crashed",
                "canceled",
                "duration_ms",
                "late",
                "voided",
                "adjusted",
            ]
            .map(|field| (field, &period[field]))
            {
                expected += 1;
                equal += usize::from(totals.is_some_and(|totals| totals[field] == *figure));
            }
        }
    }
    checks.equal(&format!("CloudEvents by {library}: final figures"), expected, equal);
    Ok(())
}
