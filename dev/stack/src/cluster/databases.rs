//! A Postgres with a synchronous standby, each on a host of its own, and one address that always belongs to the primary: it
//! plays the Service that an operator such as CloudNativePG points to the new primary.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::room::{Host, Room};
use crate::{
    Profile, database,
    install::{self, run_quietly},
    postgres::{self, CONNECTIONS_MAX, READY_WITHIN, USER},
    process::{Launch, Process, command_as},
    wait,
};

const PORT: u16 = 5432;

/// The last part of the primary's address, and of the first host's own.
const SERVICE_ADDRESS: u8 = 20;
const FIRST_ADDRESS: u8 = 21;

/// A standby that was just copied has received everything within this time.
const IN_STEP_WITHIN: Duration = Duration::from_secs(60);

/// Whether the standby has everything that was acknowledged.
const IN_STEP: &str =
    "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";

/// The pair.
#[derive(Debug)]
pub struct Databases {
    room: Room,
    bin: PathBuf,
    user: Option<String>,
    /// The primary and the standby.
    primary: Member,
    standby: Member,
}

#[derive(Debug)]
struct Member {
    host: Host,
    data: PathBuf,
    process: Option<Process>,
}

impl Databases {
    /// Creates and starts both.
    pub fn start(profile: &Profile, room: Room) -> Result<Self> {
        let bin = install::postgres()?;
        let user = postgres::server_user()?;
        let member = |number: u8| -> Result<Member> {
            let name = format!("postgres-{number}");
            let host = room.host(&name, FIRST_ADDRESS + number - 1)?;
            let data = postgres::data_folder(profile, &name, user.as_deref())?;
            Ok(Member { host, data, process: None })
        };
        let (primary, standby) = (member(1)?, member(2)?);
        postgres::create(&bin, &primary.data, user.as_deref())?;
        trust_the_room(&primary.data)?;
        room.move_address(service_address(), None, &primary.host)?;
        let mut databases = Self { room, bin, user, primary, standby };
        databases.start_primary(profile)?;
        databases.renew_standby(profile)?;
        Ok(databases)
    }

