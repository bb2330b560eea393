//! Plays histories side by side in one real installation.

use std::{collections::BTreeMap, time::Duration};

use aggregator::{Aggregator, AggregatorSettings};
use catalog::{Attribution, Entry, Plan, Scope, Source, Tenant};
use chassis::{Context, DatabaseSettings, Migrations, Service, Tasks};
use futures_util::{StreamExt, stream};
use metering::{Clock, TenantId, WorkflowId};
use proptest::prelude::Rng;
use proto::{consumers::Consumer, subjects::PARTITIONS, timestamp, v1};
use testkit::TestBed;

use super::{
    model::Outcome,
    read::read,
    script::{
        ATTRIBUTED_FROM, CANCELED, Change, History, INTEGRATED, Item, Run, SHARED, calendar, clock, home,
    },
};
use crate::harness::source;

/// Executions in one message, at most.
const PACK_MAX: usize = 12;

/// Messages that are published at once, in their order.
const AT_ONCE: usize = 32;

/// Interval for checking whether work is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Several services and some fifty tenants on a busy machine: generous, because slow is not wrong.
const REST_WITHIN: Duration = Duration::from_secs(180);

/// Connections of one service.
const CONNECTIONS_MAX: u32 = 6;

/// How histories are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As it happened, each execution once.
    AsIs,
    /// In any order, in packs of any size, each up to three times, with a restart in the middle of each phase.
    Shuffled,
    /// The same with three services, any of which may record for any source at the same time; in each phase
    /// one stops and another starts.
    Split,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::AsIs, Self::Shuffled, Self::Split];

    fn services(self) -> usize {
        if self == Self::Split { 3 } else { 1 }
    }
}

pub struct Stage<'a, R> {
    histories: &'a [History],
    way: Way,
    rng: R,
    bench: TestBed,
    services: Vec<Context>,
    /// The plans and shared sources in the catalog, with their revisions.
    plans: BTreeMap<String, (v1::Plan, u64)>,
    shared: BTreeMap<String, (Source, u64)>,
}

impl<'a, R: Rng> Stage<'a, R> {
    /// Plays all of them. Returns the outcome.
    pub async fn play(histories: &'a [History], way: Way, rng: R) -> Outcome {
        let bench = TestBed::of::<Aggregator>(&clock(0).to_string()).await;
        let (services, plans, shared) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let mut stage = Self { histories, way, rng, bench, services, plans, shared };
        for _ in 0..way.services() {
            stage.begin_service().await;
        }
        stage.publish_catalog().await;
        stage.rest().await;
        let phases = histories.iter().map(|history| history.phases.len()).max().unwrap_or_default();
        for phase in 0..phases {
            stage.bench.clock.set(clock(phase));
            stage.rest().await;
            stage.change_catalog(phase).await;
            stage.rest().await;
            stage.send(phase).await;
            stage.rest().await;
        }
        let outcome = read(&stage.bench).await;
        for service in &stage.services {
            service.tasks.stop().await;
        }
        stage.bench.finish().await;
        outcome
    }

    async fn begin_service(&mut self) {
        let database = DatabaseSettings {
            url: self.bench.database_url.clone().into(),
            connections_max: CONNECTIONS_MAX,
            migrations: Migrations::Apply,
        };
        let pool = chassis::open_database(Aggregator::NAME, &database, &Aggregator::migrators()).await;
        let context = Context { pool: pool.unwrap(), tasks: Tasks::default(), ..self.bench.context.clone() };
        let settings = AggregatorSettings {
            rollup_interval: Duration::from_millis(200),
            ..AggregatorSettings::default()
        };
        Aggregator::start(context.clone(), settings).await.unwrap();
        self.services.push(context);
    }

    /// Stops the oldest service, and starts another.
    async fn replace_service(&mut self) {
        let ended = self.services.remove(0);
        ended.tasks.stop().await;
        ended.pool.close().await;
        self.begin_service().await;
    }

    async fn publish_catalog(&mut self) {
        for (number, history) in self.histories.iter().enumerate() {
            for (place, of) in history.tenants.iter().enumerate() {
                let (tenant, plan) = (format!("h{number}-t{place}"), format!("h{number}-p{place}"));
                let counting = v1::CountingRule { manual: of.counts_manual, ..v1::CountingRule::default() };
                let wire = v1::Plan {
                    plan_id: plan.clone(),
                    name: plan.clone(),
                    monthly_limit: of.limit,
                    thresholds_percent: vec![80, 100],
                    counting: Some(counting),
                    ..v1::Plan::default()
                };
                self.bench.publish_entry(&entry::<Plan>(wire.clone()), 1).await;
                self.plans.insert(plan.clone(), (wire, 1));
                self.bench.publish_entry(&tenant_with(number, place, of.calendar), 1).await;
                let own = Source { tenant: Some(id(&tenant)), ..source(&format!("h{number}-s{place}")) };
                self.bench.publish_entry(&own, 1).await;
            }
            let from = history.dated.then(|| ATTRIBUTED_FROM.parse().unwrap());
            let attribution = |tenant: usize, scope, from| Attribution {
                tenant: id(&format!("h{number}-t{tenant}")),
                scope,
                from,
            };
            let attributions = vec![
                attribution(0, Scope::Tag("tag-0".to_owned()), from),
                attribution(1, Scope::Project("project-1".to_owned()), None),
            ];
            let shared = format!("h{number}-s{SHARED}");
            let entry = Source { tenant: None, attributions, ..source(&shared) };
            self.bench.publish_entry(&entry, 1).await;
            self.shared.insert(shared, (entry, 1));
        }
    }

