//! A machine that means harm, on the wire and with a session of its own: whatever it sends, the node holds
//! a bounded amount for it, and those who are honest go on.
//!
//! The frames are written by hand. The honest node is a real one, joined to the victim without loss.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::time::Duration;

use qnet_proto::wire::Order;
use qnet_proto::wire::ack::{Ack, AckHead, Span, Whole};
use qnet_proto::wire::kif::{Connect, Kif, MAX_HEAD, MsgSend, Xfer};
use qnet_proto::wire::lr::{Lr, LrKind, Party};
use qnet_proto::wire::lwl4::{FIRST, HEADER, Header, Kind, LAST, Layer, Packet, WHOLE};
use qnet_proto::wire::tcs::Tcs;
use qnet_proto::{
    Body, Buffer, ClientId, ClientInfo, Command, Config, Destination, Domain, Event, Handle, Instant,
    LinkAddr, LinkId, LinkInfo, Node, NodeId, NodeName, NodeState, Outlet, VtidInfo,
};
use qnet_sim::Rng;

const LINK: LinkId = LinkId(0);
const PER_PEER: u32 = 4 << 20;

fn mac(last: u8) -> LinkAddr {
    LinkAddr::mac([2, 0, 0, 0, 0, last])
}

fn node(name: &str, last: u8, change: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config::new(NodeName::new(name).unwrap(), Domain::default(), 77 + u64::from(last), 1);
    config.limits.reassembly_per_peer = PER_PEER;
    change(&mut config);
    let mut node = Node::new(config, Instant::from_millis(1));
    let info = LinkInfo { addr: mac(last), mtu: 1500, name: "en0".into() };
    node.link_up(Instant::from_millis(1), LINK, info);
    node
}

/// The victim, an honest node that calls it, and a machine with a session whose ids it knows.
struct World {
    now: Instant,
    victim: Node,
    honest: Node,
    evil: LinkAddr,
    session: Header,
    seq: u32,
    sent: u64,
    answered: u64,
}

impl World {
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> World {
        let mut world = World {
            now: Instant::from_millis(1),
            victim: node("victim", 1, change),
            honest: node("honest", 2, |_| {}),
            evil: mac(66),
            session: Header::new(Kind::User, Layer::Kif),
            seq: 0,
            sent: 0,
            answered: 0,
        };
        world.settle();
        let nd = world.honest.nodes().nth(1).unwrap().nd;
        let connect =
            Command::Connect { client: ClientId(1), nd, pid: 1, chid: 1, cred: ClientInfo::default() };
        world.honest.handle_command(world.now, connect).unwrap();
        world.settle();
        world.session.sconn = 4711;
        world.call("evil", 4711, world.evil);
        let ids = world.settle_for(world.evil).into_iter().find(|h| h.kind == Kind::TcsRemUp);
        world.session.dconn = ids.expect("the call is answered").sconn;
        world.say(Header { kind: Kind::TcsUp, ..world.session }, &[]);
        assert!(world.victim.nodes().any(|node| node.name.as_str() == "evil" && node.state == NodeState::Up));
        world
    }

    fn hear(&mut self, from: LinkAddr, header: &Header, payload: &[u8]) {
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(payload);
        let mut header = *header;
        header.length = payload.len() as u32;
        header.emit(&mut frame, None).unwrap();
        self.victim.handle_frame(self.now, LINK, from, &frame);
    }

    /// The evil machine says something in its session.
    fn say(&mut self, header: Header, payload: &[u8]) {
        self.hear(self.evil, &header, payload);
    }

    /// The next message of the evil machine, in one packet.
    fn say_kif(&mut self, message: &Kif, data: &[u8]) {
        let mut bytes = vec![0; MAX_HEAD];
        let len = message.emit(&mut bytes, Order::Little).unwrap();
        bytes.truncate(len);
        bytes.extend_from_slice(data);
        self.seq += 1;
        self.say(Header { seq: self.seq, flags: WHOLE, ..self.session }, &bytes);
    }

