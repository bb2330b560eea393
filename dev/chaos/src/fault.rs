//! The faults, drawn from a seed and a weighted list: the same seed gives the same faults.

use std::{collections::BTreeMap, fmt};

use proto::streams::Stream;
use rand::{Rng, SeedableRng, rngs::StdRng};
use stack::{Program, Replica};

/// Concurrent faults: enough to overlap, few enough that work goes on.
const AT_ONCE_MAX: usize = 3;

/// Longest pause between the starts of two faults.
const PAUSE_MS_MAX: u64 = 2_400;

/// The stack first works undisturbed for this long.
const FIRST_AT_MS: u64 = 1_000;

/// From this length on, a run has room for pauses that outlast every lease and acknowledgement wait.
const ROOM_FOR_LONG_MS: u64 = 60_000;

/// Tries to draw a fault whose part of the stack is not broken already.
const DRAWS_MAX: u32 = 20;

/// Brokers of a cluster: any one of them may be lost.
const NODES: u8 = stack::cluster::NODES;

/// When everything is restarted in a cluster, in percent of the run.
const ROLL_AT_PERCENT: u64 = 65;

/// A server that the services depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The broker, or the whole cluster of them.
    Nats,
    /// One node of a cluster of brokers, from 1.
    Node(u8),
    /// The database.
    Postgres,
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nats => formatter.write_str("nats"),
            Self::Node(number) => write!(formatter, "nats-{number}"),
            Self::Postgres => formatter.write_str("postgres"),
        }
    }
}

/// An external system that fails for some calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// Stripe, with one of the stand-in's faults.
    Stripe(&'static str),
    /// The mail server, likewise.
    Mail(&'static str),
    /// An n8n instance (an index into the sources), likewise.
    N8n(usize, &'static str),
}

/// One way to break something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// SIGKILL, and a start afterwards.
    Kill(Replica),
    /// SIGTERM, and a start afterwards: a deployment.
    Roll(Replica),
    /// SIGSTOP, and SIGCONT afterwards.
    Pause(Replica),
    /// SIGKILL of a server, and a start on the same data.
    KillServer(Server),
    /// SIGSTOP of a server with all its processes.
    PauseServer(Server),
    /// SIGSTOP in bursts: looks like a slow disk from outside.
    SlowServer(Server),
    /// Every connection of a service to a server is cut.
    Cut(Program, Server),
    /// Connections of a service to a server stall.
    Stall(Program, Server),
    /// A service cannot reach a server.
    Refuse(Program, Server),
    /// The database ends every session.
    EndSessions,
    /// A stream accepts no more messages.
    Full(Stream),
    /// Some calls to an external system fail.
    Fail(Outside, u32),
    /// A server leaves the network, and returns: nobody reaches it, and nobody is refused.
    Vanish(Server),
    /// A node of the brokers is cut off the others, and its clients still reach it.
    Split(u8),
    /// The primary of the databases is lost, and after a while its standby is promoted.
    Promote {
        /// Whether it leaves the network; otherwise it is killed.
        vanishes: bool,
    },
    /// A deployment: every process of every service and every server is restarted, one after the other.
    RollEverything,
}

/// A part of the stack that at most one fault affects at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Process(Replica),
    Server(Server),
    Way(Program, Server),
    Outside(Outside),
    Everything,
}

impl Fault {
    /// Its name in the summary, which counts faults by kind.
    pub fn kind(&self) -> String {
        match self {
            Self::Kill(replica) => format!("SIGKILL of {}", replica.program.name()),
            Self::KillServer(server) => format!("SIGKILL of {server}"),
            Self::Roll(_) => "orderly restarts".to_owned(),
            Self::Pause(_) => "paused services".to_owned(),
            Self::PauseServer(server) => format!("paused {server}"),
            Self::SlowServer(server) => format!("slow {server}"),
            Self::Cut(..) | Self::EndSessions => "cut connections".to_owned(),
            Self::Stall(..) => "stalled connections".to_owned(),
            Self::Refuse(..) => "refused connections".to_owned(),
            Self::Full(_) => "full streams".to_owned(),
            Self::Fail(..) => "external failures".to_owned(),
            Self::Vanish(server) => format!("partitions of {server}"),
            Self::Split(number) => format!("partitions of nats-{number} from its peers"),
            Self::Promote { vanishes: false } => "promotions after a kill".to_owned(),
            Self::Promote { vanishes: true } => "promotions after a partition".to_owned(),
            Self::RollEverything => "rolling restart of everything".to_owned(),
        }
    }

    /// Whether it is a SIGKILL.
    pub fn is_kill(&self) -> bool {
        matches!(self, Self::Kill(_) | Self::KillServer(_) | Self::Promote { vanishes: false })
    }

