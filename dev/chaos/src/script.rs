//! What happens in the n8n instances, drawn from a seed: the same seed gives the same script.

use std::{collections::VecDeque, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::cast::{CALENDARS, NAMES, SOURCES, TENANTS, WORKFLOWS};

/// Time between two inputs.
const INPUT_EVERY_MS: u64 = 125;

/// Executions of one input, at most.
const RUNS_MAX: u32 = 12;

/// The share of the time that belongs to March, in percent.
const MARCH_PERCENT: u64 = 55;

/// When the tenant that joins later does so, in percent of March.
const JOIN_PERCENT: u64 = 30;

/// The simulated clock is moved this often, so that reports and retries come due.
const STEP_EVERY_MS: u64 = 5_000;

/// The most that all steps of one month move it. March has 18 hours left when the play begins.
const STEPS_MS_MAX: u64 = 6 * 60 * 60 * 1_000;

/// The most that one step moves it. A paused service that wakes sees the old time for a moment; a minute is
/// less than what any service takes for a broken clock.
const STEP_MS_MAX: u64 = 60 * 1_000;

/// The longest that a sender may hold back a pushed execution.
const PUSH_DELAY_MS_MAX: u64 = 6_000;

/// Executions of one tenant in the last moments of March, at most: one of each of its sources.
const LAST_MOMENTS_MAX: u64 = 3;

/// Thresholds of every plan here: the default.
const THRESHOLDS_PERCENT: [u64; 2] = [80, 100];

/// Executions of one kind in one workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// An index into [`SOURCES`].
    pub source: usize,
    /// An index into [`WORKFLOWS`].
    pub workflow: usize,
    /// The workflow's current name: an index into [`NAMES`].
    pub name: usize,
    /// In n8n's terms.
    pub mode: &'static str,
    /// In n8n's terms.
    pub status: &'static str,
    /// How many.
    pub count: u32,
    /// How long each took.
    pub duration_ms: u64,
    /// Delays from their end until they are pushed: several are repeats, none leaves them to the poll.
    pub push_after_ms: Vec<u64>,
}

impl Runs {
    /// Whether a plan without switches counts them.
    fn counts(&self) -> bool {
        matches!(self.mode, "webhook" | "trigger" | "retry") && self.status != "canceled"
    }
}

/// A message that no service can process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Bytes that do not decode, among the executions.
    BadExecutions,
    /// Bytes that do not decode, among the crossings.
    BadCrossing,
    /// Bytes that do not decode, among the periods, which two services read.
    BadPeriod,
    /// Executions of an unknown source.
    UnknownSource,
    /// An execution without a status.
    BadRow,
}

impl Planted {
    const ALL: [Self; 5] =
        [Self::BadExecutions, Self::BadCrossing, Self::BadPeriod, Self::UnknownSource, Self::BadRow];

    /// The services that write a dead letter about it.
    pub fn readers(self) -> &'static [&'static str] {
        match self {
            Self::BadExecutions | Self::UnknownSource | Self::BadRow => &["aggregator"],
            Self::BadCrossing => &["alerts"],
            Self::BadPeriod => &["billing", "gateway"],
        }
    }
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Executions that have ended.
    Run(Runs),
    /// Every execution that has crashed since the last time is recovered as an error.
    Recover,
    /// An execution begins.
    Open {
        /// An index into [`SOURCES`].
        source: usize,
        /// An index into [`WORKFLOWS`].
        workflow: usize,
    },
    /// The execution that has been open the longest succeeds.
    Finish,
    /// A message that no service can process.
    Plant(Planted),
    /// The clock moves.
    Step {
        /// By this much.
        ms: u64,
    },
    /// The tenants that join later are added.
    Join,
    /// A tenant gets another time zone and anchor day.
    Recalendar {
        /// An index into [`TENANTS`].
        tenant: usize,
        /// An index into [`CALENDARS`].
        calendar: usize,
    },
}

/// An input with its time, in milliseconds since its month began.
pub type Timed = (u64, Input);

/// The whole play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What happens in March and is counted before it ends.
    pub march: Vec<Timed>,
    /// What happens in the last moments of March: it may be counted after its end.
    pub last_moments: Vec<Input>,
    /// Late executions: they appear after March is closed, but ended in it.
    pub late: Vec<Input>,
    /// What happens in April.
    pub april: Vec<Timed>,
}

