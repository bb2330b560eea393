//! Two releases side by side on one database and one broker, under load: forward, back and forward again, replica by
//! replica. The results are compared with the truth, as after faults.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    process::Command,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use stack::{Interrupt, Profile, Program, Project, Replica, Stack, database, services::Options, wait};

use crate::{
    broker::Broker,
    cast::{self, Month, TENANTS},
    compare::Terms,
    gather::Found,
    play::{Player, Renewal, Scene},
    run::{fallen, panics, settle},
    script::Script,
    servers::Servers,
    strike::{Breaker, Ways},
};

/// Processes of each service: one of each release while they are mixed.
const REPLICAS: u8 = 2;

/// Every third process is killed in its roll instead of being asked to stop.
const KILL_EVERY: usize = 3;

/// Two tasks `migrate` of each service run at the same time, as two Jobs would.
const MIGRATIONS_AT_ONCE: usize = 2;

/// A request to a process that is being replaced goes to the next one after this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Longer than any run of the script.
const CLOCK_SKEW: &str = "6s";

/// A migration of a later release, which no binary here knows.
const LATER: i64 = 9001;

/// What a later release might add, in each schema: a column of a table that the services write, and a table.
const LATER_ADDS: &str = "ALTER TABLE outbox ADD COLUMN of_a_later_release text;
    CREATE TABLE of_a_later_release (id bigint PRIMARY KEY);
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9001, 'of a later release', true, '\\x00', 0);";

/// Connections of processes that have ended are gone by then.
const EXCLUDED_WITHIN: Duration = Duration::from_secs(10);

/// The release that the refusals must name.
const LATER_RELEASE: &str = "9.9.9";

/// A release: what to call it, and where its binaries are.
#[derive(Debug, Clone)]
pub struct Release {
    /// For people.
    pub name: String,
    /// The folder.
    pub binaries: PathBuf,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The release that runs first, and to which is rolled back.
    pub previous: Release,
    /// The present one.
    pub present: Release,
    /// Which inputs.
    pub seed: u64,
    /// How long inputs are played.
    pub length: Duration,
}

/// The outcome.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What was done, in order, with the second at which it was done.
    pub steps: Vec<(u64, String)>,
    /// Processes that were replaced, and how many of them by SIGKILL.
    pub rolls: (usize, usize),
    /// How long both releases ran at the same time.
    pub mixed: Duration,
    /// Executions that have run, and how many of them while both releases ran.
    pub executions: (u64, u64),
    /// Executions that were published again.
    pub duplicates: u64,
    /// Different mails, and how many were repeats.
    pub mails: (usize, usize),
    /// Differences from the truth.
    pub differences: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter)?;
        let mut row = |what: &str, figure: String| writeln!(formatter, "{what:<38}{figure:>8}");
        row("processes replaced", format!("{} (by SIGKILL {})", self.rolls.0, self.rolls.1))?;
        row("seconds with both releases", self.mixed.as_secs().to_string())?;
        row("executions", self.executions.0.to_string())?;
        row("executions while both releases ran", self.executions.1.to_string())?;
        row("duplicates delivered", self.duplicates.to_string())?;
        row("mails", format!("{} (repeated {})", self.mails.0, self.mails.1))?;
        for difference in &self.differences {
            writeln!(formatter, "DIFFERENCE: {difference}")?;
        }
        write!(formatter, "{:<38}{:>8}", "differences", self.differences.len())
    }
}

/// One run in progress.
struct Run<'a> {
    plan: &'a Plan,
    breaker: Breaker,
    began: Instant,
    /// Which processes run the present release.
    present: BTreeMap<Replica, bool>,
    mixed_since: Option<(Instant, u64)>,
    verdict: Verdict,
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Result<Verdict> {
    let length_ms = u64::try_from(plan.length.as_millis())?;
    let script = Script::draw(plan.seed, length_ms);
    let breaker = raise(plan)?;
    let scene = breaker.scene.clone();
    let services = Program::SERVICES.into_iter().flat_map(|service| Replica::of(service, REPLICAS));
    let present = services.map(|replica| (replica, false)).collect();
    let began = Instant::now();
    let mut run = Run { plan, breaker, began, present, mixed_since: None, verdict: Verdict::default() };
    run.migrate(&plan.previous)?;
    for replica in run.present.keys().copied().collect::<Vec<_>>() {
        run.breaker.stack.restart(replica)?;
    }
    scene.prepare(&script)?;
    let player = Player::new(scene.clone(), script.clone(), None);
    let playing = thread::spawn(move || player.play());
    run.began = Instant::now();
    run.forward_and_back(plan.length)?;
    while !playing.is_finished() {
        run.pass(Duration::from_millis(200))?;
    }
    playing.join().map_err(|_| anyhow!("the player panicked"))??;
    run.compare(&script)?;
    run.exclude()?;
    run.breaker.servers.stop()?;
    Ok(run.verdict)
}

