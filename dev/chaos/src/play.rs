//! Plays the script: in the instances, at the push address, and at the broker for planted messages.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use proto::{Namespace, streams::Stream, v1};
use serde_json::{Value, json};
use stack::{Api, wait};

use crate::{
    broker::Broker,
    cast::{self, CALENDARS, LONE_SURROGATE, METER, NAMES, SOURCES, TENANTS, WORKFLOWS},
    guests::{Guest, Months},
    script::{Input, Planted, Runs, Script, Timed},
};

/// Every call is retried for this long: servers are down for seconds.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Within this time, ongoing faults end and messages in flight arrive, before the broker is recreated.
const RENEWED_WITHIN: Duration = Duration::from_secs(180);

/// Pause before a failed call is retried.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// A sender gives up on a push after this many tries: the poll delivers it.
const PUSH_TRIES_MAX: usize = 4;

/// While waiting for a state, each check moves the clock this far, so that back-off after failures ends.
const STEP_MS: u64 = 20_000;
const LOOK_EVERY: Duration = Duration::from_millis(700);

/// What the player has done, for the comparison.
#[derive(Debug, Default)]
pub struct Made {
    /// Late executions, which appear after March is closed but ended in it, by source and id.
    pub late: BTreeSet<(String, String)>,
    /// The services that must write a dead letter, and the mark in its payload.
    pub planted: BTreeSet<(String, String)>,
    /// Sources whose batches were planted: all of one source share one execution id.
    pub strangers: BTreeSet<&'static str>,
    tokens: BTreeMap<usize, String>,
    /// Push tokens of the guests' sources.
    pub guest_tokens: BTreeMap<&'static str, String>,
}

/// Payloads by stream and topic.
pub type Archive = BTreeMap<(String, &'static str), Vec<Vec<u8>>>;

/// Progress of replacing the broker with an empty one. It happens in the middle of the play, when nothing is in flight:
/// what only the broker holds is lost with it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Not requested.
    #[default]
    None,
    /// The player waits for it.
    Wanted,
    /// The broker was replaced.
    Done,
}

/// What the player and the others share.
#[derive(Clone)]
pub struct Scene {
    /// The stand-ins.
    pub sandbox: Api,
    /// The API of each gateway.
    pub gateways: Vec<Api>,
    /// The push address of each collector.
    pub collectors: Vec<String>,
    /// The broker.
    pub broker: Broker,
    /// Tenants that ask the limit check all the time; none but in a cluster.
    pub guests: Vec<Guest>,
    /// Executions that have run.
    pub executions: Arc<AtomicU64>,
    /// Deliveries of pushed executions that were accepted.
    pub pushed: Arc<AtomicU64>,
    /// Calendars that were changed.
    pub calendars: Arc<AtomicU64>,
    /// What the broker held before it was recreated, by stream and topic.
    pub archive: Arc<Mutex<Archive>>,
    /// Whether the guests are held up, because one month ends and the next begins.
    pub rests: Arc<AtomicBool>,
    renewal: Arc<Mutex<Renewal>>,
    made: Arc<Mutex<Made>>,
}

impl Scene {
    /// Nothing has happened yet.
    pub fn new(sandbox: Api, gateways: Vec<Api>, collectors: Vec<String>, broker: Broker) -> Self {
        Self {
            sandbox,
            gateways,
            collectors,
            broker,
            guests: Vec::new(),
            executions: Arc::default(),
            pushed: Arc::default(),
            calendars: Arc::default(),
            archive: Arc::default(),
            rests: Arc::default(),
            renewal: Arc::default(),
            made: Arc::default(),
        }
    }

    /// What has been done.
    pub fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Progress of replacing the broker.
    pub fn renewal(&self) -> Renewal {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the progress of replacing the broker.
    pub fn renew(&self, renewal: Renewal) {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner) = renewal;
    }

    /// Everything that was ever on a topic: what the broker holds, and what its predecessor held.
    pub fn read(&self, stream: Stream, topic: &'static str) -> Result<Vec<Vec<u8>>> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let mut payloads = archive.get(&(format!("{stream:?}"), topic)).cloned().unwrap_or_default();
        payloads.extend(self.broker.read(stream, topic)?);
        Ok(payloads)
    }