    /// Somebody calls the victim.
    fn call(&mut self, name: &str, id: u32, from: LinkAddr) {
        let tcs =
            Tcs { src_name: name, src_domain: "", dst_name: "victim", dst_domain: "", extensions: None };
        let mut body = [0; 200];
        let len = tcs.emit(&mut body, Order::Little).unwrap();
        self.hear(from, &Header { sconn: id, ..Header::new(Kind::TcsInit, Layer::Kif) }, &body[..len]);
    }

    fn settle(&mut self) {
        self.settle_for(mac(255));
    }

    /// Frames go between the two honest nodes until there are none; what the victim sends to `watched` is
    /// returned. The victim's server answers every message at once.
    fn settle_for(&mut self, watched: LinkAddr) -> Vec<Header> {
        let mut buffer = vec![0; 1500];
        let mut seen = Vec::new();
        for _ in 0..100_000 {
            let mut quiet = true;
            while let Some(event) = self.victim.poll_event() {
                quiet = false;
                self.serve(event);
            }
            while let Some(event) = self.honest.poll_event() {
                quiet = false;
                match event {
                    Event::Reply { status, .. } => {
                        assert_eq!(status, 11);
                        self.answered += 1;
                    }
                    Event::Error { errno, .. } => panic!("the honest sender got {errno:?}"),
                    Event::Death { .. } | Event::ConnectFailed { .. } | Event::NodeDown { .. } => {
                        panic!("the honest node lost its session: {event:?}")
                    }
                    _ => {}
                }
            }
            while let Some(sent) = self.victim.poll_transmit(self.now, &mut buffer) {
                quiet = false;
                let frame = &buffer[..sent.len];
                if sent.dst == Destination::Unicast(watched) {
                    seen.push(Packet::parse(frame).unwrap().header);
                }
                if sent.dst == Destination::Broadcast || sent.dst == Destination::Unicast(mac(2)) {
                    self.honest.handle_frame(self.now, LINK, mac(1), frame);
                }
            }
            while let Some(sent) = self.honest.poll_transmit(self.now, &mut buffer) {
                quiet = false;
                if sent.dst == Destination::Broadcast || sent.dst == Destination::Unicast(mac(1)) {
                    self.victim.handle_frame(self.now, LINK, mac(2), &buffer[..sent.len]);
                }
            }
            if quiet {
                return seen;
            }
        }
        panic!("the frames find no end");
    }

    fn serve(&mut self, event: Event) {
        let command = match event {
            Event::Connect { server, cred: Some(_), .. } => {
                Command::Accept { server, scoid: 1, nbytes: 8192 }
            }
            Event::Message { rcv, data, .. } => {
                Command::Reply { rcv, status: data.len() as i32, data: Body::empty() }
            }
            _ => return,
        };
        let _ = self.victim.handle_command(self.now, command);
    }

    /// The honest node sends a message.
    fn send(&mut self) {
        self.sent += 1;
        let info = VtidInfo { srcmsglen: 11, tid: 1, ..VtidInfo::default() };
        let (client, handle) = (ClientId(1), Handle(self.sent));
        let first = Body::from(&b"hello there"[..]);
        let send = Command::Send { client, handle, info, first, reply: Outlet::nowhere() };
        self.honest.handle_command(self.now, send).unwrap();
    }

    /// An honest message is sent and answered, whatever went before.
    fn honest_goes_on(&mut self) {
        self.send();
        self.settle();
        assert_eq!(self.answered, self.sent, "an honest message is answered");
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.victim.handle_timeout(self.now);
        self.honest.handle_timeout(self.now);
        self.settle();
    }
}

#[test]
fn a_flood_of_first_fragments_costs_bounded_memory() {
    let mut world = World::new();
    for seq in 1..20_000u32 {
        let mut header = Header { seq, flags: FIRST, ..world.session };
        if seq % 3 == 0 {
            (header.offset, header.flags) = (900_000, LAST);
        }
        world.say(header, &[0x77; 100]);
        assert!(world.victim.reassembly_bytes() <= PER_PEER);
        if seq % 1000 == 0 {
            world.honest_goes_on();
        }
    }
    let c = world.victim.counters();
    assert!(c.rx_no_room > 500 && c.rx_out_of_window > 10_000, "{c:?}");
    world.victim.shutdown(world.now);
    assert_eq!(world.victim.reassembly_bytes(), 0);
}

