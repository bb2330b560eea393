//! Runs the collector.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run::<collector::Collector>()
}
