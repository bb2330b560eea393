//! A stack for one test, and what tests commonly do with it.

use std::{
    collections::BTreeMap,
    env,
    process::{self, Command},
    time::Duration,
};

use async_nats::{ConnectOptions, HeaderMap, ServerAddr, jetstream};
use proto::{Namespace, streams::Stream};
use serde_json::{Value, json};
use stack::{
    Api, Backing, Profile, Program, Project, Stack, backing::Broker, database, services, services::Options,
    wait,
};

/// How long to wait for a state: two stacks may start side by side on a small machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub const TENANT: &str = "north";
pub const SOURCE: &str = "north-n8n";
pub const CUSTOMER: &str = "cus_north";
pub const METER: &str = "executions";
pub const RECIPIENT: &str = "ops@north.example";

/// A jump of the simulated clock after which the next report to Stripe is due.
const REPORT_DUE_MS: u64 = 15 * 60 * 1_000;

/// Executions of one kind.
#[derive(Clone, Copy)]
pub struct Runs {
    pub workflow: &'static str,
    pub mode: &'static str,
    pub status: &'static str,
    pub count: u64,
}

impl Runs {
    pub const fn good(count: u64) -> Self {
        Self { workflow: "orderSync", mode: "webhook", status: "success", count }
    }
}

pub struct Harness {
    pub stack: Stack,
    namespace: Namespace,
    nats_url: String,
    server_url: String,
    database_url: String,
    database: String,
}

impl Harness {
    /// Starts a stack. Data of an earlier run is removed.
    pub fn start(test: &str) -> Self {
        Self::start_some(test, &Program::SERVICES, |options| options)
    }

    /// Starts a stack of these services only, with changed options.
    pub fn start_some(test: &str, services: &[Program], change: impl FnOnce(Options) -> Options) -> Self {
        let server_url = required("DATABASE_URL");
        let nats_url = required("NATS_URL");
        let database = format!("flowmeter_whole_{}", test.replace('-', "_"));
        let database_url = database::replace(&server_url, &database).unwrap();
        let namespace = format!("w{}_{}", process::id(), test.replace('-', "_").get(..12).unwrap_or("short"));

        let backing =
            Backing { database_url: database_url.clone(), broker: Broker::Shared(nats_url.clone()) };
        let mut options = Options::new(services::binaries_beside_test().unwrap(), backing)
            .with("COLLECTOR__CLOCK_SKEW", "1s")
            .with("BILLING__REPORT_INTERVAL", "1m")
            .with("NATS__PATIENCE", "5s");
        options.namespace.clone_from(&namespace);
        let profile = Profile::fresh(&Project::find().unwrap(), &format!("whole/{test}")).unwrap();
        let stack = Stack::start_some(profile, change(options), services).unwrap();
        let namespace = Namespace::parse(&namespace).unwrap();
        Self { stack, namespace, nats_url, server_url, database_url, database }
    }

    /// Starts a stack with one billed tenant of this limit, and an n8n of its own that is swept every second.
    pub fn with_tenant(test: &str, limit: u64) -> Self {
        let bench = Self::start(test);
        let sandbox = bench.sandbox();
        sandbox.post("/control/stripe/meters", &json!({ "event_name": METER })).unwrap();
        sandbox.post("/control/stripe/customers", &json!({ "id": CUSTOMER })).unwrap();
        let plan = json!({ "name": "Start", "monthly_limit": limit, "meter_event_name": METER });
        bench.gateway().put("/v1/plans/start", &plan).unwrap();
        bench.put_tenant(TENANT);
        bench.put_n8n(SOURCE, TENANT);
        bench
    }

    pub fn gateway(&self) -> Api {
        self.stack.gateway()
    }

