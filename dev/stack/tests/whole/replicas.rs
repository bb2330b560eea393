//! Aggregators are killed, stopped and added while executions arrive: the figures stay correct, each crossing is published
//! once, and another aggregator takes over a killed one's partitions within seconds.

mod load;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_nats::jetstream;
use futures_util::StreamExt;
use prost::Message;
use proto::{
    Namespace,
    consumers::{self, Consumer},
    streams::Stream,
    subjects::PARTITIONS,
    v1,
};
use stack::{Program, Replica, wait};
use tokio::runtime::Runtime;

use crate::harness::{Harness, jetstream_at};
use load::{Figures, Load};

/// The lease (4 s) and the broker's wait for acknowledgements (5 s) make it ten seconds. A busy machine is slow, not
/// wrong, so the test only asserts that it happens, and prints the time.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(90);

/// Processes that may run.
const REPLICAS: u8 = 4;

fn aggregator(number: u8) -> Replica {
    Replica { program: Program::Aggregator, number }
}

struct Crew {
    bench: Harness,
    runtime: Runtime,
    broker: jetstream::Context,
    /// The replica id of each running process in the leases.
    names: BTreeMap<u8, String>,
}

#[test]
fn aggregators_come_and_go_while_executions_arrive() {
    let mut crew = Crew::gather();
    crew.join(1);
    load::publish_catalog(&crew.bench);
    let load = Load::begin(&crew.bench);

    crew.join(2);
    load.go_on();
    crew.leave("killed", 1, |bench| bench.stack.kill(aggregator(1)).unwrap());
    crew.join(3);
    load.go_on();
    crew.leave("killed", 2, |bench| bench.stack.kill(aggregator(2)).unwrap());
    crew.join(4);
    crew.join(1);
    load.go_on();
    crew.leave("stopped", 3, |bench| bench.stack.stop_one(aggregator(3)).unwrap());
    crew.join(3);
    load.go_on();

    let published = load.end();
    println!("{} executions, {} sent with repeats", published.executions(), published.delivered);
    crew.rest();
    let (expected, found) = (published.figures(), crew.figures());
    assert_eq!(found, expected);
    let recorded = crew.bench.ask("SELECT count(*) FROM aggregator.executions");
    assert_eq!(recorded, published.executions().to_string(), "an execution is recorded once");
    assert_eq!(crew.crossings(), published.crossings());
    assert_eq!(crew.all::<v1::DeadLetter>(Stream::Dead, "dead"), []);
    crew.bench.finish();
}

impl Crew {
    /// No aggregator runs yet. It is the middle of a month.
    fn gather() -> Self {
        let bench = Harness::start_some("replicas", &[], |mut options| {
            options.replicas.insert(Program::Aggregator, REPLICAS);
            options
        });
        bench
            .sandbox()
            .post("/control/clock", &serde_json::json!({ "now": "2027-06-15T12:00:00Z" }))
            .unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let broker = runtime.block_on(jetstream_at(bench.nats_url()));
        Self { bench, runtime, broker, names: BTreeMap::new() }
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        wait::until(what, TAKEN_OVER_WITHIN, || Ok(look(self))).unwrap()
    }

    /// The partitions of each replica.
    fn held(&self) -> BTreeMap<String, Vec<u32>> {
        let rows = self.bench.ask(
            "SELECT replica_id, partition FROM aggregator.partition_leases WHERE replica_id IS NOT NULL",
        );
        let mut held: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for row in rows.lines() {
            let (replica, partition) = row.split_once('|').unwrap();
            held.entry(replica.to_owned()).or_default().push(partition.parse().unwrap());
        }
        held
    }

    /// Starts a process, and waits until it has its share.
    fn join(&mut self, number: u8) {
        self.bench.stack.restart(aggregator(number)).unwrap();
        // The others keep their fair share, rounded up.
        let others = self.names.len();
        let share = PARTITIONS as usize - (PARTITIONS as usize).div_ceil(others + 1) * others;
        let name = self.until("a new aggregator to have its share", |crew| {
            let mut others = crew.held().into_iter();
            others.find(|(name, held)| !crew.names.values().any(|known| known == name) && held.len() >= share)
        });
        self.names.insert(number, name.0);
    }

