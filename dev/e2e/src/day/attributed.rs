//! A tenant whose workflow is known by a tag only: its own limit holds to the run, and a loop is refused at the stated run.

use anyhow::Result;
use metering::{Clock as _, SystemClock};
use serde_json::{Value, json};
use stack::wait;

use super::world::{Answer, Day, SOURCE, TAG, TAGGED_PATH, TENANT, WITHIN};
use crate::checks::Checks;

/// The tenant that has nothing but the tag.
const TAGGED: &str = "south";

/// Runs that the tenant may start at first.
const LIMIT: u64 = 5;

/// Far more than a loop starts.
const ROOM: u64 = 10_000;

/// Starts of a workflow in a minute that are not a loop, where it is not used to more.
const LOOP_MOST: u64 = 60;

/// Calls at the same moment at the limit. Few: five times as many are usual for the workflow from then on, and must be less
/// than [`LOOP_MOST`].
const BURST: u64 = 8;

/// Calls at the same moment of the loop.
const WAVE: u64 = 20;

/// Waves of the loop: twice as many starts as are taken.
const WAVES: u64 = 6;

/// The second of a minute before which the loop begins: its starts must fall into one minute of the clock.
const EARLY: i8 = 15;

/// The limit of the tagged tenant, then the loop.
pub fn check(day: &Day, checks: &mut Checks) -> Result<()> {
    attribute(day)?;
    limit(day, checks)?;
    looping(day, checks)
}

/// Gives the tag to its tenant, and waits until the limit check knows whose the workflow is.
fn attribute(day: &Day) -> Result<()> {
    let gateway = day.gateway();
    gateway.put(
        &format!("/v1/tenants/{TAGGED}"),
        &json!({ "name": "South", "plan": "start", "limit_override": LIMIT }),
    )?;
    let source = json!({
        "kind": "n8n", "tenant": TENANT, "base_url": day.n8n.url, "poll_interval": "10s",
        "attributions": [{ "tenant": TAGGED, "tag": TAG }],
    });
    gateway.put(&format!("/v1/sources/{SOURCE}"), &source)?;
    wait::until("the tag to be known", WITHIN, || {
        // A run that never counts: asking for it takes no unit.
        let asked =
            json!({ "source": SOURCE, "id": "whose", "workflow": day.tagged_workflow, "mode": "manual" });
        let verdict = gateway.post("/v1/admissions", &asked)?;
        Ok((verdict["tenant"] == json!(TAGGED)).then_some(()))
    })?;
    await_limit(day, LIMIT)
}

fn limit(day: &Day, checks: &mut Checks) -> Result<()> {
    let others = day.counted()?;
    let answers = day.call_at(TAGGED_PATH, BURST)?;
    checks.equal("runs of a tenant by tag in a burst at its limit", LIMIT, ran(&answers));
    checks.equal("counted for the tenant by tag", LIMIT, await_counted(day, LIMIT)?);
    checks.equal("counted for the source's own tenant meanwhile", others, day.counted()?);
    checks.equal("n8n's own list of the tagged workflow", LIMIT, ended(day)?);
    Ok(())
}

fn looping(day: &Day, checks: &mut Checks) -> Result<()> {
    let gateway = day.gateway();
    let plan = json!({ "name": "Loops refused", "admission": { "loop_rule": "refuse" } });
    gateway.put("/v1/plans/loops", &plan)?;
    gateway.put(
        &format!("/v1/tenants/{TAGGED}"),
        &json!({ "name": "South", "plan": "loops", "limit_override": ROOM }),
    )?;
    await_limit(day, ROOM)?;
    // The runs of the check before belong to a minute of their own.
    let before = minute();
    wait::until("a minute to begin", WITHIN, || {
        let now = minute();
        Ok((now.minute() != before.minute() && now.second() < EARLY).then_some(()))
    })?;
    let mut started = 0;
    for _ in 0..WAVES {
        started += ran(&day.call_at(TAGGED_PATH, WAVE)?);
    }
    checks.equal("runs of a loop that start in its minute", LOOP_MOST, started);
    let path = format!("/v1/tenants/{TAGGED}/refusals?group=reason");
    let expected = WAVES * WAVE - started;
    let refused = wait::until("the refusals", WITHIN, || {
        let shown = gateway.get(&path)?;
        let mut rows = shown.get("rows").and_then(Value::as_array).into_iter().flatten();
        let row = rows.find(|row| row.get("reason").and_then(Value::as_str) == Some("loop_detected"));
        Ok(row.and_then(|row| row.get("refused")?.as_u64()).filter(|refused| *refused == expected))
    });
    checks.judged(
        "the other runs are refused as a loop",
        &expected.to_string(),
        &format!("{refused:?}"),
        refused.is_ok(),
    );
    checks.equal("counted of the loop", LIMIT + started, await_counted(day, LIMIT + started)?);
    mail(day, checks)
}

/// The mail says what the plan really does, and from which run on.
fn mail(day: &Day, checks: &mut Checks) -> Result<()> {
    let found = wait::until("the mail about the loop", WITHIN, || {
        let mails = day.stack.sandbox().get("/control/mail")?;
        let texts = mails.as_array().into_iter().flatten().filter_map(|mail| mail.get("text")?.as_str());
        let lines = texts.flat_map(str::lines).map(str::to_owned);
        Ok(lines.into_iter().find(|line| line.contains("its runs are refused")))
    })
    .unwrap_or_default();
    let more_than = format!("More than {LOOP_MOST}");
    let started = format!("{LOOP_MOST} runs of that minute had started");
    let is_true =
        found.contains(&more_than) && found.contains(&started) && found.contains(&day.tagged_workflow);
    checks.judged("the mail names the run from which a loop is refused", &started, &found, is_true);
    Ok(())
}

fn minute() -> jiff::civil::DateTime {
    SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).datetime()
}

fn await_limit(day: &Day, limit: u64) -> Result<()> {
    wait::until("the limit to hold", WITHIN, || {
        let shown = day.gateway().get(&format!("/v1/admissions/{TAGGED}"))?;
        Ok((shown.get("limit").and_then(Value::as_u64) == Some(limit)).then_some(()))
    })
}

fn await_counted(day: &Day, expected: u64) -> Result<u64> {
    let counted = || -> Result<u64> {
        let usage = day.gateway().get(&format!("/v1/usage/{TAGGED}"))?;
        Ok(usage.get("counted").and_then(Value::as_u64).unwrap_or_default())
    };
    let reached =
        wait::until("the count", WITHIN, || Ok(Some(counted()?).filter(|found| *found >= expected)));
    reached.or_else(|_| counted())
}

/// Executions of the tagged workflow that n8n shows itself.
fn ended(day: &Day) -> Result<u64> {
    let rows = day.n8n.list()?;
    let own = rows.iter().filter(|row| row.counts() && row.workflow() == day.tagged_workflow);
    Ok(own.count().try_into()?)
}

fn ran(answers: &[Answer]) -> u64 {
    answers.iter().filter(|answer| answer.status == 200).map(|_| 1).sum()
}
