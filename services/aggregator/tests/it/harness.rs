//! A running aggregator with a catalog, and what the collector would send it.

use std::time::Duration;

use aggregator::{Aggregator, AggregatorSettings, Difference, KeepFor, PoolSettings, Rebuild};
use catalog::{Entry, Plan, Source, Tenant};
use chassis::Service;
use jiff::{SignedDuration, Timestamp};
use messaging::AskError;
use prost::Message;
use proto::{consumers::Consumer, streams::Stream, subjects::Question, timestamp, v1};
use testkit::{TestBed, Topic};

/// A Tuesday in the middle of a month.
pub const NOW: &str = "2026-11-24T12:00:00Z";

pub struct Harness {
    pub bench: TestBed,
    pub usage: Topic<v1::UsageCounted>,
}

impl Harness {
    /// One tenant, `north`, with a plan of `limit` executions and one source, `north-n8n`.
    pub async fn start(limit: Option<u64>) -> Self {
        Self::start_with(limit, &tenant("UTC")).await
    }

    /// The same with this tenant.
    pub async fn start_with(limit: Option<u64>, north: &Tenant) -> Self {
        Self::on(TestBed::of::<Aggregator>(NOW).await, PoolSettings::default(), limit, north).await
    }

    /// With one connection in each pool.
    pub async fn narrow(limit: Option<u64>) -> Self {
        let pools = PoolSettings { recording: Some(1), publishing: 1, closing: 1, questions: 1 };
        Self::on(TestBed::narrow::<Aggregator>(NOW).await, pools, limit, &tenant("UTC")).await
    }

    async fn on(bench: TestBed, pools: PoolSettings, limit: Option<u64>, north: &Tenant) -> Self {
        let usage = bench.topic(Stream::UsageState, "usage.counted").await;
        let running = Self { bench, usage };
        running.start_on_pools(pools).await;
        running.bench.publish_entry(&plan(limit), 1).await;
        running.bench.publish_entry(north, 1).await;
        running.bench.publish_entry(&source("north-n8n"), 1).await;
        running
    }

    pub async fn start_service(&self) {
        self.start_on_pools(PoolSettings::default()).await;
    }

    async fn start_on_pools(&self, pools: PoolSettings) {
        let settings = AggregatorSettings {
            publish_interval: Duration::from_millis(20),
            rollup_interval: Duration::from_millis(20),
            // The tests of retention set their own.
            executions_kept: KeepFor::Forever,
            hours_kept: KeepFor::Forever,
            pools,
            ..AggregatorSettings::default()
        };
        Aggregator::start(self.bench.context.clone(), settings).await.expect("the aggregator starts");
    }

    /// Stops the service as a shutdown does and starts it again.
    pub async fn restart(&mut self) {
        self.bench.restart().await;
        self.start_service().await;
    }

    pub async fn send(&self, executions: Vec<v1::Execution>) -> u64 {
        self.send_from("north-n8n", 1, executions).await
    }

    pub async fn send_from(&self, source: &str, epoch: u32, executions: Vec<v1::Execution>) -> u64 {
        let batch = v1::ExecutionBatch {
            workflows: Vec::new(),
            source_id: source.to_owned(),
            epoch,
            received_at: Some(timestamp(self.now())),
            origin: v1::Origin::Poll.into(),
            executions,
        };
        self.bench.publish(self.bench.namespace().executions(source), &batch).await
    }

    /// Reports that everything before `complete_until` was published, up to the stream's sequence.
    pub async fn synced(&self, source: &str, complete_until: Timestamp, published_through: u64) {
        self.synced_with_open(source, complete_until, published_through, &[]).await;
    }

    /// The same, with the ids of the executions open then.
    pub async fn synced_with_open(
        &self,
        source: &str,
        complete_until: Timestamp,
        published_through: u64,
        open_ids: &[u64],
    ) {
        let message = v1::SourceSynced {
            source_id: source.to_owned(),
            epoch: 1,
            complete_until: Some(timestamp(complete_until)),
            open_executions: 2,
            published_through,
            sweep_started_at: Some(timestamp(self.now())),
            sweep_ended_at: Some(timestamp(self.now())),
            executions_published: 0,
            open_ids: open_ids.to_vec(),
            ..v1::SourceSynced::default()
        };
        self.bench.publish(self.bench.namespace().source_synced(source), &message).await;
    }

    /// The first usage that `wanted` accepts.
    pub async fn usage_where(&mut self, wanted: impl Fn(&v1::Totals) -> bool) -> v1::UsageCounted {
        self.usage.next_where(|usage| usage.totals.as_ref().is_some_and(&wanted)).await
    }

