//! Programs of one node and channels of another: two engines and a perfect wire between them.

use qnet_ipc::packet::{self, LAZY, Sigevent};

use super::super::meter::tests::Lab;
use super::*;

/// Turns in which everything has long happened.
const TURNS: usize = 200;
/// Channel of this process that stands for a server's.
const CHID: i32 = 1_000_002;

/// A server's channel, with the processes that call it.
pub(super) struct Server {
    listener: Listener,
    desk: usize,
    pub(super) pid: i32,
    pub(super) chid: i32,
}

impl Server {
    /// At joseph.
    fn new(lab: &Lab, chid: i32) -> Self {
        Self::at(lab, 1, chid)
    }

    pub(super) fn at(lab: &Lab, desk: usize, chid: i32) -> Self {
        let address = lab.desks[desk].root.channel(std::process::id().cast_signed(), chid).unwrap();
        Self { listener: Listener::channel(&address).unwrap(), desk, pid: address.pid, chid }
    }

    pub(super) fn accept(&self) -> Option<End<ServerPeer>> {
        self.listener.accept().unwrap().map(|(peer, _)| End::new(peer))
    }

    /// What a caller at the other node says to connect.
    pub(super) fn connect(
        &self,
        lab: &Lab,
        conn: u32,
        flags: u32,
        claim: Option<Claim>,
    ) -> ToServer<'static> {
        let nd = number(lab, 1 - self.desk);
        ToServer::Connect(Connect { conn, nd, pid: self.pid, chid: self.chid, flags, claim })
    }

    /// A caller's process at the other node says its connection 1 to this server: its end, the server's end, and what the
    /// server is asked.
    fn called(&self, lab: &mut Lab) -> (End<ClientPeer>, End<ServerPeer>, Connect) {
        let mut client = lab.desks[1 - self.desk].client();
        client.say(self.connect(lab, 1, 0, process(77)));
        turns(lab);
        let mut end = self.accept().unwrap();
        let ToServer::Connect(asked) = end.hear() else { panic!("no connect") };
        (client, end, asked)
    }
}

fn joseph(lab: &Lab) -> u32 {
    number(lab, 0)
}

/// The number that a node has for the other one.
fn number(lab: &Lab, desk: usize) -> u32 {
    let mut nodes = lab.desks[desk].engine.core().nodes();
    nodes.find(|view| view.nd != NodeId::LOCAL && view.name.as_str() != super::forged::NAME).unwrap().nd.0
}

pub(super) fn turns(lab: &mut Lab) {
    (0..TURNS).for_each(|_| lab.step());
}

pub(super) fn process(pid: i32) -> Option<Claim> {
    Some(Claim { pid, sid: pid, ..Claim::user(1000, 100, vec![]) })
}

#[test]
fn a_process_of_another_node_is_one_client_whatever_its_connections() {
    let mut lab = Lab::new(Some("connect"));
    let server = Server::new(&lab, CHID);
    let mut client = lab.desks[0].client();
    for (conn, pid) in [(1, 77), (2, 77), (3, 78)] {
        client.say(server.connect(&lab, conn, 0, process(pid)));
    }
    turns(&mut lab);
    let (mut one, mut two) = (server.accept().unwrap(), server.accept().unwrap());
    assert!(server.accept().is_none(), "a socket for each process");
    if !matches!(one.hear(), ToServer::Connect(Connect { claim: Some(Claim { pid: 77, .. }), .. })) {
        std::mem::swap(&mut one, &mut two);
        assert!(matches!(two.hear(), ToServer::Connect(_)));
    }
    let ToServer::Connect(second) = one.hear() else { panic!("no connect") };
    assert_eq!(second.claim.map(|claim| (claim.pid, claim.sid, claim.nd != 0)), Some((77, 77, true)));
    // With its last connection it is gone.
    client.say(ToServer::Disconnect { conn: 1 });
    turns(&mut lab);
    one.say(ToClient::ConnectOk { conn: second.conn, scoid: 1, limit: 100 });
    turns(&mut lab);
    client.say(ToServer::Disconnect { conn: 2 });
    turns(&mut lab);
    assert_eq!(lab.desks[1].engine.by_callers.len(), 2, "the first one was never answered");
    drop(client);
    drop((one, two));
    turns(&mut lab);
    assert_eq!(lab.desks[1].engine.by_callers.len(), 0);
}

