//! Bounds how long a connection to the database waits for a host that has left the network.
//!
//! Such a host closes no connection. Without keep-alive, a query that it had received waits for ever, and one that it had not
//! received for a quarter of an hour: the loop that sent it stands still, and so does its place in the pool. sqlx has no
//! setting for that, so the sockets are found in `/proc` and set here.

#[cfg(target_os = "linux")]
mod linux {
    use std::{collections::HashSet, fs, os::fd::RawFd, path::PathBuf};

    use nix_by_descriptor::{
        Result,
        sys::socket::{SockaddrStorage, getpeername, setsockopt, sockopt},
    };

    /// A silent connection is probed from then on, this often, and given up after this many probes: 19 seconds.
    const IDLE_SECONDS: u32 = 10;
    const PROBE_SECONDS: u32 = 3;
    const PROBES: u32 = 3;

    /// What was sent must be acknowledged within this time. A busy server acknowledges at once: its kernel does.
    const UNACKNOWLEDGED_MS_MAX: u32 = 20_000;

    /// The sockets that have been seen, by inode.
    #[derive(Debug, Default)]
    pub struct Seen(HashSet<PathBuf>);

    /// Sets the bounds on each new connection of this process to this port. Returns how many there were.
    pub fn bound_new(seen: &mut Seen, port: u16) -> usize {
        let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return 0 };
        let open = descriptors.flatten().filter_map(|entry| {
            let descriptor: RawFd = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            target.to_str()?.starts_with("socket:").then_some((descriptor, target))
        });
        let (mut still_open, mut bounded) = (HashSet::new(), 0);
        for (descriptor, socket) in open {
            // A descriptor that was closed meanwhile belongs to another connection of ours, or to none.
            if !seen.0.contains(&socket) && peer_port(descriptor) == Some(port) && bound(descriptor).is_ok() {
                bounded += 1;
            }
            still_open.insert(socket);
        }
        seen.0 = still_open;
        bounded
    }

    fn peer_port(descriptor: RawFd) -> Option<u16> {
        let peer = getpeername::<SockaddrStorage>(descriptor).ok()?;
        let port = peer.as_sockaddr_in().map(|address| address.port());
        port.or_else(|| peer.as_sockaddr_in6().map(|address| address.port()))
    }

    fn bound(descriptor: RawFd) -> Result<()> {
        setsockopt(descriptor, sockopt::KeepAlive, &true)?;
        setsockopt(descriptor, sockopt::TcpKeepIdle, &IDLE_SECONDS)?;
        setsockopt(descriptor, sockopt::TcpKeepInterval, &PROBE_SECONDS)?;
        setsockopt(descriptor, sockopt::TcpKeepCount, &PROBES)?;
        setsockopt(descriptor, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS_MAX)
    }

    #[cfg(test)]
    mod tests {
        use std::{
            net::{TcpListener, TcpStream},
            os::fd::AsRawFd,
        };

        use nix_by_descriptor::sys::socket::getsockopt;

        use super::*;

        #[test]
        fn each_connection_to_the_database_is_bounded_once_and_no_other() {
            let (database, other) =
                (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
            let to_database = TcpStream::connect(database.local_addr().unwrap()).unwrap();
            let to_other = TcpStream::connect(other.local_addr().unwrap()).unwrap();
            let (mut seen, port) = (Seen::default(), database.local_addr().unwrap().port());
            assert_eq!(bound_new(&mut seen, port), 1);
            assert_eq!(bound_new(&mut seen, port), 0);
            let waits = |stream: &TcpStream| getsockopt(stream.as_raw_fd(), sockopt::TcpUserTimeout).unwrap();
            assert_eq!((waits(&to_database), waits(&to_other)), (UNACKNOWLEDGED_MS_MAX, 0));
            assert!(getsockopt(to_database.as_raw_fd(), sockopt::KeepAlive).unwrap());

            let again = TcpStream::connect(database.local_addr().unwrap()).unwrap();
            assert_eq!(bound_new(&mut seen, port), 1);
            assert_eq!(waits(&again), UNACKNOWLEDGED_MS_MAX);
        }
    }
}

/// Interval for finding new connections.
#[cfg(target_os = "linux")]
const ROUND_INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);

/// Sets the bounds on connections to this port until `shutdown`.
#[cfg(target_os = "linux")]
pub async fn keep(port: u16, shutdown: tokio_util::sync::CancellationToken) {
    let (mut rounds, mut seen) = (crate::Rounds::new(ROUND_INTERVAL, shutdown), linux::Seen::default());
    while rounds.next().await {
        linux::bound_new(&mut seen, port);
    }
}

/// Elsewhere, services run for development only.
#[cfg(not(target_os = "linux"))]
pub async fn keep(_port: u16, shutdown: tokio_util::sync::CancellationToken) {
    shutdown.cancelled().await;
}
