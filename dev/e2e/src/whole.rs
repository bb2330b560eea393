//! `cargo xtask e2e n8n`: usage, mails, the limit check and Stripe's total against a real n8n's own list.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use stack::{
    Backing, Profile, Program, Project, Stack, backing::Servers, binaries, database, postgres::Durability,
    services::Options, wait,
};

use crate::{
    checks::Checks,
    real_n8n::{Instance, RealN8n, second},
};

/// A first sweep of a full instance, on a busy machine.
const SWEPT_WITHIN: Duration = Duration::from_secs(120);

/// Time for swept executions to reach the mail server and Stripe.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// The promised time until a raised limit applies.
const RAISED_HOLDS_WITHIN: Duration = Duration::from_secs(1);

/// Names as in the demo.
const TENANT: &str = "north";
const SOURCE: &str = "north-n8n";
const CUSTOMER: &str = "cus_north";
const METER: &str = "executions";
const RECIPIENT: &str = "ops@north.example";
const LIMIT: u64 = 100;
const RAISED_LIMIT: u64 = 1_000_000;

/// Poll intervals: while waiting for a sweep, and while checking its result.
const SWEEPING: &str = "2s";
const RESTING: &str = "1h";

/// A jump of the simulated clock that makes the next report to Stripe due.
const REPORT_DUE_MS: u64 = 15 * 60 * 1_000;

/// Arguments of `cargo xtask e2e n8n`.
#[derive(Debug, Args)]
pub struct Whole {
    #[command(flatten)]
    instance: Instance,
    /// Use an n8n that runs already, prepared by start-n8n.sh, instead of starting one.
    #[arg(long, requires = "key")]
    url: Option<String>,
    /// Its API key.
    #[arg(long, requires = "url")]
    key: Option<String>,
    /// Runs that succeed.
    #[arg(long, default_value_t = 300)]
    good: u32,
    /// Runs that fail; they count too.
    #[arg(long, default_value_t = 40)]
    bad: u32,
}

impl Whole {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let built = binaries::build(&project, false)?;
        let profile = Profile::fresh(&project, "e2e")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        println!("Starting a fresh stack");
        let options = Options::new(built, servers.backing.clone())
            .with("COLLECTOR__CLOCK_SKEW", "1s")
            .with("BILLING__REPORT_INTERVAL", "1m");
        let stack = Stack::start(profile, options)?;
        let mut n8n = match (&self.url, &self.key) {
            (Some(url), Some(key)) => RealN8n::running(self.instance.scripts(&project), url, key),
            _ => self.instance.start(stack.profile(), &[])?,
        };

        let mut run = Run { stack, backing: servers.backing.clone(), checks: Checks::default() };
        run.set_up()?;
        println!("Making {} good and {} bad executions", self.good, self.bad);
        n8n.make_executions(self.good, self.bad)?;
        run.all(&n8n)?;
        let passed = run.checks.print();
        run.stack.stop()?;
        servers.stop()?;
        n8n.stop()?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

struct Run {
    stack: Stack,
    backing: Backing,
    checks: Checks,
}

impl Run {
    fn all(&mut self, n8n: &RealN8n) -> Result<()> {
        println!("One sweep");
        self.put_source(n8n, SWEEPING)?;
        self.await_sweep(None)?;
        self.put_source(n8n, RESTING)?;
        let truth = self.truth(n8n)?;
        let total: u64 = truth.values().sum();
        self.compare("one sweep", &truth)?;
        self.mails("one sweep")?;
        self.refusal()?;

        println!("Sweeping again");
        self.sweep_again(n8n)?;
        self.compare("swept again", &truth)?;

        println!("Sweeping from an empty cursor");
        self.forget_cursor()?;
        let published = self.sweep_again(n8n)?;
        let wanted = format!(">= {total}");
        self.checks.judged(
            "empty cursor: executions read again",
            &wanted,
            &published.to_string(),
            published >= total,
        );
        self.compare("empty cursor", &truth)?;

        println!("Reporting to Stripe");
        self.stripe("Stripe's total", total)?;

        println!("Killing and restarting alerts and billing");
        for program in [Program::Alerts, Program::Billing] {
            self.stack.kill(program)?;
            self.stack.restart(program)?;
        }
        self.move_clock()?;
        self.sweep_again(n8n)?;
        self.mails("at the end")?;
        self.raised_limit()?;
        let found = self.stripe_total()?;
        self.checks.equal("Stripe's total, at the end", total, found);
        Ok(())
    }

