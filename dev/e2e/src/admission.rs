//! `cargo xtask e2e admission`: a real n8n whose hook checks the limit before each run, at its limit.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::{Value, json};
use stack::{
    Api, Profile, Project, Stack, backing::Servers, binaries, postgres::Durability, services::Options, wait,
};

use super::metered::{Metered, TENANT};
use crate::{
    checks::Checks,
    real_n8n::{Backends, Instance, RealN8n, RedisInput},
};

/// A prepared workflow that succeeds. It answers when its run has ended.
const WEBHOOK: &str = "/webhook/meter-ok";

/// Webhooks of one burst.
const BURST: u64 = 20;

/// Status for a webhook's caller when the quota is used up, and when it may be, because some runs are not counted yet. Before
/// 2.40, n8n answers both with its own error.
const REFUSED: u16 = 402;
const NOT_SURE: u16 = 429;
const REFUSED_BY_OLD_N8N: u16 = 500;

/// How long the hook waits by default, and how long a debug build may take.
const WAIT_MS_OF_HOOK: u32 = 250;
const WAIT_MS_OF_DEBUG: u32 = 20_000;

/// The promised time until a raised limit applies.
const RAISED_HOLDS_WITHIN: Duration = Duration::from_secs(1);

/// Time to answer all simultaneous calls: on a busy machine n8n runs a few a second.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);

/// Rounds of simultaneous calls without the hook, and the time for each: n8n ends 80 runs in a few seconds.
const CONTROL_ROUNDS: u64 = 5;
const CONTROL_WITHIN: Duration = Duration::from_secs(30);

/// Time for pushed runs to be counted, on a busy machine.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// How long to wait for a raised limit to apply at all.
const RAISED_WITHIN: Duration = Duration::from_secs(30);

/// Arguments of `cargo xtask e2e admission`.
#[derive(Debug, Args)]
pub struct Admission {
    #[command(flatten)]
    instance: Instance,
    /// Run n8n in queue mode: a main, a worker and a webhook process, each with the hook.
    #[arg(long)]
    queue: bool,
    #[command(flatten)]
    redis: RedisInput,
    /// Call n8n without the hook, only to see whether it answers every caller by itself.
    #[arg(long)]
    without_hook: bool,
    /// The tenant's limit.
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// What it is raised to.
    #[arg(long, default_value_t = 60)]
    raised: u64,
    /// How long a run waits for the gateway, in milliseconds [default: 20,000; with `--release` the hook's own 250]. A
    /// debug build on a busy machine must not let runs through by the rule for an outage.
    #[arg(long)]
    wait_ms: Option<u32>,
    /// Build with optimisations, as for a deployment.
    #[arg(long)]
    release: bool,
    /// Simultaneous calls of a webhook.
    #[arg(long, default_value_t = 80)]
    calls: u64,
    /// Bursts of 20 webhooks below the limit, one after the other, before it is reached.
    #[arg(long, default_value_t = 5)]
    bursts: u64,
}

impl Admission {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let built = binaries::build(&project, self.release)?;
        let profile = Profile::fresh(&project, "e2e-admission")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        println!("Starting a fresh stack");
        let mut stack = Stack::start(profile, Options::new(built, servers.backing.clone()))?;
        let metered = Metered::set_up(&stack, &servers.backing, self.before() + self.limit)?;

        let hook = project.root().join("deploy/n8n/flowmeter-hooks.js").display().to_string();
        let environment = [
            ("EXTERNAL_HOOK_FILES", hook),
            ("FLOWMETER_PUSH_URL", stack.push_url()),
            ("FLOWMETER_PUSH_TOKEN", metered.push_token()?),
            ("FLOWMETER_WAIT_MS", self.wait_ms().to_string()),
            ("FLOWMETER_GATEWAY_URL", stack.gateway().base().to_owned()),
        ];
        let environment: &[_] = if self.without_hook { &[] } else { &environment };
        let mut n8n = if self.queue {
            let backends = Backends { postgres_url: &servers.admin_database_url, redis: &self.redis };
            self.instance.start_queue(stack.profile(), &backends, environment)?
        } else {
            self.instance.start(stack.profile(), environment)?
        };
        let mut checks = Checks::default();
        if self.without_hook {
            self.control(&n8n, &mut checks)?;
        } else {
            self.check(&metered, &n8n, &mut checks)?;
        }
        let passed = checks.print();
        n8n.stop()?;
        stack.stop()?;
        servers.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn wait_ms(&self) -> u32 {
        self.wait_ms.unwrap_or(if self.release { WAIT_MS_OF_HOOK } else { WAIT_MS_OF_DEBUG })
    }

