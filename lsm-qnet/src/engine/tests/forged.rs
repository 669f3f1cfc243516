//! A node with a session of its own that speaks of what is not its own: connections, messages, reads and events of other
//! nodes and of this node's programs, old numbers, processes that do not exist, lengths that are lies.
//!
//! It guesses right: every number that the node has given away is tried, with every message that has room for one, in both
//! byte orders. Beside it go on a call from alonzo to barbara and one from barbara to alonzo; all this is told to barbara.

use std::collections::BTreeSet;

use qnet_ipc::packet::Sigevent;
use qnet_proto::wire::{
    Order,
    kif::{self, Kif, MAX_HEAD, MsgSend, Xfer},
    lwl4::{HEADER, Header, Kind, Layer, Packet},
    tcs::Tcs,
};
use qnet_proto::{ClientInfo, Holdings, LinkAddr, PulseInfo, ServerId, VtidInfo};

use super::super::meter::tests::Lab;
use super::remote::{Server, process, turns};
use super::*;

/// The one that forges.
pub(super) const NAME: &str = "mallory";
/// Channels of this process that stand for servers'.
const CHIDS: [i32; 2] = [1_000_010, 1_000_011];
/// Length of the honest messages; the servers read what did not come at first.
const LEN: usize = 20_000;
/// Numbers of the core's tables are a place and, above these bits, how often it was used.
const PLACE_BITS: u32 = 18;

/// Its end of the wire.
struct Forger {
    addr: LinkAddr,
    session: Header,
    seq: u32,
    /// What it was answered, by kind.
    answers: BTreeSet<String>,
    answered: u64,
}

impl Forger {
    /// Calls barbara.
    fn new(lab: &mut Lab, order: Order) -> Self {
        let addr = LinkAddr::mac([2, 0, 0, 0, 0, 66]);
        lab.third = Some((addr, Vec::new()));
        let session = Header { order, sconn: 4711, ..Header::new(Kind::User, Layer::Kif) };
        let mut forger = Self { addr, session, seq: 0, answers: BTreeSet::new(), answered: 0 };
        let (dst_name, domain) = ("barbara", "lab.example");
        let tcs = Tcs { src_name: NAME, src_domain: domain, dst_name, dst_domain: domain, extensions: None };
        let mut body = [0; 200];
        let len = tcs.emit(&mut body, order).unwrap();
        forger.say(lab, Header { kind: Kind::TcsInit, ..session }, &body[..len]);
        lab.step();
        let (_, frames) = lab.third.as_mut().unwrap();
        let headers: Vec<Header> =
            frames.drain(..).map(|frame| Packet::parse(&frame).unwrap().header).collect();
        let answer = headers.iter().find(|header| header.kind == Kind::TcsRemUp).expect("it is answered");
        forger.session.dconn = answer.sconn;
        forger.say(lab, Header { kind: Kind::TcsUp, ..forger.session }, &[]);
        forger
    }

    fn say(&self, lab: &mut Lab, header: Header, payload: &[u8]) {
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(payload);
        Header { length: payload.len() as u32, ..header }.emit(&mut frame, None).unwrap();
        lab.hear(self.addr, &frame);
    }

    /// Says these bytes as a message, and hears what it is answered.
    fn say_bytes(&mut self, lab: &mut Lab, bytes: &[u8]) {
        self.seq += 1;
        self.say(lab, Header { seq: self.seq, ..self.session }, bytes);
        lab.step();
        self.hear(lab);
    }

    fn say_kif(&mut self, lab: &mut Lab, message: &Kif, data: &[u8]) {
        let mut bytes = vec![0; MAX_HEAD];
        let len = message.emit(&mut bytes, self.session.order).unwrap();
        bytes.truncate(len);
        bytes.extend_from_slice(data);
        self.say_bytes(lab, &bytes);
    }

    /// Acknowledges everything, as a node that keeps the rules of the transport.
    fn hear(&mut self, lab: &mut Lab) -> Vec<Kif> {
        let (_, frames) = lab.third.as_mut().unwrap();
        let mut heard = Vec::new();
        for frame in std::mem::take(frames) {
            let Packet { header, payload, .. } = Packet::parse(&frame).unwrap();
            if header.kind != Kind::User || header.seq == 0 {
                continue;
            }
            self.say(lab, Header { kind: Kind::Ack, seq: header.seq, ..self.session }, &[]);
            let (message, _) = Kif::parse(payload, header.order).unwrap();
            let text = format!("{message:?}");
            self.answers.insert(text.split(['(', ' ', '{']).next().unwrap().to_owned());
            self.answered += 1;
            heard.push(message);
        }
        heard
    }

