//! What goes wrong around the meter: a clock, a token that two use, a tenant that goes.

use std::sync::atomic::Ordering;

use anyhow::Result;
use jiff::SignedDuration;
use metering::{Clock as _, SystemClock};
use serde_json::{Value, json};
use stack::{Api, wait};

use super::world::{Day, SOURCE, TENANT, WITHIN};
use crate::checks::Checks;

/// How far the pushed clock is ahead.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Runs that may still start: far more than one a second until the warning shows.
const ROOM: u64 = 10_000;

/// An instance that is not the day's n8n.
const OTHER_N8N: &str = "another-n8n";

pub fn check(day: &Day, checks: &mut Checks) -> Result<()> {
    comparison(day, checks)?;
    shared_token(day, checks)?;
    wrong_clock(day, checks)
}

/// The operator's figures of refused runs are those of the callers.
pub fn refused_runs(day: &Day, checks: &mut Checks) -> Result<()> {
    let path = format!("/v1/tenants/{TENANT}/refusals?group=workflow");
    let shown = day.gateway().get(&path)?;
    let refused = shown.pointer("/totals/refused").and_then(Value::as_u64).unwrap_or_default();
    checks.equal("refused runs that the operator sees", day.refused.load(Ordering::Relaxed), refused);
    let rows = shown.get("rows").and_then(Value::as_array).map_or(0, Vec::len);
    checks.equal("workflows that were refused", 1, rows);
    Ok(())
}

fn comparison(day: &Day, checks: &mut Checks) -> Result<()> {
    let counted = day.counted()?;
    let shown = day.gateway().get(&format!("/v1/tenants/{TENANT}/usage/comparison"))?;
    let before = shown.get("previous").is_some_and(Value::is_null);
    checks.equal("a first period has none before it", true, before);
    let compared = day.flowmeter(&["compare", TENANT, "--json"])?;
    checks.judged("flowmeter compare", "done", &compared.status.to_string(), compared.status.success());
    // The statement is made from roll-ups, which follow within seconds.
    let stated = wait::until("the statement", WITHIN, || {
        let csv = day.gateway().text(&format!("/v1/tenants/{TENANT}/usage/statement"))?;
        let has_total = csv.lines().any(|line| line.split(',').any(|cell| cell == counted.to_string()));
        Ok(has_total.then_some(csv))
    });
    let found = stated.as_ref().map_or("another total", |_| "there");
    checks.judged("the accountant's CSV has what is counted", &counted.to_string(), found, stated.is_ok());
    Ok(())
}

/// A second n8n with the same token is seen by what arrives. What it pushes is known already here, and so counts nothing. Who
/// pushes is noted once a minute, so both go on until it shows.
fn shared_token(day: &Day, checks: &mut Checks) -> Result<()> {
    day.limit(day.counted()? + ROOM)?;
    warned(day, "shared_push_token", checks, || {
        push(day, &json!({ "instance": OTHER_N8N }))?;
        day.call(1).map(drop)
    })
}

fn wrong_clock(day: &Day, checks: &mut Checks) -> Result<()> {
    warned(day, "clock", checks, || {
        push(day, &json!({ "sent_at": (SystemClock.now() + AHEAD).to_string() }))
    })?;
    let source = day.gateway().get(&format!("/v1/sources/{SOURCE}"))?;
    let skew = source.pointer("/status/clock_skew_ms").and_then(Value::as_i64).unwrap_or_default();
    let is_near = (skew - i64::try_from(AHEAD.as_millis())?).abs() < 10_000;
    checks.judged("a clock five minutes ahead is measured", "300,000 ms", &skew.to_string(), is_near);
    Ok(())
}

/// Pushes an execution that is counted already, with more beside it.
fn push(day: &Day, more: &Value) -> Result<()> {
    let known = day.n8n.list()?.into_iter().filter_map(|row| row.run().ok()).min_by_key(|run| run.id);
    let known = known.ok_or_else(|| anyhow::anyhow!("n8n has run nothing"))?;
    let mut body = more.clone();
    body["executions"] = json!([{
        "id": known.id.to_string(), "workflow_id": "known", "status": "success", "mode": "webhook",
        "started_at": known.started_at, "stopped_at": known.started_at,
    }]);
    Api::new(&day.stack.push_url()).with_token(&day.push_token).post("", &body)?;
    Ok(())
}

/// Does it again until the source has the warning.
fn warned(day: &Day, code: &str, checks: &mut Checks, again: impl Fn() -> Result<()>) -> Result<()> {
    let found = wait::until(code, WITHIN, || {
        again()?;
        let source = day.gateway().get(&format!("/v1/sources/{SOURCE}"))?;
        let warnings =
            source.pointer("/status/warnings").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(warnings.into_iter().find(|warning| warning.get("code").and_then(Value::as_str) == Some(code)))
    });
    let detail = found.as_ref().ok().and_then(|warning| warning.get("detail")?.as_str()).unwrap_or_default();
    checks.judged(&format!("the source has a warning: {code}"), "there", detail, found.is_ok());
    Ok(())
}

/// A tenant that is renamed and removed keeps its figures.
pub fn archive(day: &Day, checks: &mut Checks) -> Result<()> {
    let counted = day.counted()?;
    let renamed = json!({ "name": "Norte", "plan": "start", "language": "es", "time_zone": "Europe/Madrid" });
    day.gateway().put(&format!("/v1/tenants/{TENANT}"), &renamed)?;
    checks.equal("counted under a new name", counted, day.counted()?);
    day.gateway().delete(&format!("/v1/sources/{SOURCE}"))?;
    day.gateway().delete(&format!("/v1/tenants/{TENANT}"))?;
    checks.equal("counted after the tenant was removed", counted, day.counted()?);
    let listed = day.gateway().get("/v1/tenants?archived=true")?;
    let is_there = listed.get("tenants").and_then(Value::as_array).is_some_and(|tenants| {
        tenants.iter().any(|tenant| tenant.get("id").and_then(Value::as_str) == Some(TENANT))
    });
    checks.equal("it is among the archived ones", true, is_there);
    Ok(())
}
