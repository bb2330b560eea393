//! Which n8n a task runs, where it is installed, and its SQLite database. Each task begins with new data: figures of an
//! earlier task would falsify its own.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use stack::{Profile, Project, ports};

use super::{
    RealN8n,
    installation::Installation,
    queue::{Backends, Queue},
};

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
