//! The Docker command line, pointed at our own engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use stack::install;

/// In the /run of our mount namespace.
pub const SOCKET: &str = "unix:///run/docker.sock";

/// Lines of each container's log that are shown after a failure.
const LAST_LINES: &str = "15";

/// A command line without anything of the caller's environment, as on a new machine.
#[derive(Debug)]
pub struct Docker {
    program: PathBuf,
    folder: PathBuf,
}

impl Docker {
    /// With its plug-ins and settings in this folder.
    pub fn new(folder: &Path) -> Result<Self> {
        let program = install::on_path("docker").context("docker is missing")?;
        Ok(Self { program, folder: folder.to_owned() })
    }

    /// The folder of Docker's settings and plug-ins.
    pub fn settings(folder: &Path) -> PathBuf {
        folder.join("docker")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.folder)
            .env("DOCKER_HOST", SOCKET)
            .env("DOCKER_CONFIG", Self::settings(&self.folder))
            .env("DOCKER_BUILDKIT", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command, which must succeed, and returns what it printed.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        output(self.command().args(words), words)
    }

    /// Whether a command succeeds, and all that it printed.
    pub fn try_run(&self, words: &[&str]) -> Result<(bool, String)> {
        let output = self.command().args(words).output().context("cannot start docker")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// `docker compose`, in this folder.
    pub fn compose(&self, checkout: &Path, words: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.current_dir(checkout).args(["compose", "--ansi", "never", "--progress", "plain"]).args(words);
        output(&mut command, words)
    }

    /// The engine's version.
    pub fn version(&self) -> Result<String> {
        self.run(&["version", "--format", "{{.Server.Version}}"])
    }

    /// Prints what a person needs to find out why a check failed.
    pub fn explain(&self, checkout: &Path) {
        let everything = ["--profile", "*"];
        for words in [&["ps", "--all"][..], &["logs", "--tail", LAST_LINES, "--no-color"][..]] {
            match self.compose(checkout, &[&everything, words].concat()) {
                Ok(text) => println!("{text}"),
                Err(error) => println!("{error:#}"),
            }
        }
    }
}

fn output(command: &mut Command, words: &[&str]) -> Result<String> {
    let output = command.output().context("cannot start docker")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", words.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes an empty file of settings, so that none of this machine counts.
pub fn empty_settings(path: &Path) -> Result<()> {
    fs::write(path, "{}\n").with_context(|| format!("cannot write {}", path.display()))
}
