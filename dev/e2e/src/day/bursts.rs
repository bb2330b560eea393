//! Bursts below the limit are never refused, and at the limit exactly as many run as are left.

use std::sync::atomic::Ordering;

use anyhow::Result;
use serde_json::Value;

use super::world::{Answer, Day, TENANT};
use crate::checks::Checks;

/// Webhooks at the same moment.
const BURST: u64 = 20;

/// What a caller gets where the limit is used up.
const REFUSED: u16 = 402;

pub fn check(day: &Day, bursts: u64, checks: &mut Checks) -> Result<()> {
    let before = day.counted()?;
    // What is left after all bursts: less than runs stand twice where reservations are settled late.
    let last = 3;
    day.limit(before + bursts * BURST + last)?;
    let mut refused = 0;
    for burst in 1..=bursts {
        for refusal in day.call(BURST)?.iter().filter(|answer| answer.status != 200) {
            println!("  burst {burst}: {} {}", refusal.status, refusal.text);
            refused += 1;
        }
    }
    checks.equal(&format!("false refusals in {bursts} bursts of {BURST}"), 0, refused);
    let expected = before + bursts * BURST - refused;
    checks.equal("counted after the bursts", expected, day.await_counted(expected)?);

    let answers = day.call(BURST)?;
    let ran = answers.iter().filter(|answer| answer.status == 200).count();
    day.refused.store(refused + BURST - u64::try_from(ran)?, Ordering::Relaxed);
    checks.equal("runs of a burst at the limit", last.to_string(), ran.to_string());
    checks.equal("counted at the limit", expected + last, day.await_counted(expected + last)?);
    if let Some(refusal) = answers.iter().find(|answer| answer.status != 200) {
        wording(day, refusal, checks)?;
    }
    Ok(())
}

/// What a refused caller reads, and what is asked without a run, say the same.
fn wording(day: &Day, refusal: &Answer, checks: &mut Checks) -> Result<()> {
    checks.equal("a refusal's status", REFUSED, refusal.status);
    let is_clean = !refusal.text.contains(".js:") && !refusal.text.contains("stack");
    checks.judged("a refusal shows no stack", "none", &refusal.text, is_clean);
    let is_spanish = !refusal.text.contains("Refused") && !refusal.text.contains("may start again");
    checks.judged("a refusal is in the tenant's language", "Spanish only", &refusal.text, is_spanish);

    let shown = day.gateway().get(&format!("/v1/admissions/{TENANT}"))?;
    checks.equal(
        "the API says the same",
        false,
        shown.get("allowed").and_then(Value::as_bool).unwrap_or(true),
    );
    let status = day.flowmeter(&["check", TENANT])?.status.code();
    checks.equal("flowmeter check says the same", 3, status.unwrap_or_default());
    Ok(())
}
