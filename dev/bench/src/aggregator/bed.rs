//! One aggregator on a private Postgres and NATS, emptied before every run.

use std::{
    fmt,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stack::{
    Api, Interrupt, Profile, Program, Project, Stack, backing::Servers, database, postgres::Durability,
    services::Options,
};

use crate::{binaries, cpu_time::CpuTime};

/// Pause between two checks of a run's progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Longest that a run may take, however slow the machine.
const RUN_TIME_MAX: Duration = Duration::from_secs(1_200);

/// A run is measured once this part (one twentieth) is recorded, so that start-up does not count.
const WARM_UP_PART: u64 = 20;

/// Room for the largest run at the broker.
const STREAM_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// What is recorded, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub publisher: Publisher,
    pub per_message: u64,
    pub workers: u32,
    /// Percentage of executions that are repeats.
    pub duplicates: u64,
    pub executions: u64,
}

/// When the executions are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Publisher {
    /// Before the aggregator is started.
    Before,
    /// While it records, on the same processors.
    Live,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_message, workers, duplicates, .. } = self;
        let publisher = match self.publisher {
            Publisher::Before => "published before",
            Publisher::Live => "published meanwhile",
        };
        write!(f, "{publisher}, {per_message} a message, {duplicates} % repeats, workers {workers}")
    }
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Repeats included.
    pub executions: u64,
    /// The largest id of each source so far.
    pub from: u64,
    /// Percentage of executions that are repeats.
    pub duplicates: u64,
    pub per_message: u64,
}

/// The figures of one run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Executions, repeats included, from the stream to committed counts.
    pub per_second: f64,
    /// Processor time by process, in microseconds per execution.
    pub cpu_us: Vec<(&'static str, f64)>,
}

/// The private stack.
pub struct Bed {
    stack: Stack,
    servers: Servers,
    built: PathBuf,
    tenants: u32,
    interrupt: Interrupt,
    runs: u64,
}

/// The report of `flowmeter-load publish`.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Executions, repeats included.
    pub executions: u64,
    /// Executions that were never published before.
    pub fresh: u64,
}

impl Bed {
    /// Builds, and starts the servers.
    pub fn make(tenants: u32) -> Result<Self> {
        let project = Project::find()?;
        let interrupt = Interrupt::listen()?;
        let built = binaries::build(&project)?;
        let profile = Profile::fresh(&project, "bench-aggregator")?;
        let servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        let options = Options { spans: false, ..Options::new(built.clone(), servers.backing.clone()) }
            .with("NATS__EXECUTIONS_BYTES_MAX", &STREAM_BYTES_MAX.to_string());
        let stack = Stack::start_some(profile, options, &[])?;
        Ok(Self { stack, servers, built, tenants, interrupt, runs: 0 })
    }

    /// Stops everything.
    pub fn stop(&mut self) -> Result<()> {
        self.stack.stop()?;
        self.servers.stop()
    }

    /// Records a case from an empty database.
    pub fn run(&mut self, case: &Case) -> Result<Run> {
        self.begin_anew(case.workers)?;
        let load = Load {
            executions: case.executions,
            from: 0,
            duplicates: case.duplicates,
            per_message: case.per_message,
        };
        match case.publisher {
            Publisher::Before => self.run_after(load),
            Publisher::Live => Ok(self.run_live(load, 0)?.0),
        }
    }

    /// Publishes, and then lets the aggregator record it.
    fn run_after(&mut self, load: Load) -> Result<Run> {
        self.stack.stop_one(Program::Aggregator)?;
        let published = self.publish(load)?;
        self.stack.relaunch(Program::Aggregator)?;
        let begin = published.fresh / WARM_UP_PART;
        self.wait_until(|bed| Ok(bed.recorded().unwrap_or(0) > begin))?;
        let (before, begun) = (self.usage()?, Instant::now());
        let first = self.recorded()?;
        let took = self.wait_recorded(published.fresh, begun)?;
        let usage = self.usage()?.since(&before);
        self.check(published.fresh)?;
        let part = published.fresh.saturating_sub(first) as f64 / published.fresh as f64;
        Ok(Run::of(published.executions as f64 * part, took, &usage))
    }

