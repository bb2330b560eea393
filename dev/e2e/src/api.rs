//! `cargo xtask e2e api`: requests that schemathesis makes up from the API's document, valid and invalid ones,
//! against a whole stack. Each answer has to be one that the document lists.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use stack::{
    Profile, Project, Stack, backing::Servers, binaries, demo, install, postgres::Durability,
    services::Options,
};

/// Pinned: another version may find other things.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Where requests and rules are, from the checkout.
const CONFIGURATION: &str = "dev/e2e/api";

/// Exit code if nothing was checked because a prerequisite is missing: Automake's code for a skipped test.
const SKIPPED: u8 = 77;

/// The tenant whose token is used too. The demo has it.
const TENANT: &str = "north";

/// Arguments of `cargo xtask e2e api`.
#[derive(Debug, Args)]
pub struct ApiDocument {
    /// Install no package: skip if schemathesis is missing.
    #[arg(long)]
    no_install: bool,
    /// Use the binaries that were built last, e.g. by `cargo xtask test`. Those are built with other features, so building
    /// anew takes minutes.
    #[arg(long)]
    no_build: bool,
    /// The same requests for the same seed.
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

impl ApiDocument {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let packages = match self.packages(&project) {
            Ok(packages) => packages,
            Err(error) => {
                println!("Skipped: {error:#}");
                return Ok(ExitCode::from(SKIPPED));
            }
        };
        let built =
            if self.no_build { binaries::built_before(&project)? } else { binaries::build(&project, false)? };
        let profile = Profile::fresh(&project, "e2e-api")?;
        let mut servers = Servers::start_private(&profile, Durability::ProcessCrash)?;
        println!("Starting a fresh stack with the demo");
        let options = Options {
            sandbox_args: demo::sandbox_arguments(&profile, true),
            spans: false,
            ..Options::new(built, servers.backing.clone())
        };
        let mut stack = Stack::start(profile, options)?;
        demo::apply(&project, &stack)?;
        // The tenant first: the operator's requests remove tenants, and with them their tokens.
        let made = stack.gateway().post("/v1/tokens", &json!({"tenant": TENANT}))?;
        let tenant = made.get("token").and_then(Value::as_str).context("no token was made")?.to_owned();
        let operator = stack.operator_token().to_owned();
        let mut passed = true;
        for (who, token) in [("a tenant", tenant), ("the operator", operator)] {
            println!("Requests of {who}");
            let began = Instant::now();
            let is_fine = self.check(&project, &stack, &packages, &token)?;
            println!("  {} after {} s", if is_fine { "passed" } else { "FAILED" }, began.elapsed().as_secs());
            passed &= is_fine;
        }
        stack.stop()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn check(&self, project: &Project, stack: &Stack, packages: &PathBuf, token: &str) -> Result<bool> {
        let configuration = project.root().join(CONFIGURATION);
        let document = format!("{}/openapi.json", stack.gateway().base());
        let seed = self.seed.to_string();
        let mut command = Command::new(python()?);
        command
            .args(["-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", &document])
            .args(["--checks", "all", "--seed", &seed, "--header", &format!("Authorization: Bearer {token}")])
            .current_dir(&configuration)
            .env("PYTHONPATH", env::join_paths([packages, &configuration])?)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FLOWMETER_URL", stack.gateway().base())
            .env("FLOWMETER_OPERATOR_TOKEN", stack.operator_token());
        Ok(binaries::run(&mut command)?.success())
    }

    /// The folder with schemathesis, installed there the first time.
    fn packages(&self, project: &Project) -> Result<PathBuf> {
        // By version, so that a new one is not installed over an old one.
        let folder = project.tools().join(SCHEMATHESIS.replace("==", "-"));
        if folder.join("schemathesis").is_dir() {
            return Ok(folder);
        }
        let python = python()?;
        if self.no_install {
            bail!("schemathesis is not installed");
        }
        println!("Installing {SCHEMATHESIS}");
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--root-user-action", "ignore", "--target"]).arg(&folder).arg(SCHEMATHESIS);
        if !binaries::run(&mut pip)?.success() {
            bail!("pip cannot install {SCHEMATHESIS}");
        }
        Ok(folder)
    }
}

fn python() -> Result<PathBuf> {
    install::on_path("python3").context("python3 is missing, which runs schemathesis")
}
