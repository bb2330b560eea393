//! `flowmeter-upgrade`: what `cargo xtask e2e upgrade` runs.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use chaos::upgrade::{self, Plan, Release};
use clap::Parser;

/// Run two releases side by side under load, forward and back, and compare the results with the truth.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder with the binaries of the previous release.
    #[arg(long)]
    previous: PathBuf,
    /// Its name.
    #[arg(long)]
    previous_name: String,
    /// The folder with the present binaries.
    #[arg(long)]
    present: PathBuf,
    /// Their name.
    #[arg(long)]
    present_name: String,
    /// How long inputs are played.
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Selects the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Duration::try_from_secs_f64(arguments.minutes * 60.0).map_err(anyhow::Error::from);
    let outcome = outcome.and_then(|length| {
        upgrade::run(&Plan {
            previous: Release { name: arguments.previous_name, binaries: arguments.previous },
            present: Release { name: arguments.present_name, binaries: arguments.present },
            seed: arguments.seed,
            length,
        })
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
