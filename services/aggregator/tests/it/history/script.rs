//! Histories: what happens to the tenants and sources of one small installation, in phases. Between two
//! phases all work is finished and the clock moves; within one, nothing may depend on order, packing or
//! repeats.
//!
//! Four things are decided by what is known when an execution is first recorded. They have to be the same in
//! every way of playing a history, so order is varied only within a phase:
//! - whether it counts: by the plan at that time;
//! - whether it is late: whether its period had closed by then;
//! - its period, and whether it counts, if it crashed and really ended otherwise: here both ends are in one
//!   period, and both count;
//! - its tenant, if readings of its workflow differ: here a later reading only adds to an earlier one, and
//!   never points to another tenant.

use std::sync::OnceLock;

use jiff::{Timestamp, ToSpan, civil, tz::TimeZone};
use proptest::{collection::vec, prelude::*, sample::Index};

/// In the first period of every tenant; then in the grace of those that end with March; then after it; then
/// in May. No period is skipped, because one that was never current would be opened only by an execution in
/// it.
pub const CLOCKS: [&str; 4] =
    ["2027-03-20T12:00:00Z", "2027-04-01T03:00:00Z", "2027-04-20T12:00:00Z", "2027-05-03T12:00:00Z"];

/// No period of any tenant begins between this and the first clock.
const EARLIEST: &str = "2027-03-15T05:00:00Z";

/// From here on one of the attributions applies.
pub const ATTRIBUTED_FROM: &str = "2027-03-28T01:30:00Z";

/// Zones whose clocks change in these weeks, one of them at midnight, and anchor days at the end of months.
const CALENDARS: [(&str, u32); 6] = [
    ("UTC", 1),
    ("Europe/Madrid", 31),
    ("America/New_York", 15),
    ("America/Havana", 14),
    ("Pacific/Auckland", 30),
    ("Europe/Madrid", 1),
];

pub const TENANTS: usize = 2;
/// The sources of a history: one of each tenant, and one that they share.
pub const SHARED: usize = TENANTS;
pub const WORKFLOWS: usize = 3;

/// Modes by their number in the contract.
pub const WEBHOOK: i32 = 1;
pub const MANUAL: i32 = 6;
pub const INTEGRATED: i32 = 7;
pub const MODES: i32 = 9;

/// Statuses by their number in the contract.
pub const SUCCESS: i32 = 1;
pub const ERROR: i32 = 2;
pub const CRASHED: i32 = 3;
pub const CANCELED: i32 = 4;

#[derive(Debug, Clone)]
pub struct History {
    pub tenants: Vec<TenantOf>,
    /// Whether the shared source's first attribution applies only from a date.
    pub dated: bool,
    pub phases: Vec<PhaseOf>,
    /// The calendars of each tenant, computed on first use.
    calendars: OnceLock<Vec<(Holding, Vec<usize>)>>,
}

#[derive(Debug, Clone)]
pub struct TenantOf {
    pub calendar: usize,
    pub limit: Option<u64>,
    pub counts_manual: bool,
}

#[derive(Debug, Clone)]
pub struct PhaseOf {
    pub change: Option<Change>,
    /// A tenant gets another calendar: it applies from the next period.
    calendar: Option<(usize, usize)>,
    events: Vec<Event>,
}

/// What changes in the catalog before a phase.
#[derive(Debug, Clone)]
pub enum Change {
    Limit(usize, Option<u64>),
    CountManual(usize, bool),
    /// Attributes this workflow of the shared source to its tenant, whatever is known of it.
    Attribute(usize),
}

#[derive(Debug, Clone)]
enum Event {
    Run(RunOf),
    /// A reading of a workflow of the shared source.
    Reading(usize, u32),
    /// An execution of this or an earlier phase is sent again.
    Again(Index),
}

