//! The engine alone, one step at a time: programs at `qnet.sock`, the node's server at the end of a socket pair.

mod forged;
mod long;
mod model;
mod remote;

use std::cell::RefCell;

use qnet_iomsg::netmgr::{self, Request};
use qnet_ipc::{
    Claim, ClientPeer, MAX_DATA, ServerPeer, ToClient, ToServer, connect_path, packet,
    packet::{Connect, Pulse, Send, right},
};
use qnet_proto::{Domain, NodeName};

use super::*;

/// Watches nothing: a step asks every socket.
#[derive(Default)]
struct Everything(Rc<RefCell<BTreeSet<Token>>>);

struct One(Rc<RefCell<BTreeSet<Token>>>, Token);

impl Watcher for Everything {
    fn watch(&self, _: BorrowedFd<'_>, token: Token) -> Result<Box<dyn Watched>, Error> {
        self.0.borrow_mut().insert(token);
        Ok(Box::new(One(Rc::clone(&self.0), token)))
    }
}

impl Watched for One {
    fn set_writing(&self, _: bool) {}
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.borrow_mut().remove(&self.1);
    }
}

/// An engine on a desk, with its root in a directory of its own.
pub(super) struct Desk {
    pub(super) engine: Engine,
    tokens: Rc<RefCell<BTreeSet<Token>>>,
    root: Root,
    _directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self::of("alonzo", None)
    }

    /// A node of that name that allows remote callers so much.
    pub(super) fn of(name: &str, allow: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path()).unwrap();
        let name = NodeName::new(name).unwrap();
        let config = Config::new(name, Domain::new("lab.example").unwrap(), 1, 1);
        let watcher = Everything::default();
        let tokens = Rc::clone(&watcher.0);
        let access = Access::new(None, None, allow).unwrap();
        let net = "/net".to_owned();
        let setup =
            Setup { config, root: root.clone(), nets: vec![net], access, verbosity: Verbosity::default() };
        let mut engine = Engine::new(setup, Rc::new(watcher), 0);
        engine.listen().unwrap();
        Self { engine, tokens, root, _directory: directory }
    }

    pub(super) fn step(&mut self) {
        let tokens = self.tokens.borrow().clone();
        for token in tokens {
            self.engine.on_ready(token);
        }
        self.engine.pump();
    }

    pub(super) fn client(&mut self) -> End<ClientPeer> {
        End::new(connect_path(&self.root.qnet_socket()).unwrap().0)
    }

    /// Gives the node a server.
    fn server(&mut self) -> End<ServerPeer> {
        let (peer, socket) = qnet_ipc::pair().unwrap();
        self.engine.set_server(peer).unwrap();
        End::new(ServerPeer::new(socket).unwrap())
    }

    /// A client with an open connection (number 1) to the node's server, and the engine's number of it.
    fn connected(&mut self, server: &mut End<ServerPeer>) -> (End<ClientPeer>, u32) {
        let mut client = self.client();
        client.say(connect(1, None));
        self.step();
        let ToServer::Connect(seen) = server.hear() else { panic!("no connect") };
        server.say(ToClient::ConnectOk { conn: seen.conn, scoid: 5, limit: 4096 });
        self.step();
        assert_eq!(client.hear(), ToClient::ConnectOk { conn: 1, scoid: 5, limit: 4096 });
        (client, seen.conn)
    }
}

/// The test's end of a socket.
pub(super) struct End<P> {
    peer: P,
    buffer: ReceiveBuffer,
}

impl<P> End<P> {
    fn new(peer: P) -> Self {
        Self { peer, buffer: ReceiveBuffer::new() }
    }
}

impl End<ClientPeer> {
    pub(super) fn say(&mut self, packet: ToServer<'_>) {
        self.peer.send(&packet).unwrap();
    }
    pub(super) fn hear(&mut self) -> ToClient<'_> {
        self.peer.recv(&mut self.buffer).unwrap().expect("the engine said nothing")
    }
    pub(super) fn try_hear(&mut self) -> Option<ToClient<'_>> {
        self.peer.recv(&mut self.buffer).unwrap()
    }
    fn is_closed(&mut self) -> bool {
        self.peer.recv(&mut self.buffer).is_err()
    }
}

impl End<ServerPeer> {
    fn say(&mut self, packet: ToClient<'_>) {
        self.peer.send(&packet).unwrap();
    }
    fn hear(&mut self) -> ToServer<'_> {
        self.peer.recv(&mut self.buffer).unwrap().expect("the engine said nothing")
    }
    fn hears_nothing(&mut self) -> bool {
        self.peer.recv(&mut self.buffer).unwrap().is_none()
    }
}

