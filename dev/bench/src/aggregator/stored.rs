//! Whether recording costs the same with millions of executions stored.

use std::{fmt::Write as _, fs, process::ExitCode};

use anyhow::{Context, Result};
use stack::Project;

use super::{
    bed::{Bed, Load},
    plot,
    report::median,
    step::Step,
};

/// Recorded and measured at a time.
const STEP: u64 = 1_000_000;

const WORKERS: u32 = 2;
const DUPLICATES: u64 = 1;
/// A whole page of n8n: the broker is not being measured.
const PER_MESSAGE: u64 = 250;

/// The last tenth of all steps may cost this much more than the first.
const GROWTH_MAX: f64 = 1.25;

/// Records until this many are stored. Writes a table and a plot.
pub fn run(bed: &mut Bed, executions: u64) -> Result<ExitCode> {
    bed.begin_anew(WORKERS)?;
    let mut steps: Vec<Step> = Vec::new();
    let (mut from, mut stored) = (0, 0);
    while stored < executions {
        let load = Load { executions: STEP, from, duplicates: DUPLICATES, per_message: PER_MESSAGE };
        let (run, published) = bed.run_live(load, stored)?;
        let mib: f64 = bed.ask(SIZE)?.parse().context("no size")?;
        let cpu_us = run.cpu_us.iter().filter(|(name, _)| *name != "others").map(|(_, used)| used).sum();
        println!(
            "  {:>4} million stored: {:.0} executions/s, {cpu_us:.2} µs of CPU each, {mib:.0} MiB",
            stored / STEP,
            run.per_second
        );
        steps.push(Step { stored, per_second: run.per_second, cpu_us, table_mib: mib });
        stored += published.fresh;
        // Ids continue above those of the fullest source: gaps do no harm.
        from += STEP / u64::from(bed.tenants()) + 1;
    }
    let folder = Project::find()?.root().join("docs/benchmarks");
    fs::create_dir_all(&folder).context("cannot create docs/benchmarks")?;
    fs::write(folder.join("aggregator-stored.csv"), table(&steps)).context("cannot write the table")?;
    plot::cost(&folder.join("aggregator-stored.svg"), &steps)?;
    let growth = growth(&steps);
    let shared_buffers = bed.ask("SHOW shared_buffers")?;
    println!(
        "the last tenth costs {growth:.2} times the first (goal: at most {GROWTH_MAX}); shared_buffers {shared_buffers}"
    );
    Ok(if growth <= GROWTH_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const SIZE: &str = "SELECT sum(pg_total_relation_size(relid))::numeric / 1048576 FROM pg_partition_tree('aggregator.executions')";

fn table(steps: &[Step]) -> String {
    let mut csv = "stored_before,executions_per_second,cpu_us_per_execution,table_mib\n".to_owned();
    for step in steps {
        // Writing to a string does not fail.
        let _ =
            writeln!(csv, "{},{:.0},{:.3},{:.0}", step.stored, step.per_second, step.cpu_us, step.table_mib);
    }
    csv
}

/// Processor time of the last tenth against that of the first, without the very first step, which fills empty caches and
/// tables.
fn growth(steps: &[Step]) -> f64 {
    let tenth = steps.len().div_ceil(10);
    let cost = |steps: &[Step]| median(steps.iter().map(|step| step.cpu_us));
    let first = steps.get(1..=tenth).unwrap_or(steps);
    let last = steps.get(steps.len().saturating_sub(tenth)..).unwrap_or(steps);
    cost(last) / cost(first)
}
