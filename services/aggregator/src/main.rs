//! The aggregator: counts every execution exactly once.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run::<aggregator::Aggregator>()
}