/// To the node's server.
fn connect(conn: u32, claim: Option<Claim>) -> ToServer<'static> {
    ToServer::Connect(Connect { conn, nd: 0, pid: 1, chid: 1, flags: 0, claim })
}

pub(super) fn send(txn: u32, conn: u32, len: u32) -> Send {
    Send { txn, conn, tid: 1, coid: 9, priority: 10, srcmsglen: len, dstmsglen: 1 << 20, ..Send::default() }
}

#[test]
fn a_call_to_the_nodes_own_server_passes_with_reads_and_a_long_reply() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut client, conn) = desk.connected(&mut server);

    client.say(ToServer::Send(send(77, 1, 10), b"0123"));
    desk.step();
    let ToServer::Send(seen, b"0123") = server.hear() else { panic!("no message") };
    assert_eq!(Send { txn: 77, conn: 1, ..seen }, send(77, 1, 10));
    assert_eq!(seen.conn, conn);
    let txn = seen.txn;

    server.say(ToClient::Read { txn, offset: 4, nbytes: 100 });
    desk.step();
    assert_eq!(client.hear(), ToClient::Read { txn: 77, offset: 4, nbytes: 100 });
    client.say(ToServer::ReadData { txn: 77, offset: 4, data: b"456789" });
    desk.step();
    assert_eq!(server.hear(), ToServer::ReadData { txn, offset: 4, data: b"456789" });

    let data = vec![3; MAX_DATA];
    server.say(ToClient::Write { txn, offset: 0, data: &data });
    server.say(ToClient::Reply { txn, status: -1, offset: MAX_DATA as u32, data: b"end" });
    desk.step();
    assert_eq!(client.hear(), ToClient::Write { txn: 77, offset: 0, data: &data });
    let end = ToClient::Reply { txn: 77, status: -1, offset: MAX_DATA as u32, data: b"end" };
    assert_eq!(client.hear(), end);
    assert_eq!(desk.engine.population(), (1, 1, 0));
}

#[test]
fn the_server_learns_who_calls_and_a_claim_of_the_owner_is_believed() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let mut client = desk.client();
    client.say(connect(1, None));
    let other = Claim { pid: 4242, ..Claim::user(1234, 100, vec![5]) };
    client.say(connect(2, Some(other.clone())));
    desk.step();
    let ToServer::Connect(own) = server.hear() else { panic!("no connect") };
    let uid = nix::unistd::geteuid().as_raw();
    assert_eq!(own.claim.map(|claim| (claim.euid, claim.pid)), Some((uid, std::process::id().cast_signed())));
    let ToServer::Connect(claimed) = server.hear() else { panic!("no connect") };
    assert_eq!(claimed.claim, Some(other));
    assert_eq!(claimed.flags, right::ALL, "callers of this node are not held back");
}

#[test]
fn callers_are_told_when_the_server_dies_and_connect_again_when_it_is_back() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut client, _) = desk.connected(&mut server);
    client.say(ToServer::Send(send(3, 1, 1), b"x"));
    client.say(connect(2, None));
    desk.step();
    drop(server);
    desk.step();
    let mut told = Vec::new();
    while let Ok(Some(packet)) = client.peer.recv(&mut client.buffer) {
        told.push(format!("{packet:?}"));
    }
    for expected in [
        ToClient::Lost { txn: 3, errno: libc::ESRCH },
        ToClient::Death { conn: 1 },
        ToClient::ConnectFail { conn: 2, errno: libc::ESRCH },
    ] {
        assert!(told.contains(&format!("{expected:?}")), "{expected:?} is missing in {told:?}");
    }
    client.say(connect(1, None));
    client.say(ToServer::Send(send(4, 1, 1), b"x"));
    desk.step();
    assert_eq!(client.hear(), ToClient::ConnectFail { conn: 1, errno: libc::ESRCH });
    assert_eq!(client.hear(), ToClient::Error { txn: 4, errno: libc::EBADF });

    let mut server = desk.server();
    client.say(connect(1, None));
    desk.step();
    assert!(matches!(server.hear(), ToServer::Connect(_)));
    assert_eq!(desk.engine.population(), (1, 1, 0));
}

#[test]
fn a_client_that_leaves_is_told_to_the_server() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut client, conn) = desk.connected(&mut server);
    client.say(ToServer::Pulse(Pulse { conn: 1, code: 3, priority: 9, value: 8 }));
    client.say(ToServer::Send(send(1, 1, 0), b""));
    desk.step();
    assert_eq!(server.hear(), ToServer::Pulse(Pulse { conn, code: 3, priority: 9, value: 8 }));
    let ToServer::Send(Send { txn, .. }, _) = server.hear() else { panic!("no message") };
    client.say(ToServer::Unblock { txn: 1, tid: 1 });
    desk.step();
    assert_eq!(server.hear(), ToServer::Unblock { txn, tid: 1 });
    drop(client);
    desk.step();
    assert_eq!(server.hear(), ToServer::Disconnect { conn });
    server.say(ToClient::Reply { txn, status: 0, offset: 0, data: b"" });
    desk.step();
    assert_eq!(desk.engine.population(), (0, 0, 0));
}

