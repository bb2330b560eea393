//! An installed n8n on this machine, and its SQLite database.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use stack::binaries;

/// The database and the files that SQLite may keep beside it.
const DATABASE: &str = "data/.n8n/database.sqlite";
const DATABASE_PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// One n8n on this machine, running or not.
#[derive(Debug)]
pub struct Installation {
    pub(super) scripts: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) version: String,
    pub(super) port: u16,
    pub(super) environment: Vec<(String, String)>,
}

impl Installation {
    /// The folder with the scripts.
    pub fn scripts(&self) -> &Path {
        &self.scripts
    }

    /// n8n's own settings.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Starts it in main mode on SQLite, always on the same port, installed the first time.
    pub fn start(&self) -> Result<Printed> {
        println!("Starting n8n {} in {}", self.version, self.folder.display());
        let mut script = Command::new("bash");
        script.arg(self.scripts.join("start-n8n.sh")).arg(&self.folder).arg(self.port.to_string());
        script.env("N8N_VERSION", &self.version);
        script.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Printed::by(&mut script)
    }

    /// Stops it.
    pub fn stop(&self) -> Result<()> {
        binaries::run(Command::new("bash").arg(self.scripts.join("stop-n8n.sh")).arg(&self.folder))?;
        Ok(())
    }

    /// Starts and stops it if it is not installed: the scripts install it when they start it.
    pub(super) fn ensure_installed(&self) -> Result<()> {
        let installed = fs::read_to_string(self.folder.join(".installed")).unwrap_or_default();
        if installed.starts_with(&format!("n8n@{} ", self.version)) {
            return Ok(());
        }
        self.start()?;
        self.stop()
    }

    /// Creates the owner, an API key and the workflows in a running n8n. `state` keeps the key.
    pub(super) fn prepare(&self, url: &str, state: &Path) -> Result<Printed> {
        let mut script = Command::new(self.node()?);
        script.arg(self.scripts.join("setup.mjs")).arg(url).arg(state);
        Printed::by(&mut script)
    }

    /// Node, as it was installed with n8n.
    pub fn node(&self) -> Result<PathBuf> {
        let modules = self.folder.join("node/node_modules");
        let packages = fs::read_dir(&modules).with_context(|| format!("no {}", modules.display()))?;
        let mut binaries = packages.filter_map(|package| Some(package.ok()?.path().join("bin/node")));
        binaries.find(|node| node.is_file()).with_context(|| format!("no Node in {}", modules.display()))
    }

    /// n8n's command.
    pub fn n8n(&self) -> PathBuf {
        self.folder.join("app/node_modules/n8n/bin/n8n")
    }

    /// A copy of its database, taken while it does not run.
    pub fn copy_database(&self) -> Result<DatabaseCopy> {
        let copy = DatabaseCopy { folder: self.folder.join("copy") };
        fs::create_dir_all(&copy.folder).context("cannot create the copy's folder")?;
        for part in DATABASE_PARTS {
            replace(&self.database(part), &copy.part(part))?;
        }
        Ok(copy)
    }

    /// Replaces its database with a copy, while it does not run.
    pub fn restore_database(&self, copy: &DatabaseCopy) -> Result<()> {
        DATABASE_PARTS.iter().try_for_each(|part| replace(&copy.part(part), &self.database(part)))
    }

    fn database(&self, part: &str) -> PathBuf {
        self.folder.join(format!("{DATABASE}{part}"))
    }
}

/// A copy of an n8n's database.
#[derive(Debug, Clone)]
pub struct DatabaseCopy {
    folder: PathBuf,
}

impl DatabaseCopy {
    fn part(&self, part: &str) -> PathBuf {
        self.folder.join(format!("database.sqlite{part}"))
    }
}

/// Replaces `to` with a copy of `from`, or removes it if `from` does not exist.
fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_file(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    if from.exists() {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// What a script has printed: `KEY=VALUE` lines.
#[derive(Debug)]
pub struct Printed(BTreeMap<String, String>);

impl Printed {
    pub(super) fn by(script: &mut Command) -> Result<Self> {
        // Not the whole command: its environment may have a token.
        let arguments: Vec<_> = script.get_args().collect();
        let name =
            format!("{} {}", script.get_program().display(), arguments.join(OsStr::new(" ")).display());
        let Output { status, stdout, .. } = script
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {name}"))?;
        if !status.success() {
            bail!("{name} failed ({status})");
        }
        let printed = String::from_utf8_lossy(&stdout).into_owned();
        let pairs = printed.lines().filter_map(|line| line.split_once('='));
        Ok(Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
    }

    /// One value.
    pub fn value(&self, name: &str) -> Result<String> {
        self.0.get(name).cloned().with_context(|| format!("the script printed no {name}"))
    }
}