#[derive(Debug, Clone)]
struct RunOf {
    source: usize,
    epoch: u32,
    workflow: usize,
    mode: i32,
    status: i32,
    stopped: When,
    duration_ms: i64,
    /// How a crash really ended, how much later, and whether that is found only in the next phase.
    truth: Option<(i32, i64, bool)>,
}

#[derive(Debug, Clone)]
enum When {
    /// In the phase, this many thousandths of it after its beginning.
    Recent(i64),
    /// This many milliseconds from the beginning of a period or day of its tenant.
    Edge(Index, i64),
    /// At any time since the first period.
    Ever(i64),
}

/// One observation of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub source: usize,
    pub epoch: u32,
    pub id: u64,
    pub workflow: usize,
    pub mode: i32,
    pub status: i32,
    pub started_at: Timestamp,
    pub stopped_at: Timestamp,
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum Item {
    Run(Run),
    /// A reading of a workflow of the shared source; the higher level is the later and shows more.
    Reading(usize, u32),
}

/// One history.
pub fn history() -> impl Strategy<Value = History> {
    let tenant = (0..CALENDARS.len(), prop::option::weighted(0.95, 1_u64..6), any::<bool>())
        .prop_map(|(calendar, limit, counts_manual)| TenantOf { calendar, limit, counts_manual });
    let calendar = prop::option::weighted(0.4, (0..TENANTS, 0..CALENDARS.len()));
    let phase = (prop::option::weighted(0.9, change()), calendar, vec(event(), 8..36))
        .prop_map(|(change, calendar, events)| PhaseOf { change, calendar, events });
    (vec(tenant, TENANTS), any::<bool>(), vec(phase, CLOCKS.len()))
        .prop_map(|(tenants, dated, phases)| History { tenants, dated, phases, calendars: OnceLock::new() })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..TENANTS, prop::option::weighted(0.95, 3_u64..16)).prop_map(|(of, to)| Change::Limit(of, to)),
        1 => (0..TENANTS, any::<bool>()).prop_map(|(of, to)| Change::CountManual(of, to)),
        1 => (0..WORKFLOWS).prop_map(Change::Attribute),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let stopped = prop_oneof![
        3 => (0_i64..1_000).prop_map(When::Recent),
        2 => (any::<Index>(), prop::sample::select(vec![-3_600_000, -1, 0, 1, 3_599_999]))
            .prop_map(|(edge, beside_ms)| When::Edge(edge, beside_ms)),
        1 => (0_i64..1_000).prop_map(When::Ever),
    ];
    let status = prop_oneof![6 => Just(SUCCESS), 2 => Just(ERROR), 4 => Just(CRASHED), 1 => Just(CANCELED)];
    let mode = prop_oneof![4 => Just(WEBHOOK), 2 => Just(MANUAL), 1 => 1..=MODES];
    let truth = prop::option::weighted(0.7, (SUCCESS..=ERROR, 0_i64..7_200_000, any::<bool>()));
    let run = (0..=SHARED, 1_u32..=2, 0..WORKFLOWS, mode, status, stopped, 0_i64..90_000, truth).prop_map(
        |(source, epoch, workflow, mode, status, stopped, duration_ms, truth)| {
            Event::Run(RunOf { source, epoch, workflow, mode, status, stopped, duration_ms, truth })
        },
    );
    prop_oneof![
        8 => run,
        1 => (0..WORKFLOWS, 1_u32..=3).prop_map(|(workflow, level)| Event::Reading(workflow, level)),
        1 => any::<Index>().prop_map(Event::Again),
    ]
}

pub fn clock(phase: usize) -> Timestamp {
    CLOCKS[phase].parse().unwrap()
}

/// The tenant that a workflow of the shared source may belong to.
pub fn home(workflow: usize) -> usize {
    workflow % TENANTS
}

/// Zone and anchor day of a calendar.
pub fn calendar(number: usize) -> (&'static str, u32) {
    CALENDARS[number]
}