    /// Publishes while the aggregator records, on top of what is stored.
    pub fn run_live(&mut self, load: Load, stored: u64) -> Result<(Run, Published)> {
        let recorded = self.recorded()?;
        let (before, begun) = (self.usage()?, Instant::now());
        let published = self.publish(load)?;
        let took = self.wait_recorded(recorded + published.fresh, begun)?;
        let usage = self.usage()?.since(&before);
        self.check(stored + published.fresh)?;
        Ok((Run::of(published.executions as f64, took, &usage), published))
    }

    /// Empties the broker and the database, and starts an aggregator that knows the catalog.
    pub fn begin_anew(&mut self, workers: u32) -> Result<()> {
        self.stack.stop_one(Program::Aggregator).ok();
        database::ask(&self.servers.backing.database_url, "DROP SCHEMA IF EXISTS aggregator CASCADE")?;
        let (key, tenants) = (self.stack.sealing_key().to_owned(), self.tenants.to_string());
        self.load("tenants", &["--public-key", &key, "--tenants", &tenants, "--anew"])?;
        self.stack.set("AGGREGATOR__WORKERS", &workers.to_string());
        self.stack.restart(Program::Aggregator)?;
        let known = format!(
            "SELECT (SELECT count(*) FROM aggregator.sources) = {0} AND (SELECT count(*) FROM aggregator.tenants) = {0}",
            self.tenants
        );
        self.wait_until(|bed| Ok(bed.ask(&known)? == "t"))
    }

    /// Publishes executions while no aggregator runs.
    pub fn publish_only(&mut self, executions: u64, per_message: u64) -> Result<()> {
        self.begin_anew(1)?;
        self.stack.stop_one(Program::Aggregator)?;
        self.publish(Load { executions, from: 0, duplicates: 0, per_message }).map(drop)
    }

