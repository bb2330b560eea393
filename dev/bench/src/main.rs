//! `cargo xtask bench`: how fast the parts are, each against a ceiling that is measured in the same run.

mod admission;
mod aggregator;
mod binaries;
mod collector;
mod cpu_time;
mod progress;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    admission::AdmissionBench, aggregator::AggregatorBench, collector::CollectorBench, usage::UsageBench,
};

/// Measures how fast a part is, against a ceiling in the same run, and prints the figures.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
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

fn main() -> ExitCode {
    let outcome = match Arguments::parse().part {
        Part::Aggregator(bench) => bench.run(),
        Part::Admission(bench) => bench.run(),
        Part::Collector(bench) => bench.run(),
        Part::Usage(bench) => bench.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
