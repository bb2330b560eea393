//! A running collector with its sandbox.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catalog::{
    Source,
    sealing::{KeyPair, SealingKey},
};
use chassis::Service as _;
use collector::{Collector, Settings};
use jiff::{SignedDuration, Timestamp};
use metering::{Clock as _, SourceId, TenantId};
use proto::{
    instant,
    streams::Stream,
    subjects::PARTITIONS,
    v1::{DeadLetter, Execution, ExecutionBatch, SourceFailing, SourceGap, SourceSynced, Workflow},
};
use sandbox::{
    Sandbox, SandboxOptions,
    n8n::{N8n, Runs},
};
use testkit::{TestBed, Topic};

/// The tests' sources are swept this often; with the jitter, a step of [`STEP`] makes each of them due.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// One step of the clock.
pub const STEP: SignedDuration = SignedDuration::from_secs(70);

/// A running collector with its sandbox, and what it publishes.
pub struct Harness {
    pub bench: TestBed,
    pub sandbox: Sandbox,
    pub settings: Settings,
    keys: KeyPair,
    batches: Topic<ExecutionBatch>,
    synced: Topic<SourceSynced>,
    pub failing: Topic<SourceFailing>,
    pub gaps: Topic<SourceGap>,
    pub letters: Topic<DeadLetter>,
}

/// What one sweep has published.
pub struct Sweep {
    pub synced: SourceSynced,
    pub executions: Vec<Execution>,
    /// Those that it has published under earlier epochs.
    pub former: Vec<Execution>,
}