    /// Asks the aggregator, as soon as it listens.
    pub async fn ask<A: Message + Default>(
        &self,
        question: Question,
        message: &impl Message,
    ) -> Result<A, AskError> {
        testkit::eventually("the aggregator listens", || async {
            match self.bench.context.bus.ask(question, message, Duration::from_secs(10)).await {
                Err(AskError::Nobody(_)) => None,
                outcome => Some(outcome),
            }
        })
        .await
    }

    /// The first figures over time that `wanted` accepts: roll-ups lag a little.
    pub async fn usage_answer(
        &self,
        question: &v1::UsageQuestion,
        wanted: impl Fn(&v1::UsageAnswer) -> bool,
    ) -> v1::UsageAnswer {
        testkit::eventually("the roll-ups are up to date", || async {
            let answer = self.ask::<v1::UsageAnswer>(Question::Usage, question).await.ok()?;
            wanted(&answer).then_some(answer)
        })
        .await
    }

    pub fn now(&self) -> Timestamp {
        self.bench.context.clock.now()
    }
}

/// An instant in its wire form.
pub fn at(text: &str) -> Option<prost_types::Timestamp> {
    Some(timestamp(text.parse().expect("an instant")))
}

pub fn plan(limit: Option<u64>) -> Plan {
    Plan::from_wire(v1::Plan {
        plan_id: "pro".into(),
        name: "Pro".into(),
        monthly_limit: limit,
        thresholds_percent: vec![80, 100],
        ..v1::Plan::default()
    })
    .expect("a plan")
}

pub fn tenant(time_zone: &str) -> Tenant {
    tenant_from(time_zone, 1)
}

pub fn tenant_from(time_zone: &str, anchor_day: u32) -> Tenant {
    Tenant::from_wire(v1::Tenant {
        anchor_day,
        tenant_id: "north".into(),
        name: "North".into(),
        plan_id: "pro".into(),
        time_zone: time_zone.into(),
        ..v1::Tenant::default()
    })
    .expect("a tenant")
}

pub fn source(id: &str) -> Source {
    Source::from_wire(v1::Source {
        source_id: id.into(),
        tenant_id: "north".into(),
        kind: v1::SourceKind::N8n.into(),
        base_url: "http://127.0.0.1:9/".into(),
        ..v1::Source::default()
    })
    .expect("a source")
}

/// A successful webhook run of 40 ms that stopped at `stopped_at`.
pub fn execution(id: u64, stopped_at: &str) -> v1::Execution {
    let stopped_at: Timestamp = stopped_at.parse().expect("an instant");
    v1::Execution {
        execution_id: id.to_string(),
        workflow_id: format!("w{}", id % 3),
        workflow_name: format!("Workflow {}", id % 3),
        status: v1::ExecutionStatus::Success.into(),
        mode: v1::ExecutionMode::Webhook.into(),
        started_at: Some(timestamp(stopped_at - SignedDuration::from_millis(40))),
        stopped_at: Some(timestamp(stopped_at)),
        retry_of: String::new(),
        admitted_at: None,
    }
}

/// Runs with these ids, all just before [`NOW`].
pub fn executions(ids: impl IntoIterator<Item = u64>) -> Vec<v1::Execution> {
    ids.into_iter().map(|id| execution(id, "2026-11-24T11:59:00Z")).collect()
}

impl Harness {
    /// Rebuilds all figures. Returns the differences.
    pub async fn rebuilt(&self) -> Vec<Difference> {
        let context = &self.bench.context;
        let rebuild =
            Rebuild { pool: context.pool.clone(), bus: context.bus.clone(), clock: context.clock.clone() };
        let mut differences = Vec::new();
        rebuild.run(|difference| differences.push(difference.clone())).await.expect("rebuilt");
        differences
    }

    /// Counted and crashed executions of all periods, as stored.
    pub async fn snapshot(&self) -> (u64, u64) {
        let (counted, crashed): (i64, i64) = sqlx::query_as(
            "SELECT coalesce(sum(counted), 0)::bigint, coalesce(sum(crashed), 0)::bigint FROM periods",
        )
        .fetch_one(self.bench.pool())
        .await
        .expect("figures");
        (u64::try_from(counted).expect("positive"), u64::try_from(crashed).expect("positive"))
    }

    /// Waits until the executions up to this sequence have been acknowledged.
    pub async fn handled(&self, sequence: u64) {
        let bus = &self.bench.context.bus;
        let consumer = Consumer::aggregator_executions(proto::subjects::partition("north-n8n"));
        testkit::eventually("the batch is handled", || async {
            let mut consumer = messaging::consume::open(bus, consumer).await.ok()?;
            let floor = consumer.info().await.ok()?.ack_floor.stream_sequence;
            (floor >= sequence).then_some(())
        })
        .await;
    }
}
