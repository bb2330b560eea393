//! The figures of `cargo xtask bench aggregator`.

use std::{collections::BTreeMap, fmt};

use super::{
    PACKED, SINGLE,
    bed::{Case, Publisher, Run},
};

/// Lowest ratio to the copy into the same table, with two workers and packed messages.
const COPY_RATIO_MIN: f64 = 0.8;

/// Lowest ratio to the one-statement design, likewise.
const BASELINE_RATIO_MIN: f64 = 3.0;

/// Lowest ratio to the broker's delivery rate, with one execution in a message.
const BROKER_RATIO_MIN: f64 = 0.5;

/// What the cases are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ceiling {
    /// Rows copied into the aggregator's own table, over this many connections.
    Copy(u32),
    /// The same with the primary key as the only index.
    KeyedCopy(u32),
    /// Messages with one execution each, acknowledged unread.
    Broker,
    /// Executions decoded, this many to a message.
    Decode(u64),
    /// The one-statement design, this many executions to a message.
    OneStatement(u64),
}

impl Ceiling {
    /// All of them, those that read the same messages one after the other.
    pub fn all(connections: &[u32], per_message: &[u64]) -> Vec<Self> {
        let copies = connections.iter().flat_map(|number| [Self::Copy(*number), Self::KeyedCopy(*number)]);
        let reads =
            per_message.iter().flat_map(|number| [Self::Decode(*number), Self::OneStatement(*number)]);
        copies.chain([Self::Broker]).chain(reads).collect()
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy(connections) => write!(f, "copy into the same table, connections {connections}"),
            Self::KeyedCopy(connections) => write!(f, "copy, its key alone, connections {connections}"),
            Self::Broker => write!(f, "consume and acknowledge, 1 a message"),
            Self::Decode(per_message) => {
                write!(f, "consume, decode and acknowledge, {per_message} a message")
            }
            Self::OneStatement(per_message) => write!(f, "one statement for 5,000, {per_message} a message"),
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    pub tenants: u32,
    pub cases: BTreeMap<Case, Vec<Run>>,
    pub ceilings: BTreeMap<Ceiling, Vec<f64>>,
}

impl Report {
    /// Whether the goals are met on this machine.
    pub fn keeps(&self) -> bool {
        self.promises().iter().all(|(_, ratio, least)| ratio >= least)
    }

    fn promises(&self) -> [(&'static str, f64, f64); 3] {
        let packed = self.case(Publisher::Before, PACKED, 2);
        let single = self.case(Publisher::Before, SINGLE, 2);
        [
            (
                "2 workers, packed, to the copy into the same table",
                packed / self.ceiling(Ceiling::Copy(2)),
                COPY_RATIO_MIN,
            ),
            (
                "2 workers, packed, to one statement, 1 a message",
                packed / self.ceiling(Ceiling::OneStatement(SINGLE)),
                BASELINE_RATIO_MIN,
            ),
            (
                "2 workers, 1 a message, to the broker",
                single / self.ceiling(Ceiling::Broker),
                BROKER_RATIO_MIN,
            ),
        ]
    }

    /// With the fewest repeats.
    fn case(&self, publisher: Publisher, per_message: u64, workers: u32) -> f64 {
        let found = self.cases.iter().find(|(case, _)| {
            case.publisher == publisher && case.per_message == per_message && case.workers == workers
        });
        found.map_or(0.0, |(_, runs)| median(runs.iter().map(|run| run.per_second)))
    }

    fn ceiling(&self, ceiling: Ceiling) -> f64 {
        self.ceilings.get(&ceiling).map_or(f64::INFINITY, |measured| median(measured.iter().copied()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} tenants with 10 workflows each; medians", self.tenants)?;
        writeln!(
            f,
            "\nfrom the stream to committed counts, executions/s (CPU µs for each, with all figures)"
        )?;
        for (case, runs) in &self.cases {
            write!(f, "  {:<62}{:>9.0}", case.to_string(), median(runs.iter().map(|run| run.per_second)))?;
            let names = runs.first().map(|run| run.cpu_us.clone()).unwrap_or_default();
            for (place, (name, _)) in names.iter().enumerate() {
                let used = runs.iter().filter_map(|run| run.cpu_us.get(place)).map(|(_, used)| *used);
                write!(f, "  {name} {:.1}", median(used))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\nceilings and the obvious design, executions/s")?;
        for (ceiling, measured) in &self.ceilings {
            writeln!(f, "  {:<62}{:>9.0}", ceiling.to_string(), median(measured.iter().copied()))?;
        }
        writeln!(f, "\nratios")?;
        for (what, ratio, least) in self.promises() {
            writeln!(f, "  {what:<62}{ratio:>9.2}  (goal: at least {least})")?;
        }
        Ok(())
    }
}

/// The median.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