    /// Runs of the bursts below the limit.
    fn before(&self) -> u64 {
        self.bursts * BURST
    }

    /// Whether n8n itself may leave a webhook's caller without an answer: in queue mode before 2.40 it begins to listen for
    /// the end of a run after it has queued it, and never notices that a run has ended before.
    fn may_stay_silent(&self) -> bool {
        self.queue && !self.instance.refuses_cleanly()
    }

    /// Prints how many callers get no answer from n8n alone. Each call is a finished execution in n8n's list.
    fn control(&self, n8n: &RealN8n, checks: &mut Checks) -> Result<()> {
        println!("{CONTROL_ROUNDS} times {} simultaneous calls, without the hook", self.calls);
        let mut unanswered = 0;
        for _ in 0..CONTROL_ROUNDS {
            let calls = call(n8n, self.calls, CONTROL_WITHIN)?;
            unanswered += calls.unanswered;
            checks.equal(
                "answers other than 200",
                0,
                calls.answers.iter().filter(|answer| answer.status != 200).count(),
            );
        }
        println!("  {unanswered} of {} callers got no answer", CONTROL_ROUNDS * self.calls);
        if !self.may_stay_silent() {
            checks.equal("callers without an answer", 0, unanswered);
        }
        checks.equal(
            "executions that succeeded, in n8n's list",
            CONTROL_ROUNDS * self.calls,
            succeeded(n8n)?,
        );
        Ok(())
    }

    /// No burst below the limit is refused, even while the previous burst's runs are being counted.
    fn bursts(&self, metered: &Metered, n8n: &RealN8n, checks: &mut Checks) -> Result<()> {
        println!("{} bursts of {BURST} below the limit", self.bursts);
        let mut refused = Vec::new();
        for _ in 0..self.bursts {
            let calls = self.call(n8n, BURST, checks)?;
            refused.extend(calls.answers.into_iter().filter(|answer| answer.status != 200));
        }
        if let Some(refusal) = refused.first() {
            println!("  {} {}", refusal.status, refusal.text);
        }
        checks.equal("bursts: false refusals", 0, refused.len());
        self.counted("bursts", metered, n8n, self.before(), checks)
    }

    fn check(&self, metered: &Metered, n8n: &RealN8n, checks: &mut Checks) -> Result<()> {
        // Usage is taken as fresh once the source has been seen.
        metered.sweep(n8n)?;
        self.bursts(metered, n8n, checks)?;
        println!("{} simultaneous calls, with {} left below the limit", self.calls, self.limit);
        let began = Instant::now();
        let calls = self.call(n8n, self.calls, checks)?;
        println!("  answered after {} ms", began.elapsed().as_millis());
        self.judge("limit", &calls, self.limit, checks);
        self.counted("limit", metered, n8n, self.before() + self.limit, checks)?;
        self.definite(n8n, checks)?;

        let raised = self.before() + self.raised;
        println!("Raising the limit to {raised}");
        let tenant = json!({ "name": "North", "plan": "start", "limit_override": raised });
        let raised_at = Instant::now();
        metered.gateway.put(&format!("/v1/tenants/{TENANT}"), &tenant)?;
        let first = wait::until("a run under the raised limit", RAISED_WITHIN, || {
            Ok(call(n8n, 1, ANSWERED_WITHIN)?.answers.into_iter().find(|answer| answer.status == 200))
        })?;
        let waited = raised_at.elapsed();
        let found = format!("{} ms", waited.as_millis());
        checks.judged(
            "raised: from the change to a run",
            "<= 1000 ms",
            &found,
            waited <= RAISED_HOLDS_WITHIN,
        );
        let more = self.raised - self.limit;
        let mut calls = self.call(n8n, more * 2 - 1, checks)?;
        calls.answers.push(first);
        println!("  {more} more runs after {} ms", raised_at.elapsed().as_millis());
        self.judge("raised", &calls, more, checks);
        self.counted("raised", metered, n8n, raised, checks)?;

        println!("Sweeping: the poll finds the same runs");
        metered.sweep(n8n)?;
        checks.equal("swept: executions counted", raised, metered.counted()?);
        Ok(())
    }

    /// Calls the webhook this many times at once. Everyone gets an answer, unless n8n itself may leave callers without one.
    fn call(&self, n8n: &RealN8n, count: u64, checks: &mut Checks) -> Result<Calls> {
        let calls = call(n8n, count, ANSWERED_WITHIN)?;
        match calls.unanswered {
            0 => {}
            unanswered if self.may_stay_silent() => {
                println!("  {unanswered} of {count} callers got no answer")
            }
            unanswered => checks.equal("callers without an answer", 0, unanswered),
        }
        Ok(calls)
    }