    /// Every message about this number, and what each says with half of its bytes missing.
    fn forge(&mut self, lab: &mut Lab, number: u32, lie: u32) {
        for message in messages(number, lie) {
            self.say_kif(lab, &message, b"forged");
            let mut bytes = [0; MAX_HEAD];
            let len = message.emit(&mut bytes, self.session.order).unwrap();
            self.say_bytes(lab, &bytes[..len / 2]);
        }
    }
}

fn messages(number: u32, lie: u32) -> Vec<Kif> {
    let info =
        VtidInfo { tid: 1, coid: 1, priority: 10, srcmsglen: lie, dstmsglen: lie, ..Default::default() };
    let xfer = |nbytes| Xfer { status: 0, handle: number, offset: lie, nbytes };
    let whole = Xfer { status: 0, handle: number, offset: 0, nbytes: 6 };
    let pulse = PulseInfo { code: -33, value: 66, priority: 63 };
    let cred = Some(ClientInfo::default());
    let connect = kif::Connect {
        version: 1,
        server_pid: number.cast_signed(),
        server_chid: number.cast_signed(),
        client_id: number,
        client_pid: 1,
        cred: cred.clone(),
    };
    let send = |nbytes| MsgSend { server_id: number, client_handle: number, info, nbytes };
    let sigevent = qnet_proto::Sigevent { notify: 4, id: 1, value: 66, code: 1, priority: 10 };
    vec![
        Kif::ConnectSuccess { version: 1, server_id: number, client_id: number, scoid: 66, nbytes: lie },
        Kif::ConnectFail { version: 1, client_id: number, status: 1 },
        Kif::ConnectDeath { client_id: number },
        Kif::Connect(connect.clone()),
        Kif::ConnectMsgSend(connect.clone(), send(6)),
        Kif::ConnectPulse(connect, pulse),
        Kif::MsgSend(send(6)),
        Kif::MsgSend(send(lie)),
        Kif::MsgRead { msgread_handle: number, client_handle: number, offset: 0, nbytes: lie },
        Kif::MsgReadXfer(whole),
        Kif::MsgReadXfer(xfer(6)),
        Kif::MsgReadXfer(xfer(lie)),
        Kif::MsgReadError(Xfer { status: 5, ..xfer(0) }),
        Kif::MsgWrite(whole),
        Kif::MsgWrite(xfer(lie)),
        Kif::MsgReply(whole),
        Kif::MsgReply(xfer(0)),
        Kif::MsgError(Xfer { status: 5, ..xfer(0) }),
        Kif::Unblock { server_id: number, client_handle: number, tid: 1 },
        Kif::Event { client_handle: number, sigevent },
        Kif::Event { client_handle: number | 1 << 31, sigevent },
        Kif::Pulse { server_id: number, client_handle: number, info, pulse, kind: (0, 0), scoid: 1, cred },
        Kif::Disconnect { server_id: number },
    ]
}

/// A call to one node from the other: the server has its beginning and waits for a piece of it.
struct Honest {
    client: End<ClientPeer>,
    server: End<ServerPeer>,
    conn: u32,
    txn: u32,
    message: Vec<u8>,
}

const AT: u32 = 9000;

impl Honest {
    fn new(lab: &mut Lab, server: &Server, from: usize) -> Self {
        let mut client = lab.desks[from].client();
        client.say(server.connect(lab, 1, 0, process(77)));
        turns(lab);
        let mut end = server.accept().unwrap();
        let ToServer::Connect(Connect { conn, .. }) = end.hear() else { panic!("no connect") };
        end.say(ToClient::ConnectOk { conn, scoid: 1, limit: MAX_DATA as u32 });
        turns(lab);
        assert!(matches!(client.hear(), ToClient::ConnectOk { conn: 1, .. }));
        let message: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8).collect();
        client.say(ToServer::Send(send(5, 1, LEN as u32), &message[..8192]));
        turns(lab);
        let ToServer::Send(Send { txn, .. }, first) = end.hear() else { panic!("no message") };
        assert!(first == &message[..8192]);
        end.say(ToClient::Read { txn, offset: AT, nbytes: 1000 });
        turns(lab);
        Self { client, server: end, conn, txn, message }
    }

    /// Nothing has reached either side but what the other one said, and both go on.
    fn ends(mut self, lab: &mut Lab, from: usize) {
        let read = ToClient::Read { txn: 5, offset: AT, nbytes: 1000 };
        assert_eq!(self.client.hear(), read, "node {from}");
        assert_eq!(self.client.try_hear(), None, "node {from}");
        assert!(self.server.hears_nothing(), "the server of node {from}'s");
        let (txn, data) = (self.txn, &self.message[AT as usize..][..1000]);
        self.client.say(ToServer::ReadData { txn: 5, offset: AT, data });
        turns(lab);
        assert_eq!(self.server.hear(), ToServer::ReadData { txn, offset: AT, data });
        self.client.say(ToServer::Pulse(Pulse { conn: 1, code: 3, priority: 9, value: 8 }));
        let event = Sigevent { notify: 4, id: 3, value: 7, code: 9, priority: -1 };
        self.server.say(ToClient::Event { conn: self.conn, event });
        turns(lab);
        assert_eq!(self.client.hear(), ToClient::Event { conn: 1, event });
        let pulse = Pulse { conn: self.conn, code: 3, priority: 9, value: 8 };
        assert_eq!(self.server.hear(), ToServer::Pulse(pulse));
        self.server.say(ToClient::Reply { txn, status: 1, offset: 0, data: b"true" });
        turns(lab);
        assert_eq!(self.client.hear(), ToClient::Reply { txn: 5, status: 1, offset: 0, data: b"true" });
        assert!(self.server.hears_nothing() && self.client.try_hear().is_none());
    }
}

