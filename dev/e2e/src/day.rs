//! `cargo xtask e2e day`: an operator's first day on a real n8n, with the right value of each figure.

mod attributed;
mod bursts;
mod catalog;
mod edges;
mod figures;
mod logs;
mod mails;
mod watching;
mod world;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Args;
use stack::{
    FacePorts, Profile, Project, Stack, backing::Servers, binaries, postgres::Durability, services::Options,
};

use self::world::Day;
use crate::{checks::Checks, real_n8n::Instance};

/// Arguments of `cargo xtask e2e day`.
#[derive(Debug, Args)]
pub struct FirstDay {
    #[command(flatten)]
    instance: Instance,
    /// Bursts of 20 webhooks at the same moment.
    #[arg(long, default_value_t = 20)]
    bursts: u64,
    /// How long a run waits for the gateway, in milliseconds: a debug build on a busy machine must not let runs through by
    /// the rule for an outage.
    #[arg(long, default_value_t = 20_000)]
    wait_ms: u32,
}

impl FirstDay {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let building = Instant::now();
        let built = binaries::build(&project, false)?;
        println!("  built after {} s", building.elapsed().as_secs());
        // What is measured is the product's start, not the compiler's.
        let began = Instant::now();
        let profile = Profile::fresh(&project, "e2e-day")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        let options = Options {
            face_ports: Some(FacePorts::default()),
            ..Options::new(built, servers.backing.clone())
                .with("ALERTS__OPERATOR_RECIPIENTS", "operator@flowmeter.example")
        };
        let stack = Stack::start(profile, options)?;
        println!("  up after {} s", began.elapsed().as_secs());
        let mut checks = Checks::default();
        let mut day = Day::begin(project, stack, &self.instance, self.wait_ms)?;

        mails::check(&day, began, &mut checks)?;
        bursts::check(&day, self.bursts, &mut checks)?;
        edges::refused_runs(&day, &mut checks)?;
        figures::check(&day, &mut checks)?;
        catalog::check(&day, &mut checks)?;
        watching::check(&day, &mut checks)?;
        edges::check(&day, &mut checks)?;
        catalog::ports_are_kept(&mut day, &mut checks)?;
        attributed::check(&day, &mut checks)?;
        edges::archive(&day, &mut checks)?;
        logs::check(&day, &mut checks)?;

        let passed = checks.print();
        day.end()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
