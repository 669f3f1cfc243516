//! A big-endian QNX node: what it says is understood, and what it hears is in the order our version
//! byte announces.
//!
//! No such machine is at hand; its packets are written here field by field.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use qnet_proto::wire::Order;
use qnet_proto::wire::kif::{Connect, Kif, MsgSend, Xfer};
use qnet_proto::wire::lr::{Lr, LrKind, Party};
use qnet_proto::wire::lwl4::{HEADER, Header, Kind, Layer, Packet};
use qnet_proto::wire::tcs::Tcs;
use qnet_proto::{
    Body, ClientId, ClientInfo, Command, Config, Domain, Event, Handle, Instant, LinkAddr, LinkId, LinkInfo,
    Node, NodeName, Outlet, VtidInfo,
};

const NOW: Instant = Instant::ZERO;
const LINK: LinkId = LinkId(0);

struct Peer {
    node: Node,
    ids: (u32, u32),
    seq: u32,
}

impl Peer {
    fn say(&mut self, kind: Kind, layer: Layer, payload: &[u8]) {
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(payload);
        let mut header = Header { order: Order::Big, ..Header::new(kind, layer) };
        (header.sconn, header.dconn) = self.ids;
        header.length = payload.len() as u32;
        if kind == Kind::User {
            self.seq += 1;
            header.seq = self.seq;
        }
        header.emit(&mut frame, None).unwrap();
        self.node.handle_frame(NOW, LINK, LinkAddr::mac([2, 0, 0, 0, 0, 9]), &frame);
    }

    fn say_kif(&mut self, message: &Kif, data: &[u8]) {
        let mut bytes = vec![0; 200];
        let len = message.emit(&mut bytes, Order::Big).unwrap();
        bytes.truncate(len);
        bytes.extend_from_slice(data);
        self.say(Kind::User, Layer::Kif, &bytes);
    }

    fn acknowledge(&mut self, seq: u32) {
        let mut frame = vec![0; HEADER];
        let mut header = Header { order: Order::Big, seq, ..Header::new(Kind::Ack, Layer::Kif) };
        (header.sconn, header.dconn) = self.ids;
        header.emit(&mut frame, None).unwrap();
        self.node.handle_frame(NOW, LINK, LinkAddr::mac([2, 0, 0, 0, 0, 9]), &frame);
    }

    /// The next packet of this kind.
    fn hear(&mut self, kind: Kind) -> (Header, Vec<u8>) {
        let mut buffer = [0; 1500];
        while let Some(sent) = self.node.poll_transmit(NOW, &mut buffer) {
            let packet = Packet::parse(&buffer[..sent.len]).unwrap();
            if packet.header.kind == kind {
                assert_eq!(packet.header.order, Order::Little);
                return (packet.header, packet.payload.to_vec());
            }
        }
        panic!("no {kind:?}");
    }

    fn event(&mut self, wanted: fn(&Event) -> bool) -> Event {
        std::iter::from_fn(|| self.node.poll_event()).find(wanted).unwrap()
    }
}