#[test]
fn lies_about_lengths_and_crumbs_cost_bounded_memory_and_harm_nobody() {
    let mut world = World::new();
    let mut rng = Rng::new(3);
    let xfer = |nbytes| Kif::MsgWrite(Xfer { status: 0, handle: 1, offset: 0, nbytes });
    let send =
        |nbytes| Kif::MsgSend(MsgSend { server_id: 1, client_handle: 1, info: VtidInfo::default(), nbytes });
    for round in 0..60_000u32 {
        let seq = 1 + round % 40;
        let nbytes = [0, 1, 1000, 60_000, u32::MAX, u32::MAX - 19][rng.below(6) as usize];
        let message = if rng.chance(500) { xfer(nbytes) } else { send(nbytes) };
        let mut bytes = [0; 200];
        message.emit(&mut bytes, Order::Little).unwrap();
        let header = match rng.below(4) {
            0 => Header { seq, flags: FIRST, ..world.session },
            1 => Header { seq, flags: LAST, offset: rng.below(70_000) as u32, ..world.session },
            // every other byte
            _ => Header { seq, flags: 0, offset: 2 * rng.below(30_000) as u32, ..world.session },
        };
        let payload = if header.flags & FIRST == 0 { &bytes[..1] } else { &bytes[..] };
        world.say(header, payload);
        assert!(world.victim.reassembly_bytes() <= PER_PEER);
        if round % 5000 == 0 {
            world.honest_goes_on();
        }
    }
    world.honest_goes_on();
}

#[test]
fn frames_of_every_kind_with_random_fields_do_no_harm() {
    let mut world = World::new();
    let mut rng = Rng::new(9);
    let kinds = [Kind::User, Kind::Ack, Kind::Nack, Kind::TcsUp, Kind::TcsRemUp, Kind::TcsInit, Kind::Lres];
    for round in 0..200_000 {
        let payload: Vec<u8> = (0..rng.below(120)).map(|_| rng.number() as u8).collect();
        let layers = [Layer::Kif, Layer::Nr, Layer::Lr, Layer::Seq];
        let header = Header {
            kind: kinds[rng.below(7) as usize],
            layer: layers[rng.below(4) as usize],
            seq: rng.below(3000) as u32,
            offset: rng.below(4) as u32 * 700,
            flags: rng.below(4) as u8,
            ..world.session
        };
        world.say(header, &payload);
        assert!(world.victim.reassembly_bytes() <= PER_PEER);
        if round % 100 == 0 {
            world.settle();
        }
    }
    world.honest_goes_on();
}

#[test]
fn forged_acknowledgements_acknowledge_nothing_that_was_not_sent() {
    let mut world = World::new();
    let mut rng = Rng::new(4);
    for round in 0..3000 {
        world.send();
        let head = AckHead {
            window: rng.number() as u32,
            base: rng.below(2000) as u32,
            echo_seq: rng.below(100) as u32,
            echo_offset: rng.number() as u32,
            echo_delay: rng.number() as u32,
        };
        let whole = (0..60).map(|i| Whole { first: i * 7, count: u32::MAX });
        let parts = (0..40).map(|i| Span { seq: i, offset: 0, length: u32::MAX });
        let mut bytes = vec![0; 1400];
        let len = Ack::emit(&head, whole, parts, &mut bytes, Order::Little).unwrap();
        // In its own session, and under the honest node's name without its ids.
        world.say(Header { kind: Kind::Ack, layer: Layer::Seq, ..world.session }, &bytes[..len]);
        let forged = Header { dconn: rng.number() as u32, sconn: 1, ..Header::new(Kind::Ack, Layer::Seq) };
        world.hear(mac(2), &forged, &bytes[..len]);
        if round % 50 == 0 {
            world.settle();
        }
    }
    world.settle();
    assert_eq!(world.answered, world.sent);
}

