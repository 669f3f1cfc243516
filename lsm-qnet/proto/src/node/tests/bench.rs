//! A node with a peer that is written by hand: the peer says one message, and acknowledges at once
//! whatever the node sends.

use crate::event::NodeId;
use crate::link::{LinkAddr, LinkId, LinkInfo};
use crate::node::Node;
use crate::wire::Order;
use crate::wire::kif::Kif;
use crate::wire::lr::{Lr, LrKind, Party};
use crate::wire::lwl4::{HEADER, Header, Kind, Layer, Packet};
use crate::wire::tcs::Tcs;
use crate::{Command, CommandError, Config, Domain, Event, Instant, NodeName};

pub(super) const LINK: LinkId = LinkId(0);
/// The peer's id of its session.
pub(super) const THEIRS: u32 = 4711;

/// The peer's address, and that of another run of it.
pub(super) fn addr(last: u8) -> LinkAddr {
    LinkAddr::mac([2, 0, 0, 0, 0, last])
}

pub(super) struct Bench {
    pub(super) node: Node,
    pub(super) now: Instant,
    /// Our id of the session, once it is known.
    pub(super) ours: u32,
    pub(super) theirs: u32,
    seq: u32,
    /// Whether the peer acknowledges.
    pub(super) acks: bool,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let name = NodeName::new("alonzo").expect("a good name");
        let mut config = Config::new(name, Domain::default(), 77, 1);
        config.auto_add = 150;
        let now = Instant::from_millis(1);
        let mut node = Node::new(config, now);
        node.link_up(now, LINK, LinkInfo { addr: addr(1), mtu: 1500, name: "en0".into() });
        let mut bench = Bench { node, now, ours: 0, theirs: THEIRS, seq: 0, acks: true };
        bench.outcome();
        bench
    }

    /// A node that has a session with `joseph`.
    pub(super) fn up() -> Bench {
        let mut bench = Bench::new();
        bench.announce(9);
        bench.init(THEIRS);
        bench.outcome();
        bench.say(Kind::TcsUp, Layer::Kif, &[]);
        bench.outcome();
        assert!(bench.node.peers.get(bench.nd().node()).is_some_and(|peer| peer.is_up()));
        bench
    }

    /// The node's number for the peer.
    pub(super) fn nd(&self) -> NodeId {
        self.node.peers.iter().next().map(|(nd, _)| nd).expect("the peer is known")
    }

    pub(super) fn pass(&mut self, millis: u64) {
        let until = Instant::from_nanos(self.now.as_nanos() + millis * 1_000_000);
        while let Some(at) = self.node.poll_timeout().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
        }
        self.now = until;
    }

    pub(super) fn command(&mut self, command: Command) -> Result<(), CommandError> {
        self.node.handle_command(self.now, command)
    }

    /// The peer announces itself, from an address that ends in `last`.
    pub(super) fn announce(&mut self, last: u8) {
        let mac = addr(last).as_mac();
        let src = Party { name: "joseph", domain: "", mac };
        let lr = Lr { kind: LrKind::Reply, src, dst: Party::default(), extensions: None };
        let mut body = [0; 256];
        let len = lr.emit(&mut body, Order::Little).expect("it is short");
        self.frame(Header::new(Kind::Lres, Layer::Lr), &body[..len], last);
    }

    /// The peer calls.
    pub(super) fn init(&mut self, sconn: u32) {
        let tcs =
            Tcs { src_name: "joseph", src_domain: "", dst_name: "alonzo", dst_domain: "", extensions: None };
        let mut body = [0; 128];
        let len = tcs.emit(&mut body, Order::Little).expect("it is short");
        self.frame(Header { sconn, ..Header::new(Kind::TcsInit, Layer::Kif) }, &body[..len], 9);
    }

    /// A packet of the session.
    pub(super) fn say(&mut self, kind: Kind, layer: Layer, payload: &[u8]) {
        let mut header = Header { sconn: self.theirs, dconn: self.ours, ..Header::new(kind, layer) };
        if kind == Kind::User && layer == Layer::Kif {
            self.seq += 1;
            header.seq = self.seq;
        }
        self.frame(header, payload, 9);
    }

    /// A KIF message of the peer.
    pub(super) fn kif(&mut self, message: &Kif, data: &[u8]) {
        let mut bytes = vec![0; 512];
        let len = message.emit(&mut bytes, Order::Little).expect("it is short");
        bytes.truncate(len);
        bytes.extend_from_slice(data);
        self.say(Kind::User, Layer::Kif, &bytes);
    }

    fn frame(&mut self, mut header: Header, payload: &[u8], last: u8) {
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(payload);
        header.length = payload.len() as u32;
        header.emit(&mut frame, None).expect("the frame has room");
        self.node.handle_frame(self.now, LINK, addr(last), &frame);
    }

    /// What the node told its programs and the peer since the last call.
    pub(super) fn outcome(&mut self) -> String {
        let mut said = Vec::new();
        let mut buffer = [0; 1500];
        loop {
            let before = said.len();
            while let Some(event) = self.node.poll_event() {
                said.extend(event_name(&event));
            }
            while let Some(sent) = self.node.poll_transmit(self.now, &mut buffer) {
                let packet = Packet::parse(&buffer[..sent.len]).expect("what a node sends can be read");
                let (header, payload) = (packet.header, packet.payload.to_vec());
                if matches!(header.kind, Kind::TcsInit | Kind::TcsRemUp) {
                    self.ours = header.sconn;
                }
                said.extend(packet_name(&header, &payload));
                if self.acks && header.kind == Kind::User && header.seq != 0 {
                    let mut ack = Header::new(Kind::Ack, Layer::Kif);
                    (ack.sconn, ack.dconn, ack.seq) = (self.theirs, header.sconn, header.seq);
                    self.frame(ack, &[], 9);
                }
            }
            if said.len() == before {
                return said.join(" ");
            }
        }
    }
}

