//! Wires and starts the aggregator.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use catalog::Mirror;
use chassis::{Context, Service};
use jiff::SignedDuration;
use messaging::{ask, consume, outbox};
use proto::{consumers::Consumer, subjects::Question};
use sqlx::migrate::Migrator;

use crate::{
    AggregatorSettings, Difference, MIGRATOR, Rebuild,
    attribution::{follow_catalog::Attribution, map_unmapped::Mapper},
    periods::{calendars, close::Closer, progress::SyncedHandler, publish::Publisher, restate::Restate},
    pools::Pools,
    questions::{
        correct::Correct, end_period::EndPeriod, explain::Explain, recorded::AnswerRecorded,
        unmapped::AnswerUnmapped, usage::AnswerUsage, workflows::AnswerWorkflows,
    },
    recording::{intake::Executions, partition_leases::Leases},
    retention::rounds::Retention,
    rollups::fold::Folder,
};

/// The aggregator.
pub struct Aggregator;

#[async_trait]
impl Service for Aggregator {
    const NAME: &'static str = "aggregator";

    type Settings = AggregatorSettings;

    fn migrators() -> Vec<&'static Migrator> {
        vec![&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR]
    }

    async fn start(context: Context, settings: AggregatorSettings) -> anyhow::Result<()> {
        let Context { clock, pool, bus, tasks, .. } = context;
        // Retried: the database may become unavailable in the middle of a start.
        let write = || calendars::write_missing(&pool);
        let what = "the tenants' calendars";
        if bus.waits().until(what, &tasks.shutdown(), |_| false, write).await?.is_none() {
            return Ok(());
        }
        let mirror = Mirror::new(pool.clone(), Arc::new(Attribution { clock: clock.clone() }));
        let leases = Leases::new(pool.clone());
        settings.check_patience(bus.patience()).map_err(anyhow::Error::msg)?;
        let grace = SignedDuration::try_from(settings.close_grace).context("close_grace is too long")?;
        let pools = Pools::beside(&pool, settings.pools, settings.workers);
        let executions =
            Executions { pool: pools.recording.clone(), bus: bus.clone(), clock: clock.clone(), grace };
        let synced = SyncedHandler::new(pool.clone());
        let publisher =
            Publisher::new(pools.publishing, pools.publishing_turn, bus.clone(), clock.clone(), grace);
        let closer = Closer::new(pools.closing.clone(), bus.clone(), clock.clone(), grace);
        let retention = Retention {
            pool: pools.closing.clone(),
            clock: clock.clone(),
            executions_kept: settings.executions_kept,
            hours_kept: settings.hours_kept,
        };
        let folder = Arc::new(Folder::new(pools.closing.clone()));

        // Before anything is published: a message with a lower revision would replace the broker's last one.
        let restate = Restate::new(pool.clone(), bus.clone());
        let what = "the comparison of revisions with the broker";
        if bus.waits().until(what, &tasks.shutdown(), |_| false, || restate.once()).await?.is_none() {
            return Ok(());
        }

        let consume = |consumer| (bus.clone(), clock.clone(), consumer, tasks.shutdown());
        let (b, c, consumer, stop) = consume(Consumer::AGGREGATOR_CATALOG);
        tasks.spawn_fallible("catalog", consume::run(b, c, consumer, Arc::new(mirror), stop));
        tasks.spawn(executions.run(settings.workers, leases.held(), tasks.shutdown()));
        tasks.spawn(leases.run(tasks.shutdown()));
        let (b, c, consumer, stop) = consume(Consumer::AGGREGATOR_SYNCED);
        tasks.spawn_fallible("synced", consume::run(b, c, consumer, Arc::new(synced), stop));
        let usage = Arc::new(AnswerUsage::new(pools.questions.clone(), clock.clone()));
        tasks.spawn(ask::answer(bus.clone(), Question::Usage, usage, tasks.shutdown()));
        let workflows = Arc::new(AnswerWorkflows::new(pools.questions.clone(), clock.clone()));
        tasks.spawn(ask::answer(bus.clone(), Question::Workflows, workflows, tasks.shutdown()));
        let explain = Arc::new(Explain::new(pools.questions.clone()));
        tasks.spawn(ask::answer(bus.clone(), Question::Explain, explain, tasks.shutdown()));
        let correct = Arc::new(Correct::new(pools.questions.clone(), bus.clone(), clock.clone(), grace));
        tasks.spawn(ask::answer(bus.clone(), Question::Correct, correct, tasks.shutdown()));
        let end_period = Arc::new(EndPeriod::new(pools.questions.clone(), bus.clone(), clock.clone()));
        tasks.spawn(ask::answer(bus.clone(), Question::EndPeriod, end_period, tasks.shutdown()));
        let recorded = Arc::new(AnswerRecorded::new(pools.questions.clone()));
        tasks.spawn(ask::answer(bus.clone(), Question::Recorded, recorded, tasks.shutdown()));
        let unmapped = Arc::new(AnswerUnmapped::new(pools.questions.clone(), clock.clone()));
        tasks.spawn(ask::answer(bus.clone(), Question::Unmapped, unmapped, tasks.shutdown()));
        let mapper = Mapper::new(pools.closing, bus.clone(), clock.clone(), grace);
        tasks.spawn(mapper.run(tasks.shutdown()));
        tasks.spawn(retention.run(tasks.shutdown()));
        tasks.spawn(restate.run(tasks.shutdown()));
        tasks.spawn(outbox::relay(pool, bus.clone(), tasks.shutdown()));
        tasks.spawn(publisher.run(settings.publish_interval, tasks.shutdown()));
        tasks.spawn(closer.run(tasks.shutdown()));
        tasks.spawn(folder.run(settings.rollup_interval, tasks.shutdown()));
        Ok(())
    }

    async fn perform(task: &str, context: Context) -> anyhow::Result<()> {
        anyhow::ensure!(task == "rebuild", "the aggregator has no task {task:?}; its task is `rebuild`");
        let Context { clock, pool, bus, .. } = context;
        let mut count = 0_u64;
        let report = |difference: &Difference| {
            count += 1;
            println!("{difference}");
        };
        Rebuild { pool, bus, clock }.run(report).await?;
        match count {
            0 => println!("All figures match the stored executions."),
            _ => println!("{count} figures corrected."),
        }
        Ok(())
    }
}
