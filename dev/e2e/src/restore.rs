//! `cargo xtask e2e restore`: a real n8n stopped, restarted, and restored from a copy of its database.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use stack::{
    Api, Profile, Project, Stack, backing::Servers, binaries, postgres::Durability, services::Options, wait,
};

use super::metered::{Metered, SOURCE};
use crate::{
    checks::Checks,
    real_n8n::{DatabaseCopy, Instance, RealN8n, Run},
};

/// A prepared workflow that answers at once and sleeps for 20 seconds.
const SLEEPING_WEBHOOK: &str = "/webhook/meter-wait-short";

/// Time for its sleep, and a restart of n8n meanwhile.
const AWAKE_WITHIN: Duration = Duration::from_secs(120);

/// Runs that no sweep has seen when the database is restored.
const UNSEEN: u32 = 5;

const LIMIT: u64 = 1_000_000;

/// Arguments of `cargo xtask e2e restore`.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    instance: Instance,
    /// Runs in each life of the database. The first restored life has half as many, so that its ids stay below the
    /// ones that were assigned before; the second has twice as many, so that they overtake them.
    #[arg(long, default_value_t = 30)]
    runs: u32,
}

impl Restore {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let built = binaries::build(&project, false)?;
        let profile = Profile::fresh(&project, "e2e-restore")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        println!("Starting a fresh stack");
        let options = Options::new(built, servers.backing.clone()).with("COLLECTOR__CLOCK_SKEW", "1s");
        let mut stack = Stack::start(profile, options)?;
        let metered = Metered::set_up(&stack, &servers.backing, LIMIT)?;
        let n8n = self.instance.start(stack.profile(), &[])?;

        let mut story = Story { metered, n8n, checks: Checks::default(), shown: BTreeMap::new(), newest: 0 };
        story.restart(self.runs)?;
        let copy = story.copy()?;
        story.lose(self.runs)?;
        story.restore("restored", &copy, self.runs / 2, 1)?;
        story.lose(0)?;
        story.restore("restored again", &copy, self.runs * 2, 2)?;
        print_gaps(&stack)?;
        let passed = story.checks.print();
        story.n8n.stop()?;
        stack.stop()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

struct Story {
    metered: Metered,
    n8n: RealN8n,
    checks: Checks,
    /// Every run that n8n has shown when it was swept, in all its lives, and whether it counts.
    shown: BTreeMap<Run, bool>,
    /// The newest id at the last sweep.
    newest: u64,
}

impl Story {
    /// A plain stop and start.
    fn restart(&mut self, runs: u32) -> Result<()> {
        println!("{runs} runs, and as many after a plain restart");
        self.n8n.make_executions(runs - runs / 5, runs / 5)?;
        self.sweep("first sweep")?;
        self.n8n.restart(|_| Ok(()))?;
        self.n8n.make_executions(runs, 0)?;
        self.sweep("restarted")?;
        let gaps = self.gaps()?.len();
        self.checks.equal("restarted: gaps", 0, gaps);
        Ok(())
    }

    /// A copy of the database, with one execution asleep in it.
    fn copy(&mut self) -> Result<DatabaseCopy> {
        println!("Copying the database");
        Api::new(&self.n8n.webhook_url).post(SLEEPING_WEBHOOK, &json!({}))?;
        let mut copied = None;
        self.n8n.restart(|installation| {
            copied = Some(installation.copy_database()?);
            Ok(())
        })?;
        copied.context("the database was copied")
    }

    /// Runs that are not in the copy: `swept` of them are counted, and a few more are never seen.
    fn lose(&mut self, swept: u32) -> Result<()> {
        println!("{swept} runs that are swept and {UNSEEN} that are not, none of them in the copy");
        self.await_sleeper()?;
        self.n8n.make_executions(swept, 0)?;
        self.sweep("before the restore")?;
        self.n8n.make_executions(UNSEEN, 0)
    }

