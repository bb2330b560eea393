//! `cargo xtask bench usage`.

use std::{
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use messaging::{Bus, BusConfig};
use proto::{Namespace, subjects::Question, v1};
use stack::{
    Interrupt, Profile, Program, Project, Stack, backing::Servers, database, postgres::Durability,
    services::Options,
};

use crate::binaries;

/// Tenants, each with a source of its own that is not swept.
const TENANTS: u64 = 1_000;

/// The catalog reaches the aggregator within seconds; a busy machine takes longer.
const CATALOG_WITHIN: Duration = Duration::from_secs(120);

/// Pause between two checks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Timeout of one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The goal.
const VIEW_P99_MAX: Duration = Duration::from_millis(20);

/// Rounds before anything is measured.
const WARM_UP: u64 = 100;

/// Different sketches of durations among the filled figures.
const SKETCHES: u64 = 16;

/// Arguments of `cargo xtask bench usage`.
#[derive(Debug, Args)]
pub struct UsageBench {
    /// Executions whose roll-ups are filled: a year of 1,000 tenants with 10 workflows each.
    #[arg(long, default_value_t = 50_000_000)]
    executions: u64,
    /// Requests of the month view, one after the other, each for another tenant.
    #[arg(long, default_value_t = 2_000)]
    asks: u64,
}

/// How long each part of the month view took, and all of them together.
#[derive(Default)]
struct Taken {
    days: Vec<Duration>,
    workflows: Vec<Duration>,
    periods: Vec<Duration>,
    view: Vec<Duration>,
}

impl UsageBench {
    /// Runs the benchmark on a private stack.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let interrupt = Interrupt::listen()?;
        let built = binaries::build(&project)?;
        let profile = Profile::fresh(&project, "bench-usage")?;
        let mut servers = Servers::start_private(&profile, Durability::PowerLoss)?;
        let options = Options { spans: false, ..Options::new(built.clone(), servers.backing.clone()) };
        let mut stack = Stack::start_some(profile, options, &[Program::Aggregator])?;
        let url = servers.backing.database_url.clone();
        println!("Adding {TENANTS} tenants");
        add_tenants(&built, &stack, &servers, &interrupt)?;
        println!("Filling the roll-ups of {} executions", self.executions);
        let started_at = Instant::now();
        fill(&url, self.executions)?;
        println!("Filled in {} s: {}", started_at.elapsed().as_secs(), sizes(&url)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let login = servers.backing.broker.login("gateway");
        let taken = runtime.block_on(async {
            let (user, password) = login.user.unzip();
            let password = password.map(Into::into);
            let config = BusConfig { url: login.url, user, password, capacity: Default::default() };
            let bus = Bus::connect("gateway", Namespace::default(), &config).await?;
            self.measure(&bus, &url).await
        })?;
        println!("The month view of one tenant, {} requests one after the other:", self.asks);
        print("days of the month", taken.days);
        print("20 largest workflows", taken.workflows);
        print("the last 12 periods", taken.periods);
        let slowest = print("all three", taken.view);
        stack.stop()?;
        servers.stop()?;
        println!("goal: all three under {} ms at p99", VIEW_P99_MAX.as_millis());
        Ok(if slowest < VIEW_P99_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn measure(&self, bus: &Bus, url: &str) -> Result<Taken> {
        let bounds = "extract(epoch FROM date_trunc('month', now(), 'UTC'))::bigint";
        let month: i64 = database::ask(url, &format!("SELECT {bounds}"))?.parse()?;
        let instant = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let span = |days: i64| {
            let (start, end) = (instant(month - days * 86_400), instant(month + 31 * 86_400));
            Some(v1::Period { start, end })
        };
        let mut taken = Taken::default();
        for round in 0..WARM_UP + self.asks {
            // A stride that is coprime to the number of tenants visits all of them.
            let tenant_id = name(round * 7 % TENANTS);
            let usage = |grain: v1::Grain, days| v1::UsageQuestion {
                tenant_id: tenant_id.clone(),
                span: span(days),
                grain: grain.into(),
                ..v1::UsageQuestion::default()
            };
            let begun = Instant::now();
            let days: v1::UsageAnswer =
                bus.ask(Question::Usage, &usage(v1::Grain::Day, 0), ANSWER_WITHIN).await?;
            let after_days = Instant::now();
            let workflows = v1::WorkflowsQuestion {
                tenant_id: tenant_id.clone(),
                period_start: instant(month),
                count_max: 20,
                period_at: None,
                by_failures: false,
            };
            let workflows: v1::WorkflowsAnswer =
                bus.ask(Question::Workflows, &workflows, ANSWER_WITHIN).await?;
            let after_workflows = Instant::now();
            let periods: v1::UsageAnswer =
                bus.ask(Question::Usage, &usage(v1::Grain::Period, 365), ANSWER_WITHIN).await?;
            let after_periods = Instant::now();
            if days.slices.is_empty() || workflows.workflows.len() != 10 || periods.slices.len() < 12 {
                bail!("{tenant_id} has no figures: the roll-ups were not filled correctly");
            }
            if round >= WARM_UP {
                taken.days.push(after_days - begun);
                taken.workflows.push(after_workflows - after_days);
                taken.periods.push(after_periods - after_workflows);
                taken.view.push(after_periods - begun);
            }
        }
        Ok(taken)
    }
}

/// As `flowmeter-load tenants` names them.
fn name(number: u64) -> String {
    format!("t{number:05}")
}

/// Publishes the tenants, and waits until the aggregator has them.
fn add_tenants(built: &Path, stack: &Stack, servers: &Servers, interrupt: &Interrupt) -> Result<()> {
    let added = Command::new(built.join("flowmeter-load"))
        .args(["tenants", "--nats", &servers.admin_nats_url, "--public-key", stack.sealing_key()])
        .args(["--tenants", &TENANTS.to_string()])
        .output()
        .context("cannot start flowmeter-load")?;
    if !added.status.success() {
        bail!("flowmeter-load failed: {}", String::from_utf8_lossy(&added.stderr).trim());
    }
    let begun = Instant::now();
    let known = "SELECT count(*) FROM aggregator.sources";
    while database::ask(&servers.backing.database_url, known)?.parse::<u64>()? < TENANTS {
        if interrupt.asked() || begun.elapsed() > CATALOG_WITHIN {
            bail!("the catalog did not reach the aggregator");
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Fills the figures of a year: tenants from large to small, quiet weekends, 2 % errors.
fn fill(url: &str, executions: u64) -> Result<()> {
    let sketches: Vec<String> = (0..SKETCHES).map(|seed| format!("'\\x{}'::bytea", sketch(seed))).collect();
    let sketches = sketches.join(", ");
    let sql = format!(
        "SET search_path = aggregator;
         SELECT setseed(0.42);
         CREATE TEMP TABLE sketches AS
         SELECT number, durations FROM unnest(ARRAY[{sketches}]) WITH ORDINALITY AS s (durations, number);
         CREATE TEMP TABLE weights AS
         SELECT number AS tenant, power(row_number() OVER (ORDER BY number), -0.7)
             / sum(power(row_number, -0.7)) OVER () AS weight
         FROM (SELECT number, row_number() OVER (ORDER BY number) FROM tenants) AS ranked
         GROUP BY number, row_number;
         CREATE TEMP TABLE days AS
         SELECT tenant, day, period, greatest(1, ({executions} / 365.0 * weight * (0.8 + 0.4 * random())
             * CASE WHEN extract(isodow FROM day) < 6 THEN 1.2 ELSE 0.5 END)::bigint) AS counted
         FROM weights, generate_series(date_trunc('month', now(), 'UTC') - interval '11 months',
             date_trunc('day', now(), 'UTC'), interval '1 day') AS day,
             LATERAL (SELECT date_trunc('month', day, 'UTC') AS period) AS month;
         INSERT INTO periods (tenant_number, period_start, period_end, opened_at, closed_at, counted, success, error,
             duration_ms)
         SELECT tenant, period, (period AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC', period,
             CASE WHEN period < date_trunc('month', now(), 'UTC') THEN now() END, sum(counted), sum(counted) - sum(counted / 50), sum(counted / 50), sum(counted) * 900
         FROM days GROUP BY tenant, period
         ON CONFLICT (tenant_number, period_start) DO UPDATE SET counted = excluded.counted,
             success = excluded.success, error = excluded.error, duration_ms = excluded.duration_ms;
         INSERT INTO usage_days (tenant_number, day_start, counted, success, error, duration_ms, durations)
         SELECT tenant, day, counted, counted - counted / 50, counted / 50, counted * 900, durations
         FROM days JOIN sketches ON number = 1 + (tenant + extract(doy FROM day)::int) % {SKETCHES};
         INSERT INTO usage_hours (tenant_number, hour_start, counted, success, error, duration_ms)
         SELECT tenant, day + hour * interval '1 hour', counted / 24 + 1, counted / 24 + 1, 0, counted * 37
         FROM days, generate_series(0, 23) AS hour;
         INSERT INTO workflows (source_number, workflow_id, name)
         SELECT number, 'w' || workflow, 'Workflow ' || workflow FROM sources, generate_series(1, 10) AS workflow;
         CREATE TEMP TABLE owned AS
         SELECT tenants.number AS tenant, workflows.number AS workflow,
             row_number() OVER (PARTITION BY tenants.number ORDER BY workflows.number) AS rank
         FROM workflows JOIN sources ON sources.number = source_number
         JOIN tenants ON source_id = tenant_id;
         INSERT INTO workflow_days (tenant_number, workflow_number, day_start, counted, success, error, duration_ms)
         SELECT days.tenant, workflow, day, counted / rank / 3 + 1, counted / rank / 3 + 1, 0, counted * 300 / rank
         FROM days JOIN owned USING (tenant);
         INSERT INTO workflow_usage (tenant_number, period_start, workflow_number, counted, success, duration_ms, durations)
         SELECT tenant_number, date_trunc('month', day_start, 'UTC'), workflow_number, sum(counted), sum(success),
             sum(duration_ms), (array_agg(sketches.durations))[1]
         FROM workflow_days JOIN sketches ON number = 1 + workflow_number % {SKETCHES} GROUP BY 1, 2, 3;
         ANALYZE periods, usage_days, usage_hours, workflows, workflow_days, workflow_usage;"
    );
    database::ask(url, &sql).context("cannot fill the roll-ups")?;
    Ok(())
}

/// A sketch of some 60 buckets around a second, as `durations.rs` of the aggregator writes it: the distance to the
/// previous bucket and twice the count, each in one byte.
fn sketch(seed: u64) -> String {
    let buckets = (0..60_u64).map(|place| {
        let distance = if place == 0 { 100 + seed } else { 1 };
        let count = 1 + (60 - place.abs_diff(30) * 2) / 2;
        format!("{distance:02x}{:02x}", count * 2)
    });
    buckets.collect()
}

fn sizes(url: &str) -> Result<String> {
    database::ask(
        url,
        "SELECT string_agg(format('%s %s rows, %s', relname, n, size), '; ') FROM (
             SELECT relname, reltuples::bigint AS n, pg_size_pretty(pg_total_relation_size(pg_class.oid)) AS size
             FROM pg_class WHERE relnamespace = 'aggregator'::regnamespace
               AND relname IN ('usage_hours', 'usage_days', 'workflow_days', 'workflow_usage')
             ORDER BY relname) AS tables",
    )
}

/// Prints p50, p95 and p99 on one line. Returns the p99.
fn print(what: &str, mut taken: Vec<Duration>) -> Duration {
    taken.sort_unstable();
    let percentile = |percent: usize| {
        let place = (taken.len() * percent).div_ceil(100).saturating_sub(1);
        taken.get(place).copied().unwrap_or_default()
    };
    let ms = |percent| percentile(percent).as_secs_f64() * 1_000.0;
    println!("  {what:<22} p50 {:>7.2} ms   p95 {:>7.2} ms   p99 {:>7.2} ms", ms(50), ms(95), ms(99));
    percentile(99)
}
