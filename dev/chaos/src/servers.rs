//! The servers of a run: one Postgres and one NATS, or a cluster of each.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use stack::{
    Backing, Process, Profile, backing,
    cluster::{Brokers, Databases, NODES, Room},
    database, nats,
    postgres::Durability,
    services::Options,
};

use crate::{broker::Access, fault::Server};

/// The database that the services share.
const DATABASE: &str = "flowmeter";

/// What the services depend on.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
pub enum Servers {
    /// One of each.
    Single(Box<backing::Servers>),
    /// Three brokers, and a database with a synchronous standby.
    Cluster {
        /// The brokers.
        brokers: Brokers,
        /// The databases.
        databases: Databases,
        /// How to connect to them.
        backing: Backing,
    },
}

impl Servers {
    /// Starts one of each.
    pub fn start_single(profile: &Profile) -> Result<Self> {
        Ok(Self::Single(Box::new(backing::Servers::start_private(profile, Durability::PowerLoss)?)))
    }

    /// Starts a cluster in a room.
    pub fn start_cluster(profile: &Profile, room: Room) -> Result<Self> {
        println!("Starting a cluster of {NODES} brokers");
        let brokers = Brokers::start(profile, Some(&room))?;
        println!("Starting a Postgres with a synchronous standby");
        let databases = Databases::start(profile, room)?;
        database::ensure(&databases.url("postgres"), DATABASE)?;
        let backing = Backing { database_url: databases.url(DATABASE), broker: brokers.access() };
        Ok(Self::Cluster { brokers, databases, backing })
    }

    /// How to connect to them.
    pub fn backing(&self) -> &Backing {
        match self {
            Self::Single(servers) => &servers.backing,
            Self::Cluster { backing, .. } => backing,
        }
    }

    /// How to connect to the broker as its administrator.
    pub fn admin(&self) -> Access {
        match self {
            Self::Single(servers) => Access { urls: servers.admin_nats_url.clone(), ..Access::default() },
            Self::Cluster { brokers, .. } => Access {
                urls: brokers.url(),
                login: Some((nats::ADMIN.to_owned(), brokers.password(nats::ADMIN).to_owned())),
                authority: Some(brokers.authority()),
            },
        }
    }

    /// Where the database and the brokers listen.
    pub fn addresses(&self) -> Result<(SocketAddr, Vec<SocketAddr>)> {
        match self {
            Self::Single(servers) => {
                let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let database = servers.postgres.as_ref().context("a private Postgres")?.port();
                let broker = servers.nats.as_ref().context("a private NATS")?.port();
                Ok((here(database), vec![here(broker)]))
            }
            Self::Cluster { brokers, .. } => Ok((Databases::address(), brokers.addresses())),
        }
    }

    /// What the services' settings need to use them.
    pub fn settings(&self, options: Options) -> Options {
        match self {
            Self::Single(_) => options,
            Self::Cluster { brokers, .. } => options
                .with("NATS__REPLICAS", &NODES.to_string())
                // As the chart does for `certificateAuthority`.
                .with_variable("SSL_CERT_FILE", &brokers.authority().display().to_string())
                .with_variable("SSL_CERT_DIR", "/etc/ssl/certs"),
        }
    }

    /// The process of one of them; of the databases, the primary's.
    pub fn process(&mut self, server: Server) -> Result<&mut Process> {
        match (self, server) {
            (Self::Single(servers), Server::Nats) => {
                Ok(servers.nats.as_mut().context("a private NATS")?.process())
            }
            (Self::Single(servers), Server::Postgres) => {
                Ok(servers.postgres.as_mut().context("a private Postgres")?.process())
            }
            (Self::Cluster { brokers, .. }, Server::Node(number)) => brokers.process(number),
            (Self::Cluster { databases, .. }, Server::Postgres) => databases.primary(),
            (_, server) => bail!("there is no {server} here"),
        }
    }

    /// Restarts one after a kill, on its data.
    pub fn restart(&mut self, server: Server, profile: &Profile) -> Result<()> {
        match (self, server) {
            (Self::Single(servers), Server::Nats) => {
                servers.nats.as_mut().context("a private NATS")?.restart(profile)
            }
            (Self::Single(servers), Server::Postgres) => {
                servers.postgres.as_mut().context("a private Postgres")?.restart(profile)
            }
            (Self::Cluster { brokers, .. }, Server::Node(number)) => brokers.restart(profile, number),
            (Self::Cluster { databases, .. }, Server::Postgres) => databases.restart_primary(profile),
            (_, server) => bail!("there is no {server} here"),
        }
    }

    /// Recreates the broker, or all of them, without their data.
    pub fn restart_brokers_empty(&mut self, profile: &Profile) -> Result<()> {
        match self {
            Self::Single(servers) => servers.nats.as_mut().context("a private NATS")?.restart_empty(profile),
            Self::Cluster { brokers, .. } => brokers.restart_empty(profile),
        }
    }

    /// The brokers of a cluster.
    pub fn brokers(&mut self) -> Result<&mut Brokers> {
        match self {
            Self::Single(_) => bail!("there is one broker"),
            Self::Cluster { brokers, .. } => Ok(brokers),
        }
    }

    /// The databases of a cluster.
    pub fn databases(&mut self) -> Result<&mut Databases> {
        match self {
            Self::Single(_) => bail!("there is one database"),
            Self::Cluster { databases, .. } => Ok(databases),
        }
    }

    /// Stops all.
    pub fn stop(&mut self) -> Result<()> {
        match self {
            Self::Single(servers) => servers.stop(),
            Self::Cluster { brokers, databases, .. } => {
                brokers.stop()?;
                databases.stop()
            }
        }
    }
}
