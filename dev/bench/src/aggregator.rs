//! `cargo xtask bench aggregator`.

mod bed;
mod plot;
mod report;
mod step;
mod stored;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use self::{
    bed::{Bed, Case, Publisher},
    report::{Ceiling, Report},
};

/// What runs in every round of the comparison: duplicates in percent, workers, executions in a message, publisher.
const DUPLICATES: [u64; 2] = [FEW_DUPLICATES, 30];
const FEW_DUPLICATES: u64 = 1;
const WORKERS: [u32; 2] = [1, 2];
const PER_MESSAGE: [u64; 2] = [SINGLE, PACKED];

/// As the collector packs a busy source's new executions.
const PACKED: u64 = 50;
const SINGLE: u64 = 1;

/// Arguments of `cargo xtask bench aggregator`.
#[derive(Debug, Args)]
pub struct AggregatorBench {
    /// Executions of one run with packed messages.
    #[arg(long, default_value_t = 1_000_000)]
    executions: u64,
    /// Executions of one run with one execution in each message.
    #[arg(long, default_value_t = 200_000)]
    single: u64,
    /// Runs of each case, of which the median is reported.
    #[arg(long, default_value_t = 3)]
    repeats: u32,
    /// Only cases and ceilings whose line contains this, e.g. `50 a message`; may be given several times. The ratios need all.
    #[arg(long)]
    only: Vec<String>,
    /// Tenants, each with a source and ten workflows.
    #[arg(long, default_value_t = 1_000)]
    tenants: u32,
    /// Instead of the comparison: record until this many executions are stored, a million at a time, and write the cost of
    /// each million to `docs/benchmarks/`.
    #[arg(long)]
    stored: Option<u64>,
}

impl AggregatorBench {
    /// Runs the benchmark on a private stack of its own.
    pub fn run(&self) -> Result<ExitCode> {
        if self.tenants == 0 || self.executions < 100_000 || self.single < 100_000 || self.repeats == 0 {
            bail!("use at least 100000 executions, one tenant and one repeat: fewer measure the start-up");
        }
        let mut bed = Bed::make(self.tenants)?;
        if let Some(executions) = self.stored {
            let kept = stored::run(&mut bed, executions)?;
            bed.stop()?;
            return Ok(kept);
        }
        let report = self.compare(&mut bed)?;
        bed.stop()?;
        print!("{report}");
        Ok(if report.keeps() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Runs all cases and ceilings in turn, `repeats` times, so that other work on the machine affects all of them.
    fn compare(&self, bed: &mut Bed) -> Result<Report> {
        let mut report = Report { tenants: self.tenants, ..Report::default() };
        for round in 1..=self.repeats {
            println!("Round {round} of {}", self.repeats);
            for case in self.cases().into_iter().filter(|case| self.is_wanted(case)) {
                let run = bed.run(&case)?;
                println!("  {case}: {run}");
                report.cases.entry(case).or_default().push(run);
            }
            let mut published = None;
            for ceiling in Ceiling::all(&WORKERS, &PER_MESSAGE) {
                if self.is_wanted(&ceiling) {
                    let per_second = self.measure(bed, ceiling, &mut published)?;
                    println!("  {ceiling}: {per_second:.0}/s");
                    report.ceilings.entry(ceiling).or_default().push(per_second);
                }
            }
        }
        Ok(report)
    }

    fn is_wanted(&self, line: &impl ToString) -> bool {
        let line = line.to_string();
        self.only.is_empty() || self.only.iter().any(|part| line.contains(part))
    }

    /// With one execution in a message, the broker's disk bounds the publisher, so fewer such cases suffice.
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for publisher in [Publisher::Before, Publisher::Live] {
            for workers in WORKERS {
                for duplicates in DUPLICATES {
                    for per_message in PER_MESSAGE {
                        let executions = self.executions_of(per_message);
                        let case = Case { publisher, per_message, workers, duplicates, executions };
                        if per_message == PACKED || duplicates == FEW_DUPLICATES {
                            cases.push(case);
                        }
                    }
                }
            }
        }
        cases
    }

    fn executions_of(&self, per_message: u64) -> u64 {
        if per_message == PACKED { self.executions } else { self.single }
    }

    /// Executions/s. `published` is how many executions each message on the stream holds, once it has been filled.
    fn measure(&self, bed: &mut Bed, ceiling: Ceiling, published: &mut Option<u64>) -> Result<f64> {
        let mut publish = |bed: &mut Bed, per_message: u64| {
            let executions = self.executions_of(per_message);
            if published.replace(per_message) != Some(per_message) {
                bed.publish_only(executions, per_message)?;
            }
            anyhow::Ok(executions.div_ceil(per_message))
        };
        match ceiling {
            Ceiling::Copy(connections) => bed.copy(connections, self.executions, "all"),
            Ceiling::KeyedCopy(connections) => bed.copy(connections, self.executions, "key"),
            Ceiling::Broker => {
                let messages = publish(bed, SINGLE)?;
                bed.consume("nothing", messages)
            }
            Ceiling::Decode(per_message) => {
                let messages = publish(bed, per_message)?;
                Ok(bed.consume("decode", messages)? * per_message as f64)
            }
            Ceiling::OneStatement(per_message) => {
                let messages = publish(bed, per_message)?;
                bed.baseline(messages)
            }
        }
    }
}
