//! Figures after a correction, and figures by hour.

use anyhow::Result;
use serde_json::Value;

use super::world::{Day, TENANT};
use crate::checks::Checks;

pub fn check(day: &Day, checks: &mut Checks) -> Result<()> {
    let before = day.usage()?;
    let adjusted = day.flowmeter(&["adjust", TENANT, "-3", "--reason", "test runs"])?;
    let complaint = String::from_utf8_lossy(&adjusted.stderr).into_owned();
    checks.judged("flowmeter adjust north -3", "done", &complaint, adjusted.status.success());
    let counted = before.get("counted").and_then(Value::as_u64).unwrap_or_default();
    let after = stack::wait::until("the correction", super::world::WITHIN, || {
        let usage = day.usage()?;
        Ok((usage.get("adjusted").and_then(Value::as_i64) == Some(-3)).then_some(usage))
    })?;
    checks.equal("counted after adjust -3", counted - 3, day.counted()?);
    let rate = |usage: &Value| usage.get("success_rate").and_then(Value::as_f64).unwrap_or(f64::NAN);
    let (was, is) = (rate(&before), rate(&after));
    let found = format!("{is}");
    checks.judged("success rate after a correction", &format!("{was}"), &found, (was - is).abs() < 1e-9);

    let listed = day.flowmeter(&["corrections", TENANT, "--json"])?;
    let list: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    let made = list.get("corrections").and_then(Value::as_array).map_or(0, Vec::len);
    checks.equal("corrections --json", 1, made);

    let series = day.gateway().get(&format!("/v1/tenants/{TENANT}/usage/series?grain=hour"))?;
    checks.equal("hours are in the tenant's zone", "Europe/Madrid", text(&series, "time_zone"));
    let slices = series.get("slices").and_then(Value::as_array).cloned().unwrap_or_default();
    let ran = |slice: &&Value| slice.get("success").and_then(Value::as_u64).is_some_and(|runs| runs > 0);
    let known = |slice: &Value| slice.get("duration_p95_ms").is_some_and(Value::is_u64);
    let (with_runs, with_p95) =
        (slices.iter().filter(ran).count(), slices.iter().filter(ran).filter(|slice| known(slice)).count());
    checks.equal("hours with runs that have a p95", with_runs, with_p95);
    checks.judged("hours with runs", ">= 1", &with_runs.to_string(), with_runs >= 1);
    Ok(())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
