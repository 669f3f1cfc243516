//! The server against polite, silent and hostile clients on real sockets.
//!
//! The tests turn the server by hand, one step a turn as the loop does under load, so none of them depends on time:
//! what is asserted is the number of turns that something takes, or that it comes to an end.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use mio::{Events, Poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::*;

struct Server {
    _dir: tempfile::TempDir,
    poll: Poll,
    control: Control,
    path: PathBuf,
}

impl Server {
    fn start() -> Self {
        // Both ends of every connection are ours, and tests run side by side: more than an ordinary user's soft limit.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(16 * MAX_CLIENTS as u64), hard).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("io-pkt0.sock");
        let poll = Poll::new().unwrap();
        let control = Control::bind(&path, poll.registry()).unwrap();
        Self { _dir: dir, poll, control, path }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// One turn of a loop.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(256);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        for event in &events {
            let address = Address::of(event.token()).unwrap();
            self.control.on_event(address, event.is_readable(), event.is_writable());
        }
        self.control.step(|request| Answer::Now(Outcome::Ok(format!("{:?}", request.command).into())));
    }

    /// Turns until `client` has a line or its end; `None` is the end.
    fn read_line(&mut self, client: &mut UnixStream) -> Option<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut text = Vec::new();
        while Instant::now() < deadline {
            self.turn();
            let mut byte = [0];
            loop {
                match client.read(&mut byte) {
                    Ok(0) => return None,
                    Ok(_) if byte[0] == b'\n' => return Some(String::from_utf8(text).unwrap()),
                    Ok(_) => text.push(byte[0]),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return None,
                }
            }
        }
        panic!("no answer: {:?}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn requests_of_one_connection_are_answered_in_order() {
    let mut server = Server::start();
    let mut client = server.connect();
    client
        .write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ping\"}\n{\"v\":1,\"id\":2,\"cmd\":\"modules\"}\n{\"v\":1,")
        .unwrap();
    assert_eq!(server.read_line(&mut client).unwrap(), r#"{"v":1,"id":1,"ok":"Ping"}"#);
    assert_eq!(server.read_line(&mut client).unwrap(), r#"{"v":1,"id":2,"ok":"Modules"}"#);
    client.write_all(b"\"id\":3,\"cmd\":\"counters\"}\n").unwrap();
    assert_eq!(server.read_line(&mut client).unwrap(), r#"{"v":1,"id":3,"ok":"Counters"}"#);
}

#[test]
fn garbage_gets_an_error_with_the_id_if_there_is_one() {
    let mut server = Server::start();
    let mut client = server.connect();
    for (line, id) in [
        (&b"\n"[..], 0),
        (b"hello\n", 0),
        (b"\xff\xfe\0\n", 0),
        (b"[[[[[[[[[[\n", 0),
        (b"{\"v\":1,\"id\":5,\"cmd\":\"explode\"}\n", 5),
        (b"{\"v\":2,\"id\":6,\"cmd\":\"ping\"}\n", 6),
    ] {
        client.write_all(line).unwrap();
        let answer = server.read_line(&mut client).unwrap();
        assert!(answer.starts_with(&format!("{{\"v\":1,\"id\":{id},\"error\":")), "{answer}");
    }
}

#[test]
fn a_line_without_end_is_refused_and_closed() {
    let mut server = Server::start();
    let mut client = server.connect();
    let piece = [b'x'; 4096];
    let mut answer = None;
    for _ in 0..1000 {
        // The server stops reading after its limit, so writing stops as well.
        let _ = client.write(&piece);
        server.turn();
        let mut room = [0; 512];
        match client.read(&mut room) {
            Ok(n) => {
                answer = Some(String::from_utf8_lossy(&room[..n]).into_owned());
                break;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => panic!("{e}"),
        }
    }
    assert!(answer.unwrap().contains("EMSGSIZE"));
    while !server.control.is_empty() {
        server.turn();
    }
}

#[test]
fn five_hundred_silent_clients_do_not_hinder_the_next() {
    let mut server = Server::start();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(server.connect());
        server.turn();
    }
    silent[3].write_all(b"half a li").unwrap();
    let mut client = server.connect();
    client.write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ping\"}\n").unwrap();
    assert_eq!(server.read_line(&mut client).unwrap(), r#"{"v":1,"id":1,"ok":"Ping"}"#);
    assert_eq!(server.control.len(), 501);
    for _ in 0..2000 {
        server.turn();
    }
    assert!(!server.control.has_work(), "silent clients cost nothing");
}

#[test]
fn the_one_silent_longest_makes_room_for_a_newcomer() {
    let mut server = Server::start();
    let mut clients = Vec::new();
    for _ in 0..MAX_CLIENTS {
        clients.push(server.connect());
        server.turn();
    }
    while server.control.len() < MAX_CLIENTS {
        server.turn();
    }
    // The first of all has something to say meanwhile.
    clients[0].write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ping\"}\n").unwrap();
    assert!(server.read_line(&mut clients[0]).is_some());
    let mut newcomer = server.connect();
    newcomer.write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ping\"}\n").unwrap();
    assert!(server.read_line(&mut newcomer).is_some());
    assert_eq!(server.control.len(), MAX_CLIENTS);
    assert_eq!(server.read_line(&mut clients[1]), None, "the second one was silent longest");
    clients[0].write_all(b"{\"v\":1,\"id\":2,\"cmd\":\"ping\"}\n").unwrap();
    assert!(server.read_line(&mut clients[0]).is_some());
}

#[test]
fn strangers_make_room_before_the_owner() {
    let mut server = Server::start();
    let mut clients = Vec::new();
    while server.control.len() < MAX_CLIENTS {
        clients.push(server.connect());
        server.turn();
    }
    for (_, client) in server.control.clients.iter_mut().skip(1) {
        client.may_change = false;
    }
    let mut newcomer = server.connect();
    newcomer.write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ping\"}\n").unwrap();
    assert!(server.read_line(&mut newcomer).is_some());
    assert_eq!(server.read_line(&mut clients[1]), None, "the stranger who was silent longest");
    clients[0].write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ping\"}\n").unwrap();
    assert!(server.read_line(&mut clients[0]).is_some(), "the owner, silent for longer, is still there");
}

#[test]
fn a_client_that_never_reads_is_not_served_further() {
    let mut server = Server::start();
    let mut client = server.connect();
    let request = b"{\"v\":1,\"id\":1,\"cmd\":\"report\",\"protocol\":\"x\"}\n".repeat(100);
    let mut idle = 0;
    for _ in 0..200_000 {
        let blocked = client.write(&request).is_err();
        server.turn();
        idle = if blocked && !server.control.has_work() { idle + 1 } else { 0 };
        if idle > 10 {
            return;
        }
    }
    panic!("the server goes on serving a client that does not read");
}

#[test]
fn leaving_in_the_middle_frees_the_place() {
    let mut server = Server::start();
    for _ in 0..50 {
        let mut client = server.connect();
        client.write_all(b"{\"v\":1,\"id\":1,\"cmd\":\"ping\"}\nhalf").unwrap();
        server.turn();
        drop(client);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.control.is_empty() {
        assert!(Instant::now() < deadline, "{} are left", server.control.len());
        server.turn();
    }
}

#[test]
fn the_socket_goes_with_the_server() {
    let server = Server::start();
    let path = server.path.clone();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    drop(server.control);
    assert!(!path.exists());
}
