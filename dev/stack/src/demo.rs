//! The demo: plans, tenants and sources on the sandbox's n8n instances.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{Profile, Project, Stack, binaries};

/// The sandbox keeps its state across restarts, as a real n8n and a real Stripe do.
pub fn sandbox_arguments(profile: &Profile, demo: bool) -> Vec<String> {
    let state = profile.folder().join("sandbox-state.json").display().to_string();
    let mut arguments = vec!["--state".to_owned(), state];
    if demo {
        arguments.push("--demo".to_owned());
    }
    arguments
}

/// Applies the demo's plans, tenants and sources with the CLI, as a person would.
pub fn apply(project: &Project, stack: &Stack) -> Result<()> {
    println!("Applying the demo's plans, tenants and sources");
    let demo = project.root().join("dev/sandbox/demo.yaml");
    let mut apply = Command::new(stack.cli());
    apply
        .args(["apply", "-f"])
        .arg(&demo)
        .envs(stack.cli_environment())
        .env("SANDBOX_URL", stack.sandbox().base());
    if !binaries::run(&mut apply)?.success() {
        bail!("{} was not applied", demo.display());
    }
    Ok(())
}
