//! `cargo xtask memory`.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use stack::{
    Interrupt, Profile, Project, Stack, backing::Servers, binaries, demo, memory, postgres::Durability,
    services::Options,
};

/// Pause between two samples (the kernel records no peak for a family of processes).
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

const KIB_PER_MIB: u64 = 1024;

/// Arguments of `cargo xtask memory`.
#[derive(Debug, Args)]
pub struct Measure {
    /// Seconds to watch the idle stack.
    #[arg(long, default_value_t = 15)]
    idle_seconds: u64,
    /// Seconds to watch it under the demo's load.
    #[arg(long, default_value_t = 60)]
    load_seconds: u64,
    /// Build without optimisations, to see the figures sooner.
    #[arg(long)]
    debug: bool,
}

impl Measure {
    /// Runs the task on a private stack of its own.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let interrupt = Interrupt::listen()?;
        let binaries = binaries::build(&project, !self.debug)?;
        println!("Watching the idle stack for {} s", self.idle_seconds);
        let idle = self.watch(&project, &binaries, false, &interrupt)?;
        println!("Watching it under the demo's load for {} s", self.load_seconds);
        let load = self.watch(&project, &binaries, true, &interrupt)?;
        print(&idle, &load);
        Ok(if interrupt.asked() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// A fresh stack for each state, so that a peak belongs to one.
    fn watch(
        &self,
        project: &Project,
        binaries: &std::path::Path,
        load: bool,
        interrupt: &Interrupt,
    ) -> Result<Peaks> {
        let profile = Profile::fresh(project, "memory")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        let options = Options {
            sandbox_args: demo::sandbox_arguments(&profile, load),
            ..Options::new(binaries.to_owned(), servers.backing.clone())
        };
        let mut stack = Stack::start(profile, options)?;
        if load {
            demo::apply(project, &stack)?;
        }
        let seconds = if load { self.load_seconds } else { self.idle_seconds };
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut peaks = Peaks::default();
        while Instant::now() < until && !interrupt.asked() {
            peaks.sample(&stack, &mut servers);
            std::thread::sleep(SAMPLE_EVERY);
        }
        stack.stop()?;
        servers.stop()?;
        Ok(peaks)
    }
}

#[derive(Debug, Default)]
struct Peaks {
    kib: BTreeMap<String, u64>,
    whole_kib: u64,
}

impl Peaks {
    fn sample(&mut self, stack: &Stack, servers: &mut Servers) {
        let mut now_kib = 0;
        for (replica, process) in stack.processes() {
            if let Some(memory) = memory::of(process.pid()) {
                now_kib += memory.now_kib;
                self.raise(&replica.name(), memory.peak_kib);
            }
        }
        if let Some(memory) = servers.nats.as_mut().and_then(|nats| memory::of(nats.process().pid())) {
            now_kib += memory.now_kib;
            self.raise("nats", memory.peak_kib);
        }
        let postgres = servers.postgres.as_mut();
        if let Some(family_kib) = postgres.and_then(|postgres| memory::of_family(postgres.process().pid())) {
            now_kib += family_kib;
            self.raise("postgres", family_kib);
        }
        self.whole_kib = self.whole_kib.max(now_kib);
    }

    fn raise(&mut self, name: &str, kib: u64) {
        let peak = self.kib.entry(name.to_owned()).or_default();
        *peak = kib.max(*peak);
    }
}

fn print(idle: &Peaks, load: &Peaks) {
    println!("\n{:<14}{:>16}{:>22}", "peak, MiB", "idle", "under the demo's load");
    let row = |name: &str, idle_kib: u64, load_kib: u64| {
        println!("{name:<14}{:>16}{:>22}", idle_kib.div_ceil(KIB_PER_MIB), load_kib.div_ceil(KIB_PER_MIB));
    };
    for (name, idle_kib) in &idle.kib {
        row(name, *idle_kib, load.kib.get(name).copied().unwrap_or_default());
    }
    row("whole stack", idle.whole_kib, load.whole_kib);
    println!(
        "\nThe kernel's VmHWM of each process; for Postgres the proportional sizes of all its processes, sampled;\n\
         the whole stack is the largest sum at one moment."
    );
}
