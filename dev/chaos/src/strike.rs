//! Begins and ends the faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use anyhow::{Context, Result};
use async_nats::jetstream::stream::Config;
use proto::{streams::Stream, subjects::PARTITIONS};
use serde_json::json;
use stack::{Backing, Process, Program, Proxy, Replica, Stack, backing::Servers, database, wait};

use crate::{
    cast::SOURCES,
    fault::{Fault, Outside, Server, Strike},
    play::{Archive, Renewal, Scene},
};

/// A broker that has just started on a busy machine answers within this time.
const BROKER_WITHIN: Duration = Duration::from_secs(60);

/// Counts the unpublished messages of all services.
const OUTBOXES: &str =
    "SELECT (SELECT count(*) FROM aggregator.outbox) + (SELECT count(*) FROM billing.outbox)
    + (SELECT count(*) FROM gateway.outbox)";

/// The topics that the comparison reads at the end.
fn archived() -> Vec<(Stream, &'static str)> {
    let executions = (0..PARTITIONS).map(|partition| (Stream::Executions(partition), "executions"));
    let others = [
        (Stream::Thresholds, "usage.threshold"),
        (Stream::Dead, "dead"),
        (Stream::SourceEvents, "source.gap"),
        (Stream::Billing, "billing"),
    ];
    executions.chain(others).collect()
}

/// A slow server works in bursts: in each, it is paused at first and then runs for the rest.
const BURST_MS: u64 = 200;
const STANDS_STILL_MS: u64 = 150;

/// A proxy between each service and each server, whose connections can be cut.
#[derive(Debug)]
pub struct Ways(BTreeMap<(Program, Server), Proxy>);

impl Ways {
    /// Starts a proxy between each service and each server.
    pub fn open(servers: &Servers) -> Result<(Self, BTreeMap<Program, Backing>)> {
        let database_port = servers.postgres.as_ref().context("a private Postgres")?.port();
        let broker_port = servers.nats.as_ref().context("a private NATS")?.port();
        let (mut ways, mut detours) = (BTreeMap::new(), BTreeMap::new());
        for service in Program::SERVICES {
            let (database, broker) = (Proxy::start(database_port)?, Proxy::start(broker_port)?);
            detours.insert(service, servers.backing.through(database.port(), broker.port()));
            ways.insert((service, Server::Postgres), database);
            ways.insert((service, Server::Nats), broker);
        }
        Ok((Self(ways), detours))
    }

    fn of(&self, service: Program, server: Server) -> Result<&Proxy> {
        self.0.get(&(service, server)).context("every service has a proxy to every server")
    }
}

/// Everything that can be broken.
pub struct Breaker {
    /// The services.
    pub stack: Stack,
    /// The servers they depend on.
    pub servers: Servers,
    /// The proxies between them.
    pub ways: Ways,
    /// The stand-ins for external systems.
    pub scene: Scene,
    /// Processes that a fault has ended and that are not restarted yet.
    down: BTreeSet<Replica>,
    full: BTreeMap<String, Config>,
    /// Processes that have ended by themselves.
    pub fallen: BTreeMap<&'static str, u32>,
}

impl Breaker {
    /// Nothing is broken.
    pub fn new(stack: Stack, servers: Servers, ways: Ways, scene: Scene) -> Self {
        let (down, full, fallen) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { stack, servers, ways, scene, down, full, fallen }
    }

    /// Begins a fault.
    pub fn begin(&mut self, strike: &Strike) -> Result<()> {
        match strike.fault {
            Fault::Kill(replica) => {
                self.down.insert(replica);
                self.stack.kill(replica)
            }
            Fault::Roll(replica) => {
                self.down.insert(replica);
                self.stack.process(replica)?.ask_to_stop()
            }
            Fault::Pause(replica) => self.stack.process(replica)?.pause(),
            Fault::KillServer(server) => self.server(server)?.kill(),
            Fault::PauseServer(server) | Fault::SlowServer(server) => self.server(server)?.pause(),
            Fault::Cut(service, server) => {
                self.ways.of(service, server)?.cut();
                Ok(())
            }
            Fault::Stall(service, server) => self.ways.of(service, server).map(Proxy::stall),
            Fault::Refuse(service, server) => self.ways.of(service, server).map(Proxy::refuse),
            Fault::EndSessions => {
                let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                database::ask(&self.servers.backing.database_url, others).map(drop)
            }
            Fault::Full(stream) => {
                let broker = &self.scene.broker;
                let config =
                    wait::until("a stream to be filled", BROKER_WITHIN, || Ok(broker.fill(stream).ok()))?;
                self.full.insert(format!("{stream:?}"), config);
                Ok(())
            }
            Fault::Fail(outside, calls) => self.fail(outside, calls),
        }
    }

