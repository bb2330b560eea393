//! Three NATS nodes that form a cluster, with TLS and the users and permissions of production.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    authority::{Authority, Certificate},
    room::{Host, Room},
};
use crate::{
    Profile, api,
    backing::Broker,
    install, nats, ports,
    process::{Launch, Process},
    project::write_private,
};

/// How many there are: any one may be lost.
pub const NODES: u8 = 3;

/// The last part of the first node's address in a room.
const FIRST_ADDRESS: u8 = 11;

/// Start-up, with recovery of a large store and of what the others have written meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// The nodes.
#[derive(Debug)]
pub struct Brokers {
    nodes: Vec<Node>,
    passwords: BTreeMap<&'static str, String>,
    authority: Authority,
}

#[derive(Debug)]
struct Node {
    place: Place,
    folder: PathBuf,
    launch: Launch,
    process: Process,
}

/// Where a node listens.
#[derive(Debug, Clone)]
struct Place {
    host: Option<Host>,
    address: Ipv4Addr,
    clients: u16,
    peers: u16,
    health: u16,
}

impl Place {
    /// In a room, each node has an address of its own; otherwise ports of 127.0.0.1.
    fn choose(room: Option<&Room>, number: u8) -> Result<Self> {
        match room {
            Some(room) => {
                let host = room.host(&name(number), FIRST_ADDRESS + number - 1)?;
                let address = host.address();
                Ok(Self { host: Some(host), address, clients: 4222, peers: 6222, health: 8222 })
            }
            None => Ok(Self {
                host: None,
                address: Ipv4Addr::LOCALHOST,
                clients: ports::free()?,
                peers: ports::free()?,
                health: ports::free()?,
            }),
        }
    }
}

impl Brokers {
    /// Starts the nodes and waits until they have a leader.
    pub fn start(profile: &Profile, room: Option<&Room>) -> Result<Self> {
        let server = install::nats(profile.project())?;
        if !server.version.syncs_always() {
            bail!(
                "the nats-server {} is too old for a cluster: it cannot sync every write",
                server.program.display()
            );
        }
        let authority = Authority::create(&profile.folder().join("authority"))?;
        let passwords = nats::passwords(profile)?;
        let places = (1..=NODES).map(|number| Place::choose(room, number)).collect::<Result<Vec<_>>>()?;
        let mut nodes = Vec::new();
        for (number, place) in (1..).zip(&places) {
            let folder = profile.folder().join(name(number));
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let addresses = [place.address.to_string(), Ipv4Addr::LOCALHOST.to_string()];
            let certificate = authority.certify(&name(number), &addresses)?;
            write_private(&folder.join("permissions.conf"), nats::PERMISSIONS)?;
            let configuration = folder.join("nats.conf");
            write_private(
                &configuration,
                &configure(number, &folder, &places, &certificate, &authority.file()),
            )?;
            let launch = Launch {
                args: vec!["-c".to_owned(), configuration.display().to_string()],
                env: passwords
                    .iter()
                    .map(|(user, password)| (nats::variable(user), password.clone()))
                    .collect(),
                namespace: place.host.as_ref().map(|host| host.name().to_owned()),
                ..Launch::new(&name(number), &server.program)
            };
            let process = Process::start(profile, launch.clone())?;
            nodes.push(Node { place: place.clone(), folder, launch, process });
        }
        let mut brokers = Self { nodes, passwords, authority };
        (1..=NODES).try_for_each(|number| brokers.wait_ready(number))?;
        Ok(brokers)
    }

    /// How services connect: each as its own user, to any of the nodes.
    pub fn access(&self) -> Broker {
        let users = nats::USERS.map(|user| (user.to_owned(), self.password(user).to_owned()));
        Broker::PerService { url: self.url(), users: users.into() }
    }

