//! `cargo xtask test`, and `cargo xtask test containers`.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::{Args, Subcommand};
use stack::{
    Interrupt, Profile, Project,
    backing::Servers,
    binaries::{self, cargo},
    install,
    postgres::Durability,
};

use crate::containers::Containers;

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Test {
    #[command(subcommand)]
    what: Option<What>,
    /// Run only tests whose name contains one of these.
    filter: Vec<String>,
}

/// Tests that are not cargo's.
#[derive(Debug, Subcommand)]
enum What {
    /// Run the Dockerfile and the Compose file in a Docker engine of our own: from nothing to the demo, kills, a cut network.
    ///
    /// Needs root on Linux (x86_64). Exits with 77 if Docker cannot run here, or a package is missing.
    Containers(Containers),
}

impl Test {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        if let Some(What::Containers(containers)) = &self.what {
            return containers.run();
        }
        let project = Project::find()?;
        let interrupt = Interrupt::listen()?;
        let profile = Profile::fresh(&project, "test")?;
        let mut servers = Servers::start(&profile, Durability::ProcessCrash)?;
        binaries::build_for_tests(&project)?;
        let started = Instant::now();
        let passed = self.run_tests(&project, &servers, &interrupt)?;
        servers.stop()?;
        println!("Tests took {} s", started.elapsed().as_secs());
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn run_tests(&self, project: &Project, servers: &Servers, interrupt: &Interrupt) -> Result<bool> {
        let mut passed = true;
        for words in self.runs() {
            if interrupt.asked() {
                return Ok(false);
            }
            let mut tests = cargo(project);
            tests
                .args(words)
                .env("DATABASE_URL", &servers.admin_database_url)
                .env("NATS_URL", &servers.admin_nats_url);
            passed &= binaries::run(&mut tests)?.success();
        }
        Ok(passed)
    }

    /// The arguments of each run of cargo: nextest, if it is installed, runs no doc tests.
    fn runs(&self) -> Vec<Vec<&str>> {
        let filter = self.filter.iter().map(String::as_str);
        if install::on_path("cargo-nextest").is_none() {
            return vec![["test", "--workspace", "--no-fail-fast", "--"].into_iter().chain(filter).collect()];
        }
        let nextest = ["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"];
        let doc = ["test", "--workspace", "--doc", "--quiet", "--"];
        vec![nextest.into_iter().chain(filter.clone()).collect(), doc.into_iter().chain(filter).collect()]
    }
}