#[test]
fn a_server_cannot_answer_for_another_one() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut client, conn) = desk.connected(&mut server);
    client.say(ToServer::Send(send(1, 1, 1), b"x"));
    desk.step();
    let ToServer::Send(Send { txn, .. }, _) = server.hear() else { panic!("no message") };

    let address = desk.root.channel(std::process::id().cast_signed(), 1_000_001).unwrap();
    let listener = Listener::channel(&address).unwrap();
    let mut rogue_client = desk.client();
    let (pid, chid) = (address.pid, address.chid);
    rogue_client.say(ToServer::Connect(Connect { conn: 1, nd: 0, pid, chid, flags: 0, claim: None }));
    desk.step();
    let mut rogue = End::new(listener.accept().unwrap().unwrap().0);
    assert!(matches!(rogue.hear(), ToServer::Connect(_)));
    rogue.say(ToClient::Reply { txn, status: 666, offset: 0, data: b"forged" });
    rogue.say(ToClient::Death { conn });
    rogue.say(ToClient::Error { txn, errno: 1 });
    rogue.say(ToClient::Event { conn, event: packet::Sigevent::default() });
    desk.step();
    assert!(client.peer.recv(&mut client.buffer).unwrap().is_none());
    server.say(ToClient::Reply { txn, status: 1, offset: 0, data: b"true" });
    desk.step();
    assert_eq!(client.hear(), ToClient::Reply { txn: 1, status: 1, offset: 0, data: b"true" });
}

#[test]
fn a_client_that_breaks_the_rules_hurts_nobody_else() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut good, _) = desk.connected(&mut server);
    let (mut bad, _) = desk.connected(&mut server);
    bad.say(ToServer::Send(send(1, 1, 1), b"x"));
    bad.say(ToServer::Send(send(1, 1, 1), b"x"));
    desk.step();
    assert!(matches!(server.hear(), ToServer::Send(..)));
    assert!(matches!(server.hear(), ToServer::Disconnect { .. }));
    assert!(bad.is_closed());
    good.say(ToServer::Disconnect { conn: 99 });
    good.say(ToServer::ReadData { txn: 99, offset: 0, data: b"late" });
    good.say(ToServer::Send(send(1, 1, 1), b"x"));
    desk.step();
    assert!(matches!(server.hear(), ToServer::Send(..)));
    assert!(server.hears_nothing());
    assert_eq!(desk.engine.totals().clients_dropped, 1);
}

#[test]
fn a_second_qnet_on_the_node_is_refused() {
    let desk = Desk::new();
    let config = Config::new(NodeName::new("other").unwrap(), Domain::default(), 2, 2);
    let access = Access::new(None, None, None).unwrap();
    let setup = Setup {
        config,
        root: desk.root.clone(),
        nets: vec![String::new()],
        access,
        verbosity: Verbosity::default(),
    };
    let mut second = Engine::new(setup, Rc::new(Everything::default()), 0);
    let error = second.listen().unwrap_err();
    assert_eq!(error.errno(), libc::EBUSY);
    assert!(error.text().contains("one per node"), "{error}");
}