    fn publish(&mut self, load: Load) -> Result<Published> {
        self.runs += 1;
        let arguments = [
            ("--executions", load.executions),
            ("--from", load.from),
            ("--duplicates", load.duplicates),
            ("--per-message", load.per_message),
            ("--tenants", self.tenants.into()),
            ("--run", self.runs),
        ];
        let arguments: Vec<String> =
            arguments.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]).collect();
        let report = self.load("publish", &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        let number = |name: &str| report.get(name).and_then(Value::as_u64).context("a figure is missing");
        Ok(Published { executions: number("executions")?, fresh: number("fresh")? })
    }

    /// Rows/s of a bare copy.
    pub fn copy(&mut self, connections: u32, rows: u64, indexes: &str) -> Result<f64> {
        self.begin_anew(1)?;
        self.stack.stop_one(Program::Aggregator)?;
        let (database, sources) = (self.servers.backing.database_url.clone(), self.tenants.to_string());
        let (connections, rows_text) = (connections.to_string(), rows.to_string());
        let output = Command::new(self.built.join("flowmeter-load"))
            .args(["copy", "--database", &database, "--connections", &connections, "--rows", &rows_text])
            .args(["--sources", &sources, "--indexes", indexes])
            .output();
        rate(&report_of(output.context("cannot start flowmeter-load")?)?, "rows")
    }

    /// Messages/s of a bare consumer.
    pub fn consume(&mut self, work: &str, messages: u64) -> Result<f64> {
        rate(&self.load("consume", &["--work", work, "--messages", &messages.to_string()])?, "messages")
    }

    /// Executions/s of the obvious design.
    pub fn baseline(&mut self, messages: u64) -> Result<f64> {
        let database = self.servers.backing.database_url.clone();
        let arguments = ["--database", &database, "--messages", &messages.to_string()];
        rate(&self.load("baseline", &arguments)?, "executions")
    }

    /// Queries the aggregator's database.
    pub fn ask(&self, sql: &str) -> Result<String> {
        database::ask(&self.servers.backing.database_url, sql)
    }

    /// How many tenants there are.
    pub fn tenants(&self) -> u32 {
        self.tenants
    }

    /// Executions that this process of the aggregator has recorded.
    pub fn recorded(&self) -> Result<u64> {
        let ops = self.stack.ops_url(Program::Aggregator).context("the aggregator has an ops port")?;
        let metrics = Api::new(&ops).text("/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("flowmeter_executions_recorded_total "));
        Ok(line.map_or(Ok(0), |figure| figure.trim().parse())?)
    }

    /// Waits until this many are recorded, and until the figures by hour, day and workflow, which follow at an interval of
    /// their own, include them. Returns the time until the counts were committed; the processor time includes those figures.
    fn wait_recorded(&mut self, fresh: u64, begun: Instant) -> Result<Duration> {
        self.wait_until(|bed| Ok(bed.recorded()? >= fresh))?;
        let took = begun.elapsed();
        self.wait_until(|bed| {
            Ok(bed.ask("SELECT NOT EXISTS (SELECT FROM aggregator.rollup_log WHERE NOT folded)")? == "t")
        })?;
        Ok(took)
    }

    /// Checks that each execution is counted exactly once, in the periods, the hours and the days.
    fn check(&self, stored: u64) -> Result<()> {
        let counted = self.ask(
            "SELECT (SELECT sum(counted) FROM aggregator.periods), (SELECT sum(counted) FROM aggregator.usage_hours),
                 (SELECT sum(counted) FROM aggregator.workflow_days)",
        )?;
        if counted != format!("{stored}|{stored}|{stored}") {
            bail!("{stored} executions were published, but the counts are {counted}");
        }
        Ok(())
    }

    fn wait_until(&mut self, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !done(self)? {
            if self.interrupt.asked() || begun.elapsed() > RUN_TIME_MAX {
                bail!("not done after {} s", begun.elapsed().as_secs());
            }
            self.servers.check()?;
            if let Some((_, last_words)) = self.stack.find_dead()?.pop() {
                return Err(last_words);
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn usage(&mut self) -> Result<CpuTime> {
        CpuTime::now(&self.stack, &mut self.servers, &[Program::Aggregator])
    }

    fn load(&mut self, task: &str, arguments: &[&str]) -> Result<Value> {
        let output =
            self.load_command(task).args(arguments).output().context("cannot start flowmeter-load")?;
        report_of(output)
    }

    fn load_command(&self, task: &str) -> Command {
        let mut command = Command::new(self.built.join("flowmeter-load"));
        command.arg(task).args(["--nats", &self.servers.admin_nats_url]);
        command.args(["--executions-bytes-max", &STREAM_BYTES_MAX.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} executions/s, CPU µs for each:", self.per_second)?;
        self.cpu_us.iter().try_for_each(|(name, used)| write!(f, " {name} {used:.1}"))
    }
}

impl Run {
    fn of(executions: f64, took: Duration, usage: &CpuTime) -> Self {
        let parts = usage.parts.iter().map(|(name, used)| (*name, *used)).chain([("others", usage.others())]);
        let cpu_us = parts.map(|(name, used)| (name, used.as_secs_f64() * 1e6 / executions)).collect();
        Self { per_second: executions / took.as_secs_f64(), cpu_us }
    }
}

fn report_of(output: std::process::Output) -> Result<Value> {
    if !output.status.success() {
        bail!("flowmeter-load failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("flowmeter-load printed no JSON")
}

fn rate(report: &Value, what: &str) -> Result<f64> {
    let number = |name: &str| report.get(name).and_then(Value::as_f64).context("a figure is missing");
    Ok(number(what)? / number("seconds")?)
}
