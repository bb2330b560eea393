//! The figures of `cargo xtask bench collector`.

use std::{fmt, time::Duration};

use crate::cpu_time::CpuTime;

/// The goals of one collector: this many sources within a round of this length, and with this much memory.
const SOURCES: f64 = 10_000.0;
const ROUND: Duration = Duration::from_secs(600);
const MEMORY_KIB_MAX: u64 = 300 * 1_000 * 1_000 / 1_024;

const KIB_PER_MIB: u64 = 1_024;
const BYTES_PER_MIB: f64 = 1_024.0 * 1_024.0;

/// A phase in which every source was swept once.
#[derive(Debug, Clone)]
pub struct Phase {
    /// From its start to the last sweep's end.
    pub took: Duration,
    /// Processor time by process.
    pub usage: CpuTime,
}

/// The same pages, fetched and thrown away.
#[derive(Debug, Clone)]
pub struct Bare {
    /// From the first request to the last answer.
    pub took: Duration,
    /// All answers together.
    pub bytes: f64,
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    /// Sources of the run.
    pub sources: u32,
    /// Sweeps at once.
    pub concurrency: usize,
    /// Executions of each source at first.
    pub held: u32,
    /// Executions of each source before the round with news.
    pub news_each: u32,
    /// Processors of the machine.
    pub cores: usize,
    /// Everything that the sources hold.
    pub first_contact: (Phase, Bare),
    /// The medians of the rounds without news.
    pub quiet: (Phase, Bare),
    /// The round with news.
    pub news: (Phase, Bare),
    /// The collector's peak memory.
    pub memory_peak_kib: u64,
}

impl Report {
    /// Whether the goals are met on this machine.
    pub fn fits(&self) -> bool {
        self.headroom() >= 1.0 && self.memory_peak_kib < MEMORY_KIB_MAX
    }

    /// How many times the goal's sources fit into its round.
    fn headroom(&self) -> f64 {
        self.per_minute(self.quiet.0.took) * ROUND.as_secs_f64() / 60.0 / SOURCES
    }

    fn per_minute(&self, took: Duration) -> f64 {
        f64::from(self.sources) * 60.0 / took.as_secs_f64()
    }

    fn executions(&self, each: u32, took: Duration) -> f64 {
        f64::from(self.sources) * f64::from(each) / took.as_secs_f64()
    }

    fn round(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        (phase, bare): &(Phase, Bare),
        news: Option<u32>,
    ) -> fmt::Result {
        writeln!(f, "\n{what}")?;
        let line = |f: &mut fmt::Formatter<'_>, who: &str, took: Duration| {
            let (seconds, per_minute) = (took.as_secs_f64(), self.per_minute(took));
            write!(f, "  {who:<12}{seconds:>8.1} s{per_minute:>10.0} sources/min")?;
            match news {
                Some(each) => writeln!(f, "{:>10.0} executions/s", self.executions(each, took)),
                None => writeln!(f),
            }
        };
        line(f, "collector", phase.took)?;
        line(f, "bare fetch", bare.took)?;
        let ratio = bare.took.as_secs_f64() / phase.took.as_secs_f64();
        let mib_each = bare.bytes / BYTES_PER_MIB / f64::from(self.sources);
        writeln!(f, "  ratio to the bare fetch of the same pages {ratio:.2} ({mib_each:.2} MiB a source)")?;
        self.processors(f, phase)
    }

    /// Processor time for a thousand sweeps, and the share of all processors while the phase lasted.
    fn processors(&self, f: &mut fmt::Formatter<'_>, phase: &Phase) -> fmt::Result {
        let cores = u32::try_from(self.cores).unwrap_or(1);
        let all = phase.took.as_secs_f64() * f64::from(cores);
        let others = [("others", phase.usage.others())];
        write!(f, "  CPU s per 1,000 sweeps (share of {cores} cores):")?;
        for (name, used) in phase.usage.parts.iter().chain(&others) {
            let per_thousand = used.as_secs_f64() * 1_000.0 / f64::from(self.sources);
            write!(f, " {name} {per_thousand:.2} ({:.0} %)", used.as_secs_f64() * 100.0 / all)?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, held, news_each, concurrency, .. } = self;
        writeln!(f, "\n{sources} sources with {held} executions each, {concurrency} sweeps at once")?;
        self.round(f, "a quiet round (median of three)", &self.quiet, None)?;
        writeln!(f, "  10,000 sources in 10 minutes: {:.1} times over", self.headroom())?;
        self.round(f, "first contact", &self.first_contact, Some(*held))?;
        self.round(f, "a round with news", &self.news, Some(*news_each))?;
        let (peak, goal) = (self.memory_peak_kib.div_ceil(KIB_PER_MIB), MEMORY_KIB_MAX / KIB_PER_MIB);
        writeln!(f, "\npeak memory of the collector {peak} MiB (goal: under {goal})")
    }
}