/// Start and end of a calendar's month that contains an instant.
fn month_of(calendar: usize, at: Timestamp) -> (Timestamp, Timestamp) {
    let (zone, anchor) = CALENDARS[calendar];
    let begin_in = |month: civil::Date| {
        let day = i8::try_from(anchor).unwrap().min(month.days_in_month());
        midnight(month.with().day(day).build().unwrap(), zone)
    };
    let month = at.in_tz(zone).unwrap().date().first_of_month();
    let begins = [-1, 0, 1, 2].map(|months: i64| begin_in(month.saturating_add(months.months())));
    let next = begins.iter().position(|begin| *begin > at).expect("a period ends");
    (begins[next - 1], begins[next])
}

/// Calendars, each with the instant from which it applies; the first applies from the beginning.
type Holding = Vec<(Timestamp, usize)>;

/// The calendar that applies at an instant, and from when until when it applies.
fn holding(calendars: &Holding, at: Timestamp) -> (usize, Timestamp, Timestamp) {
    let place = calendars.iter().rposition(|(from, _)| *from <= at).unwrap();
    let until = calendars.get(place + 1).map_or(Timestamp::MAX, |(from, _)| *from);
    (calendars[place].1, calendars[place].0, until)
}

fn period_in(calendars: &Holding, at: Timestamp) -> (Timestamp, Timestamp) {
    let (calendar, from, until) = holding(calendars, at);
    let (start, end) = month_of(calendar, at);
    (start.max(from), end.min(until))
}

/// Whether a period in this time contains no clock.
fn passes_over(calendars: &Holding, phases: usize) -> bool {
    let mut at = clock(0);
    while at <= clock(phases - 1) {
        let (start, end) = period_in(calendars, at);
        if !(0..phases).map(clock).any(|clock| start <= clock && clock < end) {
            return true;
        }
        at = end;
    }
    false
}

/// The first instant of a day: if the clocks skip midnight, the one right after.
fn midnight(date: civil::Date, zone: &str) -> Timestamp {
    let at = TimeZone::get(zone).unwrap().to_ambiguous_zoned(date.at(0, 0, 0, 0));
    let first = at.clone().earlier().unwrap();
    if first.date() == date { first.timestamp() } else { at.later().unwrap().timestamp() }
}

impl History {
    /// The tenant that gets another calendar before a phase, and which one. One that would make a period pass
    /// without a clock is not set.
    pub fn calendar(&self, phase: usize) -> Option<(usize, usize)> {
        self.phases[phase].calendar.filter(|(tenant, _)| self.calendars_of(*tenant).1.contains(&phase))
    }

    fn calendars_of(&self, tenant: usize) -> &(Holding, Vec<usize>) {
        let all = || (0..self.tenants.len()).map(|tenant| self.set_calendars(tenant)).collect();
        &self.calendars.get_or_init(all)[tenant]
    }

    /// The tenant's calendars, each from when it applies: the end of the period in which it was set. Also the
    /// phases in which one was set.
    fn set_calendars(&self, tenant: usize) -> (Holding, Vec<usize>) {
        let mut holding = vec![(Timestamp::MIN, self.tenants[tenant].calendar)];
        let mut set_in = Vec::new();
        for (place, phase) in self.phases.iter().enumerate() {
            let Some((_, to)) = phase.calendar.filter(|(of, _)| *of == tenant) else { continue };
            let (_, end) = period_in(&holding, clock(place));
            let mut next: Holding = holding.iter().copied().filter(|(from, _)| *from < end).collect();
            if next.last().unwrap().1 != to {
                next.push((end, to));
            }
            if !passes_over(&next, self.phases.len()) {
                holding = next;
                set_in.push(place);
            }
        }
        (holding, set_in)
    }

    /// Start and end of the tenant's period that contains an instant.
    pub fn period_of(&self, tenant: usize, at: Timestamp) -> (Timestamp, Timestamp) {
        period_in(&self.calendars_of(tenant).0, at)
    }

