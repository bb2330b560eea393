//! The expected outcome of a history, by the rules in the README and without the service's code: small, slow,
//! and pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::script::{
    ATTRIBUTED_FROM, CANCELED, CRASHED, Change, ERROR, History, Item, MANUAL, Run, SHARED, SUCCESS, TENANTS,
    clock, home,
};

/// How long an ended period waits: no source reports here how far it is complete.
const GRACE: SignedDuration = SignedDuration::from_hours(6);

/// Every figure and every message: its key, and its content.
pub type Outcome = BTreeMap<String, String>;

/// Counted, uncounted, success, error, crashed, canceled, milliseconds, late.
type Figures = [u64; 8];

/// An execution as it is known, and what was decided about it.
#[derive(Clone)]
struct Known {
    run: Run,
    placed: Option<Placed>,
}

#[derive(Clone, Copy)]
struct Placed {
    tenant: usize,
    period: (Timestamp, Timestamp),
    counts: bool,
    late: bool,
}

struct Model<'a> {
    history: &'a History,
    limits: Vec<Option<u64>>,
    counts_manual: Vec<bool>,
    attributed: BTreeSet<usize>,
    /// The level of the last reading of each workflow of the shared source.
    readings: BTreeMap<usize, u32>,
    known: BTreeMap<(usize, u32, u64), Known>,
    opened: BTreeSet<(usize, (Timestamp, Timestamp))>,
    /// With the figures at that time.
    closed: BTreeMap<(usize, Timestamp), Figures>,
    corrected: BTreeSet<(usize, Timestamp)>,
    /// The limit that each period was last compared with.
    terms: BTreeMap<(usize, Timestamp), Option<u64>>,
    standing: BTreeSet<(usize, Timestamp, u64)>,
    crossings: BTreeMap<(usize, Timestamp, u64, u64), u32>,
}

/// The expected outcome of one history; `name` distinguishes its tenants and sources from those of others.
pub fn outcome(history: &History, name: &str) -> Outcome {
    let mut model = Model {
        history,
        limits: history.tenants.iter().map(|tenant| tenant.limit).collect(),
        counts_manual: history.tenants.iter().map(|tenant| tenant.counts_manual).collect(),
        attributed: BTreeSet::new(),
        readings: BTreeMap::new(),
        known: BTreeMap::new(),
        opened: BTreeSet::new(),
        closed: BTreeMap::new(),
        corrected: BTreeSet::new(),
        terms: BTreeMap::new(),
        standing: BTreeSet::new(),
        crossings: BTreeMap::new(),
    };
    for (phase, items) in history.items().into_iter().enumerate() {
        let now = clock(phase);
        model.turn(now);
        model.cross(now);
        if let Some(change) = &history.phases[phase].change {
            model.change(change);
        }
        model.place_unplaced();
        model.cross(now);
        model.hear(items);
        model.place_unplaced();
        model.cross(now);
    }
    model.tell(name, clock(history.phases.len() - 1))
}

