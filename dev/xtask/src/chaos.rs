//! `cargo xtask chaos`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use stack::{
    Project,
    binaries::{self, cargo},
};

/// Arguments of `cargo xtask chaos`.
#[derive(Debug, Args)]
pub struct Chaos {
    /// How long faults are injected; starting, settling and comparing take extra time.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Selects the inputs and faults: the same seed gives the same sequence.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build with optimisations.
    #[arg(long)]
    release: bool,
}

impl Chaos {
    /// Builds the services, and runs the package `chaos`, which is separate because it needs a broker client:
    /// other tasks should not have to build that.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let folder = binaries::build(&project, self.release)?;
        let mut chaos = cargo(&project);
        chaos.args(["run", "--quiet", "--package", "chaos", "--", "--binaries"]).arg(folder);
        chaos.args(["--minutes", &self.minutes.to_string(), "--seed", &self.seed.to_string()]);
        Ok(if binaries::run(&mut chaos)?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
