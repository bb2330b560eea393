//! `cargo xtask bench`: how fast the parts are, each against a ceiling that is measured in the same run.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::bench_admission::AdmissionBench;
use crate::bench_aggregator::AggregatorBench;
use crate::bench_collector::CollectorBench;
use crate::bench_usage::UsageBench;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// One aggregator: executions a second from the stream to committed figures, against a bare copy into the same table,
    /// a bare consumer and the obvious one-statement design. With `--stored`, whether the cost stays flat as the table grows.
    Aggregator(AggregatorBench),
    /// The gateway's limit check against a bare handler with a counter in memory: decisions a second, and latency at half
    /// of the highest rate.
    Admission(AdmissionBench),
    /// One collector with thousands of sources: a round of quiet sweeps, first contact, news, memory, against bare
    /// HTTP fetches of the same pages.
    ///
    /// All sources are instances of one sandbox, each at an address of its own in 127.0.0.0/8, so that there are as
    /// many connections as with separate machines. The sandbox listens on every address of the machine meanwhile. It
    /// runs on the same cores, and its processor time is printed.
    Collector(CollectorBench),
    /// The aggregator's answers for the month view of one tenant among 1,000, over the broker, with the roll-ups of
    /// 50 million executions.
    Usage(UsageBench),
}

impl Bench {
    /// Runs the benchmark.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.part {
            Part::Aggregator(bench) => bench.run(),
            Part::Admission(bench) => bench.run(),
            Part::Collector(bench) => bench.run(),
            Part::Usage(bench) => bench.run(),
        }
    }
}