    /// The first instant of the tenant's day that contains an instant; a day in which the calendar changes is
    /// cut there.
    pub fn day_of(&self, tenant: usize, at: Timestamp) -> Timestamp {
        let (calendar, from, _) = holding(&self.calendars_of(tenant).0, at);
        let zone = CALENDARS[calendar].0;
        midnight(at.in_tz(zone).unwrap().date(), zone).max(from)
    }

    /// The items of each phase, in the order in which they happen.
    pub fn items(&self) -> Vec<Vec<Item>> {
        let mut phases: Vec<Vec<Item>> = vec![Vec::new(); self.phases.len()];
        let mut sent: Vec<Run> = Vec::new();
        let mut id = 0;
        for (place, phase) in self.phases.iter().enumerate() {
            for event in &phase.events {
                match event {
                    Event::Reading(workflow, level) => phases[place].push(Item::Reading(*workflow, *level)),
                    Event::Again(index) if !sent.is_empty() => {
                        phases[place].push(Item::Run(index.get(&sent).clone()));
                    }
                    Event::Again(_) => {}
                    Event::Run(of) => {
                        id += 1;
                        let run = self.run(of, id, place);
                        sent.push(run.clone());
                        phases[place].push(Item::Run(run.clone()));
                        if let Some((better, in_next)) = self.truth(of, &run) {
                            let found = (place + usize::from(in_next)).min(phases.len() - 1);
                            phases[found].push(Item::Run(better));
                        }
                    }
                }
            }
        }
        phases
    }

    fn run(&self, of: &RunOf, id: u64, phase: usize) -> Run {
        let stopped_at = self.instant(of, phase);
        Run {
            source: of.source,
            epoch: of.epoch,
            id,
            workflow: of.workflow,
            mode: of.mode,
            status: of.status,
            started_at: stopped_at - of.duration_ms.milliseconds(),
            stopped_at,
        }
    }

    /// How it really ended: in the same period, and on the same side of the date from which an attribution
    /// applies.
    fn truth(&self, of: &RunOf, run: &Run) -> Option<(Run, bool)> {
        let (status, later_ms, in_next) = of.truth.filter(|_| of.status == CRASHED)?;
        let tenant = self.tenant_of(of);
        let from: Timestamp = ATTRIBUTED_FROM.parse().unwrap();
        let later = run.stopped_at + later_ms.milliseconds();
        let is_same = self.period_of(tenant, later) == self.period_of(tenant, run.stopped_at)
            && (later < from) == (run.stopped_at < from);
        let stopped_at = if is_same { later } else { run.stopped_at };
        Some((Run { status, stopped_at, ..run.clone() }, in_next))
    }

    fn tenant_of(&self, of: &RunOf) -> usize {
        if of.source == SHARED { home(of.workflow) } else { of.source }
    }

    fn instant(&self, of: &RunOf, phase: usize) -> Timestamp {
        let (earliest, now): (Timestamp, _) = (EARLIEST.parse().unwrap(), clock(phase));
        let part = |from: Timestamp, thousandths: i64| {
            from + (now.duration_since(from).as_secs() * thousandths / 1_000).seconds()
        };
        match &of.stopped {
            When::Recent(thousandths) => part(phase.checked_sub(1).map_or(earliest, clock), *thousandths),
            When::Ever(thousandths) => part(earliest, *thousandths),
            When::Edge(index, beside_ms) => {
                let tenant = self.tenant_of(of);
                let mut edges = vec![ATTRIBUTED_FROM.parse().unwrap()];
                let mut day = earliest;
                while day < now {
                    let (start, _) = self.period_of(tenant, day);
                    edges.extend([start, self.day_of(tenant, day)]);
                    // Starts of periods as often as starts of days.
                    edges.push(start);
                    day += 24.hours();
                }
                (*index.get(&edges) + beside_ms.milliseconds()).clamp(earliest, now)
            }
        }
    }
}
