//! Begins and ends the faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use async_nats::jetstream::stream::Config;
use proto::{streams::Stream, subjects::PARTITIONS};
use serde_json::json;
use stack::{Backing, Program, Proxy, Replica, Stack, cluster::NODES, database, wait};

use crate::{
    cast::SOURCES,
    fault::{Fault, Outside, Server, Strike},
    play::{Archive, Renewal, Scene},
    servers::Servers,
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

/// The proxies between each service and each server, whose connections can be cut: one to the database, and one to each
/// broker.
#[derive(Debug)]
pub struct Ways(BTreeMap<(Program, Server), Vec<Proxy>>);

impl Ways {
    /// Starts a proxy between each service and each server.
    pub fn open(servers: &Servers) -> Result<(Self, BTreeMap<Program, Backing>)> {
        let (database_at, brokers_at) = servers.addresses()?;
        let (mut ways, mut detours) = (BTreeMap::new(), BTreeMap::new());
        for service in Program::SERVICES {
            let database = Proxy::start_to(database_at)?;
            let brokers = brokers_at.iter().map(|at| Proxy::start_to(*at)).collect::<Result<Vec<_>>>()?;
            let ports: Vec<u16> = brokers.iter().map(Proxy::port).collect();
            detours.insert(service, servers.backing().through(database.port(), &ports));
            ways.insert((service, Server::Postgres), vec![database]);
            ways.insert((service, Server::Nats), brokers);
        }
        Ok((Self(ways), detours))
    }

    fn of(&self, service: Program, server: Server) -> Result<&[Proxy]> {
        let ways = self.0.get(&(service, server)).map(Vec::as_slice);
        ways.context("every service has a proxy to every server")
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
            Fault::KillServer(server) => self.servers.process(server)?.kill(),
            Fault::PauseServer(server) | Fault::SlowServer(server) => self.servers.process(server)?.pause(),
            Fault::Cut(service, server) => {
                for way in self.ways.of(service, server)? {
                    way.cut();
                }
                Ok(())
            }
            Fault::Stall(service, server) => {
                self.ways.of(service, server)?.iter().for_each(Proxy::stall);
                Ok(())
            }
            Fault::Refuse(service, server) => {
                self.ways.of(service, server)?.iter().for_each(Proxy::refuse);
                Ok(())
            }
            Fault::EndSessions => {
                let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                database::ask(&self.servers.backing().database_url, others).map(drop)
            }
            Fault::Full(stream) => {
                let broker = &self.scene.broker;
                let config =
                    wait::until("a stream to be filled", BROKER_WITHIN, || Ok(broker.fill(stream).ok()))?;
                self.full.insert(format!("{stream:?}"), config);
                Ok(())
            }
            Fault::Fail(outside, calls) => self.fail(outside, calls),
            Fault::Vanish(Server::Postgres) => self.servers.databases()?.unplug_primary(),
            Fault::Vanish(Server::Node(number)) => self.servers.brokers()?.unplug(number),
            Fault::Vanish(Server::Nats) => bail!("only one node leaves the network"),
            Fault::Split(number) => self.servers.brokers()?.split(number),
            Fault::Promote { vanishes } => {
                let databases = self.servers.databases()?;
                // An operator promotes only a standby that has everything.
                databases.wait_in_step()?;
                if vanishes { databases.unplug_primary() } else { databases.primary()?.kill() }
            }
            Fault::RollEverything => self.roll_everything(),
        }
    }

    /// Pauses or resumes a slow server, as its burst demands.
    pub fn go_on(&mut self, strike: &Strike, now_ms: u64) -> Result<()> {
        let Fault::SlowServer(server) = strike.fault else { return Ok(()) };
        let process = self.servers.process(server)?;
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
            Fault::KillServer(server) => self.servers.restart(server, self.stack.profile()),
            Fault::PauseServer(server) | Fault::SlowServer(server) => self.servers.process(server)?.resume(),
            Fault::Stall(service, server) | Fault::Refuse(service, server) => {
                self.ways.of(service, server)?.iter().for_each(Proxy::open);
                Ok(())
            }
            Fault::Vanish(Server::Postgres) => self.servers.databases()?.replug_primary(),
            Fault::Vanish(Server::Node(number)) => self.servers.brokers()?.replug(number),
            Fault::Vanish(Server::Nats) => Ok(()),
            Fault::Split(number) => self.servers.brokers()?.rejoin(number),
            Fault::Promote { .. } => {
                let profile = self.stack.profile();
                let databases = self.servers.databases()?;
                databases.promote()?;
                databases.renew_standby(profile)
            }
            Fault::Full(stream) => match self.full.remove(&format!("{stream:?}")) {
                Some(config) => wait::until("a stream to have room", BROKER_WITHIN, || {
                    Ok(self.scene.broker.make_room(&config).ok())
                }),
                None => Ok(()),
            },
            Fault::Cut(..) | Fault::EndSessions | Fault::Fail(..) | Fault::RollEverything => Ok(()),
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
        let database = &self.servers.backing().database_url;
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
        self.servers.restart_brokers_empty(self.stack.profile())?;
        self.scene.renew(Renewal::Done);
        Ok(true)
    }

    /// Ends faults that do not end by themselves.
    pub fn heal(&mut self) -> Result<()> {
        self.ways.0.values().flatten().for_each(Proxy::open);
        let none = json!({ "kind": "none" });
        self.scene.sandbox.post("/control/stripe/fault", &none)?;
        self.scene.sandbox.post("/control/mail/fault", &none)?;
        for source in SOURCES {
            // The instance of a tenant that has not joined does not exist.
            let _ = self.scene.sandbox.post(&format!("/control/n8n/{}/fault", source.id), &none);
        }
        Ok(())
    }

    /// Restarts every process of every service and every server, one after the other, each when its predecessor is ready: a
    /// deployment, with work going on.
    fn roll_everything(&mut self) -> Result<()> {
        let replicas: Vec<Replica> = self.stack.processes().map(|(replica, _)| replica).collect();
        for replica in replicas.into_iter().filter(|replica| replica.program != Program::Sandbox) {
            self.stack.stop_one(replica)?;
            self.stack.restart(replica)?;
        }
        let profile = self.stack.profile();
        for number in 1..=NODES {
            self.servers.brokers()?.restart(profile, number)?;
        }
        let databases = self.servers.databases()?;
        databases.restart_standby(profile)?;
        databases.stop_primary()?;
        databases.promote()?;
        databases.renew_standby(profile)
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
