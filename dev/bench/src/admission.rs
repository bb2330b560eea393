//! `cargo xtask bench admission`.

mod report;

use std::{
    ffi::OsStr,
    io::Read,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use stack::{
    Api, Profile, Program, Project, Stack, api,
    backing::Servers,
    cpu, ports,
    postgres::Durability,
    process::{Launch, Process},
    services::Options,
    wait,
};

use self::report::{Answered, Asked, Report};
use crate::{binaries, cpu_time::CpuTime};

/// Measurements, of which the median is reported.
const REPEATS: u32 = 3;

/// So high that no run is refused, and leases have the size that they have far from a limit.
const LIMIT: u64 = 1_000_000_000;

/// The figures reach the gateway within seconds; a busy machine takes longer.
const FIGURES_WITHIN: Duration = Duration::from_secs(60);

/// The bare handler starts at once.
const BARE_READY_WITHIN: Duration = Duration::from_secs(30);

/// Arguments of `cargo xtask bench admission`.
#[derive(Debug, Args)]
pub struct AdmissionBench {
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// How long each measurement lasts, after a warm-up.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The warm-up: connections, caches, leases as large as the rate needs.
    #[arg(long, default_value_t = 3)]
    warm_up_seconds: u32,
    /// Tenants, used in turn, each with four workflows.
    #[arg(long, default_value_t = 100)]
    tenants: u32,
}

impl AdmissionBench {
    /// Runs the benchmark on a private stack of its own.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let built = binaries::build(&project)?;
        let profile = Profile::fresh(&project, "bench-admission")?;
        let servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        let options = Options { spans: false, ..Options::new(built.clone(), servers.backing.clone()) };
        let stack = Stack::start_some(profile, options, &[Program::Gateway])?;
        let is_first_in_line = may_be_first_in_line();
        if !is_first_in_line {
            println!(
                "`chrt` cannot give the generator real-time priority: it will be late, and send its requests in bursts"
            );
        }
        let load = built.join("flowmeter-load");
        let mut run = Run { bench: self, stack, servers, load, is_first_in_line };
        run.make_tenants()?;
        let report = run.measure()?;
        run.stack.stop()?;
        run.servers.stop()?;
        print!("{report}");
        Ok(if report.fits() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A running gateway with all tenants created.
struct Run<'a> {
    bench: &'a AdmissionBench,
    stack: Stack,
    servers: Servers,
    /// `flowmeter-load`.
    load: PathBuf,
    /// Whether the generator may have real-time priority.
    is_first_in_line: bool,
}

impl Run<'_> {
    fn make_tenants(&self) -> Result<()> {
        let tenants = self.bench.tenants;
        println!("Creating {tenants} tenants");
        let gateway = self.stack.gateway();
        gateway.put("/v1/plans/pro", &json!({ "name": "Pro", "monthly_limit": LIMIT }))?;
        for number in 0..tenants {
            let tenant = format!("t{number:04}");
            gateway.put(&format!("/v1/tenants/{tenant}"), &json!({ "name": tenant, "plan": "pro" }))?;
        }
        let figures = ["figures", "--nats", &self.servers.admin_nats_url, "--tenants", &tenants.to_string()];
        self.load(&figures)?;
        wait::until("the last tenant's figures", FIGURES_WITHIN, || {
            let look = gateway.get(&format!("/v1/admissions/t{:04}", tenants.saturating_sub(1)))?;
            Ok(look.get("used").and_then(Value::as_u64))
        })?;
        Ok(())
    }

    /// Measures the bare handler and the gateway in turn, so that both run under the same conditions; then both at half the
    /// gateway's rate.
    fn measure(&mut self) -> Result<Report> {
        let port = ports::free()?;
        let bare_address = format!("127.0.0.1:{port}");
        let mut launch = Launch::new("bare", &self.load);
        launch.args = ["bare", "--listen", &bare_address].map(str::to_owned).to_vec();
        let mut bare_process = Process::start(self.stack.profile(), launch)?;
        let ready = format!("http://{bare_address}/readyz");
        bare_process.wait_ready(BARE_READY_WITHIN, || api::answers_ok(&ready))?;
        let gateway = self.stack.gateway();
        let address = gateway.base().trim_start_matches("http://").to_owned();

        let (mut bare, mut full) = (Vec::new(), Vec::new());
        for repeat in 0..REPEATS {
            println!("At the highest rate, {} of {REPEATS}", repeat + 1);
            bare.push(self.ask(&bare_address, &format!("bare-{repeat}"), None)?);
            full.push(self.ask(&address, &format!("full-{repeat}"), None)?);
        }
        let (bare, full) = (median(bare, Asked::per_second)?, median(full, Asked::per_second)?);
        let rate = Some(full.per_second() / 2.0);
        let (mut bare_half, mut half) = (Vec::new(), Vec::new());
        for repeat in 0..REPEATS {
            println!("At half of that rate, {} of {REPEATS}", repeat + 1);
            bare_half.push(self.ask(&bare_address, &format!("bare-half-{repeat}"), rate)?);
            half.push(self.ask(&address, &format!("half-{repeat}"), rate)?);
        }
        bare_process.stop()?;
        let AdmissionBench { connections, tenants, seconds, .. } = *self.bench;
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let half = median(half, |asked| asked.p99_ms)?;
        let bare_half = median(bare_half, |asked| asked.p99_ms)?;
        Ok(Report { connections, tenants, seconds, cores, bare, full, bare_half, half })
    }

    /// Sends requests to one of the two for a while.
    fn ask(&mut self, address: &str, run: &str, rate: Option<f64>) -> Result<Asked> {
        let bench = self.bench;
        let figures = [
            ("--connections", bench.connections),
            ("--tenants", bench.tenants),
            ("--seconds", bench.seconds),
            ("--warm-up-seconds", bench.warm_up_seconds),
        ];
        let mut command =
            if self.is_first_in_line { first_in_line(&self.load) } else { Command::new(&self.load) };
        command.args(["ask", "--address", address, "--run", run]);
        command.args(figures.iter().flat_map(|(name, figure)| [(*name).to_owned(), figure.to_string()]));
        command.args(rate.iter().flat_map(|rate| ["--rate".to_owned(), format!("{rate:.0}")]));
        command.env("FLOWMETER_TOKEN", self.stack.operator_token());
        let before = CpuTime::now(&self.stack, &mut self.servers, &[Program::Gateway])?;
        let load = command.stdout(Stdio::piped()).spawn().context("cannot start the load")?;
        thread::sleep(Duration::from_secs(bench.warm_up_seconds.into()));
        let warm = self.answered()?;
        let (printed, load) = finish(load)?;
        let mut usage = CpuTime::now(&self.stack, &mut self.servers, &[Program::Gateway])?.since(&before);
        usage.parts.push(("load", load));
        Asked::new(&printed, usage, bench.seconds + bench.warm_up_seconds, self.answered()?.since(warm))
    }

    /// What the gateway has measured itself so far.
    fn answered(&self) -> Result<Answered> {
        let ops = self.stack.ops_url(Program::Gateway).context("the gateway has an ops port")?;
        Ok(Answered::from_metrics(&Api::new(&ops).text("/metrics")?))
    }

    /// Runs a task of `flowmeter-load` whose output is not used.
    fn load(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new(&self.load).args(arguments).output().context("cannot start the load")?;
        if !output.status.success() {
            bail!("flowmeter-load failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

/// With real-time priority: like a separate machine, the generator does not wait for a core behind what it measures.
fn first_in_line(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("chrt");
    command.args(["--fifo", "1"]).arg(program);
    command
}

fn may_be_first_in_line() -> bool {
    let tried = first_in_line("true").stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Waits for the end of the load. Returns its output and its processor time.
fn finish(mut child: Child) -> Result<(Value, Duration)> {
    let mut printed = String::new();
    child.stdout.take().context("the load prints")?.read_to_string(&mut printed)?;
    // It has ended, or is about to: its processor time can be read until it is waited for.
    let used = cpu::of(child.id()).unwrap_or_default();
    if !child.wait()?.success() {
        bail!("the load failed");
    }
    Ok((serde_json::from_str(&printed).context("the load printed no JSON")?, used))
}

fn median(mut measured: Vec<Asked>, figure: impl Fn(&Asked) -> f64) -> Result<Asked> {
    measured.sort_by(|one, other| figure(one).total_cmp(&figure(other)));
    let middle = measured.len() / 2;
    measured.into_iter().nth(middle).context("nothing was measured")
}