#[test]
fn a_hundred_thousand_calls_cost_bounded_memory_and_honest_ones_get_through() {
    let mut world = World::new();
    let mut rng = Rng::new(5);
    let mut stranger = node("newcomer", 9, |_| {});
    let mut most = 0;
    for i in 0..100_000u32 {
        let from =
            LinkAddr::new(&[2, 1, (i >> 16) as u8, (i >> 8) as u8, i as u8, rng.number() as u8]).unwrap();
        world.call(&format!("n{i}"), rng.number() as u32 | 1, from);
        if i % 64 == 0 {
            world.pass(Duration::from_micros(100));
            most = most.max(world.victim.holdings().sessions);
        }
        if i % 5000 == 0 {
            world.honest_goes_on();
        }
    }
    let held = world.victim.holdings();
    assert!(most <= 1024 + 2 + 64, "{most} sessions for calls that nobody confirmed");
    assert!(held.peers <= 16_384 && held.control <= 8192, "{held:?}");
    assert_eq!(held.session_ids, held.sessions, "{held:?}");

    // A newcomer finds a place in the full table, and its call is answered in the middle of the flood.
    let mut buffer = vec![0; 1500];
    stranger.handle_timeout(world.now);
    while let Some(sent) = stranger.poll_transmit(world.now, &mut buffer) {
        world.victim.handle_frame(world.now, LINK, mac(9), &buffer[..sent.len]);
    }
    assert!(world.victim.nodes().any(|node| node.name.as_str() == "newcomer"));
    world.call("newcomer", 99, mac(9));
    for i in 0..500u32 {
        world.call(&format!("m{i}"), i + 1, mac(200));
    }
    let answers = world.settle_for(mac(9));
    let id = answers.iter().find(|h| h.kind == Kind::TcsRemUp).expect("the call is answered").sconn;
    let up = Header { sconn: 99, dconn: id, ..Header::new(Kind::TcsUp, Layer::Kif) };
    world.hear(mac(9), &up, &[]);
    let newcomer =
        |node: &qnet_proto::NodeView<'_>| node.name.as_str() == "newcomer" && node.state == NodeState::Up;
    assert!(world.victim.nodes().any(|node| newcomer(&node)));

    // Nothing of it stays.
    for _ in 0..20 {
        world.pass(Duration::from_millis(200));
    }
    assert_eq!(world.victim.holdings().sessions, 3);
    world.honest_goes_on();
}

#[test]
fn a_flood_of_announcements_fills_no_more_than_the_table_and_the_living_stay_known() {
    let mut world = World::with(|config| config.limits.nodes = 500);
    for i in 0..100_000u32 {
        let own = [2, 2, (i >> 16) as u8, (i >> 8) as u8, i as u8, 1];
        let name = format!("n{i}");
        let src = Party { name: &name, domain: "", mac: Some(own) };
        let lr = Lr { kind: LrKind::Reply, src, dst: Party::default(), extensions: None };
        let mut body = [0; 300];
        let len = lr.emit(&mut body, Order::Little).unwrap();
        let header = Header::new(Kind::Lres, Layer::Lr);
        world.hear(LinkAddr::mac(own), &header, &body[..len]);
        if i % 1000 == 0 {
            world.pass(Duration::from_millis(1));
        }
    }
    let held = world.victim.holdings();
    assert!(held.peers <= 500 && held.replies <= 4096 && held.control <= 8192, "{held:?}");
    let honest = world.victim.nodes().find(|node| node.name.as_str() == "honest").map(|node| node.state);
    assert_eq!(honest, Some(NodeState::Up), "who is used does not leave");
    world.honest_goes_on();
}