fn raise(plan: &Plan) -> Result<Breaker> {
    let profile = Profile::fresh(&Project::find()?, "upgrade")?;
    let servers = Servers::start_single(&profile)?;
    let (ways, detours) = Ways::open(&servers)?;
    let options = Options {
        replicas: Program::SERVICES.map(|service| (service, REPLICAS)).into(),
        detours,
        ..Options::new(plan.present.binaries.clone(), servers.backing().clone())
            // As in the chart: a Job migrates.
            .with("DATABASE__MIGRATIONS", "check")
            // As for faults (run.rs).
            .with("COLLECTOR__CLOCK_SKEW", CLOCK_SKEW)
            .with("BILLING__REPORT_INTERVAL", "1m")
            .with("BILLING__INVOICE_GRACE", "72h")
            .with("DATABASE__CONNECTIONS_MAX", "6")
            .with("NATS__PATIENCE", "30s")
    };
    let mut stack = Stack::start_some(profile, options, &[])?;
    for service in Program::SERVICES {
        for replica in Replica::of(service, REPLICAS) {
            stack.use_release(replica, &plan.previous.binaries);
        }
    }
    let broker = Broker::connect(&servers.admin())?;
    let gateways = stack.gateways().into_iter().map(|api| api.answering_within(ANSWER_WITHIN)).collect();
    let scene = Scene::new(stack.sandbox(), gateways, stack.collectors(), broker);
    Ok(Breaker::new(stack, servers, ways, scene))
}

