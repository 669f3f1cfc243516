//! A node under attack: what every target that feeds a whole node has in common.
//!
//! The input is a script, read byte by byte; when it is over, whatever is missing reads as nothing. After
//! each act the node is drained and its holdings are compared with what it may hold.

use std::time::Duration;

use qnet_proto::wire::lwl4::{HEADER, Header};
use qnet_proto::{
    ClientId, Command, Config, Domain, Event, Handle, Instant, LinkAddr, LinkId, LinkInfo, Node, NodeId,
    NodeName, Rcv, ServerId,
};

/// The attacker's address.
pub(super) const EVIL: [u8; 6] = [2, 0, 0, 0, 0, 66];
/// Acts of one script.
const MOST_ACTS: usize = 300;
/// Frames a node may have to say after one act.
const MOST_FRAMES: usize = 20_000;

/// A script.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(data: &'a [u8]) -> Script<'a> {
        Script(data)
    }

    /// The next act, if there is one.
    pub(super) fn act(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.act().unwrap_or_default()
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// Up to 255 bytes.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

/// The node, its programs' knowledge, and the time.
pub(super) struct Victim {
    pub(super) node: Node,
    pub(super) now: Instant,
    pub(super) nd: NodeId,
    pub(super) server: ServerId,
    pub(super) rcv: Rcv,
    pub(super) client: ClientId,
    pub(super) handle: Handle,
    /// The last thing asked of the client.
    pub(super) asked: (u32, u32),
    /// Headers of the frames it sent since the last act.
    pub(super) said: Vec<Header>,
}

impl Victim {
    /// A node of little memory on one link.
    pub(super) fn new(change: impl FnOnce(&mut Config)) -> Victim {
        let name = NodeName::new("victim").expect("a good name");
        let mut config = Config::new(name, Domain::default(), 77, 1);
        config.limits.reassembly_per_peer = 2 << 20;
        config.limits.reassembly_total = 3 << 20;
        config.limits.nodes = 50;
        change(&mut config);
        let now = Instant::from_millis(1);
        let mut victim = Victim {
            node: Node::new(config, now),
            now,
            nd: NodeId(1),
            server: ServerId(0),
            rcv: Rcv(0),
            client: ClientId(0),
            handle: Handle(0),
            asked: (0, 0),
            said: Vec::new(),
        };
        victim.link(true);
        victim
    }

    /// Runs acts until the script is over, then takes the node down.
    pub(super) fn play(mut self, data: &[u8], mut act: impl FnMut(&mut Victim, u8, &mut Script<'_>)) {
        let mut script = Script::new(data);
        for _ in 0..MOST_ACTS {
            let Some(what) = script.act() else { break };
            self.said.clear();
            act(&mut self, what, &mut script);
            self.drain();
            self.check();
        }
        self.node.shutdown(self.now);
        self.drain();
        let held = self.node.holdings();
        assert_eq!((held.sessions, held.session_ids), (0, 0), "{held:?}");
        assert_eq!((held.reassembly_bytes, held.queued), (0, 0), "{held:?}");
        assert_eq!((held.servers, held.received, held.reads), (0, 0, 0), "{held:?}");
        assert_eq!((held.clients, held.sends), (0, 0), "{held:?}");
    }

    pub(super) fn link(&mut self, up: bool) {
        if up {
            let addr = LinkAddr::mac([2, 0, 0, 0, 0, 1]);
            self.node.link_up(self.now, LinkId(0), LinkInfo { addr, mtu: 1500, name: "en0".into() });
        } else {
            self.node.link_down(self.now, LinkId(0));
        }
    }

    /// A frame from the attacker: header and payload.
    pub(super) fn hear(&mut self, mut header: Header, payload: &[u8]) {
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(payload);
        header.length = payload.len() as u32;
        header.emit(&mut frame, None).expect("the frame has room for its header");
        self.hear_raw(&frame);
    }

    pub(super) fn hear_raw(&mut self, frame: &[u8]) {
        self.node.handle_frame(self.now, LinkId(0), LinkAddr::mac(EVIL), frame);
    }

    pub(super) fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        // Deadlines one after the other, as a caller would see them; a bounded number of them.
        for _ in 0..1000 {
            let Some(at) = self.node.poll_timeout().filter(|&at| at <= until) else { break };
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.node.handle_timeout(self.now);
    }

    pub(super) fn command(&mut self, command: Command) {
        let _ = self.node.handle_command(self.now, command);
    }

    /// Fetches everything the node has to say, and remembers what a program would.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0; 1500];
        let mut frames = 0;
        loop {
            let mut quiet = true;
            while let Some(event) = self.node.poll_event() {
                quiet = false;
                self.note(event);
            }
            while let Some(sent) = self.node.poll_transmit(self.now, &mut buffer) {
                quiet = false;
                frames += 1;
                assert!(frames < MOST_FRAMES, "the node does not stop talking");
                let packet = qnet_proto::wire::lwl4::Packet::parse(&buffer[..sent.len]);
                self.said.push(packet.expect("what a node sends can be read").header);
            }
            if quiet {
                return;
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Resolved { nd, .. } => self.nd = nd,
            Event::Connect { server, .. } => self.server = server,
            Event::Message { rcv, info, data, .. } => {
                assert!(data.len() as u64 <= u64::from(info.srcmsglen), "more data than the message has");
                self.rcv = rcv;
            }
            Event::Read { offset, nbytes, .. } => self.asked = (offset, nbytes),
            _ => {}
        }
    }

    fn check(&self) {
        let held = self.node.holdings();
        let limits = self.node.config().limits;
        assert!(held.reassembly_bytes <= limits.reassembly_total, "{held:?}");
        assert!(held.peers <= limits.nodes, "{held:?}");
        assert_eq!(held.session_ids, held.sessions, "{held:?}");
        assert!(held.passing_timers <= held.peers + held.lookups + held.replies, "{held:?}");
        assert_eq!(held.control, 0, "{held:?}");
        assert!(held.received <= held.servers * limits.messages_per_peer, "{held:?}");
    }
}
