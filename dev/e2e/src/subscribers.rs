//! `cargo xtask e2e subscribers`: the three example subscribers on a whole stack. They and the broker are killed in the
//! middle, a month ends, and what each prints is compared with the command line, field by field.

mod events;
mod examples;
mod tables;

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stack::{
    Profile, Project, Stack, backing::Servers, binaries, demo, postgres::Durability, services::Options, wait,
};

use self::{
    examples::{Example, Installed},
    tables::{Printed, Table},
};
use crate::checks::Checks;

/// Exit code if nothing was checked because a prerequisite is missing: Automake's code for a skipped test.
const SKIPPED: u8 = 77;

/// The demo's tenants; each has one source `TENANT-n8n`, on an instance of its name.
const TENANTS: [&str; 3] = ["north", "south", "east"];

/// The demo's tenant with a hard limit of 1,000.
const LIMITED: &str = "north";

/// A sweep and its way to the subscribers, on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// Executions in one step of the play: with what the demo begins with, `north` passes 80 % in the first step and 100 % in
/// the second.
const STEP: u64 = 160;

/// Executions that are found after their period has closed.
const LATE: u64 = 5;

/// Arguments of `cargo xtask e2e subscribers`.
#[derive(Debug, Args)]
pub struct Subscribers {
    /// Install no package: skip if one is missing.
    #[arg(long)]
    no_install: bool,
    /// Use the binaries that were built last, e.g. by `cargo xtask test`.
    #[arg(long)]
    no_build: bool,
}

impl Subscribers {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let installed = match Installed::find(&project, self.no_install) {
            Ok(installed) => installed,
            Err(error) => {
                println!("Skipped: {error:#}");
                return Ok(ExitCode::from(SKIPPED));
            }
        };
        let built = match self.no_build {
            true => binaries::built_before(&project)?,
            false => {
                binaries::build_packages(&project, &[examples::PACKAGE], false)?;
                binaries::build(&project, false)?
            }
        };
        let began = Instant::now();
        let profile = Profile::fresh(&project, "e2e-subscribers")?;
        let mut servers = Servers::start_private(&profile, Durability::ProcessCrash)?;
        let options = Options {
            sandbox_args: demo::sandbox_arguments(&profile, true),
            spans: false,
            ..Options::new(built, servers.backing.clone())
        };
        let stack = Stack::start(profile, options)?;
        demo::apply(&project, &stack)?;
        let mut checks = Checks::default();
        let mut play = Play { stack, servers: &mut servers, examples: Vec::new() };
        play.start_examples(&installed)?;
        play.first_period()?;
        play.next_period(&mut checks)?;
        play.compare(&mut checks)?;
        events::check(&project, &installed, &mut play, &mut checks)?;
        println!("  done after {} s", began.elapsed().as_secs());
        let passed = checks.print();
        play.stop()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The stack, its broker and the subscribers.
struct Play<'a> {
    stack: Stack,
    servers: &'a mut Servers,
    examples: Vec<Example>,
}

