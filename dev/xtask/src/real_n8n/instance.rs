//! Which n8n a task runs, where it is installed, and its SQLite database. Each task begins with new data: figures of an
//! earlier task would falsify its own.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use stack::{Profile, Project, ports};

use super::{
    RealN8n,
    queue::{Backends, Queue},
};
use crate::binaries;

/// The database and the files that SQLite may keep beside it.
const DATABASE: &str = "data/.n8n/database.sqlite";
const DATABASE_PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// Which n8n, and where it is installed.
#[derive(Debug, Clone, Args)]
pub struct Instance {
    /// The folder with tools/n8n/start-n8n.sh.
    #[arg(long, default_value = "../shared")]
    shared: PathBuf,
    /// n8n's version on npm.
    #[arg(long, default_value = "2.40.7")]
    n8n_version: String,
    /// Where it is installed the first time, which takes minutes [default: .flowmeter/n8n-VERSION].
    #[arg(long)]
    n8n: Option<PathBuf>,
}

impl Instance {
    /// Starts it in main mode, with these settings of n8n's own.
    pub fn start(&self, profile: &Profile, environment: &[(&str, String)]) -> Result<RealN8n> {
        RealN8n::main(self.fresh(profile, environment)?)
    }

    /// Starts it in queue mode: a main, a worker and a webhook process, each with these settings.
    pub fn start_queue(
        &self,
        profile: &Profile,
        backends: &Backends,
        environment: &[(&str, String)],
    ) -> Result<RealN8n> {
        let installation = self.fresh(profile, environment)?;
        let queue = Queue::start(profile, &installation, backends)?;
        let printed = installation.prepare(&queue.main_url(), profile.folder())?;
        RealN8n::queue(queue, installation.scripts, &printed)
    }

    /// Whether a run that a hook refuses leaves no execution, and its caller gets the refusal's status: from 2.40 on.
    pub fn refuses_cleanly(&self) -> bool {
        let mut parts = self.n8n_version.split('.').map_while(|part| part.parse::<u32>().ok());
        (parts.next(), parts.next()) >= (Some(2), Some(40))
    }

    /// The folder with the scripts.
    pub fn scripts(&self, project: &Project) -> PathBuf {
        project.root().join(&self.shared).join("tools/n8n")
    }

    /// An instance without data in the profile's folder, which shares the installed files.
    fn fresh(&self, profile: &Profile, environment: &[(&str, String)]) -> Result<Installation> {
        let project = profile.project();
        let scripts = self.scripts(project);
        if !scripts.join("start-n8n.sh").is_file() {
            bail!("{} has no start-n8n.sh: name the folder with `--shared`", scripts.display());
        }
        let usual = || project.folder().join(format!("n8n-{}", self.n8n_version));
        let installed =
            self.in_folder(scripts.clone(), self.n8n.clone().unwrap_or_else(usual), environment)?;
        installed.ensure_installed()?;
        let fresh = self.in_folder(scripts, profile.folder().join("n8n"), environment)?;
        fs::create_dir_all(&fresh.folder).context("cannot create n8n's folder")?;
        let source = fs::canonicalize(&installed.folder).context("n8n was not installed")?;
        for shared in ["node", "app", ".installed"] {
            symlink(source.join(shared), fresh.folder.join(shared)).context("cannot share n8n's files")?;
        }
        Ok(fresh)
    }

    fn in_folder(
        &self,
        scripts: PathBuf,
        folder: PathBuf,
        environment: &[(&str, String)],
    ) -> Result<Installation> {
        // n8n does not start if a module is named that it does not have.
        let needless = if self.n8n_version.starts_with("1.") { "insights" } else { "mcp-registry" };
        let modules = ("N8N_DISABLED_MODULES".to_owned(), needless.to_owned());
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Ok(Installation {
            scripts,
            folder,
            version: self.n8n_version.clone(),
            port: ports::free()?,
            environment: environment.chain([modules]).collect(),
        })
    }
}

/// One n8n on this machine, running or not.
#[derive(Debug)]
pub struct Installation {
    scripts: PathBuf,
    folder: PathBuf,
    version: String,
    port: u16,
    environment: Vec<(String, String)>,
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
    fn ensure_installed(&self) -> Result<()> {
        let installed = fs::read_to_string(self.folder.join(".installed")).unwrap_or_default();
        if installed.starts_with(&format!("n8n@{} ", self.version)) {
            return Ok(());
        }
        self.start()?;
        self.stop()
    }

    /// Creates the owner, an API key and the workflows in a running n8n. `state` keeps the key.
    fn prepare(&self, url: &str, state: &Path) -> Result<Printed> {
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
    fn by(script: &mut Command) -> Result<Self> {
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
