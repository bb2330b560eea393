//! The service: a list of what runs.

use std::sync::Arc;

use async_trait::async_trait;
use chassis::{Context, Service};
use messaging::{consume, outbox};
use proto::consumers::Consumer;
use sqlx::migrate::Migrator;

use crate::{
    MIGRATOR, Settings,
    catalog_changes::{self, CatalogChanges},
    confirm_periods::Confirmer,
    ledger::Rules,
    record_usage::{Books, RecordPeriod, RecordUsage},
    retention::Retention,
    seal_reports::Sealer,
    send_reports::Sender,
    store::pauses,
    stripe::Stripe,
};

/// The billing service.
pub struct Billing;

#[async_trait]
impl Service for Billing {
    const NAME: &'static str = "billing";

    type Settings = Settings;

    fn migrators() -> Vec<&'static Migrator> {
        vec![&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR]
    }

    async fn start(context: Context, settings: Settings) -> anyhow::Result<()> {
        let rules = Rules {
            report_interval: settings.report_interval,
            seal_delay: settings.seal_delay,
            invoice_grace: settings.invoice_grace,
        };
        // Waits for a database that becomes unavailable in the middle of a start, as for one that is
        // unavailable before it.
        let (waits, shutdown) = (context.bus.waits(), context.tasks.shutdown());
        let catch_up = || catalog_changes::catch_up(&context.pool, context.clock.now());
        if waits.until("the database (destinations)", &shutdown, |_| false, catch_up).await?.is_none() {
            return Ok(());
        }
        record(&context, rules);
        let Some(key) = &settings.stripe_key else {
            tracing::warn!("billing.stripe_key is not set: usage is recorded, nothing is reported to Stripe");
            return Ok(());
        };
        let stripe = Stripe::new(key, settings.stripe_url.as_ref(), settings.request_timeout)?;
        report(&context, &settings, rules, Arc::new(stripe)).await
    }
}

/// Keeps the books.
fn record(context: &Context, rules: Rules) {
    let Context { clock, pool, bus, tasks, .. } = context;
    let books = Books { pool: pool.clone(), clock: clock.clone(), rules };
    let usage = Arc::new(RecordUsage(books.clone()));
    let periods = Arc::new(RecordPeriod(books));
    let changes = Arc::new(CatalogChanges { clock: clock.clone() });
    let catalog = Arc::new(catalog::Mirror::new(pool.clone(), changes));
    tasks.spawn_fallible(
        "catalog",
        consume::run(bus.clone(), clock.clone(), Consumer::BILLING_CATALOG, catalog, tasks.shutdown()),
    );
    tasks.spawn_fallible(
        "usage",
        consume::run(bus.clone(), clock.clone(), Consumer::BILLING_USAGE, usage, tasks.shutdown()),
    );
    tasks.spawn_fallible(
        "periods",
        consume::run(bus.clone(), clock.clone(), Consumer::BILLING_PERIODS, periods, tasks.shutdown()),
    );
    tasks.spawn(outbox::relay(pool.clone(), bus.clone(), tasks.shutdown()));
    let retention = Retention { pool: pool.clone(), clock: clock.clone() };
    tasks.spawn(retention.run(tasks.shutdown()));
}

/// Reports to Stripe.
async fn report(
    context: &Context,
    settings: &Settings,
    rules: Rules,
    stripe: Arc<Stripe>,
) -> anyhow::Result<()> {
    let Context { clock, pool, bus, tasks, .. } = context;
    let end_pauses = || pauses::end_all(pool);
    let what = "the database (pauses)";
    if bus.waits().until(what, &tasks.shutdown(), |_| false, end_pauses).await?.is_none() {
        return Ok(());
    }
    let sealer = Sealer {
        pool: pool.clone(),
        clock: clock.clone(),
        namespace: bus.namespace().clone(),
        rules,
        environment: settings.environment.clone(),
    };
    let sender = Sender {
        pool: pool.clone(),
        clock: clock.clone(),
        namespace: bus.namespace().clone(),
        stripe: stripe.clone(),
    };
    let confirmer =
        Confirmer { pool: pool.clone(), clock: clock.clone(), namespace: bus.namespace().clone(), stripe };
    tasks.spawn(sealer.run(tasks.shutdown()));
    tasks.spawn(Arc::new(sender).run(tasks.shutdown()));
    tasks.spawn(confirmer.run(tasks.shutdown()));
    Ok(())
}
