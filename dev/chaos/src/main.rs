//! `flowmeter-chaos`: what `cargo xtask chaos` runs.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use chaos::{Plan, Verdict};
use clap::Parser;
use stack::{
    Interrupt, Project,
    cluster::{Entered, enter},
    install,
};

/// The exit code for what this machine cannot do, as in the other tasks.
const SKIPPED: u8 = 77;

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
    /// Three brokers and a database with a standby, in network namespaces; its faults are the loss and the partition of
    /// any one of them too.
    #[arg(long)]
    cluster: bool,
    /// With --cluster: each fault by itself instead of faults at random, with the waits that it caused.
    #[arg(long, requires = "cluster")]
    drill: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let length = std::time::Duration::try_from_secs_f64(arguments.minutes * 60.0)?;
    if !arguments.cluster {
        let plan = Plan::new(&format!("chaos-{}", arguments.seed), arguments.seed, length);
        return Ok(conclude(&chaos::run(&plan, &arguments.binaries)?));
    }
    // There is no internet in the room.
    install::nats(&Project::find()?)?;
    install::postgres()?;
    let room = match enter()? {
        Entered::Inside(room) => room,
        Entered::Ended(code) => return Ok(code),
        Entered::Impossible(reason) => {
            eprintln!("skipped: {reason}");
            return Ok(ExitCode::from(SKIPPED));
        }
    };
    let interrupt = Interrupt::listen()?;
    let profile = format!("chaos-cluster-{}", arguments.seed);
    let plan = match arguments.drill {
        true => Plan::drill(&profile, arguments.seed),
        false => Plan::of_cluster(&profile, arguments.seed, length),
    };
    Ok(conclude(&chaos::run_cluster(&plan, &arguments.binaries, room, &interrupt)?))
}

fn conclude(verdict: &Verdict) -> ExitCode {
    println!("{verdict}");
    if verdict.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
