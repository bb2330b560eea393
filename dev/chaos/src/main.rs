//! `flowmeter-chaos`: what `cargo xtask chaos` runs.

use std::{path::PathBuf, process::ExitCode};

use chaos::Plan;
use clap::Parser;

/// Break a whole stack at random for some minutes, and compare its results with the truth.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder with the services' binaries.
    #[arg(long)]
    binaries: PathBuf,
    /// How long faults are injected.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Selects the faults and inputs: the same seed gives the same sequence.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seconds = std::time::Duration::try_from_secs_f64(arguments.minutes * 60.0);
    let outcome = seconds.map_err(anyhow::Error::from).and_then(|length| {
        chaos::run(
            &Plan::new(&format!("chaos-{}", arguments.seed), arguments.seed, length),
            &arguments.binaries,
        )
    });
    match outcome {
        Ok(verdict) => {
            println!("{verdict}");
            if verdict.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
