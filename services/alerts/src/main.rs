//! The alerts service.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run::<alerts::Alerts>()
}
