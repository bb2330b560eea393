//! A proxy to a server, whose connections can be cut or stalled, as in a network.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// How much of a stream is forwarded at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Pause after a failed accept, which does not end the proxy.
const ACCEPT_AGAIN: Duration = Duration::from_millis(20);

/// A client of a host that does not answer waits this long for its connection, as clients do.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Forwards TCP connections to a server. Dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// They pass.
    Open,
    /// They stop. Connections stay open, and new ones are accepted, but nobody answers.
    Stalled,
    /// New connections end at once.
    Refused,
    /// The proxy is gone.
    Ended,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    connections: BTreeMap<u64, [TcpStream; 2]>,
    next: u64,
}

impl Proxy {
    /// Listens on a free port and forwards to this port of this machine.
    pub fn start(target_port: u16) -> Result<Self> {
        Self::start_to(SocketAddr::from((Ipv4Addr::LOCALHOST, target_port)))
    }

    /// Listens on a free port and forwards to another address.
    pub fn start_to(target: SocketAddr) -> Result<Self> {
        let port = crate::ports::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("cannot open a proxy")?;
        let state = State { flow: Flow::Open, connections: BTreeMap::new(), next: 0 };
        let shared = Arc::new(Shared { target, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { port, shared })
    }

    /// Where to connect instead of to the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection. New ones pass.
    pub fn cut(&self) -> usize {
        self.shared.cut()
    }

    /// Cuts every connection, and ends new ones at once until [`Proxy::open`].
    pub fn refuse(&self) {
        self.shared.turn(Flow::Refused);
        self.shared.cut();
    }

    /// Lets nothing through until [`Proxy::open`]; neither side notices.
    pub fn stall(&self) {
        self.shared.turn(Flow::Stalled);
    }

    /// Lets everything through again, including what was held back.
    pub fn open(&self) {
        self.shared.turn(Flow::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.turn(Flow::Ended);
        self.shared.cut();
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, flow: Flow) {
        self.lock().flow = flow;
        self.changed.notify_all();
    }

    fn cut(&self) -> usize {
        let cut = std::mem::take(&mut self.lock().connections);
        for stream in cut.values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the threads that wait for the flow.
        self.changed.notify_all();
        cut.len()
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        loop {
            let Ok((client, _)) = listener.accept() else {
                thread::sleep(ACCEPT_AGAIN);
                continue;
            };
            match self.lock().flow {
                Flow::Ended => return,
                Flow::Refused => continue,
                Flow::Open | Flow::Stalled => {}
            }
            // On a thread of its own: a host that has left the network does not even refuse.
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.forward(client));
        }
    }

    fn forward(self: Arc<Self>, client: TcpStream) {
        // A server that is down refuses at once: the client is dropped, as it would be without the proxy.
        if let Ok(server) = TcpStream::connect_timeout(&self.target, CONNECT_WITHIN)
            && matches!(self.lock().flow, Flow::Open | Flow::Stalled)
        {
            let _ = self.join(client, server);
        }
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_again, server_again) = (client.try_clone()?, server.try_clone()?);
        let kept = [client.try_clone()?, server.try_clone()?];
        let id = {
            let mut state = self.lock();
            state.next += 1;
            let id = state.next;
            state.connections.insert(id, kept);
            id
        };
        for (from, to) in [(client, server), (server_again, client_again)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(id, from, to));
        }
        Ok(())
    }

    /// Forwards in one direction until either side ends; then ends both.
    fn pump(&self, id: u64, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            self.wait_for_flow(id);
            let Some(bytes) = chunk.get(..read) else { break };
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        // A stalled proxy does not forward the end of a connection either.
        self.wait_for_flow(id);
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.lock().connections.remove(&id);
    }

    /// Waits while nothing may pass, but not for a connection that has been cut.
    fn wait_for_flow(&self, id: u64) {
        let stalled = |state: &mut State| state.flow == Flow::Stalled && state.connections.contains_key(&id);
        let waited = self.changed.wait_while(self.lock(), stalled);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
