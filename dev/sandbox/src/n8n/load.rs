//! Background load: a trickle of runs, as in a busy instance.

use std::collections::HashMap;
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant as TokioInstant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::execution::{Mode, Runs, Start, Status};
use super::instance::{InstanceError, Wait};
use super::{N8n, Registry};

/// Most runs a second of one instance: above what a real n8n does on two cores.
pub const LOAD_PER_SECOND_MAX: u32 = 500;
/// How often due runs are created.
const TICK: Duration = Duration::from_millis(100);
/// Most runs created for one instance in one tick; after a pause the load does not catch up beyond this.
const RUNS_PER_TICK_MAX: u32 = 100;
/// Every run of the sandbox has the same load, so that a failure can be reproduced.
const SEED: u64 = 0x00F1_0E7E;
/// The workflow of an instance that has none yet.
const FALLBACK_WORKFLOW: &str = "load";

/// Refuses what is not a rate.
pub(super) fn check(per_second: f64) -> Result<(), InstanceError> {
    if (0.0..=f64::from(LOAD_PER_SECOND_MAX)).contains(&per_second) {
        return Ok(());
    }
    let max = usize::try_from(LOAD_PER_SECOND_MAX).unwrap_or(usize::MAX);
    Err(InstanceError::TooMany { what: "runs a second, and not fewer than none", max })
}

/// Generates the load of all instances until cancelled.
pub(crate) async fn run(registry: Registry, stop: CancellationToken) {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut due: HashMap<String, TokioInstant> = HashMap::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let now = tokio::select! {
            () = stop.cancelled() => return,
            now = ticks.tick() => now,
        };
        for (name, n8n) in registry.all() {
            match interval(n8n.read(|instance| instance.load_per_second)) {
                Some(interval) => {
                    let next = due.entry(name).or_insert(now);
                    make_due(&n8n, next, now, interval, &mut rng);
                }
                None => drop(due.remove(&name)),
            }
        }
    }
}

fn interval(per_second: f64) -> Option<Duration> {
    if per_second <= 0.0 {
        return None;
    }
    Duration::try_from_secs_f64(per_second.recip()).ok()
}

fn make_due(n8n: &N8n, next: &mut TokioInstant, now: TokioInstant, interval: Duration, rng: &mut StdRng) {
    for _ in 0..RUNS_PER_TICK_MAX {
        if *next > now {
            return;
        }
        *next += interval;
        if let Err(error) = make_one(n8n, rng) {
            tracing::warn!(%error, "background load refused");
        }
    }
    *next = now + interval;
}

/// One thing that happens in a busy instance: mostly a webhook that succeeds, sometimes anything else.
fn make_one(n8n: &N8n, rng: &mut StdRng) -> Result<(), InstanceError> {
    let workflow = n8n.read(|instance| {
        let count = instance.workflows.len();
        let index = if count == 0 { 0 } else { rng.random_range(0..count) };
        instance.workflows.keys().nth(index).map_or_else(|| FALLBACK_WORKFLOW.to_owned(), Clone::clone)
    });
    let lasting = SignedDuration::from_millis(rng.random_range(15..2_500));
    let runs = |mode, status| Runs::of(workflow.as_str()).mode(mode).status(status).lasting(lasting);
    match rng.random_range(0..100) {
        0..60 => n8n.run(&runs(Mode::Webhook, Status::Success)).map(drop),
        60..76 => n8n.run(&runs(Mode::Trigger, Status::Success)).map(drop),
        76..84 => n8n.run(&runs(Mode::Integrated, Status::Success)).map(drop),
        84..87 => n8n.run(&runs(Mode::Manual, Status::Success)).map(drop),
        87..91 => n8n.run(&runs(Mode::Webhook, Status::Error)).map(drop),
        91..93 => {
            let failed = n8n.run(&runs(Mode::Webhook, Status::Error))?;
            failed.first().map_or(Ok(()), |id| n8n.retry(*id, Status::Success).map(drop))
        }
        93 => n8n.run(&runs(Mode::Webhook, Status::Canceled)).map(drop),
        94 => n8n.run(&runs(Mode::Webhook, Status::Crashed)).map(drop),
        95 => n8n.run(&runs(Mode::Webhook, Status::Success).unsaved()).map(drop),
        96..98 => {
            let id = n8n.start(&Start::of(workflow.as_str()))?;
            n8n.wait(id, Wait::lasting(SignedDuration::from_secs(90)).then(Status::Success))
        }
        _ => {
            let late = SignedDuration::from_secs(rng.random_range(5..60));
            n8n.start(&Start::of(workflow.as_str()).ending(late, Status::Success)).map(drop)
        }
    }
}