    /// Whether it can come between a mail's acceptance by the server and the row that records it.
    pub fn may_repeat_a_mail(&self) -> bool {
        match self {
            Self::Kill(replica) | Self::Roll(replica) | Self::Pause(replica) => {
                replica.program == Program::Alerts
            }
            Self::KillServer(server)
            | Self::PauseServer(server)
            | Self::SlowServer(server)
            | Self::Vanish(server) => *server == Server::Postgres,
            Self::Cut(program, server) | Self::Stall(program, server) | Self::Refuse(program, server) => {
                (*program, *server) == (Program::Alerts, Server::Postgres)
            }
            Self::EndSessions | Self::Promote { .. } | Self::RollEverything => true,
            Self::Full(_) | Self::Split(_) => false,
            Self::Fail(outside, _) => matches!(outside, Outside::Mail("drop_after_data")),
        }
    }

    /// Whether both affect the same part of the stack.
    pub fn meets(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.parts(), other.parts());
        let is_all = ours.contains(&Part::Everything) || theirs.contains(&Part::Everything);
        is_all || ours.iter().any(|part| theirs.contains(part))
    }

    fn parts(&self) -> Vec<Part> {
        match *self {
            Self::Kill(replica) | Self::Roll(replica) | Self::Pause(replica) => vec![Part::Process(replica)],
            Self::KillServer(server)
            | Self::PauseServer(server)
            | Self::SlowServer(server)
            | Self::Vanish(server) => vec![Part::Server(server.whole())],
            Self::Split(_) => vec![Part::Server(Server::Nats)],
            Self::Promote { .. } => vec![Part::Server(Server::Postgres)],
            Self::RollEverything => vec![Part::Everything],
            Self::Cut(program, server) | Self::Stall(program, server) | Self::Refuse(program, server) => {
                vec![Part::Way(program, server)]
            }
            Self::EndSessions => vec![Part::Server(Server::Postgres)],
            // The stream is changed at the broker, which must answer.
            Self::Full(_) => vec![Part::Server(Server::Nats)],
            Self::Fail(outside, _) => vec![Part::Outside(outside)],
        }
    }

    /// How long it may last.
    fn lasts_ms(&self, long: bool) -> std::ops::Range<u64> {
        match self {
            Self::Cut(..) | Self::EndSessions | Self::Fail(..) | Self::RollEverything => 0..1,
            Self::Pause(_) | Self::Stall(..) | Self::Vanish(_) | Self::Split(_) if long => 15_500..24_000,
            Self::Vanish(_) | Self::Split(_) => 1_000..10_000,
            // Until an operator has noticed.
            Self::Promote { .. } => 500..6_000,
            Self::Pause(_) | Self::Stall(..) | Self::Refuse(..) => 300..5_000,
            Self::Kill(_) | Self::KillServer(_) => 0..2_500,
            // Time to finish the work in progress.
            Self::Roll(_) => 1_500..4_000,
            Self::PauseServer(_) => 300..4_000,
            Self::SlowServer(_) => 1_000..6_000,
            Self::Full(_) => 1_000..6_000,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(replica) => write!(formatter, "SIGKILL of {replica}"),
            Self::Roll(replica) => write!(formatter, "orderly restart of {replica}"),
            Self::Pause(replica) => write!(formatter, "{replica} is paused"),
            Self::KillServer(server) => write!(formatter, "SIGKILL of {server}"),
            Self::PauseServer(server) => write!(formatter, "{server} is paused"),
            Self::SlowServer(server) => write!(formatter, "{server} is slow"),
            Self::Cut(program, server) => write!(formatter, "{} is cut from {server}", program.name()),
            Self::Stall(program, server) => {
                write!(formatter, "connections of {} to {server} stall", program.name())
            }
            Self::Refuse(program, server) => write!(formatter, "{} cannot reach {server}", program.name()),
            Self::EndSessions => formatter.write_str("postgres ends every session"),
            Self::Full(stream) => write!(formatter, "the stream {stream:?} is full"),
            Self::Fail(Outside::Stripe(fault), calls) => write!(formatter, "stripe: {fault}, {calls} times"),
            Self::Fail(Outside::Mail(fault), calls) => write!(formatter, "mail: {fault}, {calls} times"),
            Self::Fail(Outside::N8n(source, fault), calls) => {
                write!(formatter, "n8n {source}: {fault}, {calls} times")
            }
            Self::Vanish(server) => write!(formatter, "{server} leaves the network"),
            Self::Split(number) => write!(formatter, "nats-{number} is cut off its peers"),
            Self::Promote { vanishes: false } => formatter.write_str("SIGKILL of the primary, promotion"),
            Self::Promote { vanishes: true } => {
                formatter.write_str("the primary leaves the network, promotion")
            }
            Self::RollEverything => formatter.write_str("rolling restart of everything"),
        }
    }
}

