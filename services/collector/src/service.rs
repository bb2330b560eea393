//! How the collector is put together.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use catalog::{Mirror, sealing::OpeningKey};
use chassis::{Context, Service};
use jiff::SignedDuration;
use messaging::{ask, consume};
use proto::{consumers::Consumer, subjects::Question};
use rand::{SeedableRng, rngs::StdRng};
use sqlx::migrate::Migrator;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    MIGRATOR, Settings,
    audit::run::{AUDITS_MAX, AnswerAudit, Auditor},
    checks::senders::Senders,
    events::Publisher,
    expiry::Expiry,
    measure::Measure,
    n8n::client::{Client, ClientLimits},
    push::{self, receive::Receive},
    schedule::{
        follow_catalog::FollowCatalog,
        near_limit::{AnswerSweep, FollowUsage},
        rounds::{Schedule, Work},
    },
    sweep::{placement::AnswerPlacement, replay::Replay},
};

/// The service.
pub struct Collector;

#[async_trait]
impl Service for Collector {
    const NAME: &'static str = "collector";

    type Settings = Settings;

    fn migrators() -> Vec<&'static Migrator> {
        vec![&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR]
    }

    async fn start(context: Context, settings: Settings) -> anyhow::Result<()> {
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!("cannot listen on {} (collector.listen); is the port taken?", settings.listen)
        })?;
        start_on(listener, context, settings)
    }
}

/// Starts every loop of the collector, and accepts pushed executions on a port that is already open.
pub fn start_on(listener: TcpListener, context: Context, settings: Settings) -> anyhow::Result<()> {
    let Context { clock, pool, bus, tasks, .. } = context;
    let publisher = Publisher::new(bus.clone());
    let limits = ClientLimits {
        request_timeout: settings.request_timeout,
        page_bytes_max: settings.page_bytes_max,
        allow_private_addresses: settings.allow_private_addresses,
    };
    let client = Client::new(limits, clock.clone()).context("cannot make an HTTP client")?;
    let clock_skew_warning =
        SignedDuration::try_from(settings.clock_skew_warning).context("clock_skew_warning is too long")?;
    let auditor = Auditor {
        client: client.clone(),
        bus: bus.clone(),
        publisher: publisher.clone(),
        pool: pool.clone(),
        clock: clock.clone(),
        opening_key: OpeningKey::parse(&settings.secret_key)?,
        tasks: tasks.clone(),
        places: Arc::new(Semaphore::new(AUDITS_MAX)),
    };
    let audits = Arc::new(AnswerAudit(Arc::new(auditor)));
    tasks.spawn(ask::answer(bus.clone(), Question::Audit, audits, tasks.shutdown()));

    let sweeps = Arc::new(AnswerSweep { pool: pool.clone(), clock: clock.clone() });
    tasks.spawn(ask::answer(bus.clone(), Question::Sweep, sweeps, tasks.shutdown()));

    let placements = Arc::new(AnswerPlacement { pool: pool.clone(), clock: clock.clone() });
    tasks.spawn(ask::answer(bus.clone(), Question::Placement, placements, tasks.shutdown()));

    let work = Work {
        client,
        publisher: publisher.clone(),
        pool: pool.clone(),
        clock: clock.clone(),
        opening_key: OpeningKey::parse(&settings.secret_key)?,
        poll_interval: settings.poll_interval,
        clock_skew: SignedDuration::try_from(settings.clock_skew).context("clock_skew is too long")?,
        clock_skew_warning,
        rows_kept: settings.assumed_rows_kept,
    };

    let mirror = Mirror::new(pool.clone(), Arc::new(FollowCatalog { clock: clock.clone() }));
    let catalog = Consumer::COLLECTOR_CATALOG;
    tasks.spawn_fallible(
        "catalog",
        consume::run(bus.clone(), clock.clone(), catalog, Arc::new(mirror), tasks.shutdown()),
    );

    let follow = FollowUsage { pool: pool.clone(), clock: clock.clone() };
    let usage = Consumer::COLLECTOR_USAGE;
    tasks.spawn_fallible(
        "usage",
        consume::run(bus.clone(), clock.clone(), usage, Arc::new(follow), tasks.shutdown()),
    );

    let measure = Measure { pool: pool.clone(), clock: clock.clone() };
    tasks.spawn(measure.run(tasks.shutdown()));

    let expiry = Expiry { pool: pool.clone(), clock: clock.clone() };
    let receive = Receive {
        publisher: publisher.clone(),
        pool: pool.clone(),
        clock: clock.clone(),
        poll_interval: settings.poll_interval,
        clock_skew_warning,
        senders: Senders::default(),
    };
    tasks.spawn_fallible("push", push::serve(listener, receive, tasks.shutdown()));

    let replay = Replay { publisher, pool, clock: clock.clone() };
    let rows = Consumer::COLLECTOR_ROWS;
    tasks.spawn_fallible("rows", consume::run(bus, clock, rows, Arc::new(replay), tasks.shutdown()));

    tasks.spawn(expiry.run(tasks.shutdown()));
    let schedule = Schedule::new(work, settings.concurrency, tasks.clone(), StdRng::from_os_rng());
    tasks.spawn(schedule.run());
    Ok(())
}