    fn set_up(&self) -> Result<()> {
        let sandbox = self.stack.sandbox();
        sandbox.post("/control/stripe/meters", &json!({ "event_name": METER }))?;
        sandbox.post("/control/stripe/customers", &json!({ "id": CUSTOMER }))?;
        let plan = json!({ "name": "Start", "monthly_limit": LIMIT, "meter_event_name": METER });
        self.stack.gateway().put("/v1/plans/start", &plan)?;
        self.put_tenant(None)
    }

    fn put_tenant(&self, limit_override: Option<u64>) -> Result<()> {
        let tenant = json!({
            "name": "North",
            "plan": "start",
            "alert_recipients": [RECIPIENT],
            "stripe_customer_id": CUSTOMER,
            "limit_override": limit_override,
        });
        self.stack.gateway().put(&format!("/v1/tenants/{TENANT}"), &tenant)?;
        Ok(())
    }

    fn put_source(&self, n8n: &RealN8n, poll_interval: &str) -> Result<()> {
        let source = json!({
            "tenant": TENANT,
            "kind": "n8n",
            "base_url": n8n.url,
            "api_key": n8n.key,
            "poll_interval": poll_interval,
        });
        self.stack.gateway().put(&format!("/v1/sources/{SOURCE}"), &source)?;
        Ok(())
    }

    /// When the last sweep ended, as far as the gateway knows.
    fn last_sweep(&self) -> Result<Option<String>> {
        let source = self.stack.gateway().get(&format!("/v1/sources/{SOURCE}"))?;
        if let Some(failing) = source.pointer("/status/failing").filter(|failing| !failing.is_null()) {
            println!("  the source is failing: {failing}");
        }
        Ok(source.pointer("/status/last_sweep/ended_at").and_then(Value::as_str).map(str::to_owned))
    }

    fn await_sweep(&self, after: Option<String>) -> Result<String> {
        wait::until("a sweep to end", SWEPT_WITHIN, || {
            Ok(self.last_sweep()?.filter(|at| Some(at) != after.as_ref()))
        })
    }

    /// Two more sweeps: the first may have begun before we asked. Returns how many executions the first has
    /// published.
    fn sweep_again(&self, n8n: &RealN8n) -> Result<u64> {
        let before = self.last_sweep()?;
        self.put_source(n8n, SWEEPING)?;
        let first = self.await_sweep(before)?;
        let source = self.stack.gateway().get(&format!("/v1/sources/{SOURCE}"))?;
        let published = source.pointer("/status/last_sweep/executions_published").and_then(Value::as_u64);
        self.await_sweep(Some(first))?;
        self.put_source(n8n, RESTING)?;
        Ok(published.unwrap_or_default())
    }

    /// Makes the collector lose its database, and with it all it knows. The source comes back with its next change.
    fn forget_cursor(&mut self) -> Result<()> {
        self.stack.stop_one(Program::Collector)?;
        database::ask(&self.backing.database_url, "DROP SCHEMA collector CASCADE")?;
        self.stack.restart(Program::Collector)
    }

    /// n8n's own list under the counting rule, for the period that the gateway shows.
    fn truth(&self, n8n: &RealN8n) -> Result<BTreeMap<String, u64>> {
        let usage = self.usage()?;
        let period = |end: &str| usage.pointer(end).and_then(Value::as_str).context("usage has no period");
        n8n.counted_by_workflow(period("/period/start")?, period("/period/end")?)
    }

    fn usage(&self) -> Result<Value> {
        self.stack.gateway().get(&format!("/v1/usage/{TENANT}"))
    }

    /// Usage, once it is as fresh as the last sweep, against the truth.
    fn compare(&mut self, when: &str, truth: &BTreeMap<String, u64>) -> Result<()> {
        let source = self.stack.gateway().get(&format!("/v1/sources/{SOURCE}"))?;
        let swept = source.pointer("/status/complete_until").and_then(Value::as_str).unwrap_or_default();
        let usage = wait::until("usage to be as fresh as the sweep", ARRIVES_WITHIN, || {
            let usage = self.usage()?;
            let counted_until = usage.get("complete_until").and_then(Value::as_str).unwrap_or_default();
            Ok((second(counted_until) >= second(swept)).then_some(usage))
        })?;
        let counted = usage.get("counted").and_then(Value::as_u64).unwrap_or_default();
        self.checks.equal(&format!("{when}: executions counted"), truth.values().sum(), counted);
        let by_workflow = counted_by_workflow(&usage);
        for (workflow, expected) in truth {
            let found = by_workflow.get(workflow).copied().unwrap_or_default();
            self.checks.equal(&format!("{when}: workflow {workflow}"), *expected, found);
        }
        let unknown = by_workflow.keys().filter(|workflow| !truth.contains_key(*workflow)).count();
        self.checks.equal(&format!("{when}: workflows that n8n does not list"), 0, unknown);
        Ok(())
    }