    async fn change_catalog(&mut self, phase: usize) {
        for (number, history) in self.histories.iter().enumerate() {
            if let Some((tenant, to)) = history.calendar(phase) {
                let revision = 2 + u64::try_from(phase).unwrap();
                self.bench.publish_entry(&tenant_with(number, tenant, to), revision).await;
            }
            match &history.phases[phase].change {
                None => {}
                Some(Change::Attribute(workflow)) => {
                    let (source, revision) = self.shared.get_mut(&format!("h{number}-s{SHARED}")).unwrap();
                    *revision += 1;
                    source.attributions.push(Attribution {
                        tenant: id(&format!("h{number}-t{}", home(*workflow))),
                        scope: Scope::Workflow(WorkflowId::parse(&format!("w{workflow}")).unwrap()),
                        from: None,
                    });
                    self.bench.publish_entry(source, *revision).await;
                }
                Some(change) => {
                    let (Change::Limit(tenant, _) | Change::CountManual(tenant, _)) = change else {
                        continue;
                    };
                    let (plan, revision) = self.plans.get_mut(&format!("h{number}-p{tenant}")).unwrap();
                    *revision += 1;
                    match change {
                        Change::Limit(_, limit) => plan.monthly_limit = *limit,
                        Change::CountManual(_, counts) => plan.counting.as_mut().unwrap().manual = *counts,
                        Change::Attribute(_) => {}
                    }
                    self.bench.publish_entry(&entry::<Plan>(plan.clone()), *revision).await;
                }
            }
        }
    }

    /// Sends the items of all histories in a phase.
    async fn send(&mut self, phase: usize) {
        let mut items = Vec::new();
        for (number, history) in self.histories.iter().enumerate() {
            let of_phase = history.items().into_iter().nth(phase).unwrap_or_default();
            items.extend(of_phase.into_iter().map(|item| (number, item, v1::Origin::Poll)));
        }
        if self.way != Way::AsIs {
            let pushed: Vec<_> = items.iter().filter_map(|item| self.pushed(item)).collect();
            items.extend(pushed);
            let copies = |rng: &mut R| 1 + rng.next_u32() as usize % 3;
            let repeated: Vec<_> =
                items.iter().flat_map(|item| vec![item.clone(); copies(&mut self.rng)]).collect();
            items = repeated;
            self.shuffle(&mut items);
        }
        let mut messages = self.pack(items);
        if self.way != Way::AsIs {
            self.shuffle(&mut messages);
        }
        // The subject decides who reads a message, and its content whose executions it holds: spread over
        // several partitions, one source is recorded by several services at once.
        let anywhere = self.way == Way::Split;
        let spread = messages.into_iter().map(|message| match anywhere {
            true => (format!("any-{}", self.rng.next_u32() % 64), message),
            false => (message.source_id.clone(), message),
        });
        let mut first: Vec<_> = spread.collect();
        let second = first.split_off(first.len() / 2);
        self.publish(first).await;
        if self.way != Way::AsIs {
            self.replace_service().await;
        }
        self.publish(second).await;
    }

    /// What was pushed of a run: nothing, the same, or a forgery that makes it uncounted. Never one that
    /// makes it count, because a threshold that it crossed would stay crossed; the tests in `authority` cover
    /// the rest.
    fn pushed(&mut self, (number, item, _): &(usize, Item, v1::Origin)) -> Option<(usize, Item, v1::Origin)> {
        let Item::Run(run) = item else { return None };
        let claimed = match self.rng.next_u32() % 4 {
            0 => return None,
            1 => run.clone(),
            2 => Run { status: CANCELED, ..run.clone() },
            _ => Run { mode: INTEGRATED, ..run.clone() },
        };
        Some((*number, Item::Run(claimed), v1::Origin::Push))
    }