impl Run<'_> {
    /// The whole course: previous, mixed, present, mixed, previous, mixed, present. Each stretch gets its share of the time.
    fn forward_and_back(&mut self, length: Duration) -> Result<()> {
        let (previous, present) = (self.plan.previous.clone(), self.plan.present.clone());
        let pause = length / 14;
        self.pass(pause)?;
        self.migrate(&present)?;
        self.pass(pause)?;
        self.roll_all(&present, pause)?;
        self.later_release()?;
        self.pass(pause)?;
        self.roll_all(&previous, pause)?;
        self.pass(pause)?;
        // A Job of either release finds nothing to do, and accepts the later migration.
        self.migrate(&previous)?;
        self.migrate(&present)?;
        self.roll_all(&present, pause)
    }

    /// One replica of each service, a stretch with both releases, and the other replicas.
    fn roll_all(&mut self, release: &Release, pause: Duration) -> Result<()> {
        for number in 1..=REPLICAS {
            for service in Program::SERVICES {
                self.roll(Replica { program: service, number }, release)?;
                self.pass(pause / 10)?;
            }
            self.pass(pause)?;
        }
        Ok(())
    }

    fn roll(&mut self, replica: Replica, release: &Release) -> Result<()> {
        let is_present = release.binaries == self.plan.present.binaries;
        let is_kill = self.verdict.rolls.0.is_multiple_of(KILL_EVERY);
        let stack = &mut self.breaker.stack;
        if is_kill {
            stack.kill(replica)?
        } else {
            stack.stop_one(replica)?
        }
        stack.use_release(replica, &release.binaries);
        stack.restart(replica).with_context(|| format!("{replica} of {}", release.name))?;
        self.verdict.rolls.0 += 1;
        self.verdict.rolls.1 += usize::from(is_kill);
        self.present.insert(replica, is_present);
        let how = if is_kill { "killed" } else { "stopped" };
        self.note(format!("{replica} {how}, now {}", release.name));
        self.watch_mixture();
        Ok(())
    }

    fn watch_mixture(&mut self) {
        let count = self.present.values().filter(|is_present| **is_present).count();
        let is_mixed = count > 0 && count < self.present.len();
        let made = self.breaker.scene.executions.load(Ordering::Relaxed);
        match (is_mixed, self.mixed_since) {
            (true, None) => self.mixed_since = Some((Instant::now(), made)),
            (false, Some((since, made_before))) => {
                self.verdict.mixed += since.elapsed();
                self.verdict.executions.1 += made - made_before;
                self.mixed_since = None;
            }
            _ => {}
        }
    }

    /// The migration Job of a release, twice at once.
    fn migrate(&mut self, release: &Release) -> Result<()> {
        let began = Instant::now();
        let mut tasks = Vec::new();
        for service in Program::SERVICES {
            for _ in 0..MIGRATIONS_AT_ONCE {
                let mut task = self.breaker.stack.task(service, "migrate", &release.binaries)?;
                tasks.push((service, thread::spawn(move || output(&mut task))));
            }
        }
        for (service, task) in tasks {
            let (is_done, said) = task.join().map_err(|_| anyhow!("a thread panicked"))??;
            if !is_done {
                bail!("{} cannot migrate the schema of {}: {said}", release.name, service.name());
            }
        }
        let took_s = began.elapsed().as_secs_f32();
        self.note(format!("schemas migrated by {}, each twice at once ({took_s:.1} s)", release.name));
        Ok(())
    }

    /// A release after the present one has migrated the schemas: both releases here must go on.
    fn later_release(&mut self) -> Result<()> {
        for service in Program::SERVICES {
            self.in_schema(service, LATER_ADDS)?;
        }
        self.note(format!("migration {LATER} of a later release in every schema"));
        Ok(())
    }

    /// A migration that excludes both releases: refused while they run, and they are refused after it.
    fn exclude(&mut self) -> Result<()> {
        let call = format!("SELECT need_migration({LATER}, '{LATER_RELEASE}')");
        for service in Program::SERVICES {
            match self.in_schema(service, &call) {
                Err(held) if format!("{held:#}").contains("stop them first") => {}
                outcome => self.differ(format!("a needed migration beside {}: {outcome:?}", service.name())),
            }
        }
        self.note("a needed migration is refused while the services run".to_owned());
        self.breaker.stack.stop_services()?;
        for service in Program::SERVICES {
            // The last connections may take a moment to go.
            wait::until("a needed migration without processes", EXCLUDED_WITHIN, || {
                Ok(self.in_schema(service, &call).ok())
            })?;
            for release in [&self.plan.previous, &self.plan.present] {
                let (is_done, said) =
                    output(&mut self.breaker.stack.task(service, "migrate", &release.binaries)?)?;
                if is_done || !said.contains(&format!("needs Flowmeter {LATER_RELEASE}")) {
                    self.differ(format!(
                        "{} of {} runs on a schema that excludes it: {said}",
                        service.name(),
                        release.name
                    ));
                }
            }
        }
        self.note("after it, both releases are refused".to_owned());
        self.breaker.stack.stop()
    }

    fn in_schema(&self, service: Program, statements: &str) -> Result<String> {
        let statements = format!("SET search_path = {}; {statements}", service.name());
        database::ask(&self.breaker.servers.backing().database_url, &statements)
    }

    /// Lets time pass, and looks after the processes.
    fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            // The script wants an empty broker in April: both releases must fill it again.
            if self.breaker.scene.renewal() == Renewal::Wanted {
                self.breaker.renew_broker()?;
            }
            for replica in self.breaker.look_after()? {
                self.note(format!("{replica} ended by itself"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(200)));
        }
    }

    fn compare(&mut self, script: &Script) -> Result<()> {
        let limits: Vec<u64> = (0..TENANTS.len()).map(|tenant| script.limit(tenant)).collect();
        // Each roll of alerts may come between a mail's acceptance and its record.
        let mail_faults = self.verdict.rolls.0;
        let march = [Month::March];
        let terms = Terms { limits: &limits, closed: &march, guests: &[], mail_faults };
        self.note("no more inputs; waiting until the stack is idle".to_owned());
        let mut settled = settle(&mut self.breaker, terms, &Interrupt::never())?;
        if settled.1.is_empty() {
            self.breaker.scene.sandbox.post("/control/clock", &json!({ "now": cast::curtain() }))?;
            self.note("April ends".to_owned());
            settled = settle(&mut self.breaker, Terms { closed: &Month::ALL, ..terms }, &Interrupt::never())?;
        }
        let (found, differences) = settled;
        self.verdict.differences.extend(differences);
        self.verdict.differences.extend(panics(self.breaker.stack.profile().folder()));
        self.verdict.differences.extend(fallen(&self.breaker.fallen));
        self.conclude(&found);
        Ok(())
    }

    fn conclude(&mut self, found: &Found) {
        let ids: std::collections::BTreeSet<&str> =
            found.mails.iter().map(|mail| mail.message_id.as_str()).collect();
        self.verdict.executions.0 = found.executions;
        self.verdict.duplicates = found.delivered.0 - found.delivered.1;
        self.verdict.mails = (ids.len(), found.mails.len() - ids.len());
    }

    fn differ(&mut self, difference: String) {
        self.verdict.differences.push(difference);
    }

    fn note(&mut self, what: String) {
        let second = self.began.elapsed().as_secs();
        println!("{second:>8} s  {what}");
        self.verdict.steps.push((second, what));
    }
}

/// Whether a command has succeeded, and everything that it has printed.
fn output(command: &mut Command) -> Result<(bool, String)> {
    let done = command.output().context("cannot start a service's task")?;
    let said = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