    /// Exactly `allowed` of the answers are runs, and all others are refusals, with the reason if n8n passes it on. What a
    /// caller without an answer would have got is unknown: n8n's list has the runs (`counted`).
    fn judge(&self, when: &str, calls: &Calls, allowed: u64, checks: &mut Checks) {
        let Calls { answers, unanswered } = calls;
        let count = |is_meant: &dyn Fn(&Answer) -> bool| {
            answers.iter().map(|answer| u64::from(is_meant(answer))).sum::<u64>()
        };
        let mut nearly = |what: &str, expected: u64, found: u64| {
            let passed = found <= expected && expected <= found + unanswered;
            checks.judged(&format!("{when}: {what}"), &expected.to_string(), &found.to_string(), passed);
        };
        nearly("runs", allowed, count(&|answer| answer.status == 200));
        let all = u64::try_from(answers.len()).unwrap_or(u64::MAX) + unanswered;
        let refused = all.saturating_sub(allowed);
        if self.instance.refuses_cleanly() {
            let is_clean = |answer: &Answer| matches!(answer.status, REFUSED | NOT_SURE) && answer.says_why();
            nearly("refused with 402 or 429, and the reason", refused, count(&is_clean));
        } else {
            nearly("refused with 500", refused, count(&|answer| answer.status == REFUSED_BY_OLD_N8N));
        }
        if let Some(refusal) = answers.iter().find(|answer| answer.status != 200) {
            println!("  {} {}", refusal.status, refusal.text);
        }
    }

    /// Once every run is counted, a refusal is definite: the quota is used up.
    fn definite(&self, n8n: &RealN8n, checks: &mut Checks) -> Result<()> {
        let expected = if self.instance.refuses_cleanly() { REFUSED } else { REFUSED_BY_OLD_N8N };
        let calls = self.call(n8n, 1, checks)?;
        if let Some(answer) = calls.answers.first() {
            checks.equal("limit: a refusal when all is counted", expected, answer.status);
        }
        Ok(())
    }

    /// The count is that of the runs, as n8n's list has them; if n8n refuses cleanly, it lists no executions for refusals.
    fn counted(
        &self,
        when: &str,
        metered: &Metered,
        n8n: &RealN8n,
        expected: u64,
        checks: &mut Checks,
    ) -> Result<()> {
        let arrived = wait::until("every run to be counted", COUNTED_WITHIN, || {
            Ok(Some(metered.counted()?).filter(|counted| *counted >= expected))
        });
        let arrived = arrived.or_else(|_| metered.counted())?;
        checks.equal(&format!("{when}: executions counted"), expected, arrived);
        checks.equal(&format!("{when}: executions that succeeded, in n8n's list"), expected, succeeded(n8n)?);
        if self.instance.refuses_cleanly() {
            let rows = u64::try_from(n8n.list()?.len())?;
            checks.equal(&format!("{when}: executions that n8n lists"), expected, rows);
        }
        Ok(())
    }
}

/// The answer to a webhook's caller.
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    /// Whether it gives a person the reason, and no stack trace.
    fn says_why(&self) -> bool {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        body.get("message").and_then(Value::as_str).is_some_and(|message| message.starts_with("Refused"))
            && !self.text.contains("flowmeter-hooks.js")
    }
}

/// What came of simultaneous calls.
struct Calls {
    answers: Vec<Answer>,
    /// Callers that got no answer in time.
    unanswered: u64,
}

/// Calls the webhook this many times at once.
fn call(n8n: &RealN8n, count: u64, within: Duration) -> Result<Calls> {
    thread::scope(|scope| {
        let callers: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    // A client of its own: one connection each.
                    let client = Api::new(&n8n.webhook_url).answering_within(within);
                    client.post_in_time(WEBHOOK, &json!({ "n": {} }))
                })
            })
            .collect();
        let mut calls = Calls { answers: Vec::new(), unanswered: 0 };
        for caller in callers {
            match caller.join().map_err(|_| anyhow!("a caller panicked"))?? {
                Some((status, text)) => calls.answers.push(Answer { status, text }),
                None => calls.unanswered += 1,
            }
        }
        Ok(calls)
    })
}

/// Executions that succeeded, in n8n's own list.
fn succeeded(n8n: &RealN8n) -> Result<u64> {
    Ok(n8n.list()?.iter().map(|row| u64::from(row.succeeded())).sum())
}