    async fn publish(&self, messages: Vec<(String, v1::ExecutionBatch)>) {
        let published = messages.into_iter().map(async |(place, message)| {
            self.bench.publish(self.bench.namespace().executions(&place), &message).await;
        });
        stream::iter(published).buffered(AT_ONCE).collect::<()>().await;
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.rng.next_u32() as usize % (place + 1));
        }
    }

    /// Packs items of one source, epoch and origin together; readings of workflows travel with executions or
    /// alone.
    fn pack(&mut self, items: Vec<(usize, Item, v1::Origin)>) -> Vec<v1::ExecutionBatch> {
        let now = timestamp(self.bench.clock.now());
        let mut open: BTreeMap<(String, u32, i32), v1::ExecutionBatch> = BTreeMap::new();
        let mut packed = Vec::new();
        for (number, item, origin) in items {
            let (source, epoch) = match &item {
                Item::Run(run) => (run.source, run.epoch),
                Item::Reading(..) => (SHARED, 1),
            };
            let key = (format!("h{number}-s{source}"), epoch, i32::from(origin));
            let batch = open.entry(key.clone()).or_insert_with(|| v1::ExecutionBatch {
                source_id: key.0.clone(),
                epoch,
                received_at: Some(now),
                origin: origin.into(),
                ..v1::ExecutionBatch::default()
            });
            match item {
                Item::Run(run) => batch.executions.push(wire_of(&run)),
                Item::Reading(workflow, level) => batch.workflows.push(reading(workflow, level)),
            }
            let size = 1 + self.rng.next_u32() as usize % PACK_MAX;
            if batch.executions.len() + batch.workflows.len() >= size {
                packed.extend(open.remove(&key));
            }
        }
        packed.extend(open.into_values());
        packed
    }

    /// Waits until nothing is left to do.
    async fn rest(&self) {
        let consumers =
            (0..PARTITIONS).map(Consumer::aggregator_executions).chain([Consumer::AGGREGATOR_CATALOG]);
        let handled = consumers.map(async |consumer| {
            let mut reader = messaging::consume::open(&self.bench.context.bus, consumer).await.unwrap();
            while reader.info().await.is_ok_and(|info| info.num_pending + info.num_ack_pending as u64 > 0) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
        let at_rest = async {
            futures_util::future::join_all(handled).await;
            let now = jiff_sqlx::ToSqlx::to_sqlx(self.bench.clock.now());
            while sqlx::query_scalar::<_, i64>(BUSY).bind(now).fetch_one(self.bench.pool()).await.unwrap() > 0
            {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(REST_WITHIN, at_rest).await.expect("everything comes to rest");
    }
}

/// A tenant of a history, with this calendar.
fn tenant_with(history: usize, tenant: usize, number: usize) -> Tenant {
    let (zone, anchor_day) = calendar(number);
    let id = format!("h{history}-t{tenant}");
    entry(v1::Tenant {
        tenant_id: id.clone(),
        name: id,
        plan_id: format!("h{history}-p{tenant}"),
        time_zone: zone.to_owned(),
        anchor_day,
        ..v1::Tenant::default()
    })
}

fn entry<E: Entry>(wire: E::Wire) -> E {
    E::from_wire(wire).unwrap()
}

fn id(tenant: &str) -> TenantId {
    TenantId::parse(tenant).unwrap()
}

fn wire_of(run: &Run) -> v1::Execution {
    v1::Execution {
        execution_id: run.id.to_string(),
        workflow_id: format!("w{}", run.workflow),
        // Of two names received at the same time either may win, so there is only one.
        workflow_name: format!("Workflow {}", run.workflow),
        status: run.status,
        mode: run.mode,
        started_at: Some(timestamp(run.started_at)),
        stopped_at: Some(timestamp(run.stopped_at)),
        retry_of: String::new(),
        admitted_at: None,
    }
}

/// The higher the level, the later the reading, and the more it shows.
fn reading(workflow: usize, level: u32) -> v1::Workflow {
    let tenant = home(workflow);
    let mut tags = vec!["other".to_owned()];
    if level >= 2 {
        tags.push(format!("tag-{tenant}"));
    }
    v1::Workflow {
        workflow_id: format!("w{workflow}"),
        name: format!("Workflow {workflow}"),
        project_id: if level >= 3 { format!("project-{tenant}") } else { String::new() },
        tags,
        read_at: Some(timestamp(clock(0) + jiff::SignedDuration::from_secs(i64::from(level)))),
    }
}

/// How much work is left at this time of the clock.
const BUSY: &str = "SELECT (SELECT count(*) FROM sources WHERE map_again OR mapping)
    + (SELECT count(*) FROM tenants WHERE published_revision < revision OR period_end IS NULL OR period_end <= $1)
    + (SELECT count(*) FROM outbox) + (SELECT count(*) FROM rollup_log WHERE NOT folded)
    + (SELECT count(*) FROM periods WHERE closed_at IS NULL AND period_end + interval '6 hours' <= $1)";
