//! From the command line to a running service, and to its end.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use async_trait::async_trait;
use clap::Parser;
use messaging::{Bus, BusConfig, ConnectError, StreamError, Waits};
use proto::Namespace;
use serde::de::DeserializeOwned;
use sqlx::{PgPool, migrate::Migrator};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Context, DatabaseError, Tasks, Warnings, clock, database, keepalive,
    ops::{self, Readiness},
    settings::{self, CommonSettings, DatabaseSettings, TelemetrySettings, Validate},
    telemetry::Telemetry,
};

/// A service: its settings, its tables and how it starts.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Its name, also of its section, its schema, its metrics and its user on the broker.
    const NAME: &'static str;

    /// Its own section of the configuration.
    type Settings: DeserializeOwned + Validate + Send;

    /// All tables it needs; versions must not collide.
    fn migrators() -> Vec<&'static Migrator>;

    /// Starts its loops on `context.tasks` and returns; an error ends the process. It waits for dependencies
    /// with `context.bus.waits()`, so that `/readyz` names them.
    async fn start(context: Context, settings: Self::Settings) -> anyhow::Result<()>;

    /// Runs a task instead of the service, and returns when it is done: manual work that needs the service's
    /// database and may run beside it. By default a service has none.
    async fn perform(task: &str, _context: Context) -> anyhow::Result<()> {
        anyhow::bail!("{} has no task {task:?}", Self::NAME)
    }
}

#[derive(Parser)]
#[command(version, about = "A service of Flowmeter")]
struct Arguments {
    /// Configuration file (TOML); FLOWMETER_CONFIG if it is not given. Environment variables such as
    /// FLOWMETER__NATS__URL override it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Checks the configuration and exits.
    #[arg(long)]
    check_config: bool,
    /// A task to run instead of the service: `migrate` brings the schema up to date; `rebuild` of the aggregator.
    task: Option<String>,
}

/// The task that every service has: it brings the schema up to date and ends. It needs only the settings of the database, and may run
/// beside services and other migrations.
const MIGRATE: &str = "migrate";

/// The configuration file, if the command line names none.
const CONFIG_VARIABLE: &str = "FLOWMETER_CONFIG";

impl Arguments {
    /// An empty variable counts as unset: that is how an unset one looks in a compose file.
    fn config(&self) -> Option<PathBuf> {
        let named = || env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(named)
    }
}

/// The `main` of every service.
pub fn run<S: Service>() -> ExitCode {
    let arguments = Arguments::parse();
    match start::<S>(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // Telemetry may not be up; a person is looking at the terminal.
            eprintln!("{}: {error:#}", S::NAME);
            ExitCode::FAILURE
        }
    }
}

fn start<S: Service>(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.task.as_deref() == Some(MIGRATE) && !arguments.check_config {
        let (database, telemetry) = settings::load_for_migration(arguments.config().as_deref())?;
        return run_in::<S>(&telemetry, async |_| migrate::<S>(&database).await);
    }
    let (common, own) = settings::load::<S::Settings>(S::NAME, arguments.config().as_deref())?;
    if arguments.check_config {
        println!("{}: the configuration is valid", S::NAME);
        return Ok(ExitCode::SUCCESS);
    }
    run_in::<S>(&common.telemetry, async |telemetry| match &arguments.task {
        Some(task) => perform::<S>(&common, task).await,
        None => serve::<S>(&common, own, telemetry).await,
    })
}

/// Runs `work` with telemetry, which is flushed also if it fails.
fn run_in<S: Service>(
    settings: &TelemetrySettings,
    work: impl AsyncFnOnce(&Telemetry) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    // Fails only if one is installed already, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let telemetry = Telemetry::start(S::NAME, settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let outcome = runtime.block_on(work(&telemetry));
    if let Err(error) = &outcome {
        tracing::error!(error = format!("{error:#}"), "stopped by an error");
    }
    drop(runtime);
    telemetry.flush();
    outcome
}

/// Opens the service's dependencies, without retries: for a task that a person starts and watches.
async fn open<S: Service>(common: &CommonSettings) -> anyhow::Result<Context> {
    let tasks = Tasks::default();
    let clock = clock::start(common.clock.follow.as_ref(), &tasks).await?;
    let pool = database::open(S::NAME, &common.database, &S::migrators()).await?;
    let bus = Bus::connect(S::NAME, Namespace::parse(&common.namespace)?, &bus_config(common)).await?;
    let bus = bus.with_patience(common.nats.patience);
    bus.ensure_streams().await?;
    Ok(Context { clock, pool, bus, tasks, warnings: Warnings::default() })
}