    /// The addresses of all nodes, without a user.
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.addresses().iter().map(|address| format!("tls://{address}")).collect();
        urls.join(",")
    }

    /// Where the clients of each node connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::from((node.place.address, node.place.clients))).collect()
    }

    /// The password of one of the users.
    pub fn password(&self, user: &str) -> &str {
        self.passwords.get(user).map_or("", String::as_str)
    }

    /// The certificate that clients must trust.
    pub fn authority(&self) -> PathBuf {
        self.authority.file()
    }

    /// One of the nodes, from 1.
    pub fn process(&mut self, number: u8) -> Result<&mut Process> {
        Ok(&mut self.node_mut(number)?.process)
    }

    /// Restarts a node after a stop or a kill, and waits until it has what the others have.
    pub fn restart(&mut self, profile: &Profile, number: u8) -> Result<()> {
        self.relaunch(profile, number)?;
        self.wait_ready(number)
    }

    /// Restarts all nodes without any of their data: a cluster that was recreated.
    pub fn restart_empty(&mut self, profile: &Profile) -> Result<()> {
        for node in &mut self.nodes {
            node.process.stop()?;
            let store = node.folder.join("store");
            fs::remove_dir_all(&store).with_context(|| format!("cannot remove {}", store.display()))?;
        }
        (1..=NODES).try_for_each(|number| self.relaunch(profile, number))?;
        (1..=NODES).try_for_each(|number| self.wait_ready(number))
    }

    fn relaunch(&mut self, profile: &Profile, number: u8) -> Result<()> {
        let node = self.node_mut(number)?;
        node.process.stop()?;
        node.process = Process::start(profile, node.launch.clone())?;
        Ok(())
    }

    /// Takes a node off the network.
    pub fn unplug(&self, number: u8) -> Result<()> {
        self.host(number)?.unplug()
    }

    /// Puts a node back on the network.
    pub fn replug(&self, number: u8) -> Result<()> {
        self.host(number)?.replug()
    }

    /// Cuts a node off the others; its clients still reach it.
    pub fn split(&self, number: u8) -> Result<()> {
        self.host(number)?.shun(&self.others(number))
    }

    /// Ends [`Brokers::split`].
    pub fn rejoin(&self, number: u8) -> Result<()> {
        self.host(number)?.unshun(&self.others(number))
    }

    /// Stops all nodes.
    pub fn stop(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.process.stop())
    }

    fn others(&self, number: u8) -> Vec<Ipv4Addr> {
        let others = (1..).zip(&self.nodes).filter(|(other, _)| *other != number);
        others.map(|(_, node)| node.place.address).collect()
    }

    fn host(&self, number: u8) -> Result<&Host> {
        let node = self.nodes.get(usize::from(number) - 1).context("there is no such node")?;
        node.place.host.as_ref().context("only a node in a room can be cut off")
    }

    fn node_mut(&mut self, number: u8) -> Result<&mut Node> {
        self.nodes.get_mut(usize::from(number) - 1).context("there is no such node")
    }

    /// `/healthz` answers 200 once the node has found a leader and recovered its streams and consumers.
    fn wait_ready(&mut self, number: u8) -> Result<()> {
        let node = self.node_mut(number)?;
        let health = format!("http://{}:{}/healthz", node.place.address, node.place.health);
        node.process.wait_ready(READY_WITHIN, || api::answers_ok(&health))
    }

    /// Waits until every node is ready.
    pub fn wait_all_ready(&mut self) -> Result<()> {
        (1..=NODES).try_for_each(|number| self.wait_ready(number))
    }
}

/// A node's name: of its log, its namespace and in the cluster.
fn name(number: u8) -> String {
    format!("nats-{number}")
}

fn configure(
    number: u8,
    folder: &Path,
    places: &[Place],
    certificate: &Certificate,
    authority: &Path,
) -> String {
    let Some(place) = places.get(usize::from(number) - 1) else { return String::new() };
    let routes: String =
        places.iter().map(|peer| format!("    nats://{}:{}\n", peer.address, peer.peers)).collect();
    let tls = format!(
        "cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\"",
        certificate.certificate.display(),
        certificate.key.display(),
        authority.display()
    );
    let Place { address, clients, peers, health, .. } = place;
    format!(
        r#"# Written at each start.
server_name: {name}
listen: "{address}:{clients}"
http: "{address}:{health}"
max_payload: 8MB
tls {{ {tls} }}
cluster {{
  name: flowmeter
  listen: "{address}:{peers}"
  # Clients use the addresses that they were given, as in deploy/kubernetes/values/nats.yaml.
  no_advertise: true
  tls {{ {tls}, verify: true }}
  routes = [
{routes}  ]
}}
jetstream {{
  store_dir: "{store}"
  # Streams reserve their maximum size on each node.
  max_file_store: 8TB
  sync_interval: always
}}
{authorization}"#,
        name = name(number),
        store = folder.join("store").display(),
        authorization = nats::authorization(),
    )
}