    /// Pauses or resumes a slow server, as its burst demands.
    pub fn go_on(&mut self, strike: &Strike, now_ms: u64) -> Result<()> {
        let Fault::SlowServer(server) = strike.fault else { return Ok(()) };
        let process = self.server(server)?;
        let into_burst = now_ms.saturating_sub(strike.at_ms) % BURST_MS;
        if into_burst < STANDS_STILL_MS { process.pause() } else { process.resume() }
    }

    /// Ends a fault.
    pub fn end(&mut self, strike: &Strike) -> Result<()> {
        match strike.fault {
            Fault::Kill(replica) | Fault::Roll(replica) => {
                // A process that was asked to stop and has not is killed.
                self.stack.stop_one(replica)?;
                self.down.remove(&replica);
                self.stack.relaunch(replica)
            }
            Fault::Pause(replica) => self.stack.process(replica)?.resume(),
            Fault::KillServer(Server::Nats) => {
                let nats = self.servers.nats.as_mut().context("a private NATS")?;
                nats.restart(self.stack.profile())
            }
            Fault::KillServer(Server::Postgres) => {
                let postgres = self.servers.postgres.as_mut().context("a private Postgres")?;
                postgres.restart(self.stack.profile())
            }
            Fault::PauseServer(server) | Fault::SlowServer(server) => self.server(server)?.resume(),
            Fault::Stall(service, server) | Fault::Refuse(service, server) => {
                self.ways.of(service, server).map(Proxy::open)
            }
            Fault::Full(stream) => match self.full.remove(&format!("{stream:?}")) {
                Some(config) => wait::until("a stream to have room", BROKER_WITHIN, || {
                    Ok(self.scene.broker.make_room(&config).ok())
                }),
                None => Ok(()),
            },
            Fault::Cut(..) | Fault::EndSessions | Fault::Fail(..) => Ok(()),
        }
    }

    /// Restarts processes that have ended by themselves, as a supervisor does. None should: a service that starts while a
    /// server is down waits for it.
    pub fn look_after(&mut self) -> Result<Vec<Replica>> {
        let dead = self.stack.find_dead()?;
        let mut started = Vec::new();
        for (replica, _) in dead.into_iter().filter(|(replica, _)| !self.down.contains(replica)) {
            *self.fallen.entry(replica.program.name()).or_default() += 1;
            self.stack.relaunch(replica)?;
            started.push(replica);
        }
        Ok(started)
    }

    /// Recreates the broker, empty, once nothing is in flight. Returns whether it has.
    pub fn renew_broker(&mut self) -> Result<bool> {
        let database = &self.servers.backing.database_url;
        let is_quiet = database::ask(database, OUTBOXES).is_ok_and(|waiting| waiting.trim() == "0")
            && self.scene.broker.is_drained().unwrap_or_default();
        if !is_quiet {
            return Ok(false);
        }
        let mut archive = Archive::new();
        for (stream, topic) in archived() {
            archive.insert((format!("{stream:?}"), topic), self.scene.broker.read(stream, topic)?);
        }
        // A message that was published during the reads would be lost: neither archived nor on the new broker.
        if !self.scene.broker.is_drained().unwrap_or_default() {
            return Ok(false);
        }
        *self.scene.archive.lock().unwrap_or_else(PoisonError::into_inner) = archive;
        let nats = self.servers.nats.as_mut().context("a private NATS")?;
        nats.restart_empty(self.stack.profile())?;
        self.scene.renew(Renewal::Done);
        Ok(true)
    }

    /// Ends faults that do not end by themselves.
    pub fn heal(&mut self) -> Result<()> {
        self.ways.0.values().for_each(Proxy::open);
        let none = json!({ "kind": "none" });
        self.scene.sandbox.post("/control/stripe/fault", &none)?;
        self.scene.sandbox.post("/control/mail/fault", &none)?;
        for source in SOURCES {
            // The instance of a tenant that has not joined does not exist.
            let _ = self.scene.sandbox.post(&format!("/control/n8n/{}/fault", source.id), &none);
        }
        Ok(())
    }

    fn server(&mut self, server: Server) -> Result<&mut Process> {
        match server {
            Server::Nats => Ok(self.servers.nats.as_mut().context("a private NATS")?.process()),
            Server::Postgres => Ok(self.servers.postgres.as_mut().context("a private Postgres")?.process()),
        }
    }

    fn fail(&self, outside: Outside, calls: u32) -> Result<()> {
        let (path, kind) = match outside {
            Outside::Stripe(kind) => ("/control/stripe/fault".to_owned(), kind),
            Outside::Mail(kind) => ("/control/mail/fault".to_owned(), kind),
            Outside::N8n(source, kind) => {
                let source = SOURCES.get(source).map_or("", |source| source.id);
                (format!("/control/n8n/{source}/fault"), kind)
            }
        };
        // The instance of a tenant that has not joined does not exist.
        let _ = self.scene.sandbox.post(&path, &json!({ "kind": kind, "count": calls }));
        Ok(())
    }
}