/// Events by a word; what only concerns the list of nodes is left out.
fn event_name(event: &Event) -> Option<String> {
    Some(match event {
        Event::NodesChanged => return None,
        Event::Error { errno, .. } => format!("Error({})", errno.0),
        Event::ConnectFailed { errno, .. } => format!("ConnectFailed({})", errno.0),
        Event::ReadError { errno, .. } => format!("ReadError({})", errno.0),
        Event::NodeDown { why, .. } => format!("NodeDown({why:?})"),
        other => {
            let text = format!("{other:?}");
            text.split([' ', '{']).next().unwrap_or_default().to_owned()
        }
    })
}

/// Packets by a word; acknowledgements and announcements are left out.
fn packet_name(header: &Header, payload: &[u8]) -> Option<String> {
    Some(match (header.kind, header.layer) {
        (Kind::Ack | Kind::Nack, _) => return None,
        (Kind::Lres, _) => {
            let lr = Lr::parse(payload, header.order).expect("our own");
            match lr.kind {
                LrKind::Request => "ask".to_owned(),
                LrKind::Reply => return None,
            }
        }
        (Kind::User, Layer::Nr) => if payload.first() == Some(&0) { "ping" } else { "pong" }.to_owned(),
        (Kind::User, _) => {
            let (kif, _) = Kif::parse(payload, header.order).expect("our own");
            let text = format!("{kif:?}");
            text.split(['(', ' ', '{']).next().unwrap_or_default().to_lowercase()
        }
        (kind, _) => format!("{kind:?}").to_lowercase(),
    })
}

/// Walks a table: one row a state, one field an event. `run` makes a bench in the state, lets the event
/// happen, and tells what came of it.
pub(super) fn walk<S: Copy + std::fmt::Debug, E: Copy + std::fmt::Debug>(
    states: &[S],
    events: &[E],
    table: &[&[&str]],
    mut run: impl FnMut(S, E) -> String,
) {
    let mut wrong = Vec::new();
    assert_eq!(table.len(), states.len(), "a row for each state");
    for (state, row) in states.iter().zip(table) {
        assert_eq!(row.len(), events.len(), "a field for each event in the row of {state:?}");
        for (event, want) in events.iter().zip(*row) {
            let got = run(*state, *event);
            if got != *want {
                wrong.push(format!("{state:?} {event:?}: {got:?}, not {want:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