    /// Restores the copy, makes `runs` executions that reuse the lost ids, and checks the count.
    fn restore(&mut self, when: &str, copy: &DatabaseCopy, runs: u32, gaps_expected: usize) -> Result<()> {
        println!("Restoring the copy, and {runs} runs");
        let floor = self.newest;
        self.n8n.restart(|installation| installation.restore_database(copy))?;
        self.await_sleeper()?;
        self.n8n.make_executions(runs, 0)?;
        let known: BTreeSet<u64> = self.shown.keys().map(|run| run.id).collect();
        let listed = self.n8n.list()?;
        let mut reused = 0;
        for row in &listed {
            let run = row.run()?;
            reused += u32::from(known.contains(&run.id) && !self.shown.contains_key(&run));
        }
        let wanted = format!(">= {}", runs / 2);
        self.checks.judged(
            &format!("{when}: ids assigned again"),
            &wanted,
            &reused.to_string(),
            reused >= runs / 2,
        );

        self.sweep(when)?;
        let gaps = self.gaps()?;
        self.checks.equal(&format!("{when}: gaps"), gaps_expected, gaps.len());
        let newest = gaps.first().cloned().unwrap_or_default();
        let text = |field: &str| newest.get(field).and_then(Value::as_str).unwrap_or_default();
        self.checks.equal(&format!("{when}: the gap's reason"), "epoch_ended", text("reason"));
        let first = text("first_execution_id");
        self.checks.equal(&format!("{when}: the gap's first id"), (floor + 1).to_string().as_str(), first);
        self.sweep(&format!("{when}, swept again"))?;
        let gaps = self.gaps()?.len();
        self.checks.equal(&format!("{when}, swept again: gaps"), gaps_expected, gaps);
        Ok(())
    }

    /// Sweeps, and compares what was recorded with everything that n8n has shown, execution by execution.
    fn sweep(&mut self, when: &str) -> Result<()> {
        self.newest = 0;
        for row in self.n8n.list()? {
            self.newest = self.newest.max(row.run()?.id);
            if row.has_ended() {
                self.shown.insert(row.run()?, row.counts());
            }
        }
        self.metered.sweep(&self.n8n)?;
        let recorded = self.metered.recorded()?;
        let distinct: BTreeSet<&Run> = recorded.iter().collect();
        let lost = self.shown.keys().filter(|run| !distinct.contains(run)).count();
        let unknown = distinct.iter().filter(|run| !self.shown.contains_key(**run)).count();
        self.checks.equal(&format!("{when}: lost"), 0, lost);
        self.checks.equal(&format!("{when}: recorded twice"), 0, recorded.len() - distinct.len());
        self.checks.equal(&format!("{when}: recorded, but not n8n's"), 0, unknown);
        let counting = self.shown.values().filter(|counts| **counts).count();
        let counted = usize::try_from(self.metered.counted()?)?;
        self.checks.equal(&format!("{when}: executions counted"), counting, counted);
        Ok(())
    }

    /// Waits until no execution sleeps any more.
    fn await_sleeper(&self) -> Result<()> {
        wait::until("an execution to wake up and end", AWAKE_WITHIN, || {
            Ok(self.n8n.list()?.iter().all(|row| row.has_ended()).then_some(()))
        })
    }

    fn gaps(&self) -> Result<Vec<Value>> {
        let gaps = self.metered.gateway.get(&format!("/v1/sources/{SOURCE}/gaps"))?;
        Ok(gaps.get("gaps").and_then(Value::as_array).cloned().unwrap_or_default())
    }
}

/// Prints the gaps as an operator sees them.
fn print_gaps(stack: &Stack) -> Result<()> {
    println!("flowmeter sources gaps {SOURCE}");
    binaries::run(Command::new(stack.cli()).args(["sources", "gaps", SOURCE]).envs(stack.cli_environment()))?;
    Ok(())
}