    pub fn sandbox(&self) -> Api {
        self.stack.sandbox()
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub fn put_tenant(&self, tenant: &str) {
        let body = json!({
            "name": tenant,
            "plan": "start",
            "alert_recipients": [RECIPIENT],
            "stripe_customer_id": CUSTOMER,
            "shared_customer": true,
        });
        self.gateway().put(&format!("/v1/tenants/{tenant}"), &body).unwrap();
    }

    /// Creates an n8n in the sandbox and a source for it, both with this name.
    pub fn put_n8n(&self, source: &str, tenant: &str) {
        self.sandbox().post(&format!("/control/n8n/{source}"), &json!({})).unwrap();
        self.put_source(source, tenant, &format!("key-{source}"));
    }

    pub fn put_source(&self, source: &str, tenant: &str, key: &str) {
        let body = json!({
            "tenant": tenant,
            "kind": "n8n",
            "base_url": format!("{}/n8n/{source}", self.sandbox().base()),
            "api_key": key,
            "poll_interval": "1s",
        });
        self.gateway().put(&format!("/v1/sources/{source}"), &body).unwrap();
    }

    pub fn run(&self, source: &str, runs: Runs) {
        let body = json!({
            "workflow": runs.workflow,
            "mode": runs.mode,
            "status": runs.status,
            "count": runs.count,
        });
        self.sandbox().post(&format!("/control/n8n/{source}/run"), &body).unwrap();
    }

    pub fn usage(&self, tenant: &str) -> Value {
        self.gateway().get(&format!("/v1/usage/{tenant}")).unwrap()
    }

    pub fn counted(&self, tenant: &str) -> u64 {
        self.usage(tenant)["counted"].as_u64().unwrap_or_default()
    }

    /// Waits until a tenant has at least this many counted executions; the caller asserts the exact number.
    pub fn await_counted(&self, tenant: &str, at_least: u64) -> u64 {
        self.until(&format!("{at_least} counted executions of {tenant}"), || {
            Some(self.counted(tenant)).filter(|counted| *counted >= at_least)
        })
    }

    pub fn await_sweep_of(&self, source: &str) {
        let ended_at = || {
            let source = self.gateway().get(&format!("/v1/sources/{source}")).unwrap();
            source.pointer("/status/last_sweep/ended_at").cloned()
        };
        let before = ended_at();
        self.until(&format!("a sweep of {source}"), || {
            Some(ended_at()).filter(|at| at.is_some() && *at != before)
        });
    }

    /// Two sweeps: one may have begun before now.
    pub fn await_quiet(&self) {
        self.await_sweep_of(SOURCE);
        self.await_sweep_of(SOURCE);
    }

    /// Subjects of the mails in the sink, sorted. If the sender is killed before it has recorded the server's
    /// acceptance, it sends the mail again under the same Message-ID: mailboxes and this method take it for one mail.
    pub fn mail_subjects(&self) -> Vec<String> {
        let mails = self.sandbox().get("/control/mail").unwrap();
        let by_id: BTreeMap<String, String> = mails
            .as_array()
            .unwrap()
            .iter()
            .map(|mail| ["message_id", "subject"].map(|field| mail[field].as_str().unwrap().to_owned()))
            .map(|[id, subject]| (id, subject))
            .collect();
        let mut subjects: Vec<String> = by_id.into_values().collect();
        subjects.sort();
        subjects
    }

    pub fn await_mails(&self, at_least: usize) -> Vec<String> {
        self.until(&format!("{at_least} mails"), || {
            Some(self.mail_subjects()).filter(|subjects| subjects.len() >= at_least)
        })
    }

    /// The time on every clock of this stack.
    pub fn now(&self) -> jiff::Timestamp {
        self.sandbox().get("/clock").unwrap()["now"].as_str().unwrap().parse().unwrap()
    }

    pub fn advance_clock(&self, ms: u64) {
        self.sandbox().post("/control/clock", &json!({ "advance_ms": ms })).unwrap();
    }

    /// Moves the clock until a report is due, and waits until Stripe has at least this.
    pub fn await_stripe_total(&self, at_least: u64) -> u64 {
        self.advance_clock(REPORT_DUE_MS);
        self.until(&format!("Stripe's total of {at_least}"), || {
            Some(self.stripe_total()).filter(|total| *total >= at_least)
        })
    }

    pub fn stripe_total(&self) -> u64 {
        let totals = self.sandbox().get("/control/stripe/totals").unwrap();
        let ours = totals.as_array().unwrap().iter().find(|total| total["customer"] == CUSTOMER);
        ours.map(|total| total["value"].as_u64().unwrap()).unwrap_or_default()
    }

    /// Publishes as another program with the broker's password would.
    pub fn publish(&self, subject: String, payload: Vec<u8>) {
        self.with_jetstream(async |context| {
            let sent = context.publish_with_headers(subject, HeaderMap::new(), payload.into()).await.unwrap();
            sent.await.unwrap();
        });
    }

    /// Runs the command line as the operator. Returns what it printed.
    pub fn flowmeter(&self, arguments: &[&str]) -> String {
        let mut flowmeter = Command::new(self.stack.cli());
        let output = flowmeter.args(arguments).envs(self.stack.cli_environment()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "flowmeter {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The dead letters, as `flowmeter dead list` shows them to programs.
    pub fn dead_letters(&self) -> Vec<Value> {
        let printed = self.flowmeter(&["dead", "list", "--json"]);
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn await_dead_letter(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("the dead letter of {what}"), || self.dead_letters().into_iter().find(&matches))
    }

    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let found = wait::until(what, PATIENCE, || Ok(look()));
        found.unwrap_or_else(|error| {
            let usage = self.gateway().get("/v1/usage").unwrap_or_default();
            let sources = self.gateway().get("/v1/sources").unwrap_or_default();
            panic!("{error}\nusage: {usage}\nsources: {sources}\nmails: {:?}", self.mail_subjects())
        })
    }

    /// Stops everything and removes what it has created on the shared servers.
    pub fn finish(mut self) {
        self.stack.stop().unwrap();
        let names: Vec<String> = Stream::all().map(|stream| stream.name(&self.namespace)).collect();
        self.with_jetstream(async |context| {
            for name in names {
                // A stack of some services does not have all of them.
                let _ = context.delete_stream(name).await;
            }
        });
        let drop_database = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        database::ask(&self.server_url, &drop_database).unwrap();
    }

    /// Runs one query on the services' database.
    pub fn ask(&self, sql: &str) -> String {
        database::ask(&self.database_url, sql).unwrap()
    }

    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    fn with_jetstream<T>(&self, work: impl AsyncFnOnce(jetstream::Context) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work(jetstream_at(&self.nats_url).await).await })
    }
}

/// The broker, by a connection that reconnects by itself.
pub async fn jetstream_at(nats_url: &str) -> jetstream::Context {
    let address: ServerAddr = nats_url.parse().unwrap();
    let options = match (address.username(), address.password()) {
        (Some(user), Some(password)) => ConnectOptions::with_user_and_password(user.into(), password.into()),
        _ => ConnectOptions::new(),
    };
    jetstream::new(options.connect(address).await.unwrap())
}

fn required(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}
