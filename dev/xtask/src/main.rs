//! `cargo xtask`: everything a contributor runs.

mod bench;
mod chaos;
mod containers;
mod contract;
mod memory;
mod rooms;
mod test;
mod up;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::EndToEnd;

/// Runs, tests and checks Flowmeter. Needs nothing but Rust: what is missing is installed or named.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start the whole stack with a demo, and print the dashboard's address. Ctrl-C stops all; state is kept.
    ///
    /// Uses the servers of DATABASE_URL and NATS_URL where set, and private ones in .flowmeter/up otherwise.
    Up(up::Up),
    /// Run every test against a private Postgres and NATS.
    ///
    /// Uses the servers of DATABASE_URL and NATS_URL where set, and private ones in .flowmeter/test otherwise.
    Test(test::Test),
    /// Check formatting, lints, imports, documentation, JavaScript, metrics, the compose file, Kubernetes and dependencies. Reports what was
    /// skipped and why.
    Verify(verify::Verify),
    /// Write the contract for subscribers into a folder: the .proto files, and an image of them for buf.
    Contract(contract::Contract),
    /// Break a whole stack at random for some minutes, and compare its results with the truth.
    ///
    /// Private servers in .flowmeter/chaos-SEED; logs stay there. Prints each fault, and fails on any difference.
    Chaos(chaos::Chaos),
    /// Print the memory of each service and of the whole stack, idle and under the demo's load.
    Memory(memory::Measure),
    /// Check the whole path on real input, and print a table of figures.
    E2e(EndToEnd),
    /// Print each crate's modules, their imports from each other, and circles among them. Fails on a circle.
    Rooms(rooms::Rooms),
    /// Measure how fast a part is, against a ceiling in the same run, and print the figures.
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Up(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Verify(task) => task.run(),
        Task::Contract(task) => task.run(),
        Task::Chaos(task) => task.run(),
        Task::Memory(task) => task.run(),
        Task::E2e(task) => task.run(),
        Task::Rooms(task) => task.run(),
        Task::Bench(task) => task.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
