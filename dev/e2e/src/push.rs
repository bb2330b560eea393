//! `cargo xtask e2e push`: a real n8n with the hook, from a run to its count on the live events.

mod forged;

use std::{
    collections::BTreeSet,
    io::BufRead,
    process::ExitCode,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use stack::{
    Api, Profile, Project, Stack, backing::Servers, binaries, postgres::Durability, services::Options, wait,
};

use super::metered::{Metered, TENANT, counted};
use crate::{
    checks::Checks,
    real_n8n::{Backends, Instance, RealN8n, RedisInput},
};

/// The promised time from the end of a run to its count.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// A run that does not appear within this time will not appear before the next poll.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

/// A prepared workflow that succeeds. It answers when its run has ended.
const WEBHOOK: &str = "/webhook/meter-ok";

const LIMIT: u64 = 1_000_000;

/// Arguments of `cargo xtask e2e push`.
#[derive(Debug, Args)]
pub struct Push {
    #[command(flatten)]
    instance: Instance,
    /// Run n8n in queue mode: a main, a worker and a webhook process, each with the hook.
    #[arg(long)]
    queue: bool,
    #[command(flatten)]
    redis: RedisInput,
    /// Runs, one after the other.
    #[arg(long, default_value_t = 100)]
    runs: u32,
    /// Runs that succeed, several at a time, afterwards.
    #[arg(long, default_value_t = 80)]
    good: u32,
    /// Runs that fail, likewise.
    #[arg(long, default_value_t = 20)]
    bad: u32,
}

impl Push {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let built = binaries::build(&project, false)?;
        let profile = Profile::fresh(&project, "e2e-push")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        println!("Starting a fresh stack");
        let mut stack = Stack::start(profile, Options::new(built, servers.backing.clone()))?;
        let metered = Metered::set_up(&stack, &servers.backing, LIMIT)?;

        let token = metered.push_token()?;
        let hook = project.root().join("deploy/n8n/flowmeter-hooks.js").display().to_string();
        let environment = [
            ("EXTERNAL_HOOK_FILES", hook),
            ("FLOWMETER_PUSH_URL", stack.push_url()),
            ("FLOWMETER_PUSH_TOKEN", token.clone()),
        ];
        let mut n8n = if self.queue {
            let backends = Backends { postgres_url: &servers.admin_database_url, redis: &self.redis };
            self.instance.start_queue(stack.profile(), &backends, &environment)?
        } else {
            self.instance.start(stack.profile(), &environment)?
        };
        let mut checks = Checks::default();
        self.measure(&stack, &metered, &n8n, &mut checks)?;
        forged::check(&stack, &metered, &n8n, &token, &mut checks)?;
        let passed = checks.print();
        n8n.stop()?;
        stack.stop()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn measure(&self, stack: &Stack, metered: &Metered, n8n: &RealN8n, checks: &mut Checks) -> Result<()> {
        println!("Sweeping what the instance held before");
        let _ = metered.sweep(n8n)?;
        let before = metered.counted()?;
        let old = n8n.ended_ids()?;

        println!("{} runs, one after the other", self.runs);
        judge(self.time(&stack.gateway(), n8n, before)?, checks);

        println!("{} good and {} bad runs, several at a time", self.good, self.bad);
        n8n.make_executions(self.good, self.bad)?;
        let made = u64::from(self.runs) + u64::from(self.good) + u64::from(self.bad);
        let arrived = wait::until("every run to be counted", GIVEN_UP_AFTER, || {
            Ok(Some(metered.counted()?).filter(|counted| *counted >= before + made))
        });
        let arrived = arrived.or_else(|_| metered.counted())?;
        checks.equal("counted, pushed only", before + made, arrived);
        let listed: BTreeSet<u64> = n8n.ended_ids()?.difference(&old).copied().collect();
        let pushed: BTreeSet<u64> = metered.recorded_ids()?.difference(&old).copied().collect();
        checks.equal("executions that n8n lists", made, u64::try_from(listed.len())?);
        checks.equal("of them not pushed", 0, listed.difference(&pushed).count());
        checks.equal("pushed, but not listed", 0, pushed.difference(&listed).count());

        println!("Sweeping: the poll finds the same runs");
        let published = metered.sweep(n8n)?;
        let all = published >= made;
        checks.judged("executions found by the poll", &format!(">= {made}"), &published.to_string(), all);
        checks.equal("counted, pushed and polled", before + made, metered.counted()?);
        let recorded = metered.recorded()?;
        let ids: BTreeSet<u64> = recorded.iter().map(|run| run.id).collect();
        checks.equal("recorded twice", 0, recorded.len() - ids.len());
        checks.equal("recorded, but not listed", 0, ids.difference(&n8n.ended_ids()?).count());
        Ok(())
    }

    /// From the start of each run to the live event with its count, shortest first.
    fn time(&self, gateway: &Api, n8n: &RealN8n, before: u64) -> Result<Vec<Duration>> {
        let shown = follow(gateway)?;
        let webhook = Api::new(&n8n.webhook_url);
        let mut delays = Vec::new();
        for run in 1..=u64::from(self.runs) {
            // From the start of the run, which takes some milliseconds: its end is on n8n's clock, not on ours.
            let started_at = Instant::now();
            webhook.post(WEBHOOK, &json!({ "n": {} }))?;
            delays.push(await_count(&shown, before + run)?.duration_since(started_at));
        }
        delays.sort_unstable();
        Ok(delays)
    }
}

fn judge(delays: Vec<Duration>, checks: &mut Checks) {
    for (which, delay) in [("median", delays.get(delays.len() / 2)), ("worst", delays.last())] {
        let delay = delay.copied().unwrap_or(GIVEN_UP_AFTER);
        let found = format!("{} ms", delay.as_millis());
        checks.judged(
            &format!("from a run to its count, {which}"),
            "< 1000 ms",
            &found,
            delay < SHOWN_WITHIN,
        );
    }
}

/// Every count of the tenant in the live events, and when it arrived.
fn follow(gateway: &Api) -> Result<Receiver<(Instant, u64)>> {
    let events = gateway.stream("/v1/events")?;
    let (sender, received) = mpsc::channel();
    // Ends with the gateway, or with the receiver.
    std::thread::spawn(move || {
        for line in events.lines().map_while(Result::ok) {
            let data = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok());
            let of_tenant = |usage: &Value| usage.get("tenant").and_then(Value::as_str) == Some(TENANT);
            if let Some(usage) = data.filter(of_tenant)
                && sender.send((Instant::now(), counted(&usage))).is_err()
            {
                return;
            }
        }
    });
    Ok(received)
}

fn await_count(shown: &Receiver<(Instant, u64)>, expected: u64) -> Result<Instant> {
    let deadline = Instant::now() + GIVEN_UP_AFTER;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match shown.recv_timeout(left) {
            Ok((at, counted)) if counted >= expected => return Ok(at),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => bail!("the count never reached {expected}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the live events ended"),
        }
    }
}