    /// Asks the gateways in turn until one answers.
    pub fn ask(&self, path: &str) -> Result<Value> {
        let mut last = anyhow::anyhow!("there is no gateway");
        for gateway in &self.gateways {
            match gateway.get(path) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Retries with each gateway in turn until one succeeds.
    fn insist(&self, what: &str, act: impl Fn(&Api) -> Result<Value>) -> Result<Value> {
        let mut turn = 0;
        wait::until(what, PATIENCE, || {
            turn += 1;
            let gateway = self.gateways.get(turn % self.gateways.len().max(1));
            let done = gateway.and_then(|gateway| act(gateway).ok());
            if done.is_none() {
                thread::sleep(TRY_AGAIN);
            }
            Ok(done)
        })
    }

    /// Moves the clock.
    pub fn step(&self, ms: u64) -> Result<()> {
        self.sandbox.post("/control/clock", &json!({ "advance_ms": ms })).map(drop)
    }

    /// The time on every clock of the stack.
    pub fn now(&self) -> Result<Timestamp> {
        let shown = self.sandbox.get("/clock")?;
        Ok(shown.get("now").and_then(Value::as_str).context("a clock shows its time")?.parse()?)
    }

    /// Polls until a state is reached, moving the clock.
    pub fn await_state(&self, what: &str, mut there: impl FnMut() -> Result<bool>) -> Result<()> {
        wait::until(what, PATIENCE, || {
            if there()? {
                return Ok(Some(()));
            }
            self.step(STEP_MS)?;
            thread::sleep(LOOK_EVERY);
            Ok(None)
        })
    }

    /// The counted executions of a tenant's current period, if known.
    pub fn counted(&self, tenant: &str) -> Option<u64> {
        self.ask(&format!("/v1/usage/{tenant}")).ok()?.get("counted")?.as_u64()
    }

    /// Sets up Stripe and the tenants that take part from the start.
    pub fn prepare(&self, script: &Script) -> Result<()> {
        self.sandbox.post("/control/clock", &json!({ "now": cast::opening() }))?;
        self.sandbox.post("/control/stripe/meters", &json!({ "event_name": METER }))?;
        for tenant in TENANTS.iter().filter(|tenant| tenant.billed) {
            self.sandbox.post("/control/stripe/customers", &json!({ "id": tenant.customer() }))?;
        }
        self.put_tenants(script, false)?;
        self.guests.iter().try_for_each(|guest| self.put_guest(guest))
    }

    fn put_guest(&self, guest: &Guest) -> Result<()> {
        let plan = guest.plan();
        let path = format!("/v1/plans/plan-{}", guest.tenant);
        self.insist("a plan to be stored", |gateway| gateway.put(&path, &plan))?;
        let body = json!({ "name": guest.tenant, "plan": format!("plan-{}", guest.tenant) });
        let path = format!("/v1/tenants/{}", guest.tenant);
        self.insist("a tenant to be stored", |gateway| gateway.put(&path, &body))?;
        let token = self.put_instance(guest.source, guest.tenant, true)?;
        self.made().guest_tokens.extend(token.map(|token| (guest.source, token)));
        Ok(())
    }

    fn put_tenants(&self, script: &Script, later: bool) -> Result<()> {
        let first = CALENDARS.first().copied().context("there is a first calendar")?;
        for (number, tenant) in TENANTS.iter().enumerate().filter(|(_, it)| it.joins_later == later) {
            let plan = json!({
                "name": tenant.id, "monthly_limit": script.limit(number), "meter_event_name": METER,
            });
            let path = format!("/v1/plans/plan-{}", tenant.id);
            self.insist("a plan to be stored", |gateway| gateway.put(&path, &plan))?;
            self.put_tenant(tenant, first)?;
            for (place, source) in SOURCES.iter().enumerate().filter(|(_, it)| it.tenant == number) {
                self.put_source(place, source, tenant.id)?;
            }
        }
        Ok(())
    }

    fn put_tenant(&self, tenant: &cast::Tenant, (time_zone, anchor_day): (&str, u32)) -> Result<()> {
        let mut body = json!({
            "name": tenant.id, "plan": format!("plan-{}", tenant.id), "alert_recipients": tenant.recipients,
            "time_zone": time_zone, "anchor_day": anchor_day,
        });
        if let (true, Some(fields)) = (tenant.billed, body.as_object_mut()) {
            fields.insert("stripe_customer_id".to_owned(), json!(tenant.customer()));
        }
        let path = format!("/v1/tenants/{}", tenant.id);
        self.insist("a tenant to be stored", |gateway| gateway.put(&path, &body)).map(drop)
    }

    /// Gives a tenant another calendar, once its first period exists: a service that never saw the first calendar
    /// would begin with the next.
    fn recalendar(&self, tenant: usize, calendar: usize) -> Result<()> {
        let (Some(tenant), Some(calendar)) = (TENANTS.get(tenant), CALENDARS.get(calendar)) else {
            return Ok(());
        };
        if self.counted(tenant.id).is_none() {
            return Ok(());
        }
        self.calendars.fetch_add(1, Ordering::Relaxed);
        self.put_tenant(tenant, *calendar)
    }

    fn put_source(&self, place: usize, source: &cast::Source, tenant: &str) -> Result<()> {
        let token = self.put_instance(source.id, tenant, source.pushes)?;
        self.made().tokens.extend(token.map(|token| (place, token)));
        Ok(())
    }

    /// Adds an n8n instance and the source of the same name. Returns the token of one that pushes.
    fn put_instance(&self, id: &str, tenant: &str, pushes: bool) -> Result<Option<String>> {
        // Longer than the play lasts on its own clock: nothing is pruned.
        let keeps = json!({ "retain": 200_000, "retain_hours": 8_000 });
        self.sandbox.post(&format!("/control/n8n/{id}"), &keeps)?;
        let body = json!({
            "tenant": tenant, "kind": "n8n", "api_key": format!("key-{id}"), "poll_interval": "1s",
            "base_url": format!("{}/n8n/{id}", self.sandbox.base()),
        });
        let path = format!("/v1/sources/{id}");
        self.insist("a source to be stored", |gateway| gateway.put(&path, &body))?;
        if !pushes {
            return Ok(None);
        }
        let made =
            self.insist("a push token", |gateway| gateway.post(&format!("{path}/push-token"), &json!({})))?;
        let token = made.get("token").and_then(Value::as_str).context("a token was made")?;
        Ok(Some(token.to_owned()))
    }
}

/// Plays one script.
pub struct Player {
    scene: Scene,
    script: Script,
    crashed: Vec<(usize, String)>,
    open: VecDeque<(usize, String)>,
    pushes: Vec<(Instant, usize, Value)>,
    planted: u32,
    months: Option<Months>,
}

impl Player {
    /// Nothing has been played. `months` holds up the guests, if there are any.
    pub fn new(scene: Scene, script: Script, months: Option<Months>) -> Self {
        let (crashed, open, pushes) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { scene, script, crashed, open, pushes, planted: 0, months }
    }

    /// Plays to the end.
    pub fn play(mut self) -> Result<()> {
        let march = std::mem::take(&mut self.script.march);
        self.play_month(march)?;
        let script = self.script.clone();
        let months = self.months.clone();
        // Until nothing is in flight and the broker is recreated.
        let pause = months.as_ref().map(Months::pause);
        self.scene.rests.store(true, Ordering::Relaxed);
        self.await_march_counted()?;
        for input in &script.last_moments {
            self.perform(input, None)?;
        }
        println!("            March ends");
        self.scene.sandbox.post("/control/clock", &json!({ "now": cast::april() }))?;
        let scene = self.scene.clone();
        if let Some(months) = &months {
            months.turn_to(cast::Month::April);
        }
        let guests = scene.guests.iter().map(|guest| guest.tenant);
        let tenants: Vec<&str> = TENANTS.iter().map(|tenant| tenant.id).chain(guests).collect();
        scene.await_state("March to be closed", || Ok(tenants.iter().all(|it| is_closed(&scene, it))))?;
        println!("            March is closed");
        self.scene.renew(Renewal::Wanted);
        wait::until("the broker to be recreated", RENEWED_WITHIN, || {
            Ok((self.scene.renewal() == Renewal::Done).then_some(()))
        })?;
        println!("            the broker is recreated");
        drop(pause);
        self.scene.rests.store(false, Ordering::Relaxed);
        let before_the_end = cast::Month::April.start().checked_sub(SignedDuration::from_mins(30))?;
        for input in &script.late {
            self.perform(input, Some(before_the_end))?;
        }
        self.play_month(script.april)?;
        while !self.pushes.is_empty() {
            self.push_due(Instant::now())?;
            thread::sleep(TRY_AGAIN);
        }
        Ok(())
    }

    fn play_month(&mut self, inputs: Vec<Timed>) -> Result<()> {
        let began = Instant::now();
        for (at_ms, input) in inputs {
            let due = began + Duration::from_millis(at_ms);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.perform(&input, None)?;
            self.push_due(Instant::now())?;
        }
        Ok(())
    }

    /// Crossings of March are published only while it is March: what decides them must be counted before it ends.
    fn await_march_counted(&mut self) -> Result<()> {
        let mut figures = BTreeMap::new();
        let guests = self.scene.guests.iter().map(|guest| (guest.source, guest.tenant));
        let tenant_of = |source: &cast::Source| TENANTS.get(source.tenant).map_or("", |tenant| tenant.id);
        for (source, tenant) in SOURCES.iter().map(|source| (source.id, tenant_of(source))).chain(guests) {
            let path = format!("/control/n8n/{source}/executions");
            let Ok(all) = self.scene.sandbox.get(&path) else { continue };
            let mut of_source = BTreeMap::new();
            crate::truth::tally(&mut of_source, source, all.as_array().context("a list")?, |_| false)?;
            let entry: &mut crate::truth::Figures = figures.entry(tenant).or_default();
            of_source.values().for_each(|it| entry.add(it));
        }
        let scene = self.scene.clone();
        scene.await_state("March to be counted", || {
            self.push_due(Instant::now())?;
            Ok(figures.iter().all(|(tenant, truth)| {
                scene.ask(&format!("/v1/usage/{tenant}")).is_ok_and(|usage| {
                    let shown = |field: &str| usage.get(field).and_then(Value::as_u64);
                    shown("counted") == Some(truth.counted) && shown("error") == Some(truth.error)
                })
            }))
        })
    }

    fn perform(&mut self, input: &Input, stopped_at: Option<Timestamp>) -> Result<()> {
        match input {
            Input::Run(runs) => self.run(runs, stopped_at),
            Input::Recover => std::mem::take(&mut self.crashed)
                .into_iter()
                .try_for_each(|(source, id)| self.finish(source, &id, "error")),
            Input::Open { source, workflow } => {
                let body = json!({ "workflow": WORKFLOWS.get(*workflow) });
                let started = self.scene.sandbox.post(&control(*source, "start"), &body)?;
                let id = started.get("id").and_then(Value::as_str).context("an id")?;
                self.open.push_back((*source, id.to_owned()));
                Ok(())
            }
            Input::Finish => {
                let Some((source, id)) = self.open.pop_front() else { return Ok(()) };
                self.scene.executions.fetch_add(1, Ordering::Relaxed);
                self.finish(source, &id, "success")
            }
            Input::Plant(planted) => self.plant(*planted),
            Input::Step { ms } => self.scene.step(*ms),
            Input::Join => self.scene.put_tenants(&self.script, true),
            Input::Recalendar { tenant, calendar } => self.scene.recalendar(*tenant, *calendar),
        }
    }

    fn finish(&self, source: usize, id: &str, status: &str) -> Result<()> {
        let body = json!({ "id": id, "status": status });
        self.scene.sandbox.post(&control(source, "finish"), &body).map(drop)
    }

    fn run(&mut self, runs: &Runs, late_at: Option<Timestamp>) -> Result<()> {
        let stopped_at = match late_at {
            Some(at) => at,
            None => Timestamp::from_millisecond(self.scene.now()?.as_millisecond())?,
        };
        let workflow = WORKFLOWS.get(runs.workflow);
        let name = NAMES.get(runs.name).copied().flatten();
        let body = json!({
            "workflow": workflow, "name": name, "mode": runs.mode, "status": runs.status, "count": runs.count,
            "duration_ms": runs.duration_ms, "stopped_at": stopped_at,
        });
        let ran = self.scene.sandbox.post(&control(runs.source, "run"), &body)?;
        let ids: Vec<&str> = ran
            .get("ids")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        self.scene.executions.fetch_add(ids.len() as u64, Ordering::Relaxed);
        if runs.status == "crashed" {
            self.crashed.extend(ids.iter().map(|id| (runs.source, (*id).to_owned())));
        }
        if late_at.is_some() {
            let source = SOURCES.get(runs.source).map_or("", |source| source.id);
            self.scene.made().late.extend(ids.iter().map(|id| (source.to_owned(), (*id).to_owned())));
        }
        let lasted = SignedDuration::from_millis(i64::try_from(runs.duration_ms)?);
        let started_at = stopped_at.checked_sub(lasted)?;
        let executions: Vec<Value> = ids
            .iter()
            .map(|id| {
                json!({
                    "id": id, "workflow_id": workflow, "workflow_name": name, "mode": runs.mode, "status": runs.status,
                    "started_at": started_at, "stopped_at": stopped_at,
                })
            })
            .collect();
        let body = json!({ "executions": executions });
        for after_ms in &runs.push_after_ms {
            let due = Instant::now() + Duration::from_millis(*after_ms);
            self.pushes.push((due, runs.source, body.clone()));
        }
        Ok(())
    }

    /// Sends due pushes, each on its own thread: senders do not wait for each other.
    fn push_due(&mut self, now: Instant) -> Result<()> {
        let (due, later) = std::mem::take(&mut self.pushes).into_iter().partition(|(at, _, _)| *at <= now);
        self.pushes = later;
        let due: Vec<(Instant, usize, Value)> = due;
        for (_, source, body) in due {
            let Some(token) = self.scene.made().tokens.get(&source).cloned() else { continue };
            let scene = self.scene.clone();
            thread::spawn(move || push(&scene, &token, &body));
        }
        Ok(())
    }

    fn plant(&mut self, planted: Planted) -> Result<()> {
        self.planted += 1;
        let mark = format!("planted-{}", self.planted);
        let namespace = Namespace::default();
        // No field of any message has the number 0.
        let garbage = [b"\x00".as_slice(), mark.as_bytes()].concat();
        let (subject, payload) = match planted {
            Planted::BadExecutions => (namespace.executions("north-n8n"), garbage),
            Planted::BadCrossing => (namespace.usage_threshold("north"), garbage),
            Planted::BadPeriod => (namespace.usage_period("north"), garbage),
            Planted::UnknownSource => (namespace.executions("nowhere"), self.batch("nowhere", &mark, true)?),
            Planted::BadRow => (namespace.executions("north-n8n"), self.batch("north-n8n", &mark, false)?),
        };
        match planted {
            Planted::UnknownSource => drop(self.scene.made().strangers.insert("nowhere")),
            Planted::BadRow => drop(self.scene.made().strangers.insert("north-n8n")),
            Planted::BadExecutions | Planted::BadCrossing | Planted::BadPeriod => {}
        }
        for reader in planted.readers() {
            self.scene.made().planted.insert(((*reader).to_owned(), mark.clone()));
        }
        wait::until("a bad message to be planted", PATIENCE, || {
            Ok(self.scene.broker.publish(subject.clone(), &mark, payload.clone()).ok())
        })
    }

    fn batch(&self, source: &str, workflow: &str, readable: bool) -> Result<Vec<u8>> {
        let now = Some(proto::timestamp(self.scene.now()?));
        let status =
            if readable { v1::ExecutionStatus::Success } else { v1::ExecutionStatus::Unspecified }.into();
        let execution = v1::Execution {
            execution_id: "999999999".to_owned(),
            workflow_id: workflow.to_owned(),
            status,
            mode: v1::ExecutionMode::Webhook.into(),
            started_at: now,
            stopped_at: now,
            ..v1::Execution::default()
        };
        let batch = v1::ExecutionBatch {
            source_id: source.to_owned(),
            epoch: 1,
            received_at: now,
            origin: v1::Origin::Push.into(),
            executions: vec![execution],
            ..v1::ExecutionBatch::default()
        };
        Ok(batch.encode_to_vec())
    }
}

/// Sends a push until a collector accepts it, for some tries: the poll delivers what is not pushed.
pub(crate) fn push(scene: &Scene, token: &str, body: &Value) {
    for turn in 0..PUSH_TRIES_MAX {
        let Some(base) = scene.collectors.get(turn % scene.collectors.len().max(1)) else { return };
        let collector = Api::new(base).with_token(token).answering_within(Duration::from_secs(5));
        // A Rust string cannot hold half of a surrogate pair, but JSON can.
        let body = body.to_string().replace(LONE_SURROGATE, "\\ud83d");
        if collector.post_text("/v1/executions", body).is_ok() {
            scene.pushed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        thread::sleep(TRY_AGAIN);
    }
}

fn control(source: usize, what: &str) -> String {
    format!("/control/n8n/{}/{what}", SOURCES.get(source).map_or("", |source| source.id))
}

fn is_closed(scene: &Scene, tenant: &str) -> bool {
    let Ok(answer) = scene.ask(&format!("/v1/usage/{tenant}/periods")) else { return false };
    crate::truth::closed(&answer).is_ok_and(|closed| closed.contains_key(&cast::Month::March))
}
