//! Asks the limit check, over connections that are kept.
//!
//! Without a rate each connection asks again as soon as it has its answer: that is the most there is. With a rate each
//! request has its place in a schedule, and its time runs from there, whether it could be sent then or not: a slow answer
//! is not hidden by the requests that waited for it.

use std::{
    cell::RefCell,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

/// An answer with its headers is far smaller.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Headers of an answer.
const HEADERS_MAX: usize = 32;

/// Digits of the figures in the histogram.
const DIGITS: u8 = 3;

/// How often the schedule is looked at. To wake for each request would cost more than the request itself, on the cores
/// that are measured.
const TICK: Duration = Duration::from_micros(250);

/// Longest time that the histogram tells apart.
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
    /// Ids begin with it: another one for each start, or the answers are those that were given before.
    #[arg(long)]
    run: String,
    /// Connections.
    #[arg(long)]
    connections: u32,
    /// Tenants `t0000`, `t0001` and so on, asked for in turn.
    #[arg(long)]
    tenants: u32,
    /// How long it is measured.
    #[arg(long)]
    seconds: u64,
    /// How long it is asked before that.
    #[arg(long)]
    warm_up_seconds: u64,
    /// Requests a second, on all connections together; as many as there can be where nothing is said.
    #[arg(long)]
    rate: Option<u32>,
}

/// What was measured, by all connections.
struct Measured {
    taken: Histogram<u64>,
    body_bytes: u64,
}

/// When what happens.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// What is sent from then on is measured.
    measured_from: Instant,
    ends_at: Instant,
}

impl Ask {
    /// Asks on a thread of its own, as a client's machine would.
    pub async fn run(self) -> Result<Value> {
        let asked = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.measure())
        });
        asked.await?
    }

    async fn measure(&self) -> Result<Value> {
        let mut connections = Vec::new();
        for number in 0..self.connections {
            connections.push(Connection::open(self, number).await?);
        }
        let started_at = Instant::now();
        let measured_from = started_at + Duration::from_secs(self.warm_up_seconds);
        let times = Times { measured_from, ends_at: measured_from + Duration::from_secs(self.seconds) };
        let taken = Histogram::new_with_max(nanos(TAKEN_MAX), DIGITS)?;
        let measured = RefCell::new(Measured { taken, body_bytes: 0 });
        match self.rate {
            None => {
                try_join_all(connections.into_iter().map(|own| own.ask_on(times, &measured))).await?;
            }
            Some(rate) => {
                let (places, due): (Vec<_>, Vec<_>) =
                    connections.iter().map(|_| mpsc::unbounded_channel()).unzip();
                let pacer = thread::spawn(move || pace(rate, started_at, times.ends_at, &places));
                let asked = connections.into_iter().zip(due);
                try_join_all(asked.map(|(own, due)| own.ask_when_due(due, times, &measured))).await?;
                pacer.join().ok().context("the pacer has failed")?;
            }
        }
        Ok(self.report(&measured.into_inner()))
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
        })
    }
}

/// Gives each connection the instants at which it should ask, in turn, once they have come. A thread, because the
/// runtime's timers count in whole milliseconds. What is due since the last look is sent together, up to [`TICK`] late,
/// which is part of the time that it is said to have taken.
fn pace(rate: u32, started_at: Instant, ends_at: Instant, places: &[mpsc::UnboundedSender<Instant>]) {
    let mut now = started_at;
    for (number, place) in (0_u32..).zip(places.iter().cycle()) {
        let due_at = started_at + Duration::from_secs(1) / rate * number;
        while due_at > now {
            thread::sleep(TICK);
            now = Instant::now();
        }
        if due_at >= ends_at || place.send(due_at).is_err() {
            return;
        }
    }
}

/// One connection, and the request that is written to it again and again.
struct Connection {
    stream: TcpStream,
    /// Where the head of a request ends and its length is written.
    head: String,
    run: String,
    number: u32,
    connections: u32,
    tenants: u32,
    asked: u32,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(ask: &Ask, number: u32) -> Result<Self> {
        let stream = TcpStream::connect(&ask.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let head = format!(
            "POST /v1/admissions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: ",
            ask.address, ask.token
        );
        let (connections, tenants) = (ask.connections, ask.tenants);
        let run = ask.run.clone();
        Ok(Self { stream, head, run, number, connections, tenants, asked: 0, answer: Vec::new() })
    }

    async fn ask_on(mut self, times: Times, measured: &RefCell<Measured>) -> Result<()> {
        loop {
            let sent_at = Instant::now();
            if sent_at >= times.ends_at {
                return Ok(());
            }
            self.ask(sent_at, times, measured).await?;
        }
    }

    async fn ask_when_due(
        mut self,
        mut due: mpsc::UnboundedReceiver<Instant>,
        times: Times,
        measured: &RefCell<Measured>,
    ) -> Result<()> {
        while let Some(due_at) = due.recv().await {
            self.ask(due_at, times, measured).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, begun_at: Instant, times: Times, measured: &RefCell<Measured>) -> Result<()> {
        let tenant = (self.asked * self.connections + self.number) % self.tenants;
        let body = format!(
            r#"{{"tenant":"t{tenant:04}","id":"{}-{:03}-{:09}","workflow":"order-sync-{}","mode":"webhook"}}"#,
            self.run,
            self.number,
            self.asked,
            self.asked % 4
        );
        self.asked += 1;
        let request = format!("{}{}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(request.as_bytes()).await.context("cannot send")?;
        let body_bytes = self.read_answer().await?;
        if begun_at >= times.measured_from {
            let mut measured = measured.borrow_mut();
            measured.taken.saturating_record(nanos(begun_at.elapsed()));
            measured.body_bytes += body_bytes as u64;
        }
        Ok(())
    }

    /// Reads one answer to its end: every run must be allowed. Returns the length of its body.
    async fn read_answer(&mut self) -> Result<usize> {
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the connection was closed");
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                bail!("the answer is too long");
            }
            let Some((head_bytes, body_bytes)) = lengths(&self.answer)? else { continue };
            let Some(body) = self.answer.get(head_bytes..head_bytes + body_bytes) else { continue };
            let body = str::from_utf8(body)?;
            if !body.contains(r#""allowed":true"#) {
                bail!("not allowed: {body}");
            }
            return Ok(body_bytes);
        }
    }
}

/// How long the head of an answer and its body are; nothing where the head is not there yet.
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
