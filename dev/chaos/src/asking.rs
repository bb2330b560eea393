//! Guests of a cluster's play: two tenants whose workflows ask the limit check before each run, as n8n's hook does, all the
//! time and whatever breaks. One reaches its hard limit in each month, the other has none.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use stack::Api;

use crate::{
    cast::Month,
    delays::{Asked, Wait},
    guests::{ASK_EVERY, Guest, Months, Shared, lock},
    play::{Scene, push},
};

/// The hook of n8n waits this long for one gateway.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two looks at the counted executions.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// After the last fault, everything must be counted within this time; what is not is a difference.
const COUNTED_WITHIN: Duration = Duration::from_secs(120);

/// The workflow that asks.
const WORKFLOW: &str = "asksFirst";

/// The guests at work.
pub struct Asking {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Asking {
    /// The guests begin to ask.
    pub fn start(scene: &Scene) -> Self {
        let shared = Arc::new(Shared::default());
        lock(&shared.uncounted).0 = Some(Month::March);
        let mut threads = Vec::new();
        for guest in scene.guests.clone() {
            let (scene, shared) = (scene.clone(), Arc::clone(&shared));
            threads.push(thread::spawn(move || ask_on(&scene, &guest, &shared)));
        }
        let watched = scene.guests.iter().find(|guest| guest.limit.is_none()).map(|guest| guest.tenant);
        if let Some(tenant) = watched {
            let (scene, shared) = (scene.clone(), Arc::clone(&shared));
            threads.push(thread::spawn(move || watch(&scene, tenant, &shared)));
        }
        Self { shared, threads }
    }

    /// For the player, which decides when months end.
    pub fn months(&self) -> Months {
        Months(Arc::clone(&self.shared))
    }

    /// Ends it, once everything that has run is counted.
    pub fn end(self) -> Result<Asked> {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a guest panicked"))??;
        }
        Ok(lock(&self.shared.asked).clone())
    }
}

fn ask_on(scene: &Scene, guest: &Guest, shared: &Shared) -> Result<()> {
    let gateways: Vec<Api> =
        scene.gateways.iter().cloned().map(|api| api.answering_within(ANSWER_WITHIN)).collect();
    let (mut number, mut turn) = (0_u64, 0_usize);
    // The last answer; none after a pause.
    let mut answered: Option<Instant> = None;
    while !shared.ends.load(Ordering::Relaxed) {
        let Ok(going) = shared.going.try_read() else {
            answered = None;
            thread::sleep(LOOK_EVERY);
            continue;
        };
        number += 1;
        let question = json!({
            "id": format!("{}-{number}", guest.tenant), "tenant": guest.tenant, "workflow": WORKFLOW,
        });
        // Until the first gateway answers, the same question is asked again: it has one answer.
        let verdict: Value = loop {
            turn += 1;
            let gateway = gateways.get(turn % gateways.len().max(1)).context("there is a gateway")?;
            match gateway.try_post("/v1/admissions", &question) {
                Ok((200, verdict)) => break serde_json::from_str(&verdict)?,
                Ok((400..429, reason)) => bail!("the limit check does not understand us: {reason}"),
                Ok(_) | Err(_) if shared.ends.load(Ordering::Relaxed) => return Ok(()),
                Ok(_) | Err(_) => lock(&shared.asked).unanswered += 1,
            }
        };
        let now = Instant::now();
        let is_allowed = note(&mut lock(&shared.asked), guest, &verdict)?;
        if let Some(from) = answered.replace(now) {
            lock(&shared.asked).answers.add(Wait { from, to: now });
        }
        if is_allowed {
            run(scene, guest, &verdict)?;
            if guest.limit.is_none() {
                lock(&shared.uncounted).1.ran(Instant::now());
            }
        }
        drop(going);
        thread::sleep(ASK_EVERY);
    }
    Ok(())
}

fn note(asked: &mut Asked, guest: &Guest, verdict: &Value) -> Result<bool> {
    let is_allowed = verdict.get("allowed").and_then(Value::as_bool).context("a verdict")?;
    let reason = verdict.get("reason").and_then(Value::as_str).unwrap_or("no reason");
    *asked.reasons.entry(format!("{reason} ({})", guest.tenant)).or_default() += 1;
    asked.allowed += u64::from(is_allowed);
    asked.refused += u64::from(!is_allowed);
    asked.falsely_refused += u64::from(!is_allowed && guest.limit.is_none());
    Ok(is_allowed)
}

/// Runs what was allowed, and pushes it with the time at which it was allowed.
fn run(scene: &Scene, guest: &Guest, verdict: &Value) -> Result<()> {
    let stopped_at = scene.now()?;
    let body = json!({
        "workflow": WORKFLOW, "mode": "webhook", "status": "success", "count": 1, "duration_ms": 0,
        "stopped_at": stopped_at,
    });
    let ran = scene.sandbox.post(&format!("/control/n8n/{}/run", guest.source), &body)?;
    scene.executions.fetch_add(1, Ordering::Relaxed);
    let Some(token) = scene.made().guest_tokens.get(guest.source).cloned() else { return Ok(()) };
    let execution = json!({
        "id": ran.pointer("/ids/0"), "workflow_id": WORKFLOW, "mode": "webhook", "status": "success",
        "started_at": stopped_at, "stopped_at": stopped_at, "admitted_at": verdict.get("admitted_at"),
    });
    let (scene, body) = (scene.clone(), json!({ "executions": [execution] }));
    thread::spawn(move || push(&scene, &token, &body));
    Ok(())
}

/// Looks at the figures that anybody sees, and notes how long each execution was missing in them.
fn watch(scene: &Scene, tenant: &str, shared: &Shared) -> Result<()> {
    let gateways: Vec<Api> =
        scene.gateways.iter().cloned().map(|api| api.answering_within(ANSWER_WITHIN)).collect();
    let path = format!("/v1/usage/{tenant}");
    let mut turn = 0;
    // What has run is awaited at the end: the last faults may have delayed it.
    let mut ended: Option<Instant> = None;
    while ended.is_none_or(|at| lock(&shared.uncounted).1.count() > 0 && at.elapsed() < COUNTED_WITHIN) {
        if shared.ends.load(Ordering::Relaxed) {
            ended.get_or_insert_with(Instant::now);
        }
        turn += 1;
        let gateway = gateways.get(turn % gateways.len().max(1)).context("there is a gateway")?;
        if let Some((month, counted)) = gateway.get(&path).ok().as_ref().and_then(figure) {
            let mut uncounted = lock(&shared.uncounted);
            if uncounted.0 == Some(month) {
                uncounted.1.shown(counted, Instant::now(), &mut lock(&shared.asked).counts);
            }
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn figure(usage: &Value) -> Option<(Month, u64)> {
    let start = usage.pointer("/period/start")?.as_str()?.parse().ok()?;
    Some((Month::beginning(start)?, usage.get("counted")?.as_u64()?))
}
