//! A big-endian QNX node: what it says is understood, and what it hears is in the order our version
//! byte announces.
//!
//! No such machine is at hand; its packets are written here field by field.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use qnet_proto::wire::Order;
use qnet_proto::wire::kif::{Connect, Kif, MsgSend};
use qnet_proto::wire::lwl4::{HEADER, Header, Kind, Layer, Packet};
use qnet_proto::wire::tcs::Tcs;
use qnet_proto::{
    ClientInfo, Command, Config, Domain, Event, Instant, LinkAddr, LinkId, LinkInfo, Node, NodeName, VtidInfo,
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
    let mut frame = vec![0; HEADER];
    let mut header = Header { order: Order::Big, seq: 1, ..Header::new(Kind::Ack, Layer::Kif) };
    (header.sconn, header.dconn) = peer.ids;
    header.emit(&mut frame, None).unwrap();
    peer.node.handle_frame(NOW, LINK, LinkAddr::mac([2, 0, 0, 0, 0, 9]), &frame);
    let (_, payload) = peer.hear(Kind::User);
    let (message, range) = Kif::parse(&payload, Order::Little).unwrap();
    let Kif::MsgReply(reply) = message else { panic!("{message:?}") };
    assert_eq!((reply.handle, reply.status, &payload[range]), (0x0a0b, 7, &b"xyz"[..]));
}