impl Script {
    /// Draws a play of this length.
    pub fn draw(seed: u64, length_ms: u64) -> Self {
        let mut pen = Pen { rng: StdRng::seed_from_u64(seed), open: VecDeque::new(), joined: false };
        let march_ms = length_ms * MARCH_PERCENT / 100;
        let mut march = pen.month(march_ms, Some(march_ms * JOIN_PERCENT / 100));
        // Crashed executions are recovered before the month ends, so that their period does not depend on chance.
        march.push((march_ms, Input::Recover));
        let mut last_moments: Vec<Input> = (0..SOURCES.len()).map(|source| pen.few(source)).collect();
        for source in 0..SOURCES.len() {
            last_moments.push(pen.begin(source));
        }
        let late = (0..SOURCES.len()).map(|source| pen.few(source)).collect();
        let april_ms = length_ms - march_ms;
        let mut april = pen.month(april_ms, None);
        april.push((april_ms, Input::Recover));
        april.extend(pen.open.drain(..).map(|()| (april_ms, Input::Finish)));
        Self { march, last_moments, late, april }
    }

    /// The length of the shorter month, without the waits between them.
    pub fn shorter_month(&self) -> Duration {
        let length = |month: &[Timed]| month.last().map_or(0, |(at_ms, _)| *at_ms);
        Duration::from_millis(length(&self.march).min(length(&self.april)))
    }

    /// What a tenant's plan counts before March ends: its limit is a percentage of that.
    pub fn counted_in_march(&self, tenant: usize) -> u64 {
        let of_tenant = |runs: &&Runs| SOURCES.get(runs.source).is_some_and(|it| it.tenant == tenant);
        let runs = self.march.iter().filter_map(|(_, input)| match input {
            Input::Run(runs) => Some(runs),
            _ => None,
        });
        runs.filter(of_tenant).filter(|runs| runs.counts()).map(|runs| u64::from(runs.count)).sum()
    }

    /// The monthly limit of a tenant: the wanted one, or the next at which the last moments of March, whose
    /// executions may be counted after its end, decide no crossing.
    pub fn limit(&self, tenant: usize) -> u64 {
        let percent = TENANTS.get(tenant).map_or(100, |tenant| tenant.limit_percent);
        let sure = self.counted_in_march(tenant);
        let most = sure + LAST_MOMENTS_MAX;
        let wanted = (sure * percent / 100).max(1);
        // At a limit of twice the most, both thresholds lie above it.
        (wanted..=wanted + 2 * most)
            .find(|limit| {
                THRESHOLDS_PERCENT.iter().all(|percent| {
                    let crossed = |used: u64| used * 100 >= limit * percent;
                    crossed(sure) == crossed(most)
                })
            })
            .unwrap_or(wanted)
    }

    /// The bad messages in it, counted as dead letters.
    pub fn dead_letters(&self) -> usize {
        let inputs = self.march.iter().chain(&self.april).map(|(_, input)| input);
        inputs.map(|input| if let Input::Plant(planted) = input { planted.readers().len() } else { 0 }).sum()
    }
}

struct Pen {
    rng: StdRng,
    /// One for each execution that has begun and not ended.
    open: VecDeque<()>,
    joined: bool,
}

impl Pen {
    fn month(&mut self, length_ms: u64, join_at_ms: Option<u64>) -> Vec<Timed> {
        let steps = (length_ms / STEP_EVERY_MS).max(1);
        let step_ms = (STEPS_MS_MAX / steps).min(STEP_MS_MAX);
        let mut inputs = Vec::new();
        let (mut next_step_ms, mut join_at_ms) = (STEP_EVERY_MS, join_at_ms);
        for at_ms in (0..length_ms).step_by(usize::try_from(INPUT_EVERY_MS).unwrap_or(1)) {
            if join_at_ms.take_if(|join| *join <= at_ms).is_some() {
                self.joined = true;
                inputs.push((at_ms, Input::Join));
            }
            if next_step_ms <= at_ms {
                next_step_ms += STEP_EVERY_MS;
                inputs.push((at_ms, Input::Step { ms: step_ms }));
                inputs.push((at_ms, self.recalendar()));
            }
            inputs.push((at_ms, self.input()));
        }
        inputs
    }

    fn source(&mut self) -> usize {
        loop {
            let source = self.rng.random_range(0..SOURCES.len());
            let joins_later =
                SOURCES.get(source).and_then(|it| TENANTS.get(it.tenant)).is_some_and(|it| it.joins_later);
            if self.joined || !joins_later {
                return source;
            }
        }
    }

    fn input(&mut self) -> Input {
        let source = self.source();
        match self.rng.random_range(0..1_000) {
            0..25 => Input::Recover,
            25..60 => self.begin(source),
            60..90 if self.open.pop_front().is_some() => Input::Finish,
            90..100 => {
                let which = self.rng.random_range(0..Planted::ALL.len());
                Input::Plant(Planted::ALL.get(which).copied().unwrap_or(Planted::BadRow))
            }
            _ => Input::Run(self.runs(source)),
        }
    }

