//! `cargo xtask chaos`.

use std::{os::unix::process::ExitStatusExt, process::ExitCode};

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
    /// Three NATS nodes and a Postgres with a standby, in network namespaces (needs root): any one of them is lost or cut
    /// off, the standby is promoted, everything is restarted. Exit code 77 where namespaces cannot be made.
    #[arg(long)]
    cluster: bool,
    /// With --cluster: each fault by itself instead of faults at random, with the waits that it caused.
    #[arg(long, requires = "cluster")]
    drill: bool,
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
        if self.cluster {
            chaos.arg("--cluster");
        }
        if self.drill {
            chaos.arg("--drill");
        }
        let status = binaries::run(&mut chaos)?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}
