//! A Docker engine of our own.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use stack::{install, process, wait};

use super::{
    docker::{self, Docker, SOCKET},
    stand_ins,
};

/// On a busy machine, with an empty store.
const UP_WITHIN: Duration = Duration::from_secs(60);
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// Our containers' control groups, which are the only thing outside our namespaces.
const GROUPS: &str = "flowmeter-containers";

/// A running engine.
pub struct Engine {
    docker: Docker,
    daemon: Child,
}

/// Puts Compose and the builder where the command line looks for them.
pub fn plug_in(folder: &Path, compose: &Path, builder: impl AsRef<Path>) -> Result<()> {
    let settings = Docker::settings(folder);
    let plugins = settings.join("cli-plugins");
    fs::create_dir_all(&plugins).context("cannot create the folder of plug-ins")?;
    docker::empty_settings(&settings.join("config.json"))?;
    symlink(compose, plugins.join("docker-compose")).context("cannot install Docker Compose")?;
    stand_ins::extract_builder(builder.as_ref(), &plugins.join("docker-buildx"))
}

impl Engine {
    /// Starts it, with its data in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let docker = Docker::new(folder)?;
        let log = folder.join("logs/dockerd.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let settings = folder.join("daemon.json");
        docker::empty_settings(&settings)?;
        let dockerd = install::on_path("dockerd").context("dockerd is missing")?;
        let mut daemon = Command::new(dockerd)
            .arg("--data-root")
            .arg(folder.join("engine"))
            .args(["--exec-root", "/run/engine", "--pidfile", "/run/engine.pid", "--host", SOCKET])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", GROUPS, "--config-file"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log")?)
            .stderr(output)
            .spawn()
            .context("cannot start dockerd")?;
        wait::until("the Docker engine", UP_WITHIN, || {
            if let Some(status) = daemon.try_wait()? {
                bail!("dockerd ended ({status}):\n{}", process::last_lines(&log));
            }
            Ok(docker.try_run(&["info"])?.0.then_some(()))
        })?;
        Ok(Self { docker, daemon })
    }

    /// Its command line.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Stops it and whatever still runs in it.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.daemon.id()).context("a process id is small")?);
        signal::kill(pid, Signal::SIGTERM).context("cannot stop dockerd")?;
        wait::until("dockerd to stop", DOWN_WITHIN, || Ok(self.daemon.try_wait()?.map(drop)))
    }
}

/// Removes our control groups. They are empty once the engine is gone; a kernel without this hierarchy has none.
pub fn remove_groups() {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let folders = hierarchies.map(|entry| entry.path().join(GROUPS));
    for folder in folders.chain([Path::new("/sys/fs/cgroup").join(GROUPS)]) {
        remove_empty(&folder);
    }
}

/// A control group can be removed once those in it are. One that cannot is not ours any more.
fn remove_empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