/// The same, waiting for what is unavailable. `None` if the service is stopped meanwhile; an error if the
/// configuration has to be changed.
async fn await_all<S: Service>(
    common: &CommonSettings,
    tasks: Tasks,
    readiness: &Readiness,
) -> anyhow::Result<Option<Context>> {
    let waits = readiness.waits();
    let shutdown = tasks.shutdown();
    let follow = common.clock.follow.as_ref();
    let clock = waits.until("the simulated clock", &shutdown, |_| false, || clock::start(follow, &tasks));
    let Some(clock) = clock.await? else { return Ok(None) };
    let migrators = S::migrators();
    let open = || database::open(S::NAME, &common.database, &migrators);
    let pool = waits.until("the database", &shutdown, DatabaseError::is_final, open).await?;
    let Some(pool) = pool else { return Ok(None) };
    tasks.spawn(keepalive::keep(pool.connect_options().get_port(), tasks.shutdown()));
    let (namespace, config) = (Namespace::parse(&common.namespace)?, bus_config(common));
    let connect = || Bus::connect(S::NAME, namespace.clone(), &config);
    let bus = waits.until("the broker", &shutdown, ConnectError::is_final, connect).await?;
    let Some(bus) = bus else { return Ok(None) };
    let bus = bus.with_patience(common.nats.patience).with_waits(waits.clone());
    tasks.spawn(bus.clone().leave_isolated_brokers(tasks.shutdown()));
    let ensure = || bus.ensure_streams();
    let streams = waits.until("the broker's streams", &shutdown, StreamError::is_final, ensure).await?;
    let warnings = readiness.warnings().clone();
    Ok(streams.map(|()| Context { clock, pool, bus, tasks, warnings }))
}

/// The task `migrate`. Waits for a database that is unavailable, and for processes that a migration needs stopped.
async fn migrate<S: Service>(database: &DatabaseSettings) -> anyhow::Result<ExitCode> {
    let (tasks, waits) = (Tasks::default(), Waits::default());
    end_on_signal(&tasks)?;
    let (shutdown, migrators) = (tasks.shutdown(), S::migrators());
    let migrate = || database::migrate(S::NAME, database, &migrators);
    let applied = waits.until("the database", &shutdown, DatabaseError::is_final, migrate).await?;
    tasks.stop().await;
    let Some(applied) = applied else {
        anyhow::bail!("stopped before the schema {} was up to date", S::NAME)
    };
    tracing::info!(schema = S::NAME, applied, "the schema is up to date");
    Ok(ExitCode::SUCCESS)
}

async fn perform<S: Service>(common: &CommonSettings, task: &str) -> anyhow::Result<ExitCode> {
    let context = open::<S>(common).await?;
    let Context { pool, tasks, .. } = context.clone();
    let outcome = S::perform(task, context).await;
    tasks.stop().await;
    pool.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve<S: Service>(
    common: &CommonSettings,
    own: S::Settings,
    telemetry: &Telemetry,
) -> anyhow::Result<ExitCode> {
    let (tasks, readiness) = (Tasks::default(), Readiness::default());
    end_on_signal(&tasks)?;
    // First: a service that waits is alive, and says what it waits for.
    ops::start(common.ops.listen, readiness.clone(), telemetry.metrics.clone(), &tasks).await?;
    let started = start_when_ready::<S>(common, own, &tasks, &readiness).await;
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            tasks.stop().await;
            return Err(error);
        }
    };
    tasks.shutdown().cancelled().await;
    tracing::info!(service = S::NAME, "stopping");
    tasks.stop().await;
    if let Some(pool) = running {
        pool.close().await;
    }
    Ok(if tasks.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Starts the service once its dependencies are available. `None` if it is stopped before.
async fn start_when_ready<S: Service>(
    common: &CommonSettings,
    own: S::Settings,
    tasks: &Tasks,
    readiness: &Readiness,
) -> anyhow::Result<Option<PgPool>> {
    let Some(context) = await_all::<S>(common, tasks.clone(), readiness).await? else {
        return Ok(None);
    };
    let Context { pool, bus, .. } = context.clone();
    S::start(context, own).await?;
    tasks.spawn(bus.clone().keep_streams(tasks.shutdown()));
    readiness.started(pool.clone(), bus);
    tracing::info!(service = S::NAME, ops = %common.ops.listen, "started");
    Ok(Some(pool))
}

fn bus_config(common: &CommonSettings) -> BusConfig {
    BusConfig {
        url: common.nats.url.clone(),
        user: common.nats.user.clone(),
        password: common.nats.password.clone(),
        capacity: common.nats.capacity(),
    }
}

/// SIGTERM and SIGINT end the service, also while it waits for its dependencies.
fn end_on_signal(tasks: &Tasks) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let shutdown = tasks.shutdown();
    tasks.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = shutdown.cancelled() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}
