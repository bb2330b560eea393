//! `cargo xtask e2e push`: a real n8n with the hook, from a run to its count on the live events.

use std::{
    io::BufRead,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use stack::{Api, Profile, Project, Stack, backing::Servers, postgres::Durability, services::Options, wait};

use crate::{binaries, checks::Checks, real_n8n::RealN8n};

/// What the product promises from the end of a run to its count.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// A run that is not shown by then will not be before the next poll.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

/// A first sweep of a full instance, on a busy machine.
const SWEPT_WITHIN: Duration = Duration::from_secs(120);

/// A prepared workflow that succeeds. It answers when its run has ended.
const WEBHOOK: &str = "/webhook/meter-ok";

const TENANT: &str = "north";
const SOURCE: &str = "north-n8n";

/// Nothing listens here: until n8n runs, its source has no address.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Arguments of `cargo xtask e2e push`.
#[derive(Debug, Args)]
pub struct PushInput {
    /// The folder with tools/n8n/start-n8n.sh.
    #[arg(long, default_value = "../shared")]
    shared: PathBuf,
    /// Runs, one after the other.
    #[arg(long, default_value_t = 100)]
    runs: u32,
}

impl PushInput {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let built = binaries::build(&project, false)?;
        let scripts = project.root().join(&self.shared).join("tools/n8n");
        let profile = Profile::fresh(&project, "e2e-push")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        println!("Starting a fresh stack");
        let mut stack = Stack::start(profile, Options::new(built, servers.backing.clone()))?;
        let gateway = stack.gateway();
        gateway.put("/v1/plans/start", &json!({ "name": "Start", "monthly_limit": 1_000_000 }))?;
        gateway.put(&format!("/v1/tenants/{TENANT}"), &json!({ "name": "North", "plan": "start" }))?;
        put_source(&gateway, NOWHERE, "none")?;
        let issued = gateway.post(&format!("/v1/sources/{SOURCE}/push-token"), &Value::Null)?;
        let token = issued.get("token").and_then(Value::as_str).context("no push token was issued")?;

        let hook = project.root().join("deploy/n8n/flowmeter-hooks.js").display().to_string();
        let environment = [
            ("EXTERNAL_HOOK_FILES", hook),
            ("FLOWMETER_PUSH_URL", stack.push_url()),
            ("FLOWMETER_PUSH_TOKEN", token.to_owned()),
        ];
        let mut n8n = RealN8n::start_with(&scripts, &project.folder().join("n8n"), &environment)?;
        let mut checks = Checks::default();
        self.measure(&gateway, &n8n, &mut checks)?;
        let passed = checks.print();
        n8n.stop()?;
        stack.stop()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn measure(&self, gateway: &Api, n8n: &RealN8n, checks: &mut Checks) -> Result<()> {
        println!("Sweeping what the instance held before");
        let _ = sweep(gateway, n8n)?;
        let before = counted(&gateway.get(&format!("/v1/usage/{TENANT}"))?);

        println!("{} runs, one after the other", self.runs);
        let shown = follow(gateway)?;
        let webhook = Api::new(&n8n.url);
        let mut delays = Vec::new();
        for run in 1..=u64::from(self.runs) {
            // From the start of the run, which takes some milliseconds: its end is in n8n's time, not in ours.
            let started_at = Instant::now();
            webhook.post(WEBHOOK, &json!({ "n": {} }))?;
            delays.push(await_count(&shown, before + run)?.duration_since(started_at));
        }
        delays.sort_unstable();
        let within = |delay: Option<&Duration>| {
            let delay = delay.copied().unwrap_or(GIVEN_UP_AFTER);
            (format!("{} ms", delay.as_millis()), delay < SHOWN_WITHIN)
        };
        let (median, is_fast) = within(delays.get(delays.len() / 2));
        checks.judged("from a run to its count, median", "< 1000 ms", &median, is_fast);
        let (worst, is_fast) = within(delays.last());
        checks.judged("from a run to its count, worst", "< 1000 ms", &worst, is_fast);

        println!("Sweeping: the poll finds the same runs");
        let published = sweep(gateway, n8n)?;
        let wanted = u64::from(self.runs);
        let all = published >= wanted;
        checks.judged("executions found by the poll", &format!(">= {wanted}"), &published.to_string(), all);
        let after = counted(&gateway.get(&format!("/v1/usage/{TENANT}"))?);
        checks.equal("counted, pushed and polled", before + wanted, after);
        Ok(())
    }
}

fn put_source(gateway: &Api, url: &str, key: &str) -> Result<()> {
    let source =
        json!({ "tenant": TENANT, "kind": "n8n", "base_url": url, "api_key": key, "poll_interval": "1h" });
    gateway.put(&format!("/v1/sources/{SOURCE}"), &source)?;
    Ok(())
}

/// Makes the source due, and waits until a sweep is counted that began afterwards. Returns what it published.
fn sweep(gateway: &Api, n8n: &RealN8n) -> Result<u64> {
    let path = format!("/v1/sources/{SOURCE}");
    let ended_at = |source: &Value| source.pointer("/status/last_sweep/ended_at").cloned();
    let before = ended_at(&gateway.get(&path)?);
    put_source(gateway, &n8n.url, &n8n.key)?;
    let source = wait::until("a sweep to end", SWEPT_WITHIN, || {
        let source = gateway.get(&path)?;
        Ok((ended_at(&source) != before).then_some(source))
    })?;
    let complete_until = source.pointer("/status/complete_until").cloned();
    wait::until("the sweep to be counted", SWEPT_WITHIN, || {
        let usage = gateway.get(&format!("/v1/usage/{TENANT}"))?;
        Ok((usage.get("complete_until").cloned() == complete_until).then_some(()))
    })?;
    let published = source.pointer("/status/last_sweep/executions_published").and_then(Value::as_u64);
    Ok(published.unwrap_or_default())
}

fn counted(usage: &Value) -> u64 {
    usage.get("counted").and_then(Value::as_u64).unwrap_or_default()
}

/// Every count of the tenant that the live events tell, and when they told it.
fn follow(gateway: &Api) -> Result<Receiver<(Instant, u64)>> {
    let events = gateway.stream("/v1/events")?;
    let (tell, told) = mpsc::channel();
    // Ends with the gateway, or with whoever listens.
    std::thread::spawn(move || {
        for line in events.lines().map_while(Result::ok) {
            let data = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok());
            let of_tenant = |usage: &Value| usage.get("tenant").and_then(Value::as_str) == Some(TENANT);
            if let Some(usage) = data.filter(of_tenant)
                && tell.send((Instant::now(), counted(&usage))).is_err()
            {
                return;
            }
        }
    });
    Ok(told)
}

fn await_count(shown: &Receiver<(Instant, u64)>, expected: u64) -> Result<Instant> {
    let deadline = Instant::now() + GIVEN_UP_AFTER;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match shown.recv_timeout(left) {
            Ok((at, counted)) if counted >= expected => return Ok(at),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => bail!("the count never came to {expected}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the live events have ended"),
        }
    }
}