/// A fault with its time, in milliseconds since the first input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strike {
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts.
    pub lasts_ms: u64,
    /// What breaks.
    pub fault: Fault,
}

impl Strike {
    /// When it is over.
    pub fn ends_ms(&self) -> u64 {
        self.at_ms + self.lasts_ms
    }
}

impl Server {
    /// What a fault of it affects: of the nodes of a cluster, only one may be away at a time.
    fn whole(self) -> Self {
        if matches!(self, Self::Node(_)) { Self::Nats } else { self }
    }
}

/// Draws the faults of a run of this length; all are over at its end, unless the machine is slow.
pub fn draw(seed: u64, length_ms: u64, replicas: &BTreeMap<Program, u8>, is_cluster: bool) -> Vec<Strike> {
    let of_cluster = is_cluster.then_some(one_of_cluster as fn(&mut StdRng, &BTreeMap<Program, u8>) -> Fault);
    let one = of_cluster.unwrap_or(one);
    // Another sequence than the script's.
    let mut rng = StdRng::seed_from_u64(seed ^ 0x00C4_A055);
    let mut strikes: Vec<Strike> = Vec::new();
    let mut at_ms = FIRST_AT_MS;
    while at_ms < length_ms {
        let active: Vec<&Strike> = strikes.iter().filter(|strike| strike.ends_ms() >= at_ms).collect();
        let free = |fault: &Fault| {
            let taken = active.iter().flat_map(|strike| strike.fault.parts());
            !taken.into_iter().any(|part| fault.parts().contains(&part))
        };
        let drawn = (0..DRAWS_MAX).map(|_| one(&mut rng, replicas)).find(free);
        if let Some(fault) = drawn.filter(|_| active.len() < AT_ONCE_MAX) {
            let long = length_ms >= ROOM_FOR_LONG_MS && rng.random_bool(0.15);
            let lasts_ms = rng.random_range(fault.lasts_ms(long));
            if at_ms + lasts_ms < length_ms {
                strikes.push(Strike { at_ms, lasts_ms, fault });
            }
        }
        at_ms += rng.random_range(200..PAUSE_MS_MAX);
    }
    if is_cluster {
        let roll =
            Strike { at_ms: length_ms * ROLL_AT_PERCENT / 100, lasts_ms: 0, fault: Fault::RollEverything };
        let place = strikes.partition_point(|strike| strike.at_ms < roll.at_ms);
        strikes.insert(place, roll);
    }
    strikes
}

/// Time between two faults of a drill: what one has delayed is over before the next.
const DRILL_REST_MS: u64 = 15_000;

/// Each kind of fault of a cluster by itself, one after the other, and how long that takes.
pub fn drill() -> (Vec<Strike>, u64) {
    let servers = [
        (Fault::KillServer(Server::Node(1)), 5_000),
        (Fault::Vanish(Server::Node(2)), 25_000),
        // Long enough that the services leave it.
        (Fault::Split(3), 40_000),
        (Fault::KillServer(Server::Postgres), 2_000),
        (Fault::Vanish(Server::Postgres), 10_000),
        (Fault::Promote { vanishes: false }, 3_000),
        (Fault::Promote { vanishes: true }, 3_000),
    ];
    let services = Program::SERVICES.map(|program| (Fault::Kill(Replica { program, number: 1 }), 2_000));
    let faults = servers.into_iter().chain(services).chain([(Fault::RollEverything, 0)]);
    let (mut strikes, mut at_ms) = (Vec::new(), DRILL_REST_MS);
    for (fault, lasts_ms) in faults {
        strikes.push(Strike { at_ms, lasts_ms, fault });
        at_ms += lasts_ms + DRILL_REST_MS;
    }
    (strikes, at_ms)
}

/// The faults of a cluster, and those of a single stack with one node in place of the broker.
fn one_of_cluster(rng: &mut StdRng, replicas: &BTreeMap<Program, u8>) -> Fault {
    let number = rng.random_range(1..=NODES);
    let node = Server::Node(number);
    match rng.random_range(0..100) {
        0..10 => Fault::KillServer(node),
        10..19 => Fault::Vanish(node),
        19..26 => Fault::Split(number),
        26..30 => Fault::Promote { vanishes: false },
        30..34 => Fault::Promote { vanishes: true },
        34..37 => Fault::Vanish(Server::Postgres),
        _ => match one(rng, replicas) {
            Fault::KillServer(Server::Nats) => Fault::KillServer(node),
            Fault::PauseServer(Server::Nats) => Fault::PauseServer(node),
            Fault::SlowServer(Server::Nats) => Fault::SlowServer(node),
            other => other,
        },
    }
}

