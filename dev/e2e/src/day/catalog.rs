//! Mistakes in a file are named, what it removes is asked for, and ports stay.

use anyhow::Result;
use serde_json::Value;

use super::world::{Day, SOURCE, TENANT, manifest};
use crate::checks::Checks;

pub fn check(day: &Day, checks: &mut Checks) -> Result<()> {
    let source = day.gateway().get(&format!("/v1/sources/{SOURCE}"))?;
    let kept = source.get("base_url").and_then(Value::as_str).unwrap_or_default();
    checks.equal("a page of the editor is the instance", day.n8n.url.trim_end_matches('/'), kept);

    let good = manifest(&day.n8n.url, &day.n8n.key, 10);
    refused(
        day,
        &good.replace("monthly_limit: 10", "monthly_limit: 10, price: {currency: xyz}"),
        "xyz",
        checks,
    )?;
    let past = "plan: start, limit_override: 5, limit_override_until: 2020-01-01T00:00:00Z";
    refused(day, &good.replace("plan: start", past), "limit_override_until", checks)?;
    let twice = good.replace(
        "sources: [",
        &format!(
            "sources: [{{id: again, tenant: {TENANT}, base_url: '{}/', api_key: '{}'}}, ",
            day.n8n.url, day.n8n.key
        ),
    );
    // The override of the bursts is in force and not in the file.
    refused(day, &good, "--prune", checks)?;
    let pruned = day.try_apply(&good, &["--prune"])?;
    let text = String::from_utf8_lossy(&pruned.stdout).into_owned();
    let names = text.contains("removes limit_override");
    checks.judged("apply --prune names what it removes", "limit_override", text.trim(), names);
    checks.judged("apply --prune applies", "done", &pruned.status.to_string(), pruned.status.success());
    refused(day, &twice, SOURCE, checks)?;
    let example = day.project.root().join("docs/catalog.yaml").display().to_string();
    let dry = day.flowmeter(&["apply", "--dry-run", "-f", &example])?;
    let complaint = String::from_utf8_lossy(&dry.stderr).into_owned();
    // Its keys come from the environment, which this one does not have.
    checks.judged(
        "the example is read to its keys",
        "NORTH_N8N_API_KEY",
        complaint.trim(),
        complaint.contains("NORTH_N8N_API_KEY"),
    );
    Ok(())
}

fn refused(day: &Day, manifest: &str, word: &str, checks: &mut Checks) -> Result<()> {
    let output = day.try_apply(manifest, &[])?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let passed = !output.status.success() && complaint.contains(word);
    checks.judged(&format!("refused, naming {word}"), "refused", complaint.trim(), passed);
    let is_definite = !complaint.contains("may not have been");
    checks.judged("the refusal is definite", "no doubt", complaint.trim(), is_definite);
    Ok(())
}

/// A hooked n8n finds the push address and the gateway again.
pub fn ports_are_kept(day: &mut Day, checks: &mut Checks) -> Result<()> {
    let kept = stack::FacePorts::kept(day.stack.profile())?;
    let is_kept = |base: &str, port: Option<u16>| port.is_some_and(|port| base.contains(&format!(":{port}")));
    let (push, gateway) = (day.stack.push_url(), day.gateway().base().to_owned());
    checks.judged("the push port is in the state", "kept", &push, is_kept(&push, kept.push));
    checks.judged("the gateway's port is in the state", "kept", &gateway, is_kept(&gateway, kept.gateway));
    Ok(())
}
