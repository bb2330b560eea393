//! Somebody who has a source's push token forges pushes, and a workflow throws the hook's error to avoid being counted: the
//! figures still match n8n's own list.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use stack::{Api, Stack, wait};

use super::super::metered::Metered;
use crate::{checks::Checks, real_n8n::RealN8n};

/// Runs that are first forged with a status that does not count, and as many with such a mode, and then really run.
const FORGED_EACH: u64 = 20;

/// Runs of the workflow that throws the hook's own error.
const THROWN: u64 = 3;

/// Time for a push to be recorded and published, or for a webhook to be registered, on a busy machine.
const WITHIN: Duration = Duration::from_secs(30);

/// The workflow with a node that throws the hook's own error.
const THROWING: &str = "throws-a-refusal";

/// Pushes the next ids as runs that do not count, then runs them, and lets the poll find them.
pub fn check(
    stack: &Stack,
    metered: &Metered,
    n8n: &RealN8n,
    token: &str,
    checks: &mut Checks,
) -> Result<()> {
    println!("Pushing the next {} ids with the source's token, as canceled and as manual", 2 * FORGED_EACH);
    let before = metered.counted()?;
    let old = n8n.ended_ids()?;
    let next = old.last().copied().context("n8n has run nothing")? + 1;
    let rows = n8n.list()?;
    let workflow = rows.first().context("n8n lists nothing")?.workflow().to_owned();
    // A start and an end that n8n's own rows have, so that the epoch is the same.
    let now = rows.first().map(|row| row.stopped_at().to_owned()).unwrap_or_default();
    let forged: Vec<Value> = (next..next + 2 * FORGED_EACH)
        .map(|id| {
            let (status, mode) =
                if id < next + FORGED_EACH { ("canceled", "webhook") } else { ("success", "manual") };
            json!({ "id": id.to_string(), "workflow_id": workflow, "status": status, "mode": mode,
                    "started_at": now, "stopped_at": now })
        })
        .collect();
    let url = stack.push_url();
    let (base, path) = url.rsplit_once("/v1/").context("the push address has no path")?;
    let collector = Api::new(base).with_token(token);
    let answer = collector.post(&format!("/v1/{path}"), &json!({ "executions": forged }))?;
    checks.equal("forged executions accepted", json!(2 * FORGED_EACH), answer["accepted"].clone());
    let ids: BTreeSet<u64> = (next..next + 2 * FORGED_EACH).collect();
    wait::until("the forged executions to be recorded", WITHIN, || {
        Ok(ids.is_subset(&metered.recorded_ids()?).then_some(()))
    })?;
    checks.equal("counted, forged only", before, metered.counted()?);

    println!("Running {} executions that take these ids", 2 * FORGED_EACH);
    n8n.make_executions(u32::try_from(2 * FORGED_EACH)?, 0)?;
    let made: BTreeSet<u64> = n8n.ended_ids()?.difference(&old).copied().collect();
    checks.equal("runs that took the forged ids", made.len(), made.intersection(&ids).count());
    let published = metered.sweep(n8n)?;
    checks.judged("found by the poll", ">= 40", &published.to_string(), published >= 2 * FORGED_EACH);
    checks.equal("counted, once the poll has shown them", before + 2 * FORGED_EACH, metered.counted()?);
    throw(metered, n8n, checks)
}

/// A workflow that throws the hook's own error has run, and counts.
fn throw(metered: &Metered, n8n: &RealN8n, checks: &mut Checks) -> Result<()> {
    println!("{THROWN} runs of a workflow that throws `RefusedBeforeStart`");
    let before = metered.counted()?;
    let api = Api::new(&n8n.url).with_header("x-n8n-api-key", n8n.key.clone());
    let made = api.post("/api/v1/workflows", &throwing())?;
    let id = made.get("id").and_then(Value::as_str).context("n8n has created no workflow")?;
    api.post(&format!("/api/v1/workflows/{id}/activate"), &Value::Null)?;
    let webhook = Api::new(&n8n.webhook_url);
    let mut thrown = 0;
    // The webhook is registered some time after the answer to /activate; until then its answer is 404.
    wait::until("the workflow to throw", WITHIN, || {
        let (status, text) = webhook.try_post(&format!("/webhook/{THROWING}"), &json!({}))?;
        match status {
            404 => {}
            500 => thrown += 1,
            _ => bail!("the workflow that throws answered {status}: {text}"),
        }
        Ok((thrown == THROWN).then_some(()))
    })?;
    let counted = wait::until("the runs that threw to be counted", WITHIN, || {
        Ok(Some(metered.counted()?).filter(|counted| *counted >= before + THROWN))
    });
    let counted = counted.or_else(|_| metered.counted())?;
    checks.equal("counted, runs that threw, pushed only", before + THROWN, counted);
    let _ = metered.sweep(n8n)?;
    checks.equal("counted, runs that threw, pushed and polled", before + THROWN, metered.counted()?);
    Ok(())
}

fn throwing() -> Value {
    let code = "const error = new Error('no'); error.name = 'RefusedBeforeStart'; throw error;";
    json!({
        "name": "meter throws a refusal",
        "nodes": [
            { "id": "t1", "name": "Webhook", "type": "n8n-nodes-base.webhook", "typeVersion": 2, "position": [0, 0],
              "webhookId": THROWING,
              "parameters": { "path": THROWING, "httpMethod": "POST", "responseMode": "lastNode", "options": {} } },
            { "id": "t2", "name": "Throw", "type": "n8n-nodes-base.function", "typeVersion": 1, "position": [220, 0],
              "parameters": { "functionCode": code } },
        ],
        "connections": { "Webhook": { "main": [[{ "node": "Throw", "type": "main", "index": 0 }]] } },
        "settings": { "executionOrder": "v1" },
    })
}
