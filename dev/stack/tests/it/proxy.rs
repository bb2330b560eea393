//! A proxy whose connections are cut and stalled.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use stack::Proxy;

/// Nothing may arrive within this time, which is long compared to the way through the proxy.
const NOTHING_WITHIN: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(10);

/// A server that sends back what it gets.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn answer(stream: &mut TcpStream, sent: &[u8]) -> Vec<u8> {
    stream.write_all(sent).unwrap();
    let mut answer = vec![0; sent.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn has_ended(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn a_stalled_proxy_holds_everything_back_and_loses_nothing() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(answer(&mut stream, b"one"), b"one");

    proxy.stall();
    stream.write_all(b"two").unwrap();
    stream.set_read_timeout(Some(NOTHING_WITHIN)).unwrap();
    let mut byte = [0];
    assert!(stream.read(&mut byte).is_err(), "something came through");

    proxy.open();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"two");
}

#[test]
fn a_cut_ends_open_connections_and_lets_new_ones_pass() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(answer(&mut stream, b"one"), b"one");
    assert_eq!(proxy.cut(), 1);
    assert!(has_ended(&mut stream));
    assert_eq!(answer(&mut connect(&proxy), b"two"), b"two");
}

#[test]
fn a_refusing_proxy_ends_connections_until_it_opens_again() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(answer(&mut stream, b"one"), b"one");
    proxy.refuse();
    assert!(has_ended(&mut stream) && has_ended(&mut connect(&proxy)));
    proxy.open();
    assert_eq!(answer(&mut connect(&proxy), b"two"), b"two");
}

#[test]
fn a_connection_that_is_cut_while_stalled_ends() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(answer(&mut stream, b"one"), b"one");
    proxy.stall();
    stream.write_all(b"two").unwrap();
    proxy.refuse();
    assert!(has_ended(&mut stream));
}