impl Model<'_> {
    /// The clock has moved: closes the periods whose grace is over, and opens the current ones.
    fn turn(&mut self, now: Timestamp) {
        for (tenant, period) in self.opened.clone() {
            if period.1 + GRACE <= now && !self.closed.contains_key(&(tenant, period.0)) {
                let figures = self.figures(|known| (known.tenant, known.period) == (tenant, period));
                self.closed.insert((tenant, period.0), figures);
            }
        }
        for tenant in 0..TENANTS {
            self.opened.insert((tenant, self.history.period_of(tenant, now)));
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Limit(tenant, limit) => self.limits[*tenant] = *limit,
            Change::CountManual(tenant, counts) => self.counts_manual[*tenant] = *counts,
            Change::Attribute(workflow) => drop(self.attributed.insert(*workflow)),
        }
    }

    /// Takes everything of one phase, in no particular order.
    fn hear(&mut self, items: Vec<Item>) {
        for item in items {
            match item {
                Item::Reading(workflow, level) => {
                    let known = self.readings.entry(workflow).or_default();
                    *known = level.max(*known);
                }
                Item::Run(run) => {
                    let key = (run.source, run.epoch, run.id);
                    let known = self.known.entry(key).or_insert(Known { run: run.clone(), placed: None });
                    if known.run.status == CRASHED && run.status != CRASHED {
                        known.run = run;
                        if let Some(placed) = known.placed {
                            self.note_change_of_closed(placed);
                        }
                    }
                }
            }
        }
    }

    fn note_change_of_closed(&mut self, placed: Placed) {
        let key = (placed.tenant, placed.period.0);
        if self.closed.contains_key(&key) {
            self.corrected.insert(key);
        }
    }

    fn place_unplaced(&mut self) {
        let unplaced: Vec<_> = self.known.iter().filter(|(_, known)| known.placed.is_none()).collect();
        let found: Vec<_> =
            unplaced.into_iter().filter_map(|(key, known)| Some((*key, self.place(&known.run)?))).collect();
        for (key, placed) in found {
            self.opened.insert((placed.tenant, placed.period));
            self.note_change_of_closed(placed);
            self.known.get_mut(&key).unwrap().placed = Some(placed);
        }
    }

    fn place(&self, run: &Run) -> Option<Placed> {
        let tenant = if run.source == SHARED { self.attribute(run)? } else { run.source };
        let period = self.history.period_of(tenant, run.stopped_at);
        let mode_counts = run.mode < MANUAL || (run.mode == MANUAL && self.counts_manual[tenant]);
        let counts = mode_counts && run.status != CANCELED;
        Some(Placed { tenant, period, counts, late: self.closed.contains_key(&(tenant, period.0)) })
    }

    /// The first tenant has a tag, perhaps from a date on; the second a project; single workflows may be
    /// attributed too.
    fn attribute(&self, run: &Run) -> Option<usize> {
        let tenant = home(run.workflow);
        let level = self.readings.get(&run.workflow).copied().unwrap_or_default();
        let dated = self.history.dated && run.stopped_at < ATTRIBUTED_FROM.parse().unwrap();
        let matches = match tenant {
            0 => level >= 2 && !dated,
            _ => level >= 3,
        };
        (matches || self.attributed.contains(&run.workflow)).then_some(tenant)
    }

    fn figures(&self, of: impl Fn(Placed) -> bool) -> Figures {
        let mut sum = Figures::default();
        for known in self.known.values() {
            if let Some(placed) = known.placed.filter(|placed| of(*placed)) {
                add(&mut sum, &known.run, placed);
            }
        }
        sum
    }

    /// Crosses the thresholds that open periods have reached by now: with the present limit in current
    /// periods, with the last limit in force in ended ones.
    fn cross(&mut self, now: Timestamp) {
        for (tenant, period) in self.opened.clone() {
            if self.closed.contains_key(&(tenant, period.0)) {
                continue;
            }
            let held = self.terms.entry((tenant, period.0)).or_insert(self.limits[tenant]);
            if now < period.1 {
                *held = self.limits[tenant];
            }
            let held = *held;
            let [used, ..] = self.figures(|placed| (placed.tenant, placed.period) == (tenant, period));
            for percent in [80, 100] {
                let key = (tenant, period.0, percent);
                match held.filter(|limit| used * 100 >= limit * percent) {
                    None => drop(self.standing.remove(&key)),
                    Some(limit) if self.standing.insert(key) => {
                        *self.crossings.entry((tenant, period.0, percent, limit)).or_default() += 1;
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn tell(&self, name: &str, now: Timestamp) -> Outcome {
        let mut sums: BTreeMap<String, Figures> = BTreeMap::new();
        let mut unmapped = 0;
        for known in self.known.values() {
            let Some(placed) = known.placed else {
                unmapped += 1;
                continue;
            };
            let run = &known.run;
            let tenant = format!("{name}-t{}", placed.tenant);
            let (period, workflow) =
                (seconds(placed.period.0), format!("{name}-s{} w{}", run.source, run.workflow));
            let hour = run.stopped_at.as_second().div_euclid(3_600) * 3_600;
            let day = seconds(self.history.day_of(placed.tenant, run.stopped_at));
            for key in [
                format!("period {tenant} {period}"),
                format!("workflow {tenant} {period} {workflow}"),
                format!("hour {tenant} {hour}"),
                format!("day {tenant} {day}"),
                format!("workflow day {tenant} {day} {workflow}"),
            ] {
                add(sums.entry(key).or_default(), run, placed);
            }
        }
        let mut outcome: Outcome = sums.iter().map(|(key, sum)| (key.clone(), format!("{sum:?}"))).collect();
        if unmapped > 0 {
            outcome.insert(format!("unmapped {name}-s{SHARED}"), unmapped.to_string());
        }
        for (tenant, period) in &self.opened {
            let key = format!("{name}-t{tenant} {}", seconds(period.0));
            let is_closed = self.closed.contains_key(&(*tenant, period.0));
            outcome.insert(format!("bounds {key}"), format!("{} {is_closed}", seconds(period.1)));
            outcome.insert(format!("opened {key}"), "1".to_owned());
            if period.0 <= now && now < period.1 {
                let [counted, ..] =
                    self.figures(|placed| (placed.tenant, placed.period) == (*tenant, *period));
                outcome.insert(format!("current {key}"), format!("{counted} of {:?}", self.limits[*tenant]));
            }
        }
        for ((tenant, start), figures) in &self.closed {
            outcome.insert(format!("closed {name}-t{tenant} {}", seconds(*start)), format!("1 {figures:?}"));
        }
        for (tenant, start) in &self.corrected {
            let sum = self.figures(|placed| (placed.tenant, placed.period.0) == (*tenant, *start));
            outcome.insert(format!("late {name}-t{tenant} {}", seconds(*start)), format!("{sum:?}"));
        }
        for ((tenant, start, percent, limit), count) in &self.crossings {
            let key = format!("crossing {name}-t{tenant} {} {percent} {limit}", seconds(*start));
            outcome.insert(key, count.to_string());
        }
        outcome
    }
}

fn add(sum: &mut Figures, run: &Run, placed: Placed) {
    if !placed.counts {
        sum[1] += 1;
        return;
    }
    sum[0] += 1;
    let place = [SUCCESS, ERROR, CRASHED, CANCELED].iter().position(|status| *status == run.status).unwrap();
    sum[2 + place] += 1;
    sum[6] += u64::try_from(run.stopped_at.duration_since(run.started_at).as_millis()).unwrap();
    sum[7] += u64::from(placed.late);
}

fn seconds(at: Timestamp) -> i64 {
    at.as_second()
}