/// What barbara holds, as far as it may grow for a stranger.
fn held(lab: &Lab) -> (Holdings, (usize, usize, usize)) {
    let engine = &lab.desks[1].engine;
    (Holdings { control: 0, passing_timers: 0, ..engine.core().holdings() }, engine.population())
}

/// Whatever barbara has given a number to, what it gave one to before, and numbers of nothing.
fn numbers(lab: &Lab) -> BTreeSet<u32> {
    let engine = &lab.desks[1].engine;
    let held = engine.core().holdings();
    let places = [held.clients, held.sends, held.servers, held.received, held.reads];
    let places = places.into_iter().max().unwrap() as u32 + 2;
    let tables = (0..places).flat_map(|place| (1..4).map(move |times| times << PLACE_BITS | place));
    let own = engine.by_server.keys().map(|server| server.0);
    let own = own.chain(engine.by_rcv.keys().map(|rcv| rcv.0)).chain(engine.calls.keys().copied());
    tables.chain(own).chain([0, 1, 1 << 30, i32::MAX as u32, u32::MAX]).collect()
}

fn forged_numbers_reach_nobody(order: Order) {
    let mut lab = Lab::new(Some("connect"));
    lab.desks[0].engine.access = Access::new(None, None, Some("connect")).unwrap();
    let servers = [Server::at(&lab, 0, CHIDS[0]), Server::at(&lab, 1, CHIDS[1])];
    let honest = [Honest::new(&mut lab, &servers[1], 0), Honest::new(&mut lab, &servers[0], 1)];
    let mut forger = Forger::new(&mut lab, order);
    // One old number of each kind: a connection of its own that is gone.
    let (server_pid, server_chid) = (servers[1].pid, servers[1].chid);
    let cred = Some(ClientInfo::default());
    let connect = kif::Connect { version: 1, server_pid, server_chid, client_id: 5, client_pid: 1, cred };
    forger.say_kif(&mut lab, &Kif::Connect(connect), &[]);
    turns(&mut lab);
    let mut end = servers[1].accept().unwrap();
    let ToServer::Connect(Connect { conn, .. }) = end.hear() else { panic!("no connect") };
    end.say(ToClient::ConnectOk { conn, scoid: 2, limit: MAX_DATA as u32 });
    turns(&mut lab);
    let Some(Kif::ConnectSuccess { server_id: old, .. }) = forger.hear(&mut lab).pop() else {
        panic!("it is let in")
    };
    assert!(lab.desks[1].engine.by_server.contains_key(&ServerId(old)));
    forger.say_kif(&mut lab, &Kif::Disconnect { server_id: old }, &[]);
    turns(&mut lab);
    assert!(matches!(end.hear(), ToServer::Disconnect { .. }));
    drop(end);
    turns(&mut lab);

    let before = held(&lab);
    let numbers = numbers(&lab);
    assert!(numbers.contains(&old), "{old:#x}");
    forger.answers.clear();
    for (round, number) in numbers.iter().enumerate() {
        forger.forge(&mut lab, *number, [0, 7, 60_000, u32::MAX][round % 4]);
        turns(&mut lab);
        forger.hear(&mut lab);
    }
    turns(&mut lab);
    assert_eq!(held(&lab), before, "something is kept for it");
    let refusals: BTreeSet<String> =
        ["ConnectFail", "Disconnect", "MsgError", "MsgReadError"].map(str::to_owned).into();
    assert_eq!(forger.answers, refusals);
    assert!(forger.answered > numbers.len() as u64 * 5, "{} of {}", forger.answered, numbers.len());
    assert!(servers.iter().all(|server| server.accept().is_none()), "nobody else was connected");
    for (from, call) in honest.into_iter().enumerate() {
        call.ends(&mut lab, from);
    }
}

#[test]
fn a_node_that_forges_numbers_in_little_endian_reaches_nobody() {
    forged_numbers_reach_nobody(Order::Little);
}

#[test]
fn a_node_that_forges_numbers_in_big_endian_reaches_nobody() {
    forged_numbers_reach_nobody(Order::Big);
}