#[test]
fn a_big_endian_client_is_served() {
    let config = Config::new(NodeName::new("server").unwrap(), Domain::default(), 5, 1);
    let mut node = Node::new(config, NOW);
    let addr = LinkAddr::mac([2, 0, 0, 0, 0, 1]);
    node.link_up(NOW, LINK, LinkInfo { addr, mtu: 1500, name: "en0".into() });
    let mut peer = Peer { node, ids: (0x0102_0304, 0), seq: 0 };

    let names = Tcs { src_name: "ppc", src_domain: "", dst_name: "server", dst_domain: "", extensions: None };
    let mut body = [0; 64];
    let len = names.emit(&mut body, Order::Big).unwrap();
    peer.say(Kind::TcsInit, Layer::Kif, &body[..len]);
    let (answer, _) = peer.hear(Kind::TcsRemUp);
    assert_eq!(answer.dconn, 0x0102_0304);
    peer.ids.1 = answer.sconn;
    peer.say(Kind::TcsUp, Layer::Kif, &[]);

    let cred = ClientInfo { pid: 77, euid: 0x01_0002, groups: vec![3], ..ClientInfo::default() };
    let connect = Connect {
        version: 1,
        server_pid: 4242,
        server_chid: 6,
        client_id: 0x1234,
        client_pid: 77,
        cred: Some(cred),
    };
    peer.say_kif(&Kif::Connect(connect), &[]);
    let event = peer.event(|e| matches!(e, Event::Connect { .. }));
    let Event::Connect { server, pid: 4242, chid: 6, cred: Some(cred), .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!((cred.euid, cred.groups), (0x01_0002, vec![3]));
    peer.node.handle_command(NOW, Command::Accept { server, scoid: 9, nbytes: 8192 }).unwrap();
    let (_, payload) = peer.hear(Kind::User);
    let (Kif::ConnectSuccess { server_id, client_id: 0x1234, .. }, _) =
        Kif::parse(&payload, Order::Little).unwrap()
    else {
        panic!("not accepted")
    };

    let info = VtidInfo { srcmsglen: 3, dstmsglen: 10, ..VtidInfo::default() };
    let send = MsgSend { server_id, client_handle: 0x0a0b, info, nbytes: 3 };
    peer.say_kif(&Kif::MsgSend(send), b"abc");
    let event = peer.event(|e| matches!(e, Event::Message { .. }));
    let Event::Message { rcv, info, data, .. } = event else { panic!("{event:?}") };
    assert_eq!((info.srcmsglen, info.dstmsglen, &data[..]), (3, 10, &b"abc"[..]));
    let (ack, payload) = peer.hear(Kind::Ack);
    assert_eq!((ack.layer, ack.seq, payload.len()), (Layer::Kif, 2, 0), "plain acknowledgements");
    peer.node.handle_command(NOW, Command::Reply { rcv, status: 7, data: b"xyz".as_slice().into() }).unwrap();
    // its acknowledgement of CONNECT_SUCCESS, which was our first message
    peer.acknowledge(1);
    let (_, payload) = peer.hear(Kind::User);
    let (message, range) = Kif::parse(&payload, Order::Little).unwrap();
    let Kif::MsgReply(reply) = message else { panic!("{message:?}") };
    assert_eq!((reply.handle, reply.status, &payload[range]), (0x0a0b, 7, &b"xyz"[..]));
}

#[test]
fn a_big_endian_server_is_used() {
    let config = Config::new(NodeName::new("client").unwrap(), Domain::default(), 5, 1);
    let mut node = Node::new(config, NOW);
    let addr = LinkAddr::mac([2, 0, 0, 0, 0, 1]);
    node.link_up(NOW, LINK, LinkInfo { addr, mtu: 1500, name: "en0".into() });
    let mut peer = Peer { node, ids: (0, 0), seq: 0 };

    // It is found by its own answer, in its own order.
    peer.node.handle_command(NOW, Command::Resolve { token: 1, name: "ppc".into() }).unwrap();
    let (_, _announcement) = peer.hear(Kind::Lres);
    let (_, question) = peer.hear(Kind::Lres);
    assert_eq!(Lr::parse(&question, Order::Little).unwrap().dst.name, "ppc");
    let src = Party { name: "ppc", domain: "", mac: Some([2, 0, 0, 0, 0, 9]) };
    let answer = Lr { kind: LrKind::Reply, src, dst: Party::default(), extensions: None };
    let mut body = [0; 128];
    let len = answer.emit(&mut body, Order::Big).unwrap();
    peer.say(Kind::Lres, Layer::Lr, &body[..len]);
    let Event::Resolved { nd, .. } = peer.event(|e| matches!(e, Event::Resolved { .. })) else {
        unreachable!()
    };

    let (client, handle) = (ClientId(1), Handle(2));
    let cred = ClientInfo { pid: 77, euid: 1000, ..ClientInfo::default() };
    peer.node.handle_command(NOW, Command::Connect { client, nd, pid: 4242, chid: 6, cred }).unwrap();
    let (call, _) = peer.hear(Kind::TcsInit);
    peer.ids = (0x0102_0304, call.sconn);
    peer.say(Kind::TcsRemUp, Layer::Kif, &[]);
    let (_, payload) = peer.hear(Kind::User);
    let (Kif::Connect(connect), _) = Kif::parse(&payload, Order::Little).unwrap() else {
        panic!("a plain node gets its CONNECT alone")
    };
    assert_eq!((connect.server_pid, connect.server_chid), (4242, 6));
    peer.acknowledge(1);
    let (server_id, client_id) = (0x0506, connect.client_id);
    peer.say_kif(&Kif::ConnectSuccess { version: 1, server_id, client_id, scoid: 0x0708, nbytes: 4 }, &[]);
    let event = peer.event(|e| matches!(e, Event::Connected { .. }));
    assert!(matches!(event, Event::Connected { scoid: 0x0708, limit: 4, .. }), "{event:?}");

    let info = VtidInfo { srcmsglen: 7, dstmsglen: 3, tid: 1, ..VtidInfo::default() };
    let first = Body::from(&b"abcd"[..]);
    let send = Command::Send { client, handle, info, first, reply: Outlet::nowhere() };
    peer.node.handle_command(NOW, send).unwrap();
    let (_, payload) = peer.hear(Kind::User);
    let (Kif::MsgSend(message), data) = Kif::parse(&payload, Order::Little).unwrap() else {
        panic!("no message")
    };
    assert_eq!((message.server_id, message.info.srcmsglen, &payload[data]), (0x0506, 7, &b"abcd"[..]));
    peer.acknowledge(2);
    let client_handle = message.client_handle;
    peer.say_kif(&Kif::MsgRead { msgread_handle: 0x0a0b, client_handle, offset: 4, nbytes: 3 }, &[]);
    let event = peer.event(|e| matches!(e, Event::Read { .. }));
    assert!(matches!(event, Event::Read { offset: 4, nbytes: 3, .. }), "{event:?}");
    let reply = Xfer { status: 0x0c0d, handle: client_handle, offset: 0, nbytes: 3 };
    peer.say_kif(&Kif::MsgReply(reply), b"xyz");
    let event = peer.event(|e| matches!(e, Event::Reply { .. } | Event::Error { .. }));
    assert!(matches!(event, Event::Reply { handle: Handle(2), status: 0x0c0d }), "{event:?}");
}
