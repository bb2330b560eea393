//! One run: start the stack, play and inject faults, wait until the stack is idle, compare.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use serde_json::json;
use stack::{Interrupt, Profile, Program, Project, Stack, cluster::Room, services::Options};

use crate::{
    asking::Asking,
    broker::Broker,
    cast::{self, Month, TENANTS},
    compare::{self, Terms, differences},
    delays::{Asked, Span, Wait},
    fault::{self, Fault, Strike},
    gather::{Found, gather},
    guests::Guest,
    play::{Player, Renewal, Scene},
    script::Script,
    servers::Servers,
    strike::{Breaker, Ways},
};

/// Faults begin and end, and slow servers have their bursts, with this precision.
const TICK: Duration = Duration::from_millis(20);
const LOOK_AFTER_EVERY: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// After the last fault, all differences must disappear within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

/// While the stack settles, each check moves the clock this far, so that reports and retries come due.
const SETTLE_STEP_MS: u64 = 60_000;
const SETTLE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longer than any run of the script.
const CLOCK_SKEW: &str = "6s";

/// A request to a paused gateway goes to the next one after this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Differences that are printed; a broken run has thousands.
const DIFFERENCES_MAX: usize = 40;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder below `.flowmeter` with the databases and logs.
    pub profile: String,
    /// Which inputs and faults.
    pub seed: u64,
    /// How long faults are injected.
    pub length: Duration,
    /// Processes of each service.
    pub replicas: BTreeMap<Program, u8>,
    /// Whether each fault of a cluster comes by itself, instead of faults at random.
    pub is_drill: bool,
}

impl Plan {
    /// Two of each service.
    pub fn new(profile: &str, seed: u64, length: Duration) -> Self {
        let replicas = Program::SERVICES.map(|service| (service, 2)).into();
        Self { profile: profile.to_owned(), seed, length, replicas, is_drill: false }
    }

    /// Two of each service, and a third gateway: for a cluster.
    pub fn of_cluster(profile: &str, seed: u64, length: Duration) -> Self {
        let mut plan = Self::new(profile, seed, length);
        plan.replicas.insert(Program::Gateway, 3);
        plan
    }

    /// A cluster in which each fault comes by itself, as long as that takes.
    pub fn drill(profile: &str, seed: u64) -> Self {
        let length = Duration::from_millis(fault::drill().1);
        Self { is_drill: true, ..Self::of_cluster(profile, seed, length) }
    }

    fn strikes(&self, is_cluster: bool) -> Vec<Strike> {
        match self.is_drill {
            true => fault::drill().0,
            false => fault::draw(self.seed, self.length_ms(), &self.replicas, is_cluster),
        }
    }

    fn length_ms(&self) -> u64 {
        u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u32>,
    /// Faults that are SIGKILLs.
    pub kills: usize,
    /// Processes that ended by themselves; none should.
    pub fallen: BTreeMap<&'static str, u32>,
    /// Executions that have run.
    pub executions: u64,
    /// Executions that were published again.
    pub duplicates: u64,
    /// Calendars that were changed.
    pub calendars: u64,
    /// Dead letters that were planted, and how many were written.
    pub letters: (usize, usize),
    /// Different mails, and how many were repeats.
    pub mails: (usize, usize),
    /// What came of asking the limit check, and how long it and counting took; only in a cluster.
    pub asked: Option<String>,
    /// Differences from the truth.
    pub differences: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\nseed {}", self.seed)?;
        for (kind, count) in &self.faults {
            writeln!(formatter, "{kind:<28}{count:>8}")?;
        }
        for (program, count) in &self.fallen {
            writeln!(formatter, "{:<28}{count:>8}", format!("{program} ended by itself"))?;
        }
        writeln!(formatter, "{:<28}{:>8}", "kills", self.kills)?;
        writeln!(formatter, "{:<28}{:>8}", "executions", self.executions)?;
        writeln!(formatter, "{:<28}{:>8}", "duplicates delivered", self.duplicates)?;
        writeln!(formatter, "{:<28}{:>8}", "calendars changed", self.calendars)?;
        writeln!(formatter, "{:<28}{:>8} (planted {})", "dead letters", self.letters.1, self.letters.0)?;
        writeln!(formatter, "{:<28}{:>8} (repeated {})", "mails", self.mails.0, self.mails.1)?;
        if let Some(asked) = &self.asked {
            write!(formatter, "{asked}")?;
        }
        for difference in self.differences.iter().take(DIFFERENCES_MAX) {
            writeln!(formatter, "DIFFERENCE: {difference}")?;
        }
        write!(formatter, "{:<28}{:>8}", "differences", self.differences.len())
    }
}

