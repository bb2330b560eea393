//! Sends requests over many connections, on one thread.
//!
//! At a fixed rate, a request's time starts at its place in the schedule, even if its connection is busy then, so that the
//! figures include the wait behind a slow answer. Without a rate, it starts when the connection is free. It ends when the
//! answer arrives, by the kernel's timestamp. The generator's own delays, in sending a due request on a free connection and
//! in reading, say nothing about the server and would fall on another machine: they are left out, and the delay in sending
//! is reported separately.
//!
//! The timestamp lets the generator check its connections once per [`TICK`] instead of waking up for each answer, which
//! would cost the server more than the answer itself, on the cores that are measured.

use std::{
    collections::VecDeque,
    io::{IoSliceMut, Write},
    net::TcpStream,
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use metering::{Clock, SystemClock};
use nix::{
    errno::Errno,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns},
        time::TimeSpec,
    },
};

use super::{ANSWER_BYTES_MAX, Ask, Measured, Requests, allowed};

/// Interval for checking the schedule and the connections. Requests due since the last check are sent together.
const TICK: Duration = Duration::from_micros(250);

/// How long to wait for answers that are missing at the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends the requests.
pub struct Generator {
    connections: Vec<Connection>,
    /// Time between two requests; `None` for as many as possible.
    interval: Option<Duration>,
    warm_up: Duration,
    measured: Duration,
}

/// A connection, with one request at a time.
struct Connection {
    stream: TcpStream,
    requests: Requests,
    /// Due times of the requests that are not sent yet, since 1970, by the clock of the kernel's timestamps.
    due: VecDeque<Duration>,
    /// The request that awaits its answer.
    asked: Option<Sent>,
    /// When it was opened or the previous answer arrived: the next request could be sent from then on.
    free_at: Duration,
    answer: Vec<u8>,
}

/// A request that was sent.
#[derive(Clone, Copy)]
struct Sent {
    due_at: Duration,
    /// From when it was due until it was sent, without the wait for the previous answer: the generator's own delay.
    late: Duration,
}

/// An answer that is complete.
struct Arrived {
    sent: Sent,
    arrived_at: Duration,
    body_bytes: usize,
}

impl Generator {
    /// Opens the connections.
    pub fn open(ask: &Ask) -> Result<Self> {
        let connections = (0..ask.connections).map(|number| Connection::open(ask, number));
        Ok(Self {
            connections: connections.collect::<Result<_>>()?,
            interval: ask.rate.and_then(|rate| Duration::from_secs(1).checked_div(rate)),
            warm_up: ask.warm_up(),
            measured: ask.measured(),
        })
    }

    /// Sends requests until the end, then waits for missing answers.
    pub fn run(mut self) -> Result<Measured> {
        let mut measured = Measured::new()?;
        let started_at = now()?;
        let measured_from = started_at + self.warm_up;
        let ends_at = measured_from + self.measured;
        let mut due_at = started_at;
        let mut next = 0;
        loop {
            let looked_at = now()?;
            if let Some(interval) = self.interval {
                while due_at <= looked_at && due_at < ends_at {
                    let place = next % self.connections.len();
                    self.connections.get_mut(place).context("there are connections")?.due.push_back(due_at);
                    next += 1;
                    due_at += interval;
                }
            } else {
                due_at = looked_at;
            }
            let mut is_done = due_at >= ends_at;
            let at_once = self.interval.is_none() && !is_done;
            for connection in &mut self.connections {
                if let Some(arrived) = connection.look(at_once)?
                    && arrived.sent.due_at >= measured_from
                {
                    // A clock that is set back makes one answer look quick.
                    let taken = arrived.arrived_at.saturating_sub(arrived.sent.due_at);
                    measured.record(taken, arrived.sent.late, arrived.body_bytes);
                }
                is_done &= connection.is_idle();
            }
            if is_done {
                return Ok(measured);
            }
            if looked_at > ends_at + PATIENCE {
                bail!("answers are missing {} s after the end", PATIENCE.as_secs());
            }
            thread::sleep(TICK);
        }
    }
}

impl Connection {
    fn open(ask: &Ask, number: u32) -> Result<Self> {
        let stream = TcpStream::connect(&ask.address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        setsockopt(&stream, ReceiveTimestampns, &true)
            .context("the kernel does not timestamp received data")?;
        let requests = Requests::new(ask, number);
        let (due, free_at) = (VecDeque::new(), now()?);
        Ok(Self { stream, requests, due, asked: None, free_at, answer: Vec::new() })
    }

    fn is_idle(&self) -> bool {
        self.due.is_empty() && self.asked.is_none()
    }

    /// Takes the answer if it has arrived, and sends the next request if one is due or should follow `at_once`.
    fn look(&mut self, at_once: bool) -> Result<Option<Arrived>> {
        let arrived = self.read()?;
        if self.asked.is_none()
            && let Some(due_at) = self.due.pop_front().or(at_once.then_some(self.free_at))
        {
            let request = self.requests.next();
            let late = now()?.saturating_sub(due_at.max(self.free_at));
            // Far smaller than a socket's buffer: written at once.
            self.stream.write_all(request.as_bytes()).context("cannot send")?;
            self.asked = Some(Sent { due_at, late });
        }
        Ok(arrived)
    }

    fn read(&mut self) -> Result<Option<Arrived>> {
        let Some(sent) = self.asked else { return Ok(None) };
        let Some(arrived_at) = self.receive()? else { return Ok(None) };
        let Some(body_bytes) = allowed(&self.answer)? else { return Ok(None) };
        self.answer.clear();
        self.asked = None;
        self.free_at = arrived_at;
        Ok(Some(Arrived { sent, arrived_at, body_bytes }))
    }

    /// Reads what has arrived. Returns when the last of it did.
    fn receive(&mut self) -> Result<Option<Duration>> {
        let mut room = [0; ANSWER_BYTES_MAX];
        let mut parts = [IoSliceMut::new(&mut room)];
        let mut stamp = nix::cmsg_space!(TimeSpec);
        let file = self.stream.as_raw_fd();
        let message = match recvmsg::<()>(file, &mut parts, Some(&mut stamp), MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => return Ok(None),
            message => message.context("cannot read")?,
        };
        let arrived_at = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        });
        let bytes = message.bytes;
        if bytes == 0 {
            bail!("the connection was closed");
        }
        self.answer.extend(room.iter().take(bytes));
        // Data that arrived before timestamps were enabled has none.
        arrived_at.map_or_else(now, Ok).map(Some)
    }
}

fn now() -> Result<Duration> {
    Duration::try_from(SystemClock.now().as_duration()).context("the clock is before 1970")
}
