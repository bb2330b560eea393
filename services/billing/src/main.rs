//! Reports the billable usage of each tenant to Stripe, exactly once.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run::<billing::Billing>()
}