impl Play<'_> {
    /// Makes a user for each example, as an operator does, and starts them.
    fn start_examples(&mut self, installed: &Installed) -> Result<()> {
        for mut example in installed.examples(&self.stack) {
            let login = self.make_user(example.name(), "usage,thresholds,periods")?;
            example.start(self.stack.profile(), &login)?;
            self.examples.push(example);
        }
        Ok(())
    }

    /// `flowmeter subscriber`, its user in the broker's configuration, and a reload. Returns how to connect.
    fn make_user(&mut self, name: &str, topics: &str) -> Result<[(&'static str, String); 3]> {
        let made = Command::new(self.stack.cli()).args(["subscriber", name, "--topics", topics]).output();
        let made = made.context("cannot start flowmeter")?;
        let (user, aside) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
        if !made.status.success() {
            bail!("`flowmeter subscriber` failed: {aside}");
        }
        let (_, password) = aside.trim_end().rsplit_once(' ').context("no password was printed")?;
        self.broker()?.add_users(&user)?;
        Ok([
            ("NATS_URL", self.broker()?.url()),
            ("NATS_USER", name.to_owned()),
            ("NATS_PASSWORD", password.to_owned()),
        ])
    }

    fn broker(&mut self) -> Result<&mut stack::nats::Nats> {
        self.servers.nats.as_mut().context("the broker is private")
    }

    /// Executions, and meanwhile the death of each subscriber, then of the broker.
    fn first_period(&mut self) -> Result<()> {
        self.await_sweep()?;
        self.run_executions(STEP)?;
        for example in &mut self.examples {
            println!("Killing and restarting the subscriber in {}", example.language());
            example.kill()?;
        }
        self.await_sweep()?;
        for example in &mut self.examples {
            example.restart(self.stack.profile())?;
        }
        println!("Killing and restarting the broker");
        let nats = self.servers.nats.as_mut().context("the broker is private")?;
        nats.process().kill()?;
        self.run_executions(STEP)?;
        let nats = self.servers.nats.as_mut().context("the broker is private")?;
        nats.restart(self.stack.profile())?;
        self.await_sweep()
    }

    /// The clock passes the end of every period; then there is usage of the new ones, and late usage of the old ones.
    fn next_period(&mut self, checks: &mut Checks) -> Result<()> {
        for tenant in TENANTS {
            self.sandbox(tenant, "load", &json!({ "per_second": 0 }))?;
        }
        self.await_sweep()?;
        let ends = TENANTS.map(|tenant| self.period_end(tenant)).into_iter().collect::<Result<Vec<_>>>()?;
        let last = ends.iter().copied().max().context("there are tenants")?;
        let now = last.checked_add(SignedDuration::from_mins(10))?;
        println!("Moving the clock to {now}");
        self.stack.sandbox().post("/control/clock", &json!({ "now": now }))?;
        for tenant in TENANTS {
            wait::until(&format!("a closed period of {tenant}"), WITHIN, || {
                Ok((!self.closed(tenant)?.is_empty()).then_some(()))
            })?;
        }
        self.run_executions(STEP)?;
        println!("Stopping the subscriber in {}, and restarting the broker", self.examples[0].language());
        self.examples[0].stop()?;
        let nats = self.servers.nats.as_mut().context("the broker is private")?;
        nats.restart(self.stack.profile())?;
        // In the period that has ended last, so that n8n has not pruned them already.
        let latest = TENANTS.iter().zip(&ends).find(|(_, end)| **end == last).context("one is the last")?.0;
        let before = last.checked_sub(SignedDuration::from_mins(5))?;
        let late = json!({ "workflow": "late", "count": LATE, "stopped_at": before });
        self.sandbox(latest, "run", &late)?;
        self.examples[0].restart(self.stack.profile())?;
        let found = wait::until("late executions", WITHIN, || {
            let late = self.closed(latest)?.first().and_then(|period| period["late"].as_u64());
            Ok(late.filter(|late| *late >= LATE))
        })?;
        checks.equal("executions found after their period has closed", LATE, found);
        self.await_sweep()
    }

    fn run_executions(&self, count: u64) -> Result<()> {
        for tenant in TENANTS {
            self.sandbox(tenant, "run", &json!({ "workflow": "orderSync", "count": count }))?;
            self.sandbox(tenant, "run", &json!({ "workflow": "orderSync", "count": 3, "status": "error" }))?;
        }
        Ok(())
    }

    fn sandbox(&self, instance: &str, call: &str, body: &Value) -> Result<()> {
        self.stack.sandbox().post(&format!("/control/n8n/{instance}/{call}"), body).map(drop)
    }

    /// Waits until everything that each source shows now is counted.
    fn await_sweep(&self) -> Result<()> {
        let clock = self.stack.sandbox().get("/clock")?;
        let now: Timestamp = clock["now"].as_str().context("the clock has a time")?.parse()?;
        for tenant in TENANTS {
            wait::until(&format!("everything of {tenant} to be counted"), WITHIN, || {
                let usage = self.stack.gateway().get(&format!("/v1/usage/{tenant}"))?;
                let until =
                    usage["complete_until"].as_str().and_then(|until| until.parse::<Timestamp>().ok());
                Ok(until.is_some_and(|until| until > now).then_some(()))
            })?;
        }
        Ok(())
    }

    fn period_end(&self, tenant: &str) -> Result<Timestamp> {
        let usage = self.stack.gateway().get(&format!("/v1/usage/{tenant}"))?;
        Ok(usage["period"]["end"].as_str().context("a period has an end")?.parse()?)
    }

    fn closed(&self, tenant: &str) -> Result<Vec<Value>> {
        let answer = self.stack.gateway().get(&format!("/v1/usage/{tenant}/periods"))?;
        Ok(answer["periods"].as_array().cloned().unwrap_or_default())
    }

    fn flowmeter(&self, arguments: &[&str]) -> Result<String> {
        let output =
            Command::new(self.stack.cli()).args(arguments).envs(self.stack.cli_environment()).output();
        let output = output.context("cannot start flowmeter")?;
        if !output.status.success() {
            bail!("flowmeter {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the command line prints of all that a subscriber stores.
    fn truth(&self) -> Result<Printed> {
        let usage = Table::bordered(&self.flowmeter(&["usage"])?)?;
        let mut periods = Table::default();
        for tenant in TENANTS {
            periods.extend(tenant, Table::bordered(&self.flowmeter(&["usage", tenant, "--periods"])?)?);
        }
        Ok(Printed { usage, periods, crossings: tables::crossings(&self.watched("threshold")?)? })
    }

    /// Every stored event of a topic, one JSON object per line.
    fn watched(&self, topic: &str) -> Result<Vec<Value>> {
        let lines = self.flowmeter(&["watch", topic, "--history", "--json", "--count", "10000"])?;
        lines.lines().map(|line| serde_json::from_str(line).context("a line is no JSON")).collect()
    }

    /// Each example's print against the command line's, once they have caught up.
    fn compare(&self, checks: &mut Checks) -> Result<()> {
        for example in &self.examples {
            let language = example.language();
            let waited = wait::until("the subscriber to have everything", WITHIN, || {
                let (truth, printed) = (self.truth()?, example.printed()?);
                Ok(truth.differences(&printed).is_empty().then_some(()))
            });
            let (truth, printed) = (self.truth()?, example.printed()?);
            let differences = truth.differences(&printed);
            for difference in &differences {
                println!("  {language}: {difference}");
            }
            checks.equal(
                &format!("{language}: fields that differ, of {}", truth.fields()),
                0,
                differences.len(),
            );
            if let Err(error) = waited {
                println!("  {language}: {error:#}");
            }
            let (acted, crossings) = (example.acted()?, truth.crossings.rows());
            checks.equal(&format!("{language}: acted on crossings, in two lives"), crossings, acted);
        }
        let limited = self.watched("threshold")?;
        let limited = limited.iter().filter(|crossing| crossing["id"] == json!(LIMITED)).count();
        checks.judged(
            "crossings of the tenant with a limit",
            "at least 2",
            &limited.to_string(),
            limited >= 2,
        );
        println!("\n{}", self.examples[0].print()?);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        for example in &mut self.examples {
            example.stop()?;
        }
        self.stack.stop()
    }
}
