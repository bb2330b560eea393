//! The gateway: the HTTP face of Flowmeter.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run::<gateway::Gateway>()
}
