//! `cargo xtask bench collector`.

mod report;

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use stack::{
    Api, Interrupt, Profile, Program, Project, Stack, backing::Servers, memory, postgres::Durability,
    services::Options,
};

use self::report::{Bare, Phase, Report};
use crate::{binaries, cpu_time::CpuTime, progress::Progress};

/// Programs whose processor time is reported, besides the servers'.
const PROGRAMS: [Program; 2] = [Program::Collector, Program::Sandbox];

/// The collector's own default.
const CONCURRENCY_DEFAULT: usize = 64;

/// Rounds, of which the median is reported.
const REPEATS: usize = 3;

/// Longest that a phase may take, however slow the machine.
const PHASE_TIME_MAX: Duration = Duration::from_secs(1_800);

/// Pause between two checks of a phase's progress, and so the precision of its end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Requests at once while sources are created.
const MAKERS: u32 = 8;

/// A jump of the clock after which every source is due: an interval with its jitter, and more.
const DUE_MS: u64 = 2 * 600 * 1_000;

/// A jump of the clock after which a sweep no longer reads earlier runs again because they may still change.
const SETTLED_MS: u64 = 60 * 1_000;

/// The requests of a quiet sweep, in order.
const SWEEP_PATHS: [&str; 7] = [
    "executions?limit=1",
    "executions?limit=250&status=new",
    "executions?limit=250&status=running",
    "executions?limit=250&status=waiting",
    "executions?limit=250&status=running",
    "executions?limit=250",
    "executions?limit=1",
];

/// An additional request of a first contact.
const NAMES_PATH: &str = "workflows?limit=50";

const TENANT: &str = "north";

/// Arguments of `cargo xtask bench collector`.
#[derive(Debug, Args)]
pub struct CollectorBench {
    /// Sources, each an n8n of its own.
    #[arg(long, default_value_t = 10_000)]
    sources: u32,
    /// Executions that each holds at first: 250 fill the page that every sweep reads.
    #[arg(long, default_value_t = 250)]
    held: u32,
    /// Executions that each runs before the round with news.
    #[arg(long, default_value_t = 25)]
    news: u32,
    /// Sweeps at once, and instances at once in the bare fetch.
    #[arg(long, default_value_t = CONCURRENCY_DEFAULT)]
    concurrency: usize,
}

impl CollectorBench {
    /// Runs the benchmark on a private stack of its own.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let interrupt = Interrupt::listen()?;
        let built = binaries::build(&project)?;
        let profile = Profile::fresh(&project, "bench-collector")?;
        let servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        let options = Options {
            sandbox_listen: Ipv4Addr::UNSPECIFIED,
            spans: false,
            ..Options::new(built.clone(), servers.backing.clone())
        };
        let options = options.with("COLLECTOR__CONCURRENCY", &self.concurrency.to_string());
        let stack = Stack::start_some(profile, options, &[])?;
        let instances = self.make_instances(&stack)?;
        let mut run = Run { bench: self, stack, servers, built, instances, interrupt, sweeps: 0 };
        run.publish_sources()?;
        let report = run.measure()?;
        run.stack.stop()?;
        run.servers.stop()?;
        print!("{report}");
        Ok(if report.fits() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Creates instances with executions. Returns a file that lists them.
    fn make_instances(&self, stack: &Stack) -> Result<PathBuf> {
        println!("Creating {} instances with {} executions each", self.sources, self.held);
        let sandbox = stack.sandbox();
        self.for_each("instances created", |number| {
            sandbox.post(&format!("/control/n8n/{}", name(number)), &json!({}))?;
            self.let_run(&sandbox, number, self.held)
        })?;
        let port = sandbox.base().rsplit(':').next().context("the sandbox has a port")?;
        let list: String = (0..self.sources)
            .map(|number| format!("{0} {1} key-{0}\n", name(number), address(number, port)))
            .collect();
        let file = stack.profile().folder().join("instances");
        fs::write(&file, list).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    fn let_run(&self, sandbox: &Api, number: u32, count: u32) -> Result<()> {
        let runs = json!({ "workflow": "orderSync", "name": "Order sync", "count": count });
        sandbox.post(&format!("/control/n8n/{}/run", name(number)), &runs).map(drop)
    }

    /// Does something for each source, some at once.
    fn for_each(&self, what: &str, work: impl Fn(u32) -> Result<()> + Sync) -> Result<()> {
        let progress = Progress::start(what, self.sources);
        let done = AtomicU32::new(0);
        thread::scope(|scope| {
            let makers: Vec<_> = (0..MAKERS)
                .map(|maker| {
                    let (work, done, progress) = (&work, &done, &progress);
                    scope.spawn(move || -> Result<()> {
                        for number in (0..self.sources).filter(|number| number % MAKERS == maker) {
                            work(number)?;
                            progress.tell(done.fetch_add(1, Ordering::Relaxed) + 1);
                        }
                        Ok(())
                    })
                })
                .collect();
            makers.into_iter().try_for_each(|maker| match maker.join() {
                Ok(made) => made,
                Err(_) => bail!("a thread panicked"),
            })
        })
    }
}

fn name(number: u32) -> String {
    format!("s{number:05}")
}

/// An address of its own, so that no two sources share a connection.
fn address(number: u32, port: &str) -> String {
    let (high, low) = (number / 250, number % 250 + 1);
    format!("http://127.{}.{}.{low}:{port}/n8n/{}", 1 + high / 250, high % 250, name(number))
}

/// A running stack with all sources created.
struct Run<'a> {
    bench: &'a CollectorBench,
    stack: Stack,
    servers: Servers,
    built: PathBuf,
    instances: PathBuf,
    interrupt: Interrupt,
    /// Sweeps that have ended so far.
    sweeps: u32,
}

impl Run<'_> {
    fn measure(&mut self) -> Result<Report> {
        self.pass_time(SETTLED_MS)?;
        let first_contact = self.phase("first contact", |run| run.stack.restart(Program::Collector))?;
        let first_contact_bare = self.fetch("first contact", &[&SWEEP_PATHS[..], &[NAMES_PATH]].concat())?;
        let (mut quiet, mut quiet_bare) = (Vec::new(), Vec::new());
        for _ in 0..REPEATS {
            quiet.push(self.phase("a quiet round", |run| run.pass_time(DUE_MS))?);
            quiet_bare.push(self.fetch("a quiet round", &SWEEP_PATHS)?);
        }
        let (bench, sandbox) = (self.bench, self.stack.sandbox());
        bench.for_each("sources with news", |number| bench.let_run(&sandbox, number, bench.news))?;
        self.pass_time(SETTLED_MS)?;
        let news = self.phase("a round with news", |run| run.pass_time(DUE_MS))?;
        let news_bare = self.fetch("a round with news", &SWEEP_PATHS)?;
        let collector = self.pid(Program::Collector)?;
        let memory = memory::of(collector).context("cannot read the collector's memory")?;
        Ok(Report {
            sources: self.bench.sources,
            concurrency: self.bench.concurrency,
            held: self.bench.held,
            news_each: self.bench.news,
            cores: thread::available_parallelism().map_or(1, Into::into),
            first_contact: (first_contact, first_contact_bare),
            quiet: (median(quiet, |phase| phase.took)?, median(quiet_bare, |bare| bare.took)?),
            news: (news, news_bare),
            memory_peak_kib: memory.peak_kib,
        })
    }