fn one(rng: &mut StdRng, replicas: &BTreeMap<Program, u8>) -> Fault {
    let service = Program::SERVICES.get(rng.random_range(0..5)).copied().unwrap_or(Program::Aggregator);
    let count = replicas.get(&service).copied().unwrap_or(1);
    let replica = Replica { program: service, number: rng.random_range(1..=count) };
    let server = if rng.random_bool(0.5) { Server::Nats } else { Server::Postgres };
    let calls = rng.random_range(1..4);
    match rng.random_range(0..100) {
        0..28 => Fault::Kill(replica),
        28..34 => Fault::Roll(replica),
        34..46 => Fault::Pause(replica),
        46..56 => Fault::KillServer(server),
        56..61 => Fault::PauseServer(server),
        61..66 => Fault::SlowServer(server),
        66..74 => Fault::Cut(service, server),
        74..80 => Fault::Stall(service, server),
        80..84 => Fault::Refuse(service, server),
        84..87 => Fault::EndSessions,
        87..92 => {
            let source = rng.random_range(0..crate::cast::SOURCES.len());
            let executions = Stream::executions_of(
                crate::cast::SOURCES.get(source).map(|source| source.id).unwrap_or_default(),
            );
            let streams =
                [executions, executions, Stream::Thresholds, Stream::Periods, Stream::Billing, Stream::Dead];
            Fault::Full(streams.get(rng.random_range(0..streams.len())).copied().unwrap_or(executions))
        }
        _ => Fault::Fail(outside(rng), calls),
    }
}

fn outside(rng: &mut StdRng) -> Outside {
    const STRIPE: [&str; 6] =
        ["http_500_after", "http_500_before", "html_502_after", "drop_after", "drop_before", "rate_limit"];
    const MAIL: [&str; 2] = ["reject_451", "drop_after_data"];
    const N8N: [&str; 4] = ["html", "http_500", "rate_limit", "not_found_html"];
    let mut pick =
        |list: &[&'static str]| list.get(rng.random_range(0..list.len())).copied().unwrap_or("none");
    let (stripe, mail, n8n) = (pick(&STRIPE), pick(&MAIL), pick(&N8N));
    match rng.random_range(0..3) {
        0 => Outside::Stripe(stripe),
        1 => Outside::Mail(mail),
        _ => Outside::N8n(rng.random_range(0..crate::cast::SOURCES.len()), n8n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_breaks_the_same_things() {
        let replicas = BTreeMap::from([(Program::Aggregator, 2)]);
        for is_cluster in [false, true] {
            let drawn = |seed| draw(seed, 120_000, &replicas, is_cluster);
            assert_eq!(drawn(7), drawn(7));
            assert_ne!(drawn(7), drawn(8));
        }
    }

    #[test]
    fn a_long_run_has_every_kind_of_fault_and_no_two_share_a_part() {
        check(&draw(3, 600_000, &BTreeMap::new(), false), 600_000, 18);
    }

    #[test]
    fn a_cluster_loses_every_node_in_every_way_and_one_at_a_time() {
        // Long: each node breaks in each way.
        let length_ms = 3 * 60 * 60 * 1_000;
        let strikes = draw(3, length_ms, &BTreeMap::new(), true);
        let (rolls, others): (Vec<Strike>, Vec<Strike>) =
            strikes.into_iter().partition(|strike| strike.fault == Fault::RollEverything);
        assert_eq!(rolls.len(), 1);
        // 18 kinds of a single stack, whose kill, pause and slowness of the broker are now one for each node; each node is
        // cut off, and cut off its peers; the primary is cut off; two promotions.
        check(&others, length_ms, 18 + 6 + 6 + 1 + 2);
    }

    #[test]
    fn a_drill_has_one_fault_at_a_time() {
        let (strikes, length_ms) = drill();
        for pair in strikes.windows(2) {
            assert!(pair[0].ends_ms() + DRILL_REST_MS <= pair[1].at_ms, "{pair:?}");
        }
        assert!(strikes.last().unwrap().ends_ms() < length_ms);
    }

    fn check(strikes: &[Strike], length_ms: u64, kinds_wanted: usize) {
        let kinds: std::collections::BTreeSet<String> =
            strikes.iter().map(|strike| strike.fault.kind()).collect();
        assert_eq!(kinds.len(), kinds_wanted, "{kinds:?}");
        for (place, strike) in strikes.iter().enumerate() {
            assert!(strike.ends_ms() < length_ms);
            for other in strikes.iter().take(place).filter(|other| other.ends_ms() >= strike.at_ms) {
                let shared = other.fault.parts().iter().any(|part| strike.fault.parts().contains(part));
                assert!(!shared, "{other:?} and {strike:?}");
            }
        }
    }
}
