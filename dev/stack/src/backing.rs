//! The database and the broker that the services use: private ones or those that the environment names.

use std::env;

use anyhow::Result;

use crate::{
    Profile,
    nats::{self, Nats},
    postgres::{Durability, Postgres},
};

/// The database that the services share, each with its own schema.
const DATABASE: &str = "flowmeter";

/// A database and a broker to connect to.
#[derive(Debug, Clone)]
pub struct Backing {
    /// For services.
    pub database_url: String,
    /// For services and tools.
    pub broker: Broker,
}

impl Backing {
    /// The same servers at other ports of this machine: one for the database, and one for each broker.
    #[must_use]
    pub fn through(&self, database_port: u16, broker_ports: &[u16]) -> Self {
        let at_ports = |urls: &str| {
            let urls = urls.split(',').zip(broker_ports).map(|(url, port)| at_port(url, *port));
            urls.collect::<Vec<_>>().join(",")
        };
        let broker = match &self.broker {
            Broker::Shared(url) => Broker::Shared(at_ports(url)),
            Broker::PerService { url, users } => {
                Broker::PerService { url: at_ports(url), users: users.clone() }
            }
        };
        Self { database_url: at_port(&self.database_url, database_port), broker }
    }
}

/// The URL with this port of this machine in place of its own host and port.
fn at_port(url: &str, port: u16) -> String {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |slash| host + slash);
    let (address, path) = url.split_at(end);
    let (scheme, address) = address.split_at(host);
    let user = address.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
    format!("{scheme}{user}127.0.0.1:{port}{path}")
}

/// How to connect to the broker.
#[derive(Debug, Clone)]
pub enum Broker {
    /// The same URL for everybody, with the user in it, if any.
    Shared(String),
    /// Each service has a user of its own.
    PerService {
        /// The URL without a user.
        url: String,
        /// Name and password of each user.
        users: Vec<(String, String)>,
    },
}

impl Broker {
    /// `url`, `user` and `password` for a service, or for `operator`.
    pub fn login(&self, service: &str) -> Login {
        match self {
            Self::Shared(url) => Login::from_url(url),
            Self::PerService { url, users } => {
                Login { url: url.clone(), user: users.iter().find(|(user, _)| user == service).cloned() }
            }
        }
    }
}

/// Where to connect, and as which user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The URL without a user.
    pub url: String,
    /// Name and password.
    pub user: Option<(String, String)>,
}

impl Login {
    /// Splits name and password off a URL.
    fn from_url(url: &str) -> Self {
        let parts = url.split_once("://").and_then(|(scheme, rest)| {
            let (user, host) = rest.rsplit_once('@')?;
            let (name, password) = user.split_once(':')?;
            Some((format!("{scheme}://{host}"), (name.to_owned(), password.to_owned())))
        });
        match parts {
            Some((url, user)) => Self { url, user: Some(user) },
            None => Self { url: url.to_owned(), user: None },
        }
    }
}

/// Private servers; `None` where the environment names one that runs.
#[derive(Debug)]
pub struct Servers {
    /// The private Postgres.
    pub postgres: Option<Postgres>,
    /// The private NATS.
    pub nats: Option<Nats>,
    /// How to connect to them.
    pub backing: Backing,
    /// The database in which tests may create their own.
    pub admin_database_url: String,
    /// The broker as its unrestricted user.
    pub admin_nats_url: String,
}

impl Servers {
    /// Starts what `DATABASE_URL` and `NATS_URL` do not name.
    pub fn start(profile: &Profile, durability: Durability) -> Result<Self> {
        Self::start_or_use(profile, durability, named("DATABASE_URL"), named("NATS_URL"))
    }

    /// Starts both, whatever the environment says.
    pub fn start_private(profile: &Profile, durability: Durability) -> Result<Self> {
        Self::start_or_use(profile, durability, None, None)
    }

    fn start_or_use(
        profile: &Profile,
        durability: Durability,
        database_url: Option<String>,
        nats_url: Option<String>,
    ) -> Result<Self> {
        let (postgres, database_url, admin_database_url) = match database_url {
            Some(url) => {
                println!("Using the Postgres of DATABASE_URL");
                (None, url.clone(), url)
            }
            None => {
                println!("Starting a private Postgres");
                let postgres = Postgres::start(profile, durability)?;
                postgres.ensure_database(DATABASE)?;
                let (url, admin) = (postgres.url(DATABASE), postgres.url("postgres"));
                (Some(postgres), url, admin)
            }
        };
        let (nats, broker, admin_nats_url) = match nats_url {
            Some(url) => {
                println!("Using the NATS of NATS_URL");
                (None, Broker::Shared(url.clone()), url)
            }
            None => {
                println!("Starting a private NATS");
                let nats = Nats::start(profile)?;
                let users = nats::USERS.map(|user| (user.to_owned(), nats.password(user).to_owned()));
                let broker = Broker::PerService { url: nats.url(), users: users.into() };
                let admin = nats.url_of(nats::ADMIN);
                (Some(nats), broker, admin)
            }
        };
        let backing = Backing { database_url, broker };
        Ok(Self { postgres, nats, backing, admin_database_url, admin_nats_url })
    }

    /// Fails when one of them has ended by itself, with the last lines of its log.
    pub fn check(&mut self) -> Result<()> {
        let postgres = self.postgres.as_mut().map(Postgres::process);
        let nats = self.nats.as_mut().map(Nats::process);
        for process in postgres.into_iter().chain(nats) {
            if let Some(status) = process.ended()? {
                return Err(process.obituary(status));
            }
        }
        Ok(())
    }

    /// Stops what was started.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(nats) = &mut self.nats {
            nats.stop()?;
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.stop()?;
        }
        Ok(())
    }
}

fn named(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_and_port_are_replaced() {
        assert_eq!(at_port("postgres://u@127.0.0.1:5432/flowmeter", 7), "postgres://u@127.0.0.1:7/flowmeter");
        assert_eq!(at_port("nats://127.0.0.1:4222", 7), "nats://127.0.0.1:7");
        let users = vec![("alerts".to_owned(), "secret".to_owned())];
        let url = "tls://10.77.0.11:4222,tls://10.77.0.12:4222".to_owned();
        let backing = Backing {
            database_url: "postgres://u@10.77.0.20:5432/flowmeter".to_owned(),
            broker: Broker::PerService { url, users },
        };
        let through = backing.through(1, &[2, 3]);
        assert_eq!(through.database_url, "postgres://u@127.0.0.1:1/flowmeter");
        assert_eq!(through.broker.login("alerts").url, "tls://127.0.0.1:2,tls://127.0.0.1:3");
    }

    #[test]
    fn a_user_in_the_url_becomes_a_login() {
        let login = Login::from_url("nats://admin:nats_1f@127.0.0.1:4222");
        assert_eq!(login.url, "nats://127.0.0.1:4222");
        assert_eq!(login.user, Some(("admin".to_owned(), "nats_1f".to_owned())));
        assert_eq!(Login::from_url("nats://127.0.0.1:4222").user, None);
    }
}