/// Runs a plan with the services' binaries in this folder, on one database and one broker.
pub fn run(plan: &Plan, binaries: &Path) -> Result<Verdict> {
    run_in(plan, binaries, None, &Interrupt::never())
}

/// Runs a plan on a cluster in a room, until somebody interrupts it.
pub fn run_cluster(plan: &Plan, binaries: &Path, room: Room, interrupt: &Interrupt) -> Result<Verdict> {
    run_in(plan, binaries, Some(room), interrupt)
}

fn run_in(plan: &Plan, binaries: &Path, room: Option<Room>, interrupt: &Interrupt) -> Result<Verdict> {
    let script = Script::draw(plan.seed, plan.length_ms());
    let strikes = plan.strikes(room.is_some());
    println!(
        "seed {}: {} faults, {} planted dead letters in {} s",
        plan.seed,
        strikes.len(),
        script.dead_letters(),
        plan.length.as_secs()
    );
    let mut breaker = raise(plan, binaries, room, &script)?;
    let scene = breaker.scene.clone();
    scene.prepare(&script)?;
    let began = Instant::now();
    let asking = (!scene.guests.is_empty()).then(|| Asking::start(&scene));
    let player = Player::new(scene.clone(), script.clone(), asking.as_ref().map(Asking::months));
    let playing = thread::spawn(move || player.play());
    let spans = strike_all(&mut breaker, &strikes, plan.is_drill, interrupt, || playing.is_finished())?;
    playing.join().map_err(|_| anyhow!("the player panicked"))??;
    let asked = asking.map(Asking::end).transpose()?;

    let limits: Vec<u64> = (0..TENANTS.len()).map(|tenant| script.limit(tenant)).collect();
    let mail_faults = strikes.iter().filter(|strike| strike.fault.may_repeat_a_mail()).count();
    let march = [Month::March];
    let terms = Terms { limits: &limits, closed: &march, guests: &scene.guests, mail_faults };
    println!("            no more faults; waiting until the stack is idle");
    let mut settled = settle(&mut breaker, terms, interrupt)?;
    if settled.1.is_empty() {
        scene.sandbox.post("/control/clock", &json!({ "now": cast::curtain() }))?;
        println!("            April ends");
        settled = settle(&mut breaker, Terms { closed: &Month::ALL, ..terms }, interrupt)?;
    }
    let (found, mut differences) = settled;
    differences.extend(panics(breaker.stack.profile().folder()));
    differences.extend(fallen(&breaker.fallen));
    let mut verdict = conclude(plan, &strikes, &breaker, &found, differences);
    verdict.asked = asked.map(|asked| {
        let overshoot = compare::overshoot(&found, &scene.guests);
        let asked = Asked { overshoot, ..asked };
        match plan.is_drill {
            true => format!("{}{}", asked.describe(&[], began), asked.by_fault(&spans)),
            false => asked.describe(&spans, began).to_string(),
        }
    });
    breaker.stack.stop()?;
    breaker.servers.stop()?;
    Ok(verdict)
}

