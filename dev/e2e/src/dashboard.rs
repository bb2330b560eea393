//! `cargo xtask e2e dashboard`: the page in a real browser, on a whole stack, under a path of a proxy.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::Args;
use stack::{
    Profile, Project, Stack, backing::Servers, binaries, demo, install, postgres::Durability,
    services::Options,
};

/// Pinned: another version may find other things.
const PACKAGES: [&str; 2] = ["playwright-core@1.65.1", "@axe-core/playwright@4.14.0"];

/// The browser by its names in Debian, other distributions, and as Google ships it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Exit code if nothing was checked because a prerequisite is missing: Automake's code for a skipped test.
const SKIPPED: u8 = 77;

/// `dev/e2e/dashboard/check.mjs` serves the page under this path; the proxy's port is not known yet.
const PUBLIC_URL: &str = "http://127.0.0.1/meter/";

/// Arguments of `cargo xtask e2e dashboard`.
#[derive(Debug, Args)]
pub struct Dashboard {
    /// Install no package: skip if one is missing.
    #[arg(long)]
    no_install: bool,
}

impl Dashboard {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let Some(browser) = BROWSERS.into_iter().find_map(install::on_path) else {
            return Ok(skipped("there is no Chromium (Debian: `apt-get install chromium`)"));
        };
        let Some(node) = install::on_path("node") else {
            return Ok(skipped("node is not installed"));
        };
        if !self.has_packages(&project)? {
            return Ok(skipped(&format!("npm cannot install {}", PACKAGES.join(" and "))));
        }
        let built = binaries::build(&project, false)?;
        let profile = Profile::fresh(&project, "e2e-dashboard")?;
        let mut servers = Servers::start_private(&profile, Durability::ProcessCrash)?;
        println!("Starting a fresh stack with the demo");
        let options = Options {
            sandbox_args: demo::sandbox_arguments(&profile, true),
            ..Options::new(built, servers.backing.clone())
        };
        let mut stack = Stack::start(profile, options.with("GATEWAY__PUBLIC_URL", PUBLIC_URL))?;
        demo::apply(&project, &stack)?;
        let passed = check(&project, &stack, &node, &browser)?;
        stack.stop()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn has_packages(&self, project: &Project) -> Result<bool> {
        let modules = project.tools().join("node_modules");
        let is_there =
            || ["playwright-core", "@axe-core/playwright"].iter().all(|name| modules.join(name).is_dir());
        if is_there() || self.no_install {
            return Ok(is_there());
        }
        let Some(npm) = install::on_path("npm") else { return Ok(false) };
        println!("Installing {}", PACKAGES.join(" and "));
        let mut npm = Command::new(npm);
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix"]);
        npm.arg(project.tools()).args(PACKAGES);
        Ok(binaries::run(&mut npm)?.success() && is_there())
    }
}

fn check(project: &Project, stack: &Stack, node: &Path, browser: &Path) -> Result<bool> {
    let mut script = Command::new(node);
    script
        .arg("dev/e2e/dashboard/check.mjs")
        .current_dir(project.root())
        .env("GATEWAY", stack.gateway().base())
        .env("TOKEN", stack.operator_token())
        .env("CHROMIUM", browser)
        .env("TOOLS", project.tools())
        .env("ZONES", metering::time_zone_names().join(","));
    Ok(binaries::run(&mut script)?.success())
}

fn skipped(reason: &str) -> ExitCode {
    println!("Skipped: {reason}");
    ExitCode::from(SKIPPED)
}