#[test]
fn one_that_asks_and_does_not_acknowledge_is_not_listened_to_for_ever() {
    let mut world = World::with(|config| config.limits.queue_per_peer = 1000);
    let info = VtidInfo::default();
    for i in 0..50_000u32 {
        // no such connection: each costs a MSGERROR, which is never acknowledged
        let send = MsgSend { server_id: 0x7777, client_handle: i, info, nbytes: 0 };
        world.say_kif(&Kif::MsgSend(send), &[]);
        if i % 2000 == 0 {
            world.honest_goes_on();
        }
    }
    let held = world.victim.holdings();
    assert!(held.queued <= 2001, "{held:?}");
    assert!(world.victim.counters().rx_no_room > 40_000);
    world.honest_goes_on();
}

#[test]
fn connections_and_messages_of_one_peer_are_bounded_and_others_have_theirs() {
    let mut world = World::with(|config| {
        config.limits.connections_per_peer = 100;
        config.limits.messages_per_peer = 100;
    });
    let connect = |client_id| Connect {
        version: 1,
        server_pid: 1,
        server_chid: 1,
        client_id,
        client_pid: 1,
        cred: None, // such a one is never answered here
    };
    let send = MsgSend { server_id: 0, client_handle: 1, info: VtidInfo::default(), nbytes: 1000 };
    for i in 0..2000 {
        world.say_kif(&Kif::ConnectMsgSend(connect(i), send), &[7; 1000]);
    }
    world.settle();
    let held = world.victim.holdings();
    assert!(held.servers <= 101, "{held:?}");
    world.honest_goes_on();
    let nd = NodeId(world.victim.nodes().find(|node| node.name.as_str() == "evil").unwrap().nd.0);
    assert_ne!(nd, NodeId::LOCAL);
    // Its session ends: everything of it goes.
    world.say(Header { kind: Kind::TcsDown, ..world.session }, &[]);
    world.settle();
    assert_eq!(world.victim.holdings().servers, 1, "the honest node's");
}

#[test]
fn transfers_for_reads_that_nobody_made_and_answers_in_crumbs_are_dropped() {
    let mut world = World::new();
    let cred = Some(ClientInfo::default());
    let connect = Connect { version: 1, server_pid: 1, server_chid: 1, client_id: 5, client_pid: 1, cred };
    world.say_kif(&Kif::Connect(connect), &[]);
    let Some(Event::Connect { server, .. }) =
        std::iter::from_fn(|| world.victim.poll_event()).find(|e| matches!(e, Event::Connect { .. }))
    else {
        panic!("no connection")
    };
    let accept = Command::Accept { server, scoid: 1, nbytes: 8192 };
    world.victim.handle_command(world.now, accept).unwrap();
    let info = VtidInfo { srcmsglen: u32::MAX, ..VtidInfo::default() };
    world.say_kif(&Kif::MsgSend(MsgSend { server_id: server.0, client_handle: 3, info, nbytes: 0 }), &[]);
    let Some(Event::Message { rcv, .. }) =
        std::iter::from_fn(|| world.victim.poll_event()).find(|e| matches!(e, Event::Message { .. }))
    else {
        panic!("no message")
    };
    let buffer = Buffer::new(0, 100_000);
    let into = Outlet::new(buffer.clone());
    let read = Command::Read { rcv, offset: 0, nbytes: 100_000, into };
    world.victim.handle_command(world.now, read).unwrap();
    let xfer = |handle, offset, nbytes| Kif::MsgReadXfer(Xfer { status: 0, handle, offset, nbytes });
    // The number of the read is the first of its table.
    let number = 1 << 18;
    world.say_kif(&xfer(number + 1, 0, 10), &[1; 10]);
    world.say_kif(&xfer(number, 99_995, 10), &[1; 10]);
    world.say_kif(&xfer(number, u32::MAX, 10), &[1; 10]);
    assert_eq!(buffer.given(), 0, "beside the read");
    for i in 0..6000 {
        world.say_kif(&xfer(number, 4 * i, 1), &[1]);
        world.say_kif(&xfer(number, 4 * i, 1), &[1]);
    }
    let ended =
        std::iter::from_fn(|| world.victim.poll_event()).find(|e| matches!(e, Event::ReadError { .. }));
    assert!(ended.is_some(), "too many crumbs end the read");
    assert!(buffer.given() < 10_000);
    world.honest_goes_on();
}
