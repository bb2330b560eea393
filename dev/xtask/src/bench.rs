//! `cargo xtask bench`: how fast the parts are, each against a ceiling that is measured in the same run.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::bench_usage::UsageBench;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The aggregator's answers for the month view of one tenant among 1,000, over the broker, with the roll-ups of
    /// 50 million executions.
    Usage(UsageBench),
}

impl Bench {
    /// Runs the benchmark.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.part {
            Part::Usage(bench) => bench.run(),
        }
    }
}
