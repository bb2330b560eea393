//! `cargo xtask e2e upgrade`: the previous release, built from its commit, and the present one on one database and one
//! broker under load: forward, back and forward again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use stack::{
    Project,
    binaries::{self, cargo},
};

/// Exit code if nothing was checked because a prerequisite is missing: Automake's code for a skipped test.
const SKIPPED: u8 = 77;

/// The names of releases and their commits.
const CHANGELOG: &str = "CHANGELOG.md";

/// Arguments of `cargo xtask e2e upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// How long inputs are played; building, settling and comparing take extra time.
    #[arg(long, default_value_t = 4.0)]
    minutes: f64,
    /// Selects the inputs: the same seed gives the same sequence.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Another commit than that of the newest release in the changelog.
    #[arg(long)]
    previous: Option<String>,
    /// Use the present binaries that were built last, e.g. by `cargo xtask test`.
    #[arg(long)]
    no_build: bool,
}

/// A release of the changelog.
#[derive(Debug, PartialEq, Eq)]
struct Release {
    version: String,
    commit: String,
}

impl Upgrade {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let release = match &self.previous {
            Some(commit) => Release { version: commit.clone(), commit: commit.clone() },
            None => {
                let text = fs::read_to_string(project.root().join(CHANGELOG))
                    .context("cannot read the changelog")?;
                newest(&text)?
            }
        };
        let Some(commit) = resolve(&project, &release.commit)? else {
            println!(
                "Skipped: this clone does not have the commit {} of {}; `git fetch --unshallow` gets it",
                release.commit, release.version
            );
            return Ok(ExitCode::from(SKIPPED));
        };
        let previous = build_previous(&project, &release.version, &commit)?;
        let present =
            if self.no_build { binaries::built_before(&project)? } else { binaries::build(&project, false)? };
        let head = resolve(&project, "HEAD")?.context("this checkout has no commit")?;
        let names =
            (format!("{} ({})", release.version, short(&commit)), format!("present ({})", short(&head)));
        println!("From {} to {} and back", names.0, names.1);
        let mut run = cargo(&project);
        run.args(["run", "--quiet", "--package", "chaos", "--bin", "flowmeter-upgrade", "--"]);
        run.args(["--previous-name", &names.0, "--present-name", &names.1, "--previous"]).arg(previous);
        run.arg("--present").arg(present);
        run.args(["--minutes", &self.minutes.to_string(), "--seed", &self.seed.to_string()]);
        Ok(if binaries::run(&mut run)?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The newest release of the changelog: the first section with a version, and the commit that it names.
fn newest(changelog: &str) -> Result<Release> {
    let mut version = None;
    for line in changelog.lines() {
        if let Some(heading) = line.strip_prefix("## [") {
            if version.is_some() {
                break;
            }
            version = heading.split(']').next().filter(|name| *name != "Unreleased").map(str::to_owned);
        }
        let commit = line.strip_prefix("Commit: `").and_then(|rest| rest.split('`').next());
        if let (Some(version), Some(commit)) = (&version, commit) {
            return Ok(Release { version: version.clone(), commit: commit.to_owned() });
        }
    }
    bail!(
        "{CHANGELOG} names no commit of its newest release: add a line \"Commit: `...`.\" below its heading"
    )
}

/// The full name of a commit, if this clone has it.
fn resolve(project: &Project, name: &str) -> Result<Option<String>> {
    let output = Command::new("git")
        .args(["rev-parse", "--quiet", "--verify", &format!("{name}^{{commit}}")])
        .current_dir(project.root())
        .output()
        .context("cannot start git")?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(commit))
}

fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

/// Builds a commit in a folder of its own, once. Returns the folder with its binaries.
fn build_previous(project: &Project, version: &str, commit: &str) -> Result<PathBuf> {
    let folder = project.folder().join("releases").join(short(commit));
    let (source, target, stamp) = (folder.join("source"), folder.join("target"), folder.join("built"));
    let built = target.join("debug");
    if stamp.exists() {
        println!("{version} ({}) was built before: {}", short(commit), built.display());
        return Ok(built);
    }
    println!(
        "Building {version} from commit {} in {}: once, about ten minutes on two cores",
        short(commit),
        folder.display()
    );
    let started = Instant::now();
    extract(project, commit, &source)?;
    let mut build = cargo(project);
    build.current_dir(&source).env("CARGO_TARGET_DIR", &target).args(["build", "--locked", "--bins"]);
    build.args(
        ["collector", "aggregator", "billing", "alerts", "gateway"]
            .iter()
            .flat_map(|name| ["--package", *name]),
    );
    if !binaries::run(&mut build)?.success() {
        bail!("{version} cannot be built");
    }
    fs::write(&stamp, commit).context("cannot write the stamp of a build")?;
    println!("Built {version} in {} s", started.elapsed().as_secs());
    Ok(built)
}

/// The files of a commit, without a repository around them.
fn extract(project: &Project, commit: &str, into: &Path) -> Result<()> {
    if into.exists() {
        fs::remove_dir_all(into).context("cannot remove what an interrupted build has left")?;
    }
    fs::create_dir_all(into).context("cannot create the folder of a release")?;
    let mut archive = Command::new("git")
        .args(["archive", "--format", "tar", commit])
        .current_dir(project.root())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start git")?;
    let files = archive.stdout.take().context("git has an output")?;
    let unpacked =
        Command::new("tar").args(["-x", "-C"]).arg(into).stdin(files).status().context("cannot start tar")?;
    if !archive.wait()?.success() || !unpacked.success() {
        bail!("cannot extract commit {commit}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_and_its_commit_are_found() {
        let text = "# Changelog\n\n## [Unreleased]\n\n### Added\n- x\n\n## [0.2.0] - 2027-01-01\n\nCommit: `abc1`.\n\n## [0.1.0]\n\nCommit: `abc0`.\n";
        assert_eq!(newest(text).unwrap(), Release { version: "0.2.0".to_owned(), commit: "abc1".to_owned() });
    }

    #[test]
    fn a_release_without_a_commit_is_reported() {
        let text = "## [Unreleased]\n\n## [0.2.0]\n\n- x\n\n## [0.1.0]\n\nCommit: `abc0`.\n";
        assert!(newest(text).unwrap_err().to_string().contains("names no commit"));
    }
}