    /// Makes every source due with `begin`, and waits until each was swept once.
    fn phase(&mut self, what: &str, begin: impl FnOnce(&mut Self) -> Result<()>) -> Result<Phase> {
        let sources = self.bench.sources;
        let progress = Progress::start(&format!("{what}: sources swept"), sources);
        let before = self.usage()?;
        let started_at = Instant::now();
        begin(self)?;
        loop {
            let swept = self.count_sweeps()?.saturating_sub(self.sweeps);
            if swept >= sources {
                self.sweeps += sources;
                let took = started_at.elapsed();
                return Ok(Phase { took, usage: self.usage()?.since(&before) });
            }
            progress.tell(swept);
            if self.interrupt.asked() || started_at.elapsed() > PHASE_TIME_MAX {
                bail!("{what} was not done within {} s", started_at.elapsed().as_secs());
            }
            self.servers.check()?;
            if let Some((_, last_words)) = self.stack.find_dead()?.pop() {
                return Err(last_words);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Publishes a source for every instance.
    fn publish_sources(&self) -> Result<()> {
        println!("Publishing the sources");
        let arguments = [
            "--nats",
            &self.servers.admin_nats_url,
            "--public-key",
            self.stack.sealing_key(),
            "--tenant",
            TENANT,
        ];
        self.load("sources", &arguments).map(drop)
    }

    /// The ceiling: the same pages without a collector.
    fn fetch(&self, what: &str, paths: &[&str]) -> Result<Bare> {
        println!("{what}: the same pages, fetched bare");
        let concurrency = self.bench.concurrency.to_string();
        let paths = paths.iter().flat_map(|path| ["--path", path]);
        let arguments: Vec<&str> = ["--concurrency", &concurrency].into_iter().chain(paths).collect();
        let report = self.load("fetch", &arguments)?;
        let number = |name: &str| report.get(name).and_then(Value::as_f64).context("a figure is missing");
        Ok(Bare { took: Duration::from_secs_f64(number("seconds")?), bytes: number("bytes")? })
    }

    /// Runs a task of `flowmeter-load` with all instances. Returns its output.
    fn load(&self, task: &str, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(self.built.join("flowmeter-load"))
            .arg(task)
            .arg("--instances")
            .arg(&self.instances)
            .args(arguments)
            .output()
            .context("cannot start flowmeter-load")?;
        if !output.status.success() {
            bail!("flowmeter-load failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("flowmeter-load printed no JSON")
    }

    fn usage(&mut self) -> Result<CpuTime> {
        CpuTime::now(&self.stack, &mut self.servers, &PROGRAMS)
    }

    fn pass_time(&self, by_ms: u64) -> Result<()> {
        self.stack.sandbox().post("/control/clock", &json!({ "advance_ms": by_ms })).map(drop)
    }

    /// Sweeps that have succeeded since the collector was started. None may fail.
    fn count_sweeps(&self) -> Result<u32> {
        let ops = self.stack.ops_url(Program::Collector).context("the collector has an ops port")?;
        let metrics = Api::new(&ops).text("/metrics")?;
        let bad = count(&metrics, "failed") + count(&metrics, "lost");
        if bad > 0 {
            let log = self.stack.profile().log(Program::Collector.name());
            bail!("{bad} sweeps have failed: see {}", log.display());
        }
        Ok(count(&metrics, "ended"))
    }

    fn pid(&self, program: Program) -> Result<u32> {
        let found = self.stack.processes().find(|(running, _)| running.program == program);
        Ok(found.with_context(|| format!("{} is not running", program.name()))?.1.pid())
    }
}

/// Sweeps with this outcome, from the collector's metrics.
fn count(metrics: &str, outcome: &str) -> u32 {
    let series = format!("flowmeter_sweeps_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

fn median<T>(mut measured: Vec<T>, took: impl Fn(&T) -> Duration) -> Result<T> {
    measured.sort_by_key(took);
    let middle = measured.len() / 2;
    measured.into_iter().nth(middle).context("nothing was measured")
}
