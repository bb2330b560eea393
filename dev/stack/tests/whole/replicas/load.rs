//! A steady load of executions, packed, out of order, every tenth twice; and the figures that must come of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID, jetstream};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use prost::Message;
use proto::{Namespace, subjects::CatalogKind, timestamp, v1};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use stack::wait;

use crate::harness::{Harness, jetstream_at};

/// Tenants with their limits: one that is exceeded, one that is never reached, and none.
pub const TENANTS: [(&str, Option<u64>); 3] =
    [("north", Some(1_000)), ("south", Some(10_000_000)), ("east", None)];

/// Enough that each partition has several; source `n` belongs to tenant `n % 3`.
const SOURCES: usize = 64;

/// New executions in one message; a tenth as many old ones come with them.
const NEW_PER_MESSAGE: u64 = 20;

/// Messages that wait, so that one may overtake another.
const WAITING: usize = 24;

/// Messages of one round, and the pause after it.
const MESSAGES_PER_ROUND: usize = 4;
const ROUND_PAUSE: Duration = Duration::from_millis(80);

/// Messages between two events of the test.
const MESSAGES_BETWEEN: u64 = 80;

/// A busy broker may need longer than the client waits.
const TRIES_MAX: usize = 10;

const SEED: u64 = 7;

/// Counts by tenant, month, source and workflow, and of each tenant's current month as published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Counted, uncounted, errors.
    pub workflows: BTreeMap<String, [u64; 3]>,
    pub delivered: BTreeMap<String, u64>,
}

/// Publishes until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    messages: Arc<AtomicU64>,
    thread: JoinHandle<Published>,
}

/// What was published.
pub struct Published {
    now: Timestamp,
    /// The last id of each source; its ids begin with 1.
    ids: Vec<u64>,
    /// Executions in messages, repeats included.
    pub delivered: u64,
}

/// One execution, which follows from its source and id.
struct Made {
    workflow: u64,
    is_error: bool,
    is_manual: bool,
    stopped_at: Timestamp,
}

impl Made {
    fn of(source: usize, id: u64, now: Timestamp) -> Self {
        // Some are of the previous month.
        let before = SignedDuration::from_secs(if id.is_multiple_of(6) { 31 * 24 * 60 * 60 } else { 0 });
        Self {
            workflow: (id + source as u64) % 3,
            is_error: id.is_multiple_of(7),
            is_manual: id.is_multiple_of(11),
            stopped_at: now - before,
        }
    }

    fn to_wire(&self, id: u64) -> v1::Execution {
        let status = if self.is_error { v1::ExecutionStatus::Error } else { v1::ExecutionStatus::Success };
        let mode = if self.is_manual { v1::ExecutionMode::Manual } else { v1::ExecutionMode::Webhook };
        v1::Execution {
            execution_id: id.to_string(),
            workflow_id: format!("w{}", self.workflow),
            status: status.into(),
            mode: mode.into(),
            started_at: Some(timestamp(self.stopped_at)),
            stopped_at: Some(timestamp(self.stopped_at)),
            ..v1::Execution::default()
        }
    }
}

fn source_name(source: usize) -> String {
    format!("{}-{source}", TENANTS[source % TENANTS.len()].0)
}

/// The tenants, each with a plan of its own, and their sources.
pub fn publish_catalog(bench: &Harness) {
    use v1::catalog_entry::Entry;
    let put = |kind, id: &str, entry| {
        let entry = v1::CatalogEntry { entry: Some(entry) };
        bench.publish(bench.namespace().catalog(kind, id), entry.encode_to_vec());
    };
    for (tenant, limit) in TENANTS {
        let plan = v1::Plan {
            plan_id: tenant.into(),
            revision: 1,
            name: tenant.into(),
            monthly_limit: limit,
            thresholds_percent: vec![80, 100],
            ..v1::Plan::default()
        };
        put(CatalogKind::Plan, tenant, Entry::Plan(plan));
        let entry = v1::Tenant {
            tenant_id: tenant.into(),
            revision: 1,
            name: tenant.into(),
            plan_id: tenant.into(),
            time_zone: "UTC".into(),
            ..v1::Tenant::default()
        };
        put(CatalogKind::Tenant, tenant, Entry::Tenant(entry));
    }
    for source in 0..SOURCES {
        let id = source_name(source);
        let entry = v1::Source {
            source_id: id.clone(),
            revision: 1,
            tenant_id: TENANTS[source % TENANTS.len()].0.into(),
            kind: v1::SourceKind::N8n.into(),
            base_url: "http://127.0.0.1:9/".into(),
            ..v1::Source::default()
        };
        put(CatalogKind::Source, &id, Entry::Source(entry));
    }
    let known = || bench.ask("SELECT count(*) FROM aggregator.sources");
    bench.until("the catalog to be known", || (known() == SOURCES.to_string()).then_some(()));
}

