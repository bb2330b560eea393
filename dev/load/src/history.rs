//! Executions for the aggregator: the same arguments generate the same ones, in the same messages.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use proto::{timestamp, v1};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Workflows of each tenant.
const WORKFLOWS: u64 = 10;

/// Repeats are of executions at most this far back: the overlap that a collector reads again.
const REPEATS_BACK: u64 = 500;

/// One in this many executions of a source fails.
const ERROR_EVERY: u64 = 33;

/// Durations spread over this range, in steps that are coprime to it.
const DURATION_SPREAD_MS: u64 = 4_000;
const DURATION_STEP_MS: u64 = 1_237;

/// Time between two executions of a source.
const APART: SignedDuration = SignedDuration::from_millis(500);

/// What is published.
#[derive(Debug, Clone, Args)]
pub struct History {
    /// Tenants, each with one source and ten workflows.
    #[arg(long, default_value_t = 1_000)]
    pub tenants: u32,
    /// Executions, repeats included.
    #[arg(long)]
    pub executions: u64,
    /// Executions that each source had before: its first new one has the next id.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Percentage of executions that are repeats.
    #[arg(long, default_value_t = 1)]
    pub duplicates: u64,
    /// Executions in one message.
    #[arg(long, default_value_t = 50)]
    pub per_message: u64,
}

/// A message.
pub struct Pack {
    /// The batch it carries.
    pub batch: v1::ExecutionBatch,
    /// How many of its executions are new.
    pub fresh: u64,
}

impl History {
    /// The id of a tenant; its source has the same.
    pub fn name(number: u32) -> String {
        format!("t{number:05}")
    }

    /// All messages, the sources taking turns. `until` is when the last executions stop.
    pub fn packs(&self, until: Timestamp) -> impl Iterator<Item = Pack> {
        let mut made = 0;
        let mut next: Vec<u64> = vec![self.from + 1; self.tenants as usize];
        let mut random = StdRng::seed_from_u64(self.from);
        let this = self.clone();
        let first_at =
            until - APART * i32::try_from(self.executions / u64::from(self.tenants)).unwrap_or(i32::MAX);
        (0..self.tenants).cycle().map_while(move |source| {
            let size = this.per_message.min(this.executions - made);
            made += size;
            let next = next.get_mut(source as usize)?;
            let mut fresh = 0;
            let executions = (0..size)
                .map(|_| {
                    let held = *next - 1 - this.from;
                    let repeat = held > 0 && random.random_range(0..100) < this.duplicates;
                    let repeated = repeat.then(|| *next - random.random_range(1..=REPEATS_BACK.min(held)));
                    let id = repeated.unwrap_or_else(|| {
                        fresh += 1;
                        *next += 1;
                        *next - 1
                    });
                    execution(source, id, first_at, this.from)
                })
                .collect();
            let batch = v1::ExecutionBatch {
                source_id: Self::name(source),
                epoch: 1,
                received_at: Some(timestamp(until)),
                origin: v1::Origin::Poll.into(),
                executions,
                workflows: Vec::new(),
            };
            (size > 0).then_some(Pack { batch, fresh })
        })
    }
}

/// An execution follows from its source and id, so that a repeat is equal.
fn execution(source: u32, id: u64, first_at: Timestamp, from: u64) -> v1::Execution {
    let place = i32::try_from(id.saturating_sub(from)).unwrap_or(i32::MAX);
    let stopped_at = first_at + APART * place;
    let took = SignedDuration::from_millis((id * DURATION_STEP_MS % DURATION_SPREAD_MS).cast_signed());
    let workflow = (u64::from(source) + id) % WORKFLOWS;
    let status = match id % ERROR_EVERY {
        0 => v1::ExecutionStatus::Error,
        _ => v1::ExecutionStatus::Success,
    };
    v1::Execution {
        execution_id: id.to_string(),
        workflow_id: format!("workflow{workflow:08}"),
        workflow_name: format!("Order sync with warehouse number {workflow}"),
        status: status.into(),
        mode: v1::ExecutionMode::Webhook.into(),
        started_at: Some(timestamp(stopped_at - took)),
        stopped_at: Some(timestamp(stopped_at)),
        retry_of: String::new(),
        admitted_at: None,
    }
}