fn raise(plan: &Plan, binaries: &Path, room: Option<Room>, script: &Script) -> Result<Breaker> {
    let profile = Profile::fresh(&Project::find()?, &plan.profile)?;
    let guests = room.as_ref().map(|_| Guest::all(script.shorter_month())).unwrap_or_default();
    let servers = match room {
        Some(room) => Servers::start_cluster(&profile, room)?,
        None => Servers::start_single(&profile)?,
    };
    let (ways, detours) = Ways::open(&servers)?;
    let options = Options {
        replicas: plan.replicas.clone(),
        detours,
        ..Options::new(binaries.to_owned(), servers.backing().clone())
            // The sandbox assigns a run's id when the run ends. An id newer than its start by more than the clock skew looks
            // like a restored database: the sweep would be abandoned, and another epoch begun.
            .with("COLLECTOR__CLOCK_SKEW", CLOCK_SKEW)
            .with("BILLING__REPORT_INTERVAL", "1m")
            // Late executions are still billed: the play's clock does not run for three days.
            .with("BILLING__INVOICE_GRACE", "72h")
            .with("DATABASE__CONNECTIONS_MAX", "6")
            // Batches planted for an unknown source become dead letters before the comparison.
            .with("NATS__PATIENCE", "30s")
    };
    println!(
        "Starting the sandbox and {} services",
        plan.replicas.values().map(|it| u32::from(*it)).sum::<u32>()
    );
    let stack = Stack::start(profile, servers.settings(options))?;
    let broker = Broker::connect(&servers.admin())?;
    let gateways = stack.gateways().into_iter().map(|api| api.answering_within(ANSWER_WITHIN)).collect();
    let mut scene = Scene::new(stack.sandbox(), gateways, stack.collectors(), broker);
    scene.guests = guests;
    Ok(Breaker::new(stack, servers, ways, scene))
}

/// Injects the faults in order, until all are over and the player has finished too. Returns when each worked.
fn strike_all(
    breaker: &mut Breaker,
    strikes: &[Strike],
    is_drill: bool,
    interrupt: &Interrupt,
    played: impl Fn() -> bool,
) -> Result<Vec<Span>> {
    let began = Instant::now();
    let mut waiting = strikes.iter();
    let mut next = waiting.next();
    let mut active: Vec<Strike> = Vec::new();
    let (mut look_after_at, mut progress_at) = (began, began + PROGRESS_EVERY);
    let mut done = 0;
    let mut spans: Vec<Span> = Vec::new();
    // While the broker is to be recreated, no fault begins and the faults' time stands still.
    let mut held_up = Duration::ZERO;
    let mut held_up_since: Option<Instant> = None;
    while next.is_some() || !active.is_empty() || !played() {
        check(interrupt)?;
        if breaker.scene.renewal() == Renewal::Wanted && active.is_empty() {
            held_up_since.get_or_insert_with(Instant::now);
            if breaker.renew_broker()? {
                held_up += held_up_since.take().map(|since| since.elapsed()).unwrap_or_default();
            }
        }
        // A drill measures nothing while nobody asks, and a deployment shall meet with load.
        let next_waits = is_drill || next.is_some_and(|strike| strike.fault == Fault::RollEverything);
        let rests = next_waits && breaker.scene.rests.load(Ordering::Relaxed);
        if rests && active.is_empty() {
            held_up_since.get_or_insert_with(Instant::now);
        } else if breaker.scene.renewal() != Renewal::Wanted {
            held_up += held_up_since.take().map(|since| since.elapsed()).unwrap_or_default();
        }
        let held_up_now = held_up + held_up_since.map(|since| since.elapsed()).unwrap_or_default();
        let elapsed = began.elapsed().saturating_sub(held_up_now);
        let now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let (over, going_on): (Vec<Strike>, Vec<Strike>) =
            active.into_iter().partition(|strike| strike.ends_ms() <= now_ms);
        for strike in &over {
            breaker.end(strike)?;
            let fault = strike.fault.to_string();
            if let Some(span) = spans.iter_mut().rev().find(|span| span.fault == fault) {
                span.wait.to = Instant::now();
            }
        }
        going_on.iter().try_for_each(|strike| breaker.go_on(strike, now_ms))?;
        active = going_on;
        // On a slow machine, an earlier fault of the same part ends first.
        let is_free = |strike: &Strike| !active.iter().any(|other| other.fault.meets(&strike.fault));
        let may_begin = breaker.scene.renewal() != Renewal::Wanted && !rests;
        if let Some(strike) = next.filter(|strike| may_begin && strike.at_ms <= now_ms && is_free(strike)) {
            let lasts_s = Duration::from_millis(strike.lasts_ms).as_secs_f32();
            println!("{:>8.1} s  {} ({lasts_s:.1} s)", began.elapsed().as_secs_f32(), strike.fault);
            let begins = Instant::now();
            breaker.begin(strike)?;
            // While everything is restarted, the other faults' time stands still.
            if strike.fault == Fault::RollEverything {
                held_up += begins.elapsed();
                println!("{:>8.1} s  everything was restarted", began.elapsed().as_secs_f32());
            }
            let lasted = begins.elapsed().max(Duration::from_millis(strike.lasts_ms));
            let wait = Wait { from: begins, to: begins + lasted };
            spans.push(Span { fault: strike.fault.to_string(), wait });
            // On a slow machine, a fault still lasts as long as it should.
            let late_ms = now_ms.saturating_sub(strike.at_ms);
            active.push(Strike { at_ms: strike.at_ms + late_ms, ..*strike });
            done += 1;
            next = waiting.next();
        }
        if look_after_at <= Instant::now() {
            for replica in breaker.look_after()? {
                println!("{:>8.1} s  {replica} ended by itself", began.elapsed().as_secs_f32());
            }
            look_after_at = Instant::now() + LOOK_AFTER_EVERY;
        }
        if progress_at <= Instant::now() {
            let made = breaker.scene.executions.load(Ordering::Relaxed);
            println!("{:>8.0} s  .. {made} executions, {done} faults", began.elapsed().as_secs_f32());
            progress_at = Instant::now() + PROGRESS_EVERY;
        }
        thread::sleep(TICK);
    }
    breaker.heal()?;
    Ok(spans)
}