    /// One mail at 100 percent, and at most one at 80: if one change crosses several thresholds, only the highest is mailed.
    fn mails(&mut self, when: &str) -> Result<()> {
        let subjects = || -> Result<Vec<String>> {
            let mails = self.stack.sandbox().get("/control/mail")?;
            let mails = mails.as_array().context("the mail sink has no list")?.iter();
            let to_us = mails.filter(|mail| mail.get("to").is_some_and(|to| to == &json!([RECIPIENT])));
            Ok(to_us.filter_map(|mail| Some(mail.get("subject")?.as_str()?.to_owned())).collect())
        };
        let arrived = wait::until("the mail at 100 %", ARRIVES_WITHIN, || {
            Ok(Some(subjects()?).filter(|all| all.iter().any(|subject| subject.contains("100 %"))))
        });
        let arrived = arrived.or_else(|_| subjects())?;
        for subject in &arrived {
            println!("  mail: {subject}");
        }
        let of = |share: &str| arrived.iter().filter(|subject| subject.contains(share)).count();
        self.checks.equal(&format!("{when}: mails at 80 % beyond one"), 0, of("80 %").saturating_sub(1));
        self.checks.equal(&format!("{when}: mails at 100 %"), 1, of("100 %"));
        self.checks.equal(&format!("{when}: other mails"), arrived.len(), of("80 %") + of("100 %"));
        Ok(())
    }

    fn admission(&self, id: &str) -> Result<(bool, String)> {
        let asked = json!({ "tenant": TENANT, "id": id, "mode": "webhook" });
        let verdict = self.stack.gateway().post("/v1/admissions", &asked)?;
        let allowed = verdict.get("allowed").and_then(Value::as_bool).context("a verdict says yes or no")?;
        let reason = verdict.get("reason").and_then(Value::as_str).unwrap_or_default();
        Ok((allowed, reason.to_owned()))
    }

    fn refusal(&mut self) -> Result<()> {
        let (allowed, reason) = self.admission("past-the-limit")?;
        self.checks.judged("limit check past the limit", "refused", &reason, !allowed);
        Ok(())
    }

    fn raised_limit(&mut self) -> Result<()> {
        println!("Raising the limit");
        let raised = Instant::now();
        self.put_tenant(Some(RAISED_LIMIT))?;
        let mut asked = 0_u32;
        let allowed = wait::until("the raised limit to apply", ARRIVES_WITHIN, || {
            asked += 1;
            Ok(self.admission(&format!("raised-{asked}"))?.0.then_some(raised.elapsed()))
        })?;
        let found = format!("{} ms", allowed.as_millis());
        self.checks.judged(
            "allowed after the limit was raised",
            "<= 1000 ms",
            &found,
            allowed <= RAISED_HOLDS_WITHIN,
        );
        Ok(())
    }

    /// Moves the simulated clock until the report is due, and compares.
    fn stripe(&mut self, what: &str, billable: u64) -> Result<()> {
        self.move_clock()?;
        let arrived = wait::until("Stripe's total", ARRIVES_WITHIN, || {
            Ok(Some(self.stripe_total()?).filter(|found| *found >= billable))
        });
        let found = arrived.or_else(|_| self.stripe_total())?;
        self.checks.equal(what, billable, found);
        Ok(())
    }

    fn move_clock(&self) -> Result<()> {
        self.stack.sandbox().post("/control/clock", &json!({ "advance_ms": REPORT_DUE_MS }))?;
        Ok(())
    }

    fn stripe_total(&self) -> Result<u64> {
        let totals = self.stack.sandbox().get("/control/stripe/totals")?;
        let ours = totals.as_array().into_iter().flatten().find(|total| {
            total.get("customer").is_some_and(|customer| customer == CUSTOMER)
                && total.get("event_name").is_some_and(|event| event == METER)
        });
        Ok(ours.and_then(|total| total.get("value")?.as_u64()).unwrap_or_default())
    }
}

fn counted_by_workflow(usage: &Value) -> BTreeMap<String, u64> {
    let workflows = usage.get("workflows").and_then(Value::as_array).into_iter().flatten();
    workflows
        .filter_map(|workflow| {
            let counted = workflow.get("counted")?.as_u64().filter(|counted| *counted > 0)?;
            Some((workflow.get("workflow")?.as_str()?.to_owned(), counted))
        })
        .collect()
}