/// Asks the network manager.
fn ask(desk: &mut Desk, message: &[u8]) -> Result<(i64, Vec<u8>), i32> {
    let mut client = desk.client();
    client.say(ToServer::Connect(Connect { conn: 1, nd: 0, pid: 0, chid: 0, flags: 0, claim: None }));
    client.say(ToServer::Send(send(1, 1, message.len() as u32), message));
    desk.step();
    assert!(matches!(client.hear(), ToClient::ConnectOk { .. }));
    match client.hear() {
        ToClient::Reply { status, data, .. } => Ok((status, data.to_vec())),
        ToClient::Error { errno, .. } => Err(errno),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_network_manager_knows_its_own_node_under_every_spelling() {
    let mut desk = Desk::new();
    for (name, rest) in [
        ("alonzo", ""),
        ("ALONZO", "/dev/ser1"),
        ("alonzo.lab.example", "/"),
        ("alonzo~loadbalance", "/etc"),
        ("/net/alonzo", ""),
        ("/net/alonzo.lab.example~loadbalance", "/dev/name/local/x~y"),
    ] {
        let request = Request::Strtond { name: [name, rest].concat().as_bytes() }.emit().unwrap();
        let used = (name.len() as u32).to_le_bytes().to_vec();
        assert_eq!(ask(&mut desk, &request), Ok((0, used)), "{name}{rest}");
    }
    for name in ["alonzo~", "alonzo~redundant", "alonzo~exclusive", "alonzo~preferred:"] {
        let request = Request::Strtond { name: name.as_bytes() }.emit().unwrap();
        assert_eq!(ask(&mut desk, &request), Err(libc::EINVAL), "{name}");
    }
    let request = Request::Ndtostr { flags: 0, nd: 7 << 16 }.emit().unwrap();
    assert_eq!(ask(&mut desk, &request), Err(libc::ENOENT), "a policy nobody asked for");
    let request = Request::QosFlush { nd: 0 }.emit().unwrap();
    assert_eq!(ask(&mut desk, &request), Ok((0, Vec::new())));
    let request = Request::Strtond { name: b"/no/alonzo" }.emit().unwrap();
    assert_eq!(ask(&mut desk, &request), Err(libc::ENOENT));
    let request = Request::Ndtostr { flags: 0, nd: 0 }.emit().unwrap();
    assert_eq!(ask(&mut desk, &request), Ok((18, b"alonzo.lab.example".to_vec())));
    let request = Request::Ndtostr { flags: 0, nd: 99 }.emit().unwrap();
    assert_eq!(ask(&mut desk, &request), Err(libc::ENOENT));

    let (_, data) = ask(&mut desk, &Request::Nodes.emit().unwrap()).unwrap();
    let nodes = netmgr::nodes(&data).unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].nd, nodes[0].name, nodes[0].domain), (0, &b"alonzo"[..], &b"lab.example"[..]));
    assert!(ask(&mut desk, b"nonsense").is_err());
}

#[test]
fn channels_of_unknown_nodes_and_processes_are_refused() {
    let mut desk = Desk::new();
    let mut client = desk.client();
    let pid = std::process::id().cast_signed();
    for (conn, nd, chid, errno) in [(1, 0, 1_000_002, libc::ESRCH), (2, 77, 1, libc::EHOSTUNREACH)] {
        client.say(ToServer::Connect(Connect { conn, nd, pid, chid, flags: 0, claim: None }));
        desk.step();
        assert_eq!(client.hear(), ToClient::ConnectFail { conn, errno });
    }
    assert_eq!(desk.engine.population(), (1, 0, 0));
}

#[test]
fn a_client_that_does_not_read_is_dropped_before_it_fills_the_memory() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut good, _) = desk.connected(&mut server);
    let (bad, _) = desk.connected(&mut server);
    let mut bad = bad;
    let data = vec![0; MAX_DATA];
    bad.say(ToServer::Send(send(1, 1, 1), b"x"));
    desk.step();
    let ToServer::Send(Send { txn, .. }, _) = server.hear() else { panic!("no message") };
    // More than any client may leave lying about.
    for _ in 0..1100 {
        while server.peer.send(&ToClient::Write { txn, offset: 0, data: &data }).is_err()
            || server.peer.wants_write()
        {
            desk.step();
            server.peer.flush().unwrap();
        }
        if desk.engine.totals().clients_dropped > 0 {
            break;
        }
        desk.step();
    }
    assert_eq!(desk.engine.totals().clients_dropped, 1);
    good.say(ToServer::Send(send(1, 1, 1), b"x"));
    desk.step();
    let mut heard = false;
    while let Some(packet) = server.peer.recv(&mut server.buffer).unwrap() {
        heard |= matches!(packet, ToServer::Send(..));
    }
    assert!(heard, "the other client is served");
}

#[test]
fn a_busy_cpu_ends_the_looking_and_whoever_is_not_looked_at_rings() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut client, conn) = desk.connected(&mut server);
    let attentive = (1..1000).find(|txn| {
        client.say(ToServer::Send(send(*txn, 1, 1), b"x"));
        desk.step();
        let ToServer::Send(Send { txn: seen, .. }, _) = server.hear() else { panic!("no message") };
        server.say(ToClient::Reply { txn: seen, status: 0, offset: 0, data: b"" });
        desk.step();
        assert_eq!(client.hear(), ToClient::Reply { txn: *txn, status: 0, offset: 0, data: b"" });
        server.hears_nothing();
        desk.engine.is_attentive() && server.peer.uses_ring() && client.peer.uses_ring()
    });
    assert!(attentive.is_some());
    desk.engine.yielded(1000);
    assert!(desk.engine.is_attentive() && desk.engine.has_more(), "the CPU has time");
    desk.engine.yielded(3_000_000);
    assert!(!desk.engine.is_attentive() && !desk.engine.has_more());
    server.say(ToClient::Event { conn, event: packet::Sigevent::default() });
    let token = desk.engine.server.unwrap();
    let socket = &desk.engine.channels[&token].peer;
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(1), "the bell");
}
