//! The service: what it runs, and how the parts are wired.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use catalog::Mirror;
use chassis::{Context, Service};
use messaging::consume;
use proto::consumers::Consumer;
use sqlx::migrate::Migrator;
use tokio::sync::Notify;

use crate::{Settings, deliver::Deliver, record::RecordCrossing, smtp::Mailer};

/// The tables of this service.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Tells the tenants' recipients when usage crosses a threshold.
pub struct Alerts;

#[async_trait]
impl Service for Alerts {
    const NAME: &'static str = "alerts";

    type Settings = Settings;

    fn migrators() -> Vec<&'static Migrator> {
        vec![&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR]
    }

    async fn start(context: Context, settings: Settings) -> anyhow::Result<()> {
        let Context { clock, pool, bus, tasks } = context;
        let mailer = Mailer::new(&settings.smtp_url, settings.from).context("cannot use smtp_url")?;
        let wake = Arc::new(Notify::new());
        let record = RecordCrossing {
            pool: pool.clone(),
            clock: clock.clone(),
            mailer: mailer.clone(),
            dashboard_url: settings.dashboard_url,
            wake: wake.clone(),
        };
        let deliver = Deliver { pool: pool.clone(), clock: clock.clone(), mailer, wake };
        let mirror = Mirror::new(pool, Arc::new(()));
        tasks.spawn_fallible(
            "catalog",
            consume::run(
                bus.clone(),
                clock.clone(),
                Consumer::ALERTS_CATALOG,
                Arc::new(mirror),
                tasks.shutdown(),
            ),
        );
        tasks.spawn_fallible(
            "thresholds",
            consume::run(bus, clock, Consumer::ALERTS_THRESHOLDS, Arc::new(record), tasks.shutdown()),
        );
        tasks.spawn(deliver.run(tasks.shutdown()));
        Ok(())
    }
}