impl Sweep {
    /// The ids it has published, in order.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> =
            self.executions.iter().map(|execution| execution.execution_id.parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    /// Every execution that stopped before it has been published.
    pub fn complete_until(&self) -> Timestamp {
        instant(self.synced.complete_until.as_ref(), "complete_until").unwrap().unwrap()
    }
}

impl Harness {
    /// Starts a collector that may connect to this machine.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a collector with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let bench = TestBed::narrow::<Collector>("2026-11-24T12:00:00Z").await;
        let clock = Arc::new(bench.clock.clone());
        let sandbox = Sandbox::start(SandboxOptions { clock, ..SandboxOptions::default() }).await.unwrap();
        let keys = KeyPair::generate();
        let mut settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            poll_interval: POLL_INTERVAL,
            concurrency: 4,
            request_timeout: Duration::from_secs(20),
            clock_skew: Duration::from_secs(5),
            clock_skew_warning: Duration::from_secs(30),
            page_bytes_max: 8 * 1024 * 1024,
            assumed_rows_kept: 10_000,
            secret_key: keys.secret.clone(),
            allow_private_addresses: true,
        };
        change(&mut settings);
        let batches = bench.executions().await;
        let synced = bench.topic(Stream::SourceState, "source.synced").await;
        let failing = bench.topic(Stream::SourceState, "source.failing").await;
        let gaps = bench.topic(Stream::SourceEvents, "source.gap").await;
        let letters = bench.topic(Stream::Dead, "dead").await;
        let stage = Self { bench, sandbox, settings, keys, batches, synced, failing, gaps, letters };
        stage.start_collector().await;
        stage
    }

    /// Starts a collector, or one more.
    pub async fn start_collector(&self) {
        Collector::start(self.bench.context.clone(), self.settings.clone()).await.unwrap();
    }

    /// The sandbox's n8n behind a source.
    pub fn n8n(&self, source: &str) -> N8n {
        self.sandbox.n8n(source)
    }

    /// A source of the sandbox's n8n of the same name.
    pub fn source(&self, name: &str) -> Source {
        self.sandbox.n8n(name);
        self.source_at(name, &self.sandbox.n8n_url(name), &format!("key-{name}"))
    }

    /// A source of any n8n.
    pub fn source_at(&self, name: &str, base_url: &str, key: &str) -> Source {
        Source {
            id: SourceId::parse(name).unwrap(),
            tenant: Some(TenantId::parse("north").unwrap()),
            attributions: Vec::new(),
            base_url: base_url.parse().unwrap(),
            api_key: SealingKey::parse(&self.keys.public).unwrap().seal(&key.to_owned().into()),
            poll_interval: None,
            paused: false,
            push_token_sha256: None,
        }
    }

    /// Publishes a source, as the gateway would.
    pub async fn add(&self, source: &Source, revision: u64) {
        self.bench.publish_entry(source, revision).await;
    }

    /// Adds a source and awaits its first sweep.
    pub async fn first_sweep(&mut self, name: &str) -> Sweep {
        self.add(&self.source(name), 1).await;
        self.swept(name).await
    }

    /// Makes every source due and awaits the next sweep of this one.
    pub async fn next_sweep(&mut self, name: &str) -> Sweep {
        self.bench.clock.advance(STEP);
        self.swept(name).await
    }

    /// Awaits a sweep of this source that began now, on the clock.
    pub async fn swept(&mut self, name: &str) -> Sweep {
        let synced = self.swept_without_reading(name).await;
        let mut executions = Vec::new();
        let mut former = Vec::new();
        while executions.len() + former.len() < usize::try_from(synced.executions_published).unwrap() {
            let batch = self.batches.next_where(|batch| batch.source_id == name).await;
            let of_epoch = if batch.epoch == synced.epoch { &mut executions } else { &mut former };
            of_epoch.extend(batch.executions);
        }
        Sweep { synced, executions, former }
    }

    /// Awaits a sweep of this source that began now, on the clock.
    pub async fn swept_without_reading(&mut self, name: &str) -> SourceSynced {
        let now = self.bench.clock.now();
        self.synced
            .next_where(|synced| {
                let began_at = instant(synced.sweep_started_at.as_ref(), "sweep_started_at").unwrap();
                synced.source_id == name && began_at >= Some(now)
            })
            .await
    }

    /// The next batch of executions that was published.
    pub async fn next_executions(&mut self) -> ExecutionBatch {
        self.batches.next_where(|batch| !batch.executions.is_empty()).await
    }

    /// The next workflows that were published without executions.
    pub async fn next_workflows(&mut self) -> Vec<Workflow> {
        let has_only_workflows =
            |batch: &ExecutionBatch| batch.executions.is_empty() && !batch.workflows.is_empty();
        self.batches.next_where(has_only_workflows).await.workflows
    }

    /// The next successful sweep of any source.
    pub async fn next_synced(&mut self) -> SourceSynced {
        self.synced.next().await
    }

    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        self.bench.clock.now()
    }

    /// The next batch that was published.
    pub async fn next_batch(&mut self) -> ExecutionBatch {
        self.batches.next().await
    }

    /// Makes a source's n8n run this often, so that what was there before is far below the newest.
    pub fn run(&self, source: &str, count: u32) -> Vec<u64> {
        self.n8n(source).run(&Runs::of("orderSync").named("Order sync").count(count)).unwrap()
    }

    /// How often each execution has been published since the first message, by (epoch, id).
    pub async fn published(&self) -> BTreeMap<(u32, u64), usize> {
        let bus = &self.bench.context.bus;
        let mut total = 0;
        for partition in 0..PARTITIONS {
            let name = Stream::Executions(partition).name(bus.namespace());
            total += bus.jetstream().get_stream(name).await.unwrap().cached_info().state.messages;
        }
        let mut batches = self.bench.executions().await;
        let mut counts = BTreeMap::new();
        for _ in 0..total {
            let batch = batches.next().await;
            for execution in batch.executions {
                *counts.entry((batch.epoch, execution.execution_id.parse().unwrap())).or_default() += 1;
            }
        }
        counts
    }

    /// Stops everything.
    pub async fn finish(self) {
        self.bench.finish().await;
        self.sandbox.stop().await;
    }
}