    /// Picks a tenant that takes part from the start: the calendar of one that joins later could change before any service
    /// has seen the first one.
    fn recalendar(&mut self) -> Input {
        let there =
            (0..TENANTS.len()).filter(|tenant| TENANTS.get(*tenant).is_some_and(|it| !it.joins_later));
        let there: Vec<usize> = there.collect();
        let tenant = there.get(self.rng.random_range(0..there.len())).copied().unwrap_or_default();
        Input::Recalendar { tenant, calendar: self.rng.random_range(0..CALENDARS.len()) }
    }

    /// Mostly the id; an odd one now and then.
    fn name(&mut self) -> usize {
        if self.rng.random_bool(0.8) { 0 } else { self.rng.random_range(0..NAMES.len()) }
    }

    fn begin(&mut self, source: usize) -> Input {
        self.open.push_back(());
        Input::Open { source, workflow: self.rng.random_range(0..WORKFLOWS.len()) }
    }

    fn runs(&mut self, source: usize) -> Runs {
        let (mode, status) = match self.rng.random_range(0..100) {
            0..62 => ("webhook", "success"),
            62..72 => ("trigger", "success"),
            72..80 => ("webhook", "error"),
            80..86 => ("manual", "success"),
            86..91 => ("integrated", "success"),
            91..93 => ("error", "success"),
            93..95 => ("webhook", "canceled"),
            _ => ("trigger", "crashed"),
        };
        Runs {
            source,
            workflow: self.rng.random_range(0..WORKFLOWS.len()),
            name: self.name(),
            mode,
            status,
            count: self.rng.random_range(1..=RUNS_MAX),
            duration_ms: self.rng.random_range(5..5_000),
            push_after_ms: self.pushes(source),
        }
    }

    /// Mostly once and soon; sometimes never, twice, or late and after younger ones.
    fn pushes(&mut self, source: usize) -> Vec<u64> {
        if !SOURCES.get(source).is_some_and(|it| it.pushes) {
            return Vec::new();
        }
        let times = match self.rng.random_range(0..100) {
            0..15 => 0,
            15..70 => 1,
            70..92 => 2,
            _ => 3,
        };
        let soon = self.rng.random_bool(0.6);
        (0..times)
            .map(|time| match (soon, time) {
                (true, 0) => 0,
                _ => self.rng.random_range(0..PUSH_DELAY_MS_MAX),
            })
            .collect()
    }

    /// Few enough to decide no crossing.
    fn few(&mut self, source: usize) -> Input {
        let push_after_ms = self.pushes(source);
        Input::Run(Runs {
            source,
            workflow: self.rng.random_range(0..WORKFLOWS.len()),
            name: self.name(),
            mode: "webhook",
            status: "success",
            count: 1,
            duration_ms: self.rng.random_range(5..5_000),
            push_after_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_script_and_another_seed_another() {
        assert_eq!(Script::draw(7, 60_000), Script::draw(7, 60_000));
        assert_ne!(Script::draw(7, 60_000), Script::draw(8, 60_000));
    }

    #[test]
    fn every_execution_ends_and_a_late_tenant_runs_nothing_before_it_joins() {
        let script = Script::draw(7, 60_000);
        let all = || {
            let march = script.march.iter().map(|(_, input)| input).chain(&script.last_moments);
            march.chain(&script.late).chain(script.april.iter().map(|(_, input)| input))
        };
        let begun = all().filter(|input| matches!(input, Input::Open { .. })).count();
        let ended = all().filter(|input| matches!(input, Input::Finish)).count();
        assert_eq!(begun, ended);
        let before = all().take_while(|input| **input != Input::Join);
        let early = before.filter(|input| matches!(input, Input::Run(runs) if runs.source == 5)).count();
        assert_eq!(early, 0);
    }

    #[test]
    fn the_last_moments_of_march_decide_no_crossing() {
        for (seed, length_ms) in (0..50).flat_map(|seed| [(seed, 20_000), (seed, 120_000)]) {
            let script = Script::draw(seed, length_ms);
            for tenant in 0..TENANTS.len() {
                let (sure, limit) = (script.counted_in_march(tenant), script.limit(tenant));
                let most = sure + 3;
                for percent in [80, 100] {
                    let crossed = |used: u64| used * 100 >= limit * percent;
                    assert_eq!(crossed(sure), crossed(most), "seed {seed}, tenant {tenant}, {percent} %");
                }
            }
        }
    }
}