#[test]
fn a_node_may_have_as_many_callers_as_there_are_descriptors_for_it_and_others_their_share() {
    let mut lab = Lab::new(Some("connect"));
    lab.desks[1].engine.shares.channels_of_node = 600;
    let server = Server::new(&lab, CHID + 2);
    let mut client = lab.desks[0].client();
    let mut ends = Vec::new();
    for pid in 1..=601 {
        client.say(server.connect(&lab, pid, 0, process(pid.cast_signed())));
        lab.step();
    }
    turns(&mut lab);
    while let Some(end) = server.accept() {
        ends.push(end);
    }
    assert_eq!(ends.len(), 600);
    assert_eq!(client.hear(), ToClient::ConnectFail { conn: 601, errno: libc::EAGAIN });
    // One of the node itself is none of them.
    let connect = Connect { conn: 1, nd: 0, pid: server.pid, chid: server.chid, flags: 0, claim: None };
    let mut own = lab.desks[1].client();
    own.say(ToServer::Connect(connect));
    turns(&mut lab);
    assert!(server.accept().is_some());
    // Nor is there more for all together than the share of all.
    lab.desks[1].engine.shares.channels = 601;
    let connect = Connect { conn: 1, nd: 0, pid: server.pid, chid: server.chid, flags: 0, claim: process(9) };
    let mut other = lab.desks[1].client();
    other.say(ToServer::Connect(connect));
    turns(&mut lab);
    assert_eq!(other.hear(), ToClient::ConnectFail { conn: 1, errno: libc::EAGAIN });
}

#[test]
fn a_lazy_connection_brings_its_first_message_along_and_events_come_back() {
    let mut lab = Lab::new(Some("connect"));
    let server = Server::new(&lab, CHID + 1);
    // The first one makes the session.
    let (mut client, mut end, first) = server.called(&mut lab);
    end.say(ToClient::ConnectOk { conn: first.conn, scoid: 1, limit: MAX_DATA as u32 });
    turns(&mut lab);
    assert_eq!(client.hear(), ToClient::ConnectOk { conn: 1, scoid: 1, limit: 8192 });

    client.say(server.connect(&lab, 2, LAZY, process(77)));
    turns(&mut lab);
    assert!(end.hears_nothing() && client.try_hear().is_none());
    client.say(ToServer::Send(send(5, 2, 3), b"abc"));
    turns(&mut lab);
    let ToServer::Connect(Connect { conn, .. }) = end.hear() else { panic!("no connect") };
    end.say(ToClient::ConnectOk { conn, scoid: 1, limit: MAX_DATA as u32 });
    turns(&mut lab);
    let ToServer::Send(seen, b"abc") = end.hear() else { panic!("no message") };
    assert_eq!((seen.conn, seen.coid, seen.srcnd), (conn, 9, joseph(&lab)));
    assert_eq!(seen.flags, packet::info::TELL_RECEIVED);
    assert_eq!(client.hear(), ToClient::ConnectOk { conn: 2, scoid: 1, limit: 8192 });

    let event = Sigevent { notify: 4, id: 3, value: u64::MAX - 7, code: 9, priority: -1 };
    end.say(ToClient::Event { conn, event });
    end.say(ToClient::Reply { txn: seen.txn, status: 1, offset: 0, data: b"" });
    end.say(ToClient::Event { conn: first.conn, event });
    turns(&mut lab);
    let mut told = Vec::new();
    while let Some(packet) = client.try_hear() {
        told.push(format!("{packet:?}"));
    }
    for expected in [
        ToClient::Event { conn: 2, event },
        ToClient::Reply { txn: 5, status: 1, offset: 0, data: b"" },
        ToClient::Event { conn: 1, event },
    ] {
        assert!(told.contains(&format!("{expected:?}")), "{expected:?} is missing in {told:?}");
    }
}

#[test]
fn who_waits_for_a_server_of_another_node_that_dies_is_told_of_a_lost_connection() {
    let mut lab = Lab::new(Some("connect"));
    let server = Server::new(&lab, CHID + 3);
    let (mut client, mut end, asked) = server.called(&mut lab);
    end.say(ToClient::ConnectOk { conn: asked.conn, scoid: 1, limit: MAX_DATA as u32 });
    turns(&mut lab);
    assert_eq!(client.hear(), ToClient::ConnectOk { conn: 1, scoid: 1, limit: 8192 });
    client.say(ToServer::Send(send(5, 1, 1), b"x"));
    client.say(ToServer::Send(send(6, 1, 1), b"y"));
    turns(&mut lab);
    let ToServer::Send(seen, b"x") = end.hear() else { panic!("no message") };
    // What it answers is its own word, whatever it says.
    end.say(ToClient::Error { txn: seen.txn, errno: libc::ESRCH });
    turns(&mut lab);
    assert_eq!(client.hear(), ToClient::Error { txn: 5, errno: libc::ESRCH });
    drop((server, end));
    turns(&mut lab);
    assert_eq!(client.hear(), ToClient::Lost { txn: 6, errno: libc::ESRCH });
    assert_eq!(client.hear(), ToClient::Death { conn: 1 });
    assert_eq!(lab.desks[1].engine.population().2, 0, "it has no calls left");
}

