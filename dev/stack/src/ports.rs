//! Free ports on 127.0.0.1.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

/// Below the range that systems use for outgoing connections: a port must stay free while the process that
/// listened on it is restarted.
const FIRST: u32 = 15_000;
const COUNT: u32 = 16_000;

/// Ports of one process are adjacent, so that stacks that start at the same moment do not race for one.
const PER_PROCESS: u32 = 32;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port on which nothing listens now, never the same twice in this process.
pub fn free() -> Result<u16> {
    let start = (process::id() * PER_PROCESS) % COUNT;
    for _ in 0..COUNT {
        let offset = (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).context("ports end at 65535")?;
        if is_free(port) {
            return Ok(port);
        }
    }
    anyhow::bail!("every port from {FIRST} to {} is taken", FIRST + COUNT)
}

/// The first free port at or after this one, except this other one.
pub fn free_from(wanted: u16, other: Option<u16>) -> Result<u16> {
    (wanted..=u16::MAX)
        .find(|port| Some(*port) != other && is_free(*port))
        .with_context(|| format!("every port from {wanted} on is taken"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_skipped() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free().unwrap())).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert_ne!(free_from(taken, None).unwrap(), taken);
    }

    #[test]
    fn ports_do_not_repeat() {
        let ports: std::collections::BTreeSet<u16> = (0..20).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 20);
    }
}
