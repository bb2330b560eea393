//! n8n in queue mode: a main, a worker and a webhook process on Postgres and Redis.

use std::{collections::BTreeMap, process, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use stack::{
    Profile, api, database, ports,
    process::{Launch, Process},
};

use super::installation::Installation;

/// A start with all migrations of an empty database, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(240);

/// n8n's own database on the Postgres of the task.
const DATABASE: &str = "n8n";

/// Settings that are turned off, most of them so that n8n contacts no external service.
const QUIET: [&str; 7] = [
    "N8N_DIAGNOSTICS_ENABLED",
    "N8N_VERSION_NOTIFICATIONS_ENABLED",
    "N8N_TEMPLATES_ENABLED",
    "N8N_PERSONALIZATION_ENABLED",
    "N8N_LICENSE_AUTO_RENEW_ENABLED",
    "N8N_COMMUNITY_PACKAGES_ENABLED",
    "N8N_SECURE_COOKIE",
];

/// The Redis of queue mode.
#[derive(Debug, Clone, Args)]
pub struct RedisInput {
    /// Where Redis listens.
    #[arg(long, default_value = "127.0.0.1:6379")]
    redis: String,
    /// The number of the Redis database.
    #[arg(long, default_value_t = 9)]
    redis_db: u8,
}

/// What the processes of an n8n share.
#[derive(Debug)]
pub struct Backends<'a> {
    /// A URL of any database on the Postgres server; n8n gets an empty one of its own.
    pub postgres_url: &'a str,
    /// The queue.
    pub redis: &'a RedisInput,
}

/// The three processes.
#[derive(Debug)]
pub struct Queue {
    main_port: u16,
    webhook_port: u16,
    // In the order in which they are stopped.
    processes: Vec<Process>,
}

impl Queue {
    /// Starts all three, on an empty database.
    pub fn start(profile: &Profile, installation: &Installation, backends: &Backends<'_>) -> Result<Self> {
        println!("Starting n8n in queue mode");
        let shared = shared_environment(profile, backends)?;
        let (main_port, webhook_port, worker_port) = (ports::free()?, ports::free()?, ports::free()?);
        let start = |command: &str, port: u16, own: &[(&str, String)]| -> Result<Process> {
            let mut launch = Launch::new(&format!("n8n-{command}"), installation.node()?);
            launch.args = vec![installation.n8n().display().to_string(), command.to_owned()];
            launch.env = shared.clone();
            launch.env.extend(installation.environment().iter().cloned());
            launch.env.insert("N8N_RUNNERS_BROKER_PORT".to_owned(), ports::free()?.to_string());
            launch.env.extend(own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            let mut process = Process::start(profile, launch)?;
            let url = format!("{}/healthz/readiness", address(port));
            process.wait_ready(READY_WITHIN, || api::answers_ok(&url))?;
            Ok(process)
        };
        // The first one creates the database.
        let listen =
            |port: u16| [("N8N_PORT", port.to_string()), ("N8N_LISTEN_ADDRESS", "127.0.0.1".to_owned())];
        let main = start("start", main_port, &listen(main_port))?;
        let health = [
            ("QUEUE_HEALTH_CHECK_ACTIVE", "true".to_owned()),
            ("QUEUE_HEALTH_CHECK_PORT", worker_port.to_string()),
            ("N8N_WORKER_SERVER_ADDRESS", "127.0.0.1".to_owned()),
        ];
        let worker = start("worker", worker_port, &health)?;
        let webhook = start("webhook", webhook_port, &listen(webhook_port))?;
        Ok(Self { main_port, webhook_port, processes: vec![webhook, main, worker] })
    }

    /// Where the editor and the API answer.
    pub fn main_url(&self) -> String {
        address(self.main_port)
    }

    /// Where production webhooks answer.
    pub fn webhook_url(&self) -> String {
        address(self.webhook_port)
    }

    /// Stops all three: first the one that accepts work, last the one that does it.
    pub fn stop(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::stop)
    }
}

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn shared_environment(profile: &Profile, backends: &Backends<'_>) -> Result<BTreeMap<String, String>> {
    let url = database::replace(backends.postgres_url, DATABASE)?;
    let server = url.strip_prefix("postgres://").and_then(|rest| rest.split('/').next());
    let (user, host) = server.and_then(|server| server.split_once('@')).context("Postgres has a user")?;
    let (host, port) = host.split_once(':').context("Postgres has a port")?;
    let (redis_host, redis_port) = backends.redis.redis.split_once(':').context("--redis is HOST:PORT")?;
    let redis_db = backends.redis.redis_db.to_string();
    // Its own prefix, so that it does not pick up jobs and webhooks that an earlier task has left.
    let prefix = format!("flowmeter-{}", process::id());
    let folder = profile.folder().join("n8n");
    std::fs::create_dir_all(&folder).context("cannot create n8n's folder")?;
    let folder = folder.display().to_string();
    let settings = [
        ("N8N_USER_FOLDER", folder.as_str()),
        ("N8N_ENCRYPTION_KEY", "end-to-end"),
        ("EXECUTIONS_MODE", "queue"),
        ("DB_TYPE", "postgresdb"),
        ("DB_POSTGRESDB_HOST", host),
        ("DB_POSTGRESDB_PORT", port),
        ("DB_POSTGRESDB_USER", user),
        ("DB_POSTGRESDB_DATABASE", DATABASE),
        ("QUEUE_BULL_REDIS_HOST", redis_host),
        ("QUEUE_BULL_REDIS_PORT", redis_port),
        ("QUEUE_BULL_REDIS_DB", &redis_db),
        ("QUEUE_BULL_PREFIX", &prefix),
        ("N8N_REDIS_KEY_PREFIX", &prefix),
        ("N8N_CACHE_REDIS_KEY_PREFIX", &prefix),
        ("N8N_RUNNERS_ENABLED", "true"),
        ("GENERIC_TIMEZONE", "UTC"),
        ("TZ", "UTC"),
    ];
    let quiet = QUIET.into_iter().map(|name| (name, "false"));
    let settings = settings.into_iter().chain(quiet);
    Ok(settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
