//! `cargo xtask e2e`: the whole path on real input.

mod admission;
mod api;
mod checks;
mod dashboard;
mod day;
mod metered;
mod push;
mod real_n8n;
mod restore;
mod subscribers;
mod upgrade;
mod whole;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Arguments of `cargo xtask e2e`.
#[derive(Debug, Args)]
pub struct EndToEnd {
    #[command(subcommand)]
    input: Input,
}

#[derive(Debug, Subcommand)]
enum Input {
    /// A real n8n: usage, mails, the limit check and Stripe's total against n8n's own list.
    N8n(whole::Whole),
    /// A real n8n with the hook: the time from a run to its count, the same count once the poll has found it, and the poll's count
    /// where pushes were forged.
    Push(push::Push),
    /// A real n8n, stopped, restarted and restored from a copy of its database: nothing lost, nothing counted twice, the gap
    /// reported.
    Restore(restore::Restore),
    /// A real n8n with the hook at its limit: as many runs as the limit, clean refusals, and more once it is raised.
    Admission(admission::Admission),
    /// An operator's first day on a real n8n with the hook: bursts, mails, corrections, mistakes in a file, metrics and logs.
    Day(day::FirstDay),
    /// The API against its document: valid and invalid requests of an operator and of a tenant, made up by schemathesis.
    ///
    /// Exits with 77 if Python or schemathesis is missing.
    Api(api::ApiDocument),
    /// The three example subscribers: killed, with a killed broker, over the end of a month; what they print is what the command
    /// line prints. The same events as CloudEvents, by two libraries.
    ///
    /// Exits with 77 if Node, Python or a package is missing.
    Subscribers(subscribers::Subscribers),
    /// The dashboard in Chromium, in both themes and languages, under a path of a proxy: accessible, and stable for a day.
    ///
    /// Exits with 77 if Chromium, node or a package is missing.
    Dashboard(dashboard::Dashboard),
    /// The previous release and this one side by side under load, forward, back and forward again: no difference from the truth.
    ///
    /// Builds the commit that the changelog names for the newest release, in .flowmeter/releases. Exits with 77 if this clone does not
    /// have it.
    Upgrade(upgrade::Upgrade),
}

impl EndToEnd {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.input {
            Input::N8n(input) => input.run(),
            Input::Push(input) => input.run(),
            Input::Restore(input) => input.run(),
            Input::Admission(input) => input.run(),
            Input::Day(input) => input.run(),
            Input::Api(input) => input.run(),
            Input::Subscribers(input) => input.run(),
            Input::Dashboard(input) => input.run(),
            Input::Upgrade(input) => input.run(),
        }
    }
}
