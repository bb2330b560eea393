//! Sends requests to the limit check, over connections that are kept open.
//!
//! Without a rate, each connection sends its next request once it has its answer: the highest rate there is. With a rate,
//! each request has its place in a schedule ([`generator`]).

mod generator;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use self::generator::Generator;

/// An answer with its headers is far smaller.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Headers of an answer.
const HEADERS_MAX: usize = 32;

/// Significant digits in the histogram.
const DIGITS: u8 = 3;

/// Far more than one thread can send.
const RATE_MAX: i64 = 1_000_000;

/// Longest time that the histogram resolves.
const TAKEN_MAX: Duration = Duration::from_secs(60);

/// Arguments of `flowmeter-load ask`.
#[derive(Debug, Args)]
pub struct Ask {
    /// Host and port.
    #[arg(long)]
    address: String,
    /// The bearer token.
    #[arg(long, env = "FLOWMETER_TOKEN", hide_env_values = true)]
    token: String,
    /// Prefix of the ids: use another one for each start, or the answers are those given before.
    #[arg(long)]
    run: String,
    /// Connections.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Tenants `t0000`, `t0001` and so on, in turn.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    tenants: u32,
    /// Seconds to measure.
    #[arg(long)]
    seconds: u64,
    /// Seconds of requests before the measurement.
    #[arg(long)]
    warm_up_seconds: u64,
    /// Requests a second, on all connections together; by default as many as possible.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=RATE_MAX))]
    rate: Option<u32>,
}

/// What was measured, by all connections.
struct Measured {
    /// From the time when a request could be sent to its answer, without the generator's own delay.
    taken: Histogram<u64>,
    /// The generator's own delay.
    late: Histogram<u64>,
    /// Their sum.
    scheduled: Histogram<u64>,
    body_bytes: u64,
}

impl Ask {
    /// Sends from a thread of its own, as a client's machine would.
    pub async fn run(self) -> Result<Value> {
        tokio::task::spawn_blocking(move || Ok(self.report(&Generator::open(&self)?.run()?))).await?
    }

    fn warm_up(&self) -> Duration {
        Duration::from_secs(self.warm_up_seconds)
    }

    fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn report(&self, measured: &Measured) -> Value {
        let taken = &measured.taken;
        json!({
            "answers": taken.len(),
            "seconds": self.seconds,
            "body_bytes": measured.body_bytes / taken.len().max(1),
            "p50_ns": taken.value_at_quantile(0.5),
            "p99_ns": taken.value_at_quantile(0.99),
            "p999_ns": taken.value_at_quantile(0.999),
            "max_ns": taken.max(),
            "late_p99_ns": measured.late.value_at_quantile(0.99),
            "scheduled_p99_ns": measured.scheduled.value_at_quantile(0.99),
        })
    }
}

impl Measured {
    fn new() -> Result<Self> {
        let histogram = Histogram::new_with_max(nanos(TAKEN_MAX), DIGITS)?;
        let [taken, late, scheduled] = [histogram.clone(), histogram.clone(), histogram];
        Ok(Self { taken, late, scheduled, body_bytes: 0 })
    }

    fn record(&mut self, scheduled: Duration, late: Duration, body_bytes: usize) {
        self.taken.saturating_record(nanos(scheduled.saturating_sub(late)));
        self.late.saturating_record(nanos(late));
        self.scheduled.saturating_record(nanos(scheduled));
        self.body_bytes += body_bytes as u64;
    }
}

/// The requests of one connection: a new run each, for the tenants in turn.
struct Requests {
    /// The head of a request, up to the value of its content length.
    head: String,
    run: String,
    number: u32,
    connections: u32,
    tenants: u32,
    asked: u32,
}

impl Requests {
    fn new(ask: &Ask, number: u32) -> Self {
        let head = format!(
            "POST /v1/admissions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: ",
            ask.address, ask.token
        );
        let (connections, tenants) = (ask.connections, ask.tenants);
        Self { head, run: ask.run.clone(), number, connections, tenants, asked: 0 }
    }

    fn next(&mut self) -> String {
        let tenant = (self.asked * self.connections + self.number) % self.tenants;
        let body = format!(
            r#"{{"tenant":"t{tenant:04}","id":"{}-{:03}-{:09}","workflow":"order-sync-{}","mode":"webhook"}}"#,
            self.run,
            self.number,
            self.asked,
            self.asked % 4
        );
        self.asked += 1;
        format!("{}{}\r\n\r\n{body}", self.head, body.len())
    }
}

/// The length of the answer's body, once it is complete. Fails unless the run is allowed.
fn allowed(answer: &[u8]) -> Result<Option<usize>> {
    if answer.len() > ANSWER_BYTES_MAX {
        bail!("the answer is too long");
    }
    let Some((head_bytes, body_bytes)) = lengths(answer)? else { return Ok(None) };
    let Some(body) = answer.get(head_bytes..head_bytes + body_bytes) else { return Ok(None) };
    let body = str::from_utf8(body)?;
    if !body.contains(r#""allowed":true"#) {
        bail!("not allowed: {body}");
    }
    Ok(Some(body_bytes))
}

/// The lengths of an answer's head and body; `None` while the head is incomplete.
fn lengths(answer: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(answer)? else { return Ok(None) };
    if response.code != Some(200) {
        bail!("status {}: {}", response.code.unwrap_or_default(), String::from_utf8_lossy(answer));
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("the answer has no length")?;
    Ok(Some((head_bytes, str::from_utf8(length.value)?.parse()?)))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