#[test]
fn a_lazy_connection_to_nobody_refuses_its_first_message() {
    let mut lab = Lab::new(Some("connect"));
    let mut client = lab.desks[0].client();
    let (nd, chid) = (joseph(&lab), 1_999_999);
    let connect = Connect { conn: 1, nd, pid: 1, chid, flags: LAZY, claim: None };
    client.say(ToServer::Connect(connect.clone()));
    client.say(ToServer::Send(send(1, 1, 1), b"x"));
    // A node that nobody knows.
    client.say(ToServer::Connect(Connect { conn: 2, nd: 999, ..connect }));
    client.say(ToServer::Send(send(2, 2, 1), b"x"));
    turns(&mut lab);
    assert_eq!(client.hear(), ToClient::ConnectFail { conn: 2, errno: libc::EHOSTUNREACH });
    assert_eq!(client.hear(), ToClient::Error { txn: 2, errno: libc::EBADF });
    assert_eq!(client.hear(), ToClient::Lost { txn: 1, errno: libc::ESRCH });
    assert_eq!(client.hear(), ToClient::ConnectFail { conn: 1, errno: libc::ESRCH });
}

#[test]
fn events_for_a_client_that_reads_nothing_are_lost_and_nothing_else() {
    let mut desk = Desk::new();
    let mut server = desk.server();
    let (mut client, conn) = desk.connected(&mut server);
    // The client's socket and queue fill up with replies that it does not read.
    let data = vec![1; MAX_DATA];
    client.say(ToServer::Send(send(1, 1, 0), b""));
    desk.step();
    let ToServer::Send(Send { txn, .. }, _) = server.hear() else { panic!("no message") };
    for _ in 0..200 {
        server.peer.flush().unwrap();
        server.say(ToClient::Write { txn, offset: 0, data: &data });
        desk.step();
    }
    for value in 0..1000 {
        server.peer.flush().unwrap();
        server.say(ToClient::Event { conn, event: Sigevent { value, ..Sigevent::default() } });
        desk.step();
    }
    assert!(desk.engine.totals().events_lost > 0);
    assert_eq!(desk.engine.totals().clients_dropped, 0);
    assert_eq!(desk.engine.population(), (1, 1, 1), "its call goes on");
}

#[test]
fn a_caller_that_becomes_somebody_else_is_mapped_again_and_its_server_told() {
    use qnet::{Channel, ChannelFlags, MessageInfo, Received};
    let mut lab = Lab::new(Some("connect"));
    let channel = Channel::create(&lab.desks[1].root, ChannelFlags::empty()).unwrap();
    let mut client = lab.desks[0].client();
    let (nd, pid, chid) = (joseph(&lab), channel.pid(), channel.chid());
    client.say(ToServer::Connect(Connect { conn: 1, nd, pid, chid, flags: 0, claim: process(77) }));
    let deadline = || Some(std::time::Instant::now());
    for _ in 0..4 {
        lab.rest();
        assert!(channel.receive(deadline()).is_err(), "nothing was sent");
    }
    lab.rest();
    let mut flags = |lab: &mut Lab, txn| {
        client.say(ToServer::Send(send(txn, 1, 1), b"x"));
        lab.rest();
        let later = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let Received::Message(message) = channel.receive(Some(later)).unwrap() else { panic!("a pulse") };
        let told = (message.info().flags, message.info().pid, message.info().credentials.euid);
        message.reply(0, b"").unwrap();
        lab.rest();
        told
    };
    assert_eq!(flags(&mut lab, 1), (0, 77, 65534));
    // What a node of QNX's says in the middle of a connection.
    let engine = &mut lab.desks[1].engine;
    let id = *engine.by_server.keys().next().unwrap();
    let (ruid, euid) = (2000, 2000);
    let cred = qnet_proto::ClientInfo { nd: 5, pid: 77, ruid, euid, ..qnet_proto::ClientInfo::default() };
    engine.remote_credentials(id, &cred);
    assert_eq!(flags(&mut lab, 2).0, MessageInfo::NET_CRED_DIRTY);
    assert_eq!(flags(&mut lab, 3), (0, 77, 65534), "said once, and the user is mapped as before");
}

#[test]
fn what_a_caller_may_do_changes_with_who_it_is() {
    let mut lab = Lab::new(Some("connect"));
    let server = Server::new(&lab, CHID + 1);
    let (_client, mut end, Connect { conn, .. }) = server.called(&mut lab);
    lab.desks[1].engine.access = crate::access::Access::new(None, Some("1234567"), None).unwrap();
    for (euid, uid, expected) in [(0, 1_234_567, packet::right::ALL), (2000, 65534, 0)] {
        let engine = &mut lab.desks[1].engine;
        let id = *engine.by_server.keys().next().unwrap();
        engine.remote_credentials(id, &qnet_proto::ClientInfo { euid, ..qnet_proto::ClientInfo::default() });
        turns(&mut lab);
        let ToServer::Credentials { conn: told, flags, claim } = end.hear() else { panic!("nobody else") };
        assert_eq!((told, flags, claim.euid), (conn, expected, uid));
    }
}

#[test]
fn messages_say_whose_order_of_bytes_is_another() {
    assert_eq!(super::super::remote::endian(cfg!(target_endian = "big")) & packet::info::ENDIAN_DIFF, 0);
    let other = super::super::remote::endian(cfg!(target_endian = "little"));
    assert_eq!(other & packet::info::ENDIAN_DIFF, packet::info::ENDIAN_DIFF);
}
