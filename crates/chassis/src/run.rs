//! From the command line to a running service, and to its end.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use async_trait::async_trait;
use clap::Parser;
use messaging::{Bus, BusConfig};
use proto::Namespace;
use serde::de::DeserializeOwned;
use sqlx::migrate::Migrator;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Context, Tasks, clock, database, ops,
    settings::{self, CommonSettings, Validate},
    telemetry::Telemetry,
};

/// A service: what it is told, what tables it has, and how it starts.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Its name: of its section, its schema, its metrics, its user on the broker.
    const NAME: &'static str;

    /// Its own section of the configuration.
    type Settings: DeserializeOwned + Validate + Send;

    /// All tables it needs; versions must not collide.
    fn migrators() -> Vec<&'static Migrator>;

    /// Starts its loops on `context.tasks` and returns; an error ends the process.
    async fn start(context: Context, settings: Self::Settings) -> anyhow::Result<()>;

    /// Runs a task instead of the service, and returns when it is done: work by hand that needs the service's database
    /// and may go on beside it. A service has none unless it says so.
    async fn perform(task: &str, _context: Context) -> anyhow::Result<()> {
        anyhow::bail!("{} has no task {task:?}", Self::NAME)
    }
}

#[derive(Parser)]
#[command(version, about = "A service of Flowmeter")]
struct Arguments {
    /// Configuration file (TOML). Environment variables such as FLOWMETER__NATS__URL override it.
    #[arg(long, env = "FLOWMETER_CONFIG")]
    config: Option<PathBuf>,
    /// Checks the configuration and exits.
    #[arg(long)]
    check_config: bool,
    /// A task to run instead of the service, e.g. `rebuild` of the aggregator.
    task: Option<String>,
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
    let (common, own) = settings::load::<S::Settings>(S::NAME, arguments.config.as_deref())?;
    if arguments.check_config {
        println!("{}: the configuration is valid", S::NAME);
        return Ok(ExitCode::SUCCESS);
    }
    // Fails only if one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let telemetry = Telemetry::start(S::NAME, &common.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let outcome = runtime.block_on(async {
        match &arguments.task {
            Some(task) => perform::<S>(&common, task).await,
            None => serve::<S>(&common, own, &telemetry).await,
        }
    });
    if let Err(error) = &outcome {
        tracing::error!(error = format!("{error:#}"), "stopped by an error");
    }
    drop(runtime);
    telemetry.flush();
    outcome
}

async fn open<S: Service>(common: &CommonSettings) -> anyhow::Result<Context> {
    let tasks = Tasks::default();
    let clock = clock::start(common.clock.follow.as_ref(), &tasks).await?;
    let pool = database::open(S::NAME, &common.database, &S::migrators()).await?;
    let bus = Bus::connect(S::NAME, Namespace::parse(&common.namespace)?, &bus_config(common)).await?;
    let bus = bus.with_patience(common.nats.patience);
    bus.ensure_streams().await?;
    Ok(Context { clock, pool, bus, tasks })
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
    let context = open::<S>(common).await?;
    let Context { pool, bus, tasks, .. } = context.clone();
    S::start(context, own).await?;
    ops::start(common.ops.listen, pool.clone(), bus, telemetry.metrics.clone(), &tasks).await?;
    tracing::info!(service = S::NAME, ops = %common.ops.listen, "ready");
    wait_for_end(&tasks).await?;
    tracing::info!(service = S::NAME, "stopping");
    tasks.stop().await;
    pool.close().await;
    Ok(if tasks.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn bus_config(common: &CommonSettings) -> BusConfig {
    BusConfig {
        url: common.nats.url.clone(),
        user: common.nats.user.clone(),
        password: common.nats.password.clone(),
        capacity: common.nats.capacity(),
    }
}

async fn wait_for_end(tasks: &Tasks) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tasks.shutdown().cancelled_owned() => {}
    }
    Ok(())
}
