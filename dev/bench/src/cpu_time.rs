//! Processor time by process during a phase of a benchmark.

use std::time::Duration;

use anyhow::{Context, Result};
use stack::{Program, Stack, backing::Servers, cpu};

/// Processor time, of each process or family of processes.
#[derive(Debug, Clone, Default)]
pub struct CpuTime {
    /// By name.
    pub parts: Vec<(&'static str, Duration)>,
    /// Everything on the machine: these, others, and stolen time.
    pub machine: Duration,
    /// What the machine's host gave to others.
    pub stolen: Duration,
}

impl CpuTime {
    /// What was used so far. A program that does not run yet has used nothing.
    pub fn now(stack: &Stack, servers: &mut Servers, programs: &[Program]) -> Result<Self> {
        let mut parts = Vec::new();
        for program in programs {
            let running = stack.processes().find(|(running, _)| running.program == *program);
            let used = running.and_then(|(_, process)| cpu::of(process.pid())).unwrap_or_default();
            parts.push((program.name(), used));
        }
        let postgres =
            servers.postgres.as_mut().and_then(|postgres| cpu::of_family(postgres.process().pid()));
        parts.push(("postgres", postgres.unwrap_or_default()));
        let nats = servers.nats.as_mut().and_then(|nats| cpu::of(nats.process().pid()));
        parts.push(("nats", nats.unwrap_or_default()));
        Ok(Self {
            parts,
            machine: cpu::of_machine().context("cannot read /proc/stat")?,
            stolen: cpu::stolen_from_machine().context("cannot read /proc/stat")?,
        })
    }

    /// What was used since then.
    pub fn since(&self, before: &Self) -> Self {
        let parts = self.parts.iter().zip(&before.parts);
        Self {
            parts: parts.map(|((name, now), (_, then))| (*name, now.saturating_sub(*then))).collect(),
            machine: self.machine.saturating_sub(before.machine),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }

    /// What others on the machine have used.
    pub fn others(&self) -> Duration {
        let own: Duration = self.parts.iter().map(|(_, used)| *used).sum();
        self.machine.saturating_sub(own).saturating_sub(self.stolen)
    }
}
