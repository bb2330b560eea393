//! The figures of `cargo xtask bench admission`.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cpu_time::CpuTime;

/// Lowest ratio of the limit check's throughput to the bare handler's.
const RATIO_MIN: f64 = 0.5;

/// Highest p99 at half of its own throughput.
const HALF_LOAD_P99_MAX_MS: f64 = 2.0;

const NANOS_PER_MILLI: f64 = 1_000_000.0;
const MICROS_PER_SECOND: f64 = 1_000_000.0;

/// Limit checks as the gateway has measured them itself: from the request's head to the answer's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered {
    all: f64,
    within_a_milli: f64,
}

impl Answered {
    /// Reads them from the page of the gateway's metrics.
    pub fn from_metrics(page: &str) -> Self {
        let figure = |series: &str| {
            let value = page.lines().find_map(|line| line.strip_prefix(series));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
        };
        Self {
            all: figure(r#"flowmeter_http_request_seconds_count{route="/v1/admissions"} "#),
            within_a_milli: figure(
                r#"flowmeter_http_request_seconds_bucket{route="/v1/admissions",le="0.001"} "#,
            ),
        }
    }

    /// Those since `before`.
    pub fn since(self, before: Self) -> Self {
        Self { all: self.all - before.all, within_a_milli: self.within_a_milli - before.within_a_milli }
    }

    fn percent_within_a_milli(self) -> Option<f64> {
        (self.all > 0.0).then(|| self.within_a_milli * 100.0 / self.all)
    }
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Asked {
    answers: f64,
    seconds: f64,
    /// Processor time, of the warm-up too.
    usage: CpuTime,
    usage_seconds: f64,
    body_bytes: f64,
    answered: Answered,
    p50_ms: f64,
    /// Of 100 answers, 99 arrived within this time.
    pub p99_ms: f64,
    p999_ms: f64,
    /// Of 100 requests, 99 were sent at most this late.
    late_p99_ms: f64,
    /// `p99_ms` including the generator's own delay.
    scheduled_p99_ms: f64,
}

impl Asked {
    /// From the output of `flowmeter-load ask`, and the processor time during its whole run.
    pub fn new(printed: &Value, usage: CpuTime, usage_seconds: u32, answered: Answered) -> Result<Self> {
        let figure = |name: &str| {
            printed.get(name).and_then(Value::as_f64).with_context(|| format!("{name} is missing"))
        };
        let millis = |name: &str| Ok::<_, anyhow::Error>(figure(name)? / NANOS_PER_MILLI);
        Ok(Self {
            answers: figure("answers")?,
            seconds: figure("seconds")?,
            usage,
            usage_seconds: f64::from(usage_seconds),
            body_bytes: figure("body_bytes")?,
            answered,
            p50_ms: millis("p50_ns")?,
            p99_ms: millis("p99_ns")?,
            p999_ms: millis("p999_ns")?,
            late_p99_ms: millis("late_p99_ns")?,
            scheduled_p99_ms: millis("scheduled_p99_ns")?,
        })
    }

    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        self.answers / self.seconds
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, who: &str) -> fmt::Result {
        let Self { p50_ms, p99_ms, p999_ms, body_bytes, .. } = self;
        writeln!(
            f,
            "  {who:<14}{:>9.0} answers/s   p50 {p50_ms:>6.2} ms   p99 {p99_ms:>6.2} ms   p99.9 {p999_ms:>6.2} ms   \
             {body_bytes:.0} bytes each",
            self.per_second()
        )
    }

    /// Processor time per answer, and the share of other processes on the machine.
    fn processors(&self, f: &mut fmt::Formatter<'_>, cores: usize) -> fmt::Result {
        let answers = self.per_second() * self.usage_seconds;
        write!(f, "                CPU µs an answer:")?;
        for (name, used) in self.usage.parts.iter().filter(|(_, used)| !used.is_zero()) {
            write!(f, " {name} {:.1}", used.as_secs_f64() * MICROS_PER_SECOND / answers)?;
        }
        let all = self.usage_seconds * f64::from(u32::try_from(cores).unwrap_or(1));
        let percent = |time: Duration| time.as_secs_f64() * 100.0 / all;
        let (others, stolen) = (percent(self.usage.others()), percent(self.usage.stolen));
        writeln!(f, "; others {others:.0} % of {cores} cores, stolen by the host {stolen:.1} %")?;
        if self.late_p99_ms > 0.0 {
            let Self { late_p99_ms, scheduled_p99_ms, .. } = self;
            writeln!(
                f,
                "                generator late by p99 {late_p99_ms:.2} ms; answers including that p99 {scheduled_p99_ms:.2} ms"
            )?;
        }
        match self.answered.percent_within_a_milli() {
            Some(percent) => writeln!(f, "                answers ready within 1 ms: {percent:.2} %"),
            None => Ok(()),
        }
    }
}

/// Everything that was measured: the medians.
#[derive(Debug)]
pub struct Report {
    /// Connections of the run.
    pub connections: u32,
    /// Tenants of the run.
    pub tenants: u32,
    /// How long each measurement was.
    pub seconds: u32,
    /// Processors of the machine.
    pub cores: usize,
    /// The bare handler, as fast as it answers.
    pub bare: Asked,
    /// The gateway, as fast as it answers.
    pub full: Asked,
    /// The bare handler at half of the gateway's rate: the machine's effect on the slowest answers.
    pub bare_half: Asked,
    /// The gateway at half of its rate.
    pub half: Asked,
}

impl Report {
    /// Whether both goals are reached.
    pub fn fits(&self) -> bool {
        self.ratio() >= RATIO_MIN && self.half.p99_ms < HALF_LOAD_P99_MAX_MS
    }

    fn ratio(&self) -> f64 {
        self.full.per_second() / self.bare.per_second()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, tenants, seconds, cores, .. } = *self;
        writeln!(f, "\n{connections} connections, {tenants} tenants, {seconds} s each, medians of three")?;
        for (who, asked) in [
            ("bare handler", &self.bare),
            ("gateway", &self.full),
            ("bare, half", &self.bare_half),
            ("gateway, half", &self.half),
        ] {
            asked.line(f, who)?;
            asked.processors(f, cores)?;
        }
        writeln!(f, "  ratio to the bare handler {:.2} (goal: at least {RATIO_MIN:.2})", self.ratio())?;
        writeln!(
            f,
            "  p99 at half load {:.2} ms (goal: under {HALF_LOAD_P99_MAX_MS:.0} ms), bare handler at that rate {:.2} ms",
            self.half.p99_ms, self.bare_half.p99_ms
        )
    }
}