fn check(interrupt: &Interrupt) -> Result<()> {
    if interrupt.asked() {
        bail!("interrupted");
    }
    Ok(())
}

/// Compares until nothing differs or the time is up.
pub(crate) fn settle(
    breaker: &mut Breaker,
    terms: Terms<'_>,
    interrupt: &Interrupt,
) -> Result<(Found, Vec<String>)> {
    let began = Instant::now();
    loop {
        check(interrupt)?;
        breaker.look_after()?;
        let scene = &breaker.scene;
        let looked = gather(scene, &breaker.servers.backing().database_url);
        let over = began.elapsed() >= SETTLED_WITHIN;
        match looked {
            Ok(found) => {
                let differences_left = differences(&found, &scene.made(), terms);
                if differences_left.is_empty() || over {
                    return Ok((found, differences_left));
                }
            }
            // A service may still be starting.
            Err(error) if over => return Err(error),
            Err(_) => {}
        }
        scene.step(SETTLE_STEP_MS)?;
        thread::sleep(SETTLE_LOOK_EVERY);
    }
}

/// Panics in the logs: a service that panics is restarted, and nothing else would show it.
pub(crate) fn panics(profile: &Path) -> Vec<String> {
    let logs = fs::read_dir(profile.join("logs")).into_iter().flatten().flatten();
    let texts = logs.filter_map(|log| fs::read_to_string(log.path()).ok());
    let lines: Vec<String> = texts
        .flat_map(|text| {
            text.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    lines.into_iter().map(|line| format!("a panic: {line}")).collect()
}

/// A service whose server is down must wait for it. If it exits, its supervisor waits longer before each restart.
pub(crate) fn fallen(programs: &BTreeMap<&'static str, u32>) -> Vec<String> {
    programs.iter().map(|(program, times)| format!("{program} ended by itself, {times} times")).collect()
}

fn conclude(
    plan: &Plan,
    strikes: &[Strike],
    breaker: &Breaker,
    found: &Found,
    differences: Vec<String>,
) -> Verdict {
    let mut faults: BTreeMap<String, u32> = BTreeMap::new();
    for strike in strikes {
        *faults.entry(strike.fault.kind()).or_default() += 1;
    }
    let ids: std::collections::BTreeSet<&str> =
        found.mails.iter().map(|mail| mail.message_id.as_str()).collect();
    Verdict {
        seed: plan.seed,
        faults,
        kills: strikes.iter().filter(|strike| strike.fault.is_kill()).count(),
        fallen: breaker.fallen.clone(),
        executions: found.executions,
        duplicates: found.delivered.0 - found.delivered.1,
        calendars: breaker.scene.calendars.load(Ordering::Relaxed),
        letters: (breaker.scene.made().planted.len(), found.letters.len()),
        mails: (ids.len(), found.mails.len() - ids.len()),
        asked: None,
        differences,
    }
}
