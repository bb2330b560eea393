//! Wires the gateway together.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use catalog::sealing::SealingKey;
use chassis::{Context, Service};
use messaging::{ask, consume, follow::follow, outbox};
use proto::{
    consumers::{Consumer, LiveReader},
    subjects::Question,
};
use rand::{SeedableRng, rngs::StdRng};
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;

use crate::{
    GatewaySettings, MIGRATOR,
    access::access_tokens::AccessTokens,
    admission::{
        admissions::Admissions,
        answer::AnswerAdmissions,
        placements::Placements,
        resweep::{self, Resweeps},
    },
    api::{self, Announcer, App, AppParts, BasePath, Quotas},
    directory::{editor::Editor, restate::Restate, snapshot::Directory},
    measure::Measure,
    purge,
    sources::{audits::AuditView, keep_gaps::KeepGaps, status::SourceView},
    usage::{keep_periods::KeepPeriods, live::UsageView},
};

/// The HTTP face of Flowmeter.
pub struct Gateway;

#[async_trait]
impl Service for Gateway {
    const NAME: &'static str = "gateway";

    type Settings = GatewaySettings;

    fn migrators() -> Vec<&'static Migrator> {
        vec![&messaging::MIGRATOR, &catalog::MIGRATOR, &MIGRATOR]
    }

    async fn start(context: Context, settings: GatewaySettings) -> anyhow::Result<()> {
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!("cannot listen on {} (gateway.listen); is the port taken?", settings.listen)
        })?;
        // Before the first change: its revision must be above those that the other services know.
        let restate = restate_of(&context, Arc::new(Directory::new(context.pool.clone())));
        let (waits, shutdown) = (context.bus.waits().clone(), context.tasks.shutdown());
        let what = "the catalog's comparison with its stream";
        if waits.until(what, &shutdown, |_| false, || restate.once()).await?.is_none() {
            return Ok(());
        }
        start_on(listener, context, settings)
    }
}

/// Starts every loop of the gateway, serving on a port that is open already.
pub fn start_on(listener: TcpListener, context: Context, settings: GatewaySettings) -> anyhow::Result<()> {
    let (resweeps, doubted) = resweep::channel();
    let app = app(&context, &settings, resweeps)?;
    let restate = restate_of(&context, app.directory.clone());
    context.tasks.spawn(restate.run(context.tasks.shutdown()));
    let Context { clock, pool, bus, tasks } = context;
    tasks.spawn(outbox::relay(pool.clone(), bus.clone(), tasks.shutdown()));
    tasks.spawn_fallible(
        "periods",
        consume::run(
            bus.clone(),
            clock.clone(),
            Consumer::GATEWAY_PERIODS,
            Arc::new(KeepPeriods::new(pool.clone())),
            tasks.shutdown(),
        ),
    );
    tasks.spawn_fallible(
        "gaps",
        consume::run(
            bus.clone(),
            clock.clone(),
            Consumer::GATEWAY_GAPS,
            Arc::new(KeepGaps::new(pool.clone(), app.gap_counts.clone())),
            tasks.shutdown(),
        ),
    );
    tasks.spawn(follow(
        bus.clone(),
        LiveReader::GATEWAY_USAGE,
        api::UsageListener(app.clone()),
        tasks.shutdown(),
    ));
    tasks.spawn(follow(
        bus.clone(),
        LiveReader::GATEWAY_SYNCED,
        api::SyncedListener(app.clone()),
        tasks.shutdown(),
    ));
    tasks.spawn(follow(
        bus.clone(),
        LiveReader::GATEWAY_FAILING,
        api::FailingListener(app.clone()),
        tasks.shutdown(),
    ));
    tasks.spawn(follow(
        bus.clone(),
        LiveReader::GATEWAY_AUDITS,
        api::AuditListener(app.clone()),
        tasks.shutdown(),
    ));
    // For changes made by other replicas; this one knows its own at once.
    tasks.spawn(follow(
        bus.clone(),
        LiveReader::GATEWAY_CATALOG,
        api::CatalogListener(app.clone()),
        tasks.shutdown(),
    ));
    tasks.spawn(app.admissions.clone().keep(tasks.shutdown()));
    tasks.spawn(doubted.ask(bus.clone(), tasks.shutdown()));
    let answers = Arc::new(AnswerAdmissions(app.admissions.clone()));
    tasks.spawn(ask::answer(bus.clone(), Question::Admission, answers, tasks.shutdown()));
    tasks.spawn(api::announce(app.clone()));
    tasks.spawn(api::count_gaps(app.clone()));
    let measure = Measure {
        pool: pool.clone(),
        clock: clock.clone(),
        directory: app.directory.clone(),
        usage: app.usage.clone(),
    };
    tasks.spawn(measure.run(tasks.shutdown()));
    tasks.spawn(purge::run(pool, clock, settings.refusals_kept, tasks.shutdown()));
    tasks.spawn_fallible("api", api::serve(listener, app));
    Ok(())
}

fn restate_of(context: &Context, directory: Arc<Directory>) -> Restate {
    let Context { clock, pool, bus, .. } = context.clone();
    Restate { pool, bus, clock, directory }
}

fn app(context: &Context, settings: &GatewaySettings, resweeps: Resweeps) -> anyhow::Result<App> {
    let Context { clock, pool, bus, tasks } = context.clone();
    let directory = Arc::new(Directory::new(pool.clone()));
    let usage = Arc::new(UsageView::default());
    let random = StdRng::from_os_rng();
    Ok(Arc::new(AppParts {
        editor: Editor::new(pool.clone(), clock.clone(), bus.namespace().clone(), directory.clone()),
        admissions: Admissions::new(
            pool.clone(),
            clock.clone(),
            usage.clone(),
            directory.clone(),
            bus.namespace().clone(),
            settings.metering_stale_after,
            resweeps,
        ),
        access_tokens: AccessTokens::new(pool.clone(), clock.clone(), &settings.operator_token, random),
        sealing: SealingKey::parse(&settings.collector_public_key)?,
        base_path: BasePath::of(settings.public_url.as_ref()),
        secure_cookies: settings.public_url.as_ref().is_some_and(|url| url.scheme() == "https"),
        sources: SourceView::default(),
        audits: AuditView::default(),
        gap_counts: Arc::default(),
        placements: Placements::new(bus.clone(), clock.clone()),
        announcer: Announcer::default(),
        quotas: Quotas::default(),
        shutdown: tasks.shutdown(),
        clock,
        pool,
        bus,
        directory,
        usage,
    }))
}