    /// Ends a process, and waits until others have recorded what was published to its partitions afterwards.
    fn leave(&mut self, how: &str, number: u8, end: impl FnOnce(&mut Harness)) {
        let name = self.names.remove(&number).unwrap();
        let partitions = self.held().remove(&name).unwrap();
        assert!(partitions.len() > 1, "{how}: it had work: {partitions:?}");
        let ended_at = Instant::now();
        end(&mut self.bench);
        let published: Vec<u64> = partitions.iter().map(|partition| self.last_sequence(*partition)).collect();
        self.until("the partitions to move on", |crew| {
            let moved = |(partition, published): (&u32, &u64)| crew.acknowledged(*partition) > *published;
            partitions.iter().zip(&published).all(moved).then_some(())
        });
        let held = self.held();
        assert!(
            partitions.iter().all(|partition| !held.get(&name).is_some_and(|own| own.contains(partition))),
            "the ended aggregator still holds partitions: {held:?}"
        );
        println!("{} partitions of one {how} moved on after {:.1?}", partitions.len(), ended_at.elapsed());
    }

    fn stream(&self, stream: Stream) -> jetstream::stream::Stream {
        let name = stream.name(self.bench.namespace());
        self.runtime.block_on(self.broker.get_stream(name)).unwrap()
    }

    fn last_sequence(&self, partition: u32) -> u64 {
        self.stream(Stream::Executions(partition)).cached_info().state.last_sequence
    }

    fn consumer(&self, partition: u32) -> jetstream::consumer::Info {
        let stream = self.stream(Stream::Executions(partition));
        let name = Consumer::aggregator_executions(partition).name();
        self.runtime.block_on(stream.consumer_info(name)).unwrap()
    }

    /// Everything of a partition up to this sequence was recorded.
    fn acknowledged(&self, partition: u32) -> u64 {
        self.consumer(partition).ack_floor.stream_sequence
    }

    /// Waits until nothing is left to record or to publish.
    fn rest(&self) {
        self.until("everything to be recorded", |crew| {
            let idle = |info: jetstream::consumer::Info| info.num_pending == 0 && info.num_ack_pending == 0;
            (0..PARTITIONS).all(|partition| idle(crew.consumer(partition))).then_some(())
        });
        self.until("everything to be published", |crew| {
            let waiting = "SELECT (SELECT count(*) FROM aggregator.outbox)
                + (SELECT count(*) FROM aggregator.tenants WHERE published_revision < revision)
                + (SELECT count(*) FROM aggregator.rollup_log WHERE NOT folded)";
            (crew.bench.ask(waiting) == "0").then_some(())
        });
    }

    /// The counts of each tenant, month, source and workflow, and each tenant's sum as it was published.
    fn figures(&self) -> Figures {
        let rows = self.bench.ask(
            "SELECT tenant_id, to_char(period_start AT TIME ZONE 'UTC', 'YYYY-MM'), source_id, workflow_id,
                 counted, uncounted, error
             FROM aggregator.workflow_usage JOIN aggregator.workflows ON workflows.number = workflow_number
             JOIN aggregator.sources ON sources.number = source_number
             JOIN aggregator.tenants ON tenants.number = tenant_number",
        );
        let mut figures = Figures::default();
        for row in rows.lines() {
            let (key, numbers) =
                row.rsplitn(4, '|').fold((String::new(), Vec::new()), |(_, mut numbers), part| {
                    numbers.push(part);
                    (part.to_owned(), numbers)
                });
            let numbers =
                numbers.iter().take(3).rev().map(|number| number.parse().unwrap()).collect::<Vec<u64>>();
            figures.workflows.insert(key, [numbers[0], numbers[1], numbers[2]]);
        }
        for usage in self.all::<v1::UsageCounted>(Stream::UsageState, "usage.counted") {
            figures.delivered.insert(usage.tenant_id, usage.totals.unwrap().counted);
        }
        figures
    }

    fn crossings(&self) -> Vec<(String, u32)> {
        let all = self.all::<v1::ThresholdCrossed>(Stream::Thresholds, "usage.threshold");
        let mut crossings: Vec<_> =
            all.into_iter().map(|crossed| (crossed.tenant_id, crossed.threshold_percent)).collect();
        crossings.sort();
        crossings
    }

    /// Every message that is kept of a topic.
    fn all<M: Message + Default>(&self, stream: Stream, topic: &str) -> Vec<M> {
        let stream = self.stream(stream);
        if stream.cached_info().state.messages == 0 {
            return Vec::new();
        }
        let namespace: &Namespace = self.bench.namespace();
        self.runtime.block_on(async {
            let reader = stream.create_consumer(consumers::live(namespace, topic)).await.unwrap();
            let mut messages = reader.messages().await.unwrap();
            let mut all = Vec::new();
            while let Some(message) = messages.next().await {
                let message = message.unwrap();
                all.push(M::decode(message.payload.clone()).unwrap());
                if message.info().unwrap().pending == 0 {
                    break;
                }
            }
            all
        })
    }
}
