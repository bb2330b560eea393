//! The service: what it runs, and how the parts are wired.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use catalog::Mirror;
use chassis::{Context, Service, Tasks};
use jiff::SignedDuration;
use messaging::{Bus, Handler, consume};
use metering::Clock;
use proto::{consumers::Consumer, v1};
use sqlx::migrate::Migrator;
use tokio::sync::Notify;

use crate::{
    Settings,
    deliver::Deliver,
    gather::{Gather, GatherFailing, GatherSynced, Gatherer},
    pace::Rules,
    record::RecordCrossing,
    retention::Retention,
    seal::Seal,
    smtp::Mailer,
};

/// What the log and `/readyz` show without a mail server.
const NO_MAIL_SERVER: &str =
    "no mail server: mails are recorded and not sent, and given up after about a day; set alerts.smtp_url";

/// The tables of this service.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Notifies the tenants' recipients of crossed thresholds, and the operator's of problems.
pub struct Alerts;

#[async_trait]
impl Service for Alerts {
    const NAME: &'static str = "alerts";

    type Settings = Settings;

    fn migrators() -> Vec<&'static Migrator> {
        vec![&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR]
    }

    async fn start(context: Context, settings: Settings) -> anyhow::Result<()> {
        let Context { clock, pool, bus, tasks, warnings } = context;
        if settings.smtp_url.is_none() {
            warnings.add(NO_MAIL_SERVER);
        }
        let mailer = Mailer::new(settings.smtp_url.as_ref(), settings.from).context("cannot use smtp_url")?;
        let wake = Arc::new(Notify::new());
        let facts = Arc::new(Notify::new());
        let record = RecordCrossing {
            pool: pool.clone(),
            clock: clock.clone(),
            mailer: mailer.clone(),
            dashboard_url: settings.dashboard_url.clone(),
            rules: Rules {
                mails_per_day: settings.tenant_mails_per_day,
                warning_delay: SignedDuration::try_from(settings.warning_delay)
                    .context("warning_delay is too long")?,
            },
            wake: wake.clone(),
        };
        let gatherer = Gatherer {
            pool: pool.clone(),
            clock: clock.clone(),
            failing_after: settings.operator_failing_after,
            wake: facts.clone(),
        };
        let seal = Seal {
            pool: pool.clone(),
            clock: clock.clone(),
            mailer: mailer.clone(),
            recipients: settings.operator_recipients,
            language: settings.operator_language,
            dashboard_url: settings.dashboard_url,
            wake: facts,
            mails: wake.clone(),
        };
        let retention = Retention { pool: pool.clone(), clock: clock.clone() };
        let deliver = Deliver { pool: pool.clone(), clock: clock.clone(), mailer, wake };
        let readers = Readers { bus, clock, tasks: tasks.clone() };
        readers.start("catalog", Consumer::ALERTS_CATALOG, Mirror::new(pool, Arc::new(())));
        readers.start("thresholds", Consumer::ALERTS_THRESHOLDS, record);
        readers.start("gaps", Consumer::ALERTS_GAPS, Gather::<v1::SourceGap>::new(gatherer.clone()));
        readers.start("dead letters", Consumer::ALERTS_DEAD, Gather::<v1::DeadLetter>::new(gatherer.clone()));
        readers.start("billing", Consumer::ALERTS_BILLING, Gather::<v1::BillingEvent>::new(gatherer.clone()));
        readers.start("loops", Consumer::ALERTS_LOOPS, Gather::<v1::AdmissionEvent>::new(gatherer.clone()));
        let contradictions = Gather::<v1::SourceContradicted>::new(gatherer.clone());
        readers.start("contradictions", Consumer::ALERTS_CONTRADICTIONS, contradictions);
        readers.start("failing", Consumer::ALERTS_FAILING, GatherFailing(gatherer.clone()));
        readers.start("synced", Consumer::ALERTS_SYNCED, GatherSynced(gatherer));
        tasks.spawn(seal.run(tasks.shutdown()));
        tasks.spawn(deliver.run(tasks.shutdown()));
        tasks.spawn(retention.run(tasks.shutdown()));
        Ok(())
    }
}

/// Starts consume loops.
struct Readers {
    bus: Bus,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

impl Readers {
    fn start<H: Handler>(&self, name: &'static str, consumer: Consumer, handler: H) {
        let (bus, clock) = (self.bus.clone(), self.clock.clone());
        let reading = consume::run(bus, clock, consumer, Arc::new(handler), self.tasks.shutdown());
        self.tasks.spawn_fallible(name, reading);
    }
}
