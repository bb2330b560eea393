//! A private Postgres: one cluster in the profile's folder, on 127.0.0.1 only.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{sys::signal::Signal, unistd};

use crate::{
    Profile, database,
    install::{self, run_quietly},
    ports,
    process::{Launch, Process, command_as, last_lines, runs},
};

/// The superuser of the cluster; nobody else can reach it (127.0.0.1, and no socket file).
pub(crate) const USER: &str = "flowmeter";

/// Start-up, with crash recovery of a large log.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(60);

/// After a kill, the old server's processes hold its shared memory for a moment, in which a start fails.
const START_ATTEMPTS: u32 = 5;

/// Enough for five services and some tests side by side.
pub(crate) const CONNECTIONS_MAX: u32 = 300;

/// What a cluster's data must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power loss: every commit is on the disk.
    PowerLoss,
    /// A crash of any process, not of the machine: for tests, which create and drop many databases.
    ProcessCrash,
}

/// A running cluster.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    user: Option<String>,
    durability: Durability,
    port: u16,
    process: Process,
}

impl Postgres {
    /// Starts the profile's cluster, created the first time.
    pub fn start(profile: &Profile, durability: Durability) -> Result<Self> {
        let bin = install::postgres()?;
        let user = server_user()?;
        let data = data_folder(profile, "postgres", user.as_deref())?;
        if !data.join("PG_VERSION").exists() {
            create(&bin, &data, user.as_deref())?;
        }
        stop_leftover(&data)?;
        let port = ports::free()?;
        let process = start_server(profile, &bin, &data, user.as_deref(), durability, port)?;
        Ok(Self { bin, data, user, durability, port, process })
    }

    /// Where to connect.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates a database, if it does not exist yet.
    pub fn ensure_database(&self, name: &str) -> Result<()> {
        database::ensure(&self.url("postgres"), name)
    }

    /// The port it listens on, the same across restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it, ending open sessions.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Restarts it after a stop or a kill, on the same port.
    pub fn restart(&mut self, profile: &Profile) -> Result<()> {
        self.stop()?;
        stop_leftover(&self.data)?;
        self.process =
            start_server(profile, &self.bin, &self.data, self.user.as_deref(), self.durability, self.port)?;
        Ok(())
    }
}

/// The system user to run Postgres as: it refuses to run as root.
pub(crate) fn server_user() -> Result<Option<String>> {
    if !unistd::geteuid().is_root() {
        return Ok(None);
    }
    if install::on_path("setpriv").is_none() {
        bail!(
            "Postgres does not run as root, and `setpriv` (util-linux) is missing to start it as another user"
        );
    }
    for name in ["postgres", "nobody"] {
        if unistd::User::from_name(name).context("cannot read the system's users")?.is_some() {
            return Ok(Some(name.to_owned()));
        }
    }
    bail!("Postgres does not run as root, and there is no user `postgres` or `nobody` to run it as")
}

/// A folder in the profile's if the server's user can reach it, else one under /var/tmp.
pub(crate) fn data_folder(profile: &Profile, name: &str, user: Option<&str>) -> Result<PathBuf> {
    let wanted = profile.folder().join(name);
    let Some(user) = user else { return Ok(wanted) };
    if can_use(&wanted, user)? {
        return Ok(wanted);
    }
    // Left empty: the next start must not take it for the cluster.
    let _ = fs::remove_dir(&wanted);
    let elsewhere = profile.data_elsewhere().join(name);
    if !can_use(&elsewhere, user)? {
        bail!("the user `{user}` can use neither {} nor {}", wanted.display(), elsewhere.display());
    }
    Ok(elsewhere)
}

fn can_use(folder: &Path, user: &str) -> Result<bool> {
    let owner = unistd::User::from_name(user).context("cannot read the system's users")?;
    let owner = owner.with_context(|| format!("there is no user `{user}`"))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if !folder.join("PG_VERSION").exists() {
        chown(folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
            .with_context(|| format!("cannot give {} to {user}", folder.display()))?;
    }
    let mut look = command_as(Some(user), Path::new("/bin/ls"));
    look.arg(folder).current_dir("/");
    Ok(run_quietly(&mut look).is_ok())
}

pub(crate) fn create(bin: &Path, data: &Path, user: Option<&str>) -> Result<()> {
    let mut initdb = command_as(user, &bin.join("initdb"));
    initdb
        .args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--pgdata"])
        .arg(data)
        .current_dir("/");
    run_quietly(&mut initdb).context("cannot create the database cluster")
}

fn start_server(
    profile: &Profile,
    bin: &Path,
    data: &Path,
    user: Option<&str>,
    durability: Durability,
    port: u16,
) -> Result<Process> {
    let launch = Launch {
        args: arguments(data, port, durability),
        user: user.map(str::to_owned),
        // "Fast" shutdown: open sessions are ended.
        stop_signal: Signal::SIGINT,
        ..Launch::new("postgres", bin.join("postgres"))
    };
    let ready = || {
        let mut probe = Command::new(bin.join("pg_isready"));
        probe.args(["--quiet", "--host", "127.0.0.1", "--port", &port.to_string()]);
        run_quietly(&mut probe).is_ok()
    };
    for _ in 1..START_ATTEMPTS {
        let mut process = Process::start(profile, launch.clone())?;
        match process.wait_ready(READY_WITHIN, ready) {
            Ok(()) => return Ok(process),
            Err(_) if last_lines(&profile.log("postgres")).contains("is still in use") => {}
            Err(error) => return Err(error),
        }
    }
    let mut process = Process::start(profile, launch)?;
    process.wait_ready(READY_WITHIN, ready)?;
    Ok(process)
}

fn arguments(data: &Path, port: u16, durability: Durability) -> Vec<String> {
    let synced = if durability == Durability::PowerLoss { "on" } else { "off" };
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        // No socket file: its path has a small limit, and its folder would need an owner.
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS_MAX}"),
        format!("fsync={synced}"),
        format!("full_page_writes={synced}"),
    ];
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    for setting in settings {
        arguments.extend(["-c".to_owned(), setting]);
    }
    arguments
}

/// Stops a server that an earlier run has left on this data, and removes a pid file that names no server:
/// Postgres trusts such a file if another program now has its pid.
pub(crate) fn stop_leftover(data: &Path) -> Result<()> {
    let pid_file = data.join("postmaster.pid");
    let Ok(content) = fs::read_to_string(&pid_file) else { return Ok(()) };
    let pid: Option<u32> = content.lines().next().and_then(|line| line.trim().parse().ok());
    let Some(pid) = pid.filter(|pid| runs(*pid, &data.display().to_string())) else {
        return fs::remove_file(&pid_file).context("cannot remove a stale postmaster.pid");
    };
    let raw = unistd::Pid::from_raw(i32::try_from(pid).context("a process id is positive")?);
    nix::sys::signal::kill(raw, Signal::SIGINT).context("cannot stop an earlier Postgres")?;
    crate::wait::until("an earlier Postgres to end", READY_WITHIN, || {
        Ok((!runs(pid, &data.display().to_string())).then_some(()))
    })
}