impl Load {
    pub fn begin(bench: &Harness) -> Self {
        let (stop, messages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let published = Published { now: bench.now(), ids: vec![0; SOURCES], delivered: 0 };
        let (nats_url, namespace) = (bench.nats_url().to_owned(), bench.namespace().clone());
        let (stopped, sent) = (stop.clone(), messages.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(published.publish(&nats_url, &namespace, &stopped, &sent))
        });
        Self { stop, messages, thread }
    }

    /// Waits until some more have been published.
    pub fn go_on(&self) {
        let wanted = self.messages.load(Ordering::Relaxed) + MESSAGES_BETWEEN;
        wait::until("more to be published", Duration::from_secs(60), || {
            Ok((self.messages.load(Ordering::Relaxed) >= wanted).then_some(()))
        })
        .unwrap();
    }

    pub fn end(self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Published {
    async fn publish(
        mut self,
        nats_url: &str,
        namespace: &Namespace,
        stop: &AtomicBool,
        sent: &AtomicU64,
    ) -> Self {
        let broker = jetstream_at(nats_url).await;
        let mut rng = StdRng::seed_from_u64(SEED);
        let mut waiting: Vec<v1::ExecutionBatch> = Vec::new();
        loop {
            let is_last = stop.load(Ordering::Relaxed);
            while !is_last && waiting.len() < WAITING {
                waiting.push(self.make(&mut rng));
            }
            waiting.shuffle(&mut rng);
            let left = if is_last { 0 } else { waiting.len() - MESSAGES_PER_ROUND };
            let round = waiting.split_off(left);
            let count = round.len() as u64;
            join_all(round.into_iter().map(|batch| send(&broker, namespace, batch, rng.random()))).await;
            sent.fetch_add(count, Ordering::Relaxed);
            if is_last {
                return self;
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    /// One message: new executions of one source and some old ones, in no order.
    fn make(&mut self, rng: &mut StdRng) -> v1::ExecutionBatch {
        let source = rng.random_range(0..SOURCES);
        let first = self.ids[source] + 1;
        self.ids[source] += NEW_PER_MESSAGE;
        let mut ids: Vec<u64> = (first..first + NEW_PER_MESSAGE).collect();
        ids.extend((0..NEW_PER_MESSAGE / 10).map(|_| rng.random_range(1..first + NEW_PER_MESSAGE)));
        ids.shuffle(rng);
        self.delivered += ids.len() as u64;
        v1::ExecutionBatch {
            source_id: source_name(source),
            epoch: 1,
            received_at: Some(timestamp(self.now)),
            origin: v1::Origin::Poll.into(),
            executions: ids.into_iter().map(|id| Made::of(source, id, self.now).to_wire(id)).collect(),
            ..v1::ExecutionBatch::default()
        }
    }

    pub fn executions(&self) -> u64 {
        self.ids.iter().sum()
    }

    fn all(&self) -> impl Iterator<Item = (usize, Made)> + '_ {
        let of_source = |(source, last): (usize, &u64)| (1..=*last).map(move |id| (source, id));
        let ids = self.ids.iter().enumerate().flat_map(of_source);
        ids.map(|(source, id)| (source, Made::of(source, id, self.now)))
    }

    pub fn figures(&self) -> Figures {
        let month = |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string();
        let mut figures = Figures::default();
        for (tenant, _) in TENANTS {
            figures.delivered.insert(tenant.to_owned(), self.used(tenant));
        }
        for (source, made) in self.all() {
            let tenant = TENANTS[source % TENANTS.len()].0;
            let (month, source) = (month(made.stopped_at), source_name(source));
            let entry =
                figures.workflows.entry(format!("{tenant}|{month}|{source}|w{}", made.workflow)).or_default();
            if made.is_manual {
                entry[1] += 1;
            } else {
                entry[0] += 1;
                entry[2] += u64::from(made.is_error);
            }
        }
        figures
    }

    /// Counted in the current month.
    fn used(&self, tenant: &str) -> u64 {
        let counted = |(source, made): &(usize, Made)| {
            TENANTS[source % TENANTS.len()].0 == tenant && made.stopped_at == self.now && !made.is_manual
        };
        self.all().filter(counted).count() as u64
    }

    pub fn crossings(&self) -> Vec<(String, u32)> {
        let mut crossings = Vec::new();
        for (tenant, limit) in TENANTS {
            for percent in [80, 100] {
                if limit.is_some_and(|limit| self.used(tenant) * 100 >= limit * u64::from(percent)) {
                    crossings.push((tenant.to_owned(), percent));
                }
            }
        }
        crossings.sort();
        crossings
    }
}

async fn send(broker: &jetstream::Context, namespace: &Namespace, batch: v1::ExecutionBatch, id: u64) {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, format!("load-{id}"));
    let subject = namespace.executions(&batch.source_id);
    let payload = batch.encode_to_vec();
    for _ in 0..TRIES_MAX {
        // Retries under the same id are stored once.
        let sent =
            broker.publish_with_headers(subject.clone(), headers.clone(), payload.clone().into()).await;
        if let Ok(sent) = sent
            && sent.await.is_ok()
        {
            return;
        }
    }
    panic!("the broker accepts no executions");
}
