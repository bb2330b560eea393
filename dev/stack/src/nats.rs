//! A private NATS with JetStream: its store in the profile's folder, on 127.0.0.1 only, with the users and
//! permissions of production and one more unrestricted user.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    Api, Profile,
    install::{self, NatsServer},
    keys, ports,
    process::{Launch, Process},
    project::write_private,
    wait,
};

/// The exact rules of production.
pub(crate) const PERMISSIONS: &str = include_str!("../../../deploy/nats/permissions.conf");

/// Users with permissions of their own.
pub const USERS: [&str; 6] = ["collector", "aggregator", "billing", "alerts", "gateway", "operator"];

/// The user who may do everything. Tests need it: each has its own namespace, and the rules name `flowmeter`.
pub const ADMIN: &str = "admin";

/// Start-up with recovery of a large store.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running broker.
#[derive(Debug)]
pub struct Nats {
    configuration: PathBuf,
    launch: Launch,
    port: u16,
    health_port: u16,
    passwords: BTreeMap<&'static str, String>,
    process: Process,
}

impl Nats {
    /// Starts the profile's broker.
    pub fn start(profile: &Profile) -> Result<Self> {
        let server = install::nats(profile.project())?;
        Self::start_server(profile, &server)
    }

    fn start_server(profile: &Profile, server: &NatsServer) -> Result<Self> {
        let folder = profile.folder().join("nats");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let (port, health_port) = (ports::free()?, ports::free()?);
        write_private(&folder.join("permissions.conf"), PERMISSIONS)?;
        let configuration = folder.join("nats.conf");
        write_private(&configuration, &configure(&folder, server, port, health_port))?;
        let passwords = passwords(profile)?;
        let launch = Launch {
            args: vec!["-c".to_owned(), configuration.display().to_string()],
            env: passwords.iter().map(|(user, password)| (variable(user), password.clone())).collect(),
            ..Launch::new("nats", &server.program)
        };
        let process = start_ready(profile, &launch, health_port)?;
        Ok(Self { configuration, launch, port, health_port, passwords, process })
    }

    /// Where to connect, without a user.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where to connect as this user.
    pub fn url_of(&self, user: &str) -> String {
        format!("nats://{user}:{}@127.0.0.1:{}", self.password(user), self.port)
    }

    /// The password of one of the users.
    pub fn password(&self, user: &str) -> &str {
        self.passwords.get(user).map_or("", String::as_str)
    }

    /// Adds users to its configuration and reloads it, as an operator does. `users` are elements of its list.
    pub fn add_users(&mut self, users: &str) -> Result<()> {
        let (path, last) = (&self.configuration, format!("    {{ user: {ADMIN},"));
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, after) = text.split_once(&last).context("the configuration has no administrator")?;
        write_private(path, &format!("{before}{users}\n{last}{after}"))?;
        let loaded_at = self.loaded_at()?;
        self.process.reload()?;
        wait::until("the broker to reload its users", READY_WITHIN, || {
            Ok((self.loaded_at()? != loaded_at).then_some(()))
        })
    }

    /// When it has read its configuration.
    fn loaded_at(&self) -> Result<Value> {
        let about = Api::new(&format!("http://127.0.0.1:{}", self.health_port)).get("/varz")?;
        about
            .get("config_load_time")
            .cloned()
            .context("the broker does not say when it read its configuration")
    }

    /// The port it listens on, the same across restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Restarts it after a stop or a kill, on the same port.
    pub fn restart(&mut self, profile: &Profile) -> Result<()> {
        self.stop()?;
        self.process = start_ready(profile, &self.launch, self.health_port)?;
        Ok(())
    }

    /// Restarts it without any of its data, on the same port: a broker that was recreated.
    pub fn restart_empty(&mut self, profile: &Profile) -> Result<()> {
        self.stop()?;
        let store = profile.folder().join("nats").join("store");
        fs::remove_dir_all(&store).with_context(|| format!("cannot remove {}", store.display()))?;
        self.restart(profile)
    }
}

fn start_ready(profile: &Profile, launch: &Launch, health_port: u16) -> Result<Process> {
    let mut process = Process::start(profile, launch.clone())?;
    let health = format!("http://127.0.0.1:{health_port}/healthz");
    process.wait_ready(READY_WITHIN, || crate::api::answers_ok(&health))?;
    Ok(process)
}

/// The password of each user.
pub(crate) fn passwords(profile: &Profile) -> Result<BTreeMap<&'static str, String>> {
    USERS
        .into_iter()
        .chain([ADMIN])
        .map(|user| {
            let file = format!("nats-{user}");
            Ok((user, profile.secret(&file, || keys::random_token("nats"))?))
        })
        .collect()
}

/// The variable from which a broker reads a user's password.
pub(crate) fn variable(user: &str) -> String {
    format!("NATS_{}_PASSWORD", user.to_ascii_uppercase())
}

fn configure(folder: &Path, server: &NatsServer, port: u16, health_port: u16) -> String {
    let sync = if server.version.syncs_always() { "sync_interval: always" } else { "" };
    format!(
        r#"# Written at each start.
server_name: flowmeter_private
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{health_port}"
max_payload: 8MB
jetstream {{
  store_dir: "{store}"
  # Streams reserve their maximum size, and each test has all of them: together they exceed the disk.
  max_file_store: 8TB
  {sync}
}}
{authorization}"#,
        store = folder.join("store").display(),
        authorization = authorization(),
    )
}

/// The part of a broker's configuration that names the users. The rules are in a file beside it.
pub(crate) fn authorization() -> String {
    let users: String = USERS
        .iter()
        .map(|user| {
            let permissions = user.to_ascii_uppercase();
            format!("    {{ user: {user}, password: ${}, permissions: ${permissions} }}\n", variable(user))
        })
        .collect();
    format!(
        r#"authorization {{
  include ./permissions.conf
  users = [
{users}    {{ user: {ADMIN}, password: ${admin} }}
  ]
}}
"#,
        admin = variable(ADMIN),
    )
}
