//! Builds the binaries with cargo, and runs commands.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result, bail};

use crate::Project;

/// Packages with a binary of the stack.
const PACKAGES: [&str; 7] =
    ["collector", "aggregator", "billing", "alerts", "gateway", "flowmeter", "sandbox"];

/// Variables that `cargo run` sets about the program that it runs. Build scripts that read such variables would run again, and
/// everything that depends on them would be rebuilt, whenever one of our tasks calls cargo instead of a person.
const ABOUT_US: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// `cargo`, the one that runs us.
pub fn cargo(project: &Project) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(project.root());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| ABOUT_US.iter().any(|prefix| name.starts_with(prefix))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs a command in our terminal.
pub fn run(command: &mut Command) -> Result<ExitStatus> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.status().with_context(|| format!("cannot start {program}"))
}

/// Builds the services, the command line and the sandbox. Returns the folder with the binaries.
pub fn build(project: &Project, release: bool) -> Result<PathBuf> {
    println!("Building the services (the first time takes minutes)");
    build_packages(project, &PACKAGES, release)
}

/// The folder with the binaries that were built last, for tests or otherwise.
pub fn built_before(project: &Project) -> Result<PathBuf> {
    Ok(target(project)?.join("debug"))
}

/// Builds the binaries of these packages. Returns the folder with them.
pub fn build_packages(project: &Project, packages: &[&str], release: bool) -> Result<PathBuf> {
    let mut cargo_build = cargo(project);
    cargo_build.args(["build", "--bins"]);
    if release {
        cargo_build.arg("--release");
    }
    cargo_build.args(packages.iter().flat_map(|package| ["--package", package]));
    if !run(&mut cargo_build)?.success() {
        bail!("the build failed");
    }
    Ok(target(project)?.join(if release { "release" } else { "debug" }))
}

/// Builds everything that the tests need, with the features that the tests have.
pub fn build_for_tests(project: &Project) -> Result<()> {
    println!("Building all binaries and tests (the first time takes minutes)");
    if !run(cargo(project).args(["build", "--workspace", "--all-targets"]))?.success() {
        bail!("the build failed");
    }
    Ok(())
}

fn target(project: &Project) -> Result<PathBuf> {
    let output = cargo(project)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot start cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let folder = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(folder.context("cargo metadata names no target directory")?.into())
}