    /// Where to connect: the primary, whichever that is.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", Self::address())
    }

    /// The primary's address.
    pub fn address() -> SocketAddr {
        SocketAddr::from((service_address(), PORT))
    }

    /// The primary.
    pub fn primary(&mut self) -> Result<&mut Process> {
        self.primary.process.as_mut().context("the primary was not started")
    }

    /// Restarts the primary after a kill, on the same data.
    pub fn restart_primary(&mut self, profile: &Profile) -> Result<()> {
        self.primary()?.stop()?;
        self.start_primary(profile)
    }

    /// Restarts the standby: meanwhile no commit is acknowledged.
    pub fn restart_standby(&mut self, profile: &Profile) -> Result<()> {
        self.standby.process.as_mut().context("the standby was not started")?.stop()?;
        self.start_standby(profile)?;
        self.wait_in_step()
    }

    /// Takes the primary off the network: nobody is refused, nobody is notified.
    pub fn unplug_primary(&self) -> Result<()> {
        self.primary.host.unplug()
    }

    /// Puts the primary back on the network.
    pub fn replug_primary(&self) -> Result<()> {
        self.primary.host.replug()
    }

    /// Stops the primary in order: the standby has received everything when it has ended.
    pub fn stop_primary(&mut self) -> Result<()> {
        self.primary()?.stop()
    }

    /// Makes the standby the primary. The former primary is dead, or off the network: it is fenced first, and cannot
    /// acknowledge a commit without its standby.
    pub fn promote(&mut self) -> Result<()> {
        self.primary()?.kill()?;
        // Otherwise its first commit waits for a standby that does not exist yet.
        let standby_url = at(&self.standby.host, "postgres");
        set_standby_names(&standby_url, "")?;
        database::ask(&standby_url, "SELECT pg_promote(true, 60)")?;
        if database::ask(&standby_url, "SELECT pg_is_in_recovery()")? != "f" {
            bail!("the standby was not promoted");
        }
        self.room.move_address(service_address(), Some(&self.primary.host), &self.standby.host)?;
        std::mem::swap(&mut self.primary, &mut self.standby);
        self.standby.host.replug()
    }

    /// Copies the primary to the other host, as its synchronous standby.
    pub fn renew_standby(&mut self, profile: &Profile) -> Result<()> {
        if let Some(mut process) = self.standby.process.take() {
            process.stop()?;
        }
        for entry in fs::read_dir(&self.standby.data).context("cannot read the standby's folder")? {
            let path = entry?.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        // A server starts on no other permissions, and the copy keeps those of an existing folder.
        fs::set_permissions(&self.standby.data, fs::Permissions::from_mode(0o700))
            .context("cannot set the permissions of the standby's folder")?;
        let mut copy = command_as(self.user.as_deref(), &self.bin.join("pg_basebackup"));
        copy.args(["--write-recovery-conf", "--checkpoint", "fast", "--wal-method", "stream", "--pgdata"])
            .arg(&self.standby.data)
            .args(["--dbname", &at(&self.primary.host, "")])
            .current_dir("/");
        run_quietly(&mut copy).context("cannot copy the primary")?;
        self.start_standby(profile)?;
        set_standby_names(&at(&self.primary.host, "postgres"), "*")?;
        self.wait_in_step()
    }

    /// Stops both.
    pub fn stop(&mut self) -> Result<()> {
        // The primary first: it would wait for its standby.
        let processes = [self.primary.process.take(), self.standby.process.take()];
        processes.into_iter().flatten().try_for_each(|mut process| process.stop())
    }

    /// Waits until the standby has everything that was acknowledged.
    pub fn wait_in_step(&self) -> Result<()> {
        let primary = at(&self.primary.host, "postgres");
        wait::until("the standby to be in step", IN_STEP_WITHIN, || {
            Ok((database::ask(&primary, IN_STEP).is_ok_and(|count| count == "1")).then_some(()))
        })
    }

    fn start_primary(&mut self, profile: &Profile) -> Result<()> {
        let process = self.launch(profile, &self.primary)?;
        self.primary.process = Some(process);
        Ok(())
    }

    fn start_standby(&mut self, profile: &Profile) -> Result<()> {
        let process = self.launch(profile, &self.standby)?;
        self.standby.process = Some(process);
        Ok(())
    }

    fn launch(&self, profile: &Profile, member: &Member) -> Result<Process> {
        postgres::stop_leftover(&member.data)?;
        let launch = Launch {
            args: arguments(&member.data),
            user: self.user.clone(),
            // "Fast" shutdown: open sessions are ended.
            stop_signal: Signal::SIGINT,
            namespace: Some(member.host.name().to_owned()),
            ..Launch::new(member.host.name(), self.bin.join("postgres"))
        };
        let url = at(&member.host, "postgres");
        // A killed server's processes hold its shared memory for a moment, in which a start fails.
        wait::until("a Postgres to start", READY_WITHIN, || {
            let mut process = Process::start(profile, launch.clone())?;
            let ready = process.wait_ready(READY_WITHIN, || database::ask(&url, "SELECT 1").is_ok());
            match ready {
                Ok(()) => Ok(Some(process)),
                Err(_) if process.ended()?.is_some() && member.is_still_in_use(profile) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

impl Member {
    fn is_still_in_use(&self, profile: &Profile) -> bool {
        crate::process::last_lines(&profile.log(self.host.name())).contains("is still in use")
    }
}

/// The address of the primary.
fn service_address() -> Ipv4Addr {
    Room::address(SERVICE_ADDRESS)
}

/// One of the servers, whatever its role.
fn at(host: &Host, database: &str) -> String {
    format!("postgres://{USER}@{}:{PORT}/{database}", host.address())
}

/// `*`: every commit waits for a standby; empty: for none.
fn set_standby_names(url: &str, names: &str) -> Result<()> {
    database::ask(url, &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))?;
    database::ask(url, "SELECT pg_reload_conf()").map(drop)
}

/// The room has no other hosts.
fn trust_the_room(data: &Path) -> Result<()> {
    let path = data.join("pg_hba.conf");
    let mut file = OpenOptions::new().append(true).open(&path).context("cannot open pg_hba.conf")?;
    file.write_all(b"host all all samenet trust\nhost replication all samenet trust\n")
        .context("cannot write pg_hba.conf")
}

fn arguments(data: &Path) -> Vec<String> {
    let settings = [
        format!("port={PORT}"),
        "listen_addresses=*".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS_MAX}"),
        // A standby that was away for some seconds catches up without a new copy.
        "wal_keep_size=256MB".to_owned(),
        "wal_receiver_timeout=5s".to_owned(),
        // Otherwise a copy of a server that was just promoted waits for minutes until its last checkpoint is complete.
        "checkpoint_completion_target=0".to_owned(),
        "wal_sender_timeout=5s".to_owned(),
    ];
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    for setting in settings {
        arguments.extend(["-c".to_owned(), setting]);
    }
    arguments
}
