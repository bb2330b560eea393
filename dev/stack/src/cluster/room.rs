//! A private network inside this machine. The task runs itself again in namespaces of its own (network, mounts, processes).
//! The kernel removes them, with every bridge and process in them, when that run ends, however it ends.

use std::{
    env,
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{self, Signal},
    unistd::{self, Pid},
};

use crate::{
    Interrupt,
    install::{apt_install, on_path, run_quietly},
    memory,
};

/// Set in the run that is inside.
const INSIDE: &str = "FLOWMETER_ROOM";

/// The bridge that connects the hosts, and our own address on it.
const BRIDGE: &str = "flowmeter";
const OURS: &str = "10.77.0.1/24";

/// Interval for checking whether the run inside has ended, or Ctrl-C was pressed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The programs of a room, and the Debian packages that have them.
const TOOLS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];

/// What [`enter`] has done.
#[derive(Debug)]
pub enum Entered {
    /// This run is inside: go on.
    Inside(Room),
    /// The run inside has ended: end with its exit code.
    Ended(ExitCode),
    /// This machine does not let us make namespaces, for this reason.
    Impossible(String),
}

/// Runs this program again, with the same arguments, in a room. Install what needs the internet before: there is none
/// inside.
pub fn enter() -> Result<Entered> {
    if env::var_os(INSIDE).is_some() {
        return Room::furnish().map(Entered::Inside);
    }
    if !cfg!(target_os = "linux") {
        return Ok(Entered::Impossible("network namespaces need Linux".to_owned()));
    }
    if !unistd::geteuid().is_root() {
        return Ok(Entered::Impossible(
            "only root may make network namespaces: run it as root, e.g. in a virtual machine".to_owned(),
        ));
    }
    for (tool, package) in TOOLS {
        if on_path(tool).is_none()
            && let Err(error) = apt_install(package)
        {
            return Ok(Entered::Impossible(format!(
                "`{tool}` of the package {package} is missing: {error:#}"
            )));
        }
    }
    let try_all = "ip link add name probe type bridge && mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add probe";
    if let Err(error) = run_quietly(room_for("sh").args(["-c", try_all])) {
        return Ok(Entered::Impossible(format!(
            "this machine does not let us make network namespaces: {error:#}"
        )));
    }
    wait_outside().map(Entered::Ended)
}

/// A command in namespaces of its own. If we die, however that happens, the kernel kills all of it.
fn room_for(program: impl Into<OsString>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "--"])
        .arg(program.into())
        // Ctrl-C in the terminal reaches only us, and we pass it on once.
        .process_group(0);
    command
}

fn wait_outside() -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let ourselves = env::current_exe().context("cannot find the path of this program")?;
    let mut room = room_for(ourselves)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .spawn()
        .context("cannot start unshare")?;
    let mut passed_on = false;
    loop {
        if let Some(status) = room.try_wait().context("cannot read the state of the room")? {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        if interrupt.asked() && !passed_on {
            passed_on = true;
            for inside in memory::children(room.id()) {
                let _ = signal::kill(Pid::from_raw(i32::try_from(inside)?), Signal::SIGTERM);
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The network inside: a bridge with hosts.
#[derive(Debug)]
pub struct Room(());

impl Room {
    fn furnish() -> Result<Self> {
        // `ip netns` keeps its names here. Ours is not seen from outside.
        run_quietly(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
        fs::create_dir_all("/run/netns").context("cannot create /run/netns")?;
        ip("link set lo up")?;
        ip(&format!("link add name {BRIDGE} type bridge"))?;
        ip(&format!("address add {OURS} dev {BRIDGE}"))?;
        ip(&format!("link set {BRIDGE} up"))?;
        Ok(Self(()))
    }

    /// Adds a host: a namespace with one address on the bridge.
    pub fn host(&self, name: &str, number: u8) -> Result<Host> {
        let host = Host { name: name.to_owned(), address: Self::address(number) };
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {} type veth peer name eth0 netns {name}", host.plug()))?;
        ip(&format!("link set {} master {BRIDGE} up", host.plug()))?;
        ip(&format!("-n {name} address add {}/24 dev eth0", host.address))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        Ok(host)
    }

    /// An address of the room.
    pub fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, number)
    }

    /// Gives an address to one host and takes it from another, as an operator points its Service to another pod.
    pub fn move_address(&self, address: Ipv4Addr, from: Option<&Host>, to: &Host) -> Result<()> {
        if let Some(from) = from {
            ip(&format!("-n {} address del {address}/32 dev eth0", from.name))?;
        }
        ip(&format!("-n {} address add {address}/32 dev eth0", to.name))?;
        // Otherwise we would send to the former host until the entry expires.
        ip(&format!("neighbour flush to {address}"))
    }
}

/// A host of a room.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
}

impl Host {
    /// Its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Takes it off the network: nobody reaches it, nobody is refused, and nobody is notified.
    pub fn unplug(&self) -> Result<()> {
        ip(&format!("link set {} down", self.plug()))
    }

    /// Puts it back.
    pub fn replug(&self) -> Result<()> {
        ip(&format!("link set {} up", self.plug()))
    }

    /// Drops what it sends to these hosts; everybody else still reaches it.
    pub fn shun(&self, others: &[Ipv4Addr]) -> Result<()> {
        others.iter().try_for_each(|other| ip(&format!("-n {} route add blackhole {other}/32", self.name)))
    }

    /// Ends [`Host::shun`].
    pub fn unshun(&self, others: &[Ipv4Addr]) -> Result<()> {
        others.iter().try_for_each(|other| ip(&format!("-n {} route del blackhole {other}/32", self.name)))
    }

    /// Our end of its cable.
    fn plug(&self) -> String {
        format!("to-{}", self.name)
    }
}

fn ip(words: &str) -> Result<()> {
    run_quietly(Command::new("ip").args(words.split(' '))).with_context(|| format!("ip {words}"))
}
