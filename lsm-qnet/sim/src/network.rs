//! Nodes, wires and time.
//!
//! Time jumps from one thing to the next: a frame that arrives, a node's deadline, an app's
//! deadline. Segments are numbered; a host has a link on each segment it was attached to, with an
//! address made of both numbers. A host's clock runs with the network's, but may be stepped ahead
//! ([`Network::step_clock`]), and the host may stand still for a while ([`Network::freeze`]).

mod cables;
mod run;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use qnet_proto::{
    Command, CommandError, Config, Domain, Event, Instant, LinkAddr, LinkId, LinkInfo, Node, NodeId,
    NodeName, Qos,
};

use crate::faults::Faults;
use crate::pcap::Pcap;
use crate::rng::Rng;
use crate::seeds;
use crate::wire::{Egress, Wire};

/// A host of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// The programs of a host.
pub trait App {
    /// Something happened on the host's node.
    fn on_event(&mut self, host: &mut Programs<'_>, event: Event);
    /// Called once at the beginning and whenever [`App::wakes_at`] is reached.
    fn on_time(&mut self, host: &mut Programs<'_>);
    /// When [`App::on_time`] is wanted.
    fn wakes_at(&self) -> Option<Instant> {
        None
    }
}

/// What an app can do.
pub struct Programs<'a> {
    /// The time.
    pub now: Instant,
    node: &'a mut Node,
}

impl Programs<'_> {
    /// Gives the node a command.
    ///
    /// # Errors
    /// What the node says.
    pub fn command(&mut self, command: Command) -> Result<(), CommandError> {
        self.node.handle_command(self.now, command)
    }

    /// The descriptor of a node under a policy.
    ///
    /// # Errors
    /// What the node says.
    pub fn with_qos(&mut self, nd: NodeId, qos: &Qos) -> Result<NodeId, CommandError> {
        self.node.with_qos(nd, qos)
    }

    /// The node, to look at.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.node
    }
}

struct Host {
    config: Config,
    node: Node,
    app: Option<Box<dyn App>>,
    /// The segments it has a link on, with the MTU there.
    segments: BTreeMap<u32, u32>,
    up: bool,
    boots: u64,
    /// Events nobody took, when the host has no app.
    events: Vec<Event>,
    /// How far its clock is ahead of the network's.
    ahead: Duration,
    /// Until when (on the network's clock) nothing on it runs.
    frozen: Option<Instant>,
    /// Addresses that its node took on segments where another host had its own.
    moved: BTreeMap<u32, [u8; 6]>,
}

impl Host {
    /// What its clock shows.
    fn clock(&self, now: Instant) -> Instant {
        now + self.ahead
    }

    /// When (on the network's clock) it wants to run.
    fn wakes_at(&self) -> Option<Instant> {
        if let Some(until) = self.frozen {
            return Some(until);
        }
        let app = self.app.as_ref().and_then(|app| app.wakes_at());
        let at = self.node.poll_timeout().into_iter().chain(app).min()?;
        let ahead = u64::try_from(self.ahead.as_nanos()).unwrap_or(u64::MAX);
        Some(Instant::from_nanos(at.as_nanos().saturating_sub(ahead)))
    }
}

struct InFlight {
    to: usize,
    link: LinkId,
    src: [u8; 6],
    frame: Vec<u8>,
}

/// A simulated network.
pub struct Network {
    hosts: Vec<Host>,
    now: Instant,
    rng: Rng,
    faults: Faults,
    /// Segments that are not like the others.
    wires: BTreeMap<u32, Wire>,
    /// What waits to be put on a limited wire, by host and segment.
    egress: BTreeMap<(usize, u32), Egress>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    frames: BTreeMap<u64, InFlight>,
    serial: u64,
    /// Steps since time went on.
    idle: u32,
    touched: Vec<HostId>,
    /// Directions between hosts that carry nothing.
    cuts: BTreeSet<(usize, usize)>,
    dead_segments: BTreeSet<u32>,
    cables: cables::Cables,
    pcap: Option<Pcap>,
    /// Hosts that have the addresses of others.
    copies: BTreeMap<usize, usize>,
    settings: fn(&mut Config),
    buffer: Vec<u8>,
}

impl Drop for Network {
    /// A repeated run that fails leaves its frames behind.
    fn drop(&mut self) {
        if let Some(pcap) = self.pcap.as_ref().filter(|_| std::thread::panicking()) {
            seeds::leave(pcap);
        }
    }
}

fn mac(host: usize, segment: u32) -> [u8; 6] {
    [2, 0, 0, segment as u8, (host >> 8) as u8, host as u8 + 1]
}

impl Network {
    /// An empty network.
    #[must_use]
    pub fn new(seed: u64) -> Network {
        Network {
            hosts: Vec::new(),
            now: Instant::from_millis(1),
            rng: Rng::new(seed),
            faults: Faults::default(),
            wires: BTreeMap::new(),
            egress: BTreeMap::new(),
            queue: BinaryHeap::new(),
            frames: BTreeMap::new(),
            serial: 0,
            idle: 0,
            touched: Vec::new(),
            cuts: BTreeSet::new(),
            dead_segments: BTreeSet::new(),
            cables: cables::Cables::default(),
            pcap: seeds::capture(),
            copies: BTreeMap::new(),
            settings: |_| {},
            buffer: vec![0; 65_536],
        }
    }

    /// Changes the settings of every host added or rebooted from now on.
    pub fn configure(&mut self, settings: fn(&mut Config)) {
        self.settings = settings;
    }

    /// Changes what the wires do to frames from now on; segments that were given a [`Wire`] of their
    /// own keep it.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Gives a segment a character of its own.
    pub fn set_wire(&mut self, segment: u32, wire: Wire) {
        self.wires.insert(segment, wire);
    }

    fn wire(&self, segment: u32) -> Wire {
        let like_all = Wire { faults: self.faults, ..Wire::default() };
        self.wires.get(&segment).copied().unwrap_or(like_all)
    }

    /// Records every frame sent from now on.
    pub fn capture(&mut self) {
        self.pcap = Some(Pcap::new());
    }

    /// What was recorded.
    #[must_use]
    pub fn captured(&self) -> Option<&Pcap> {
        self.pcap.as_ref()
    }

    /// The simulator's randomness, for tests that need some of their own.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Simulated time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Adds a host of this name in domain `lab.example` on segment 0, with MTU 1500.
    ///
    /// # Panics
    /// When the name is none.
    pub fn add(&mut self, name: &str) -> HostId {
        self.add_with(name, |_| {})
    }

    /// Adds a host with settings of its own.
    ///
    /// # Panics
    /// When the name is none.
    pub fn add_with(&mut self, name: &str, change: impl FnOnce(&mut Config)) -> HostId {
        let name = NodeName::new(name).expect("a test names its hosts well");
        let domain = Domain::new("lab.example").expect("a good domain");
        let mut config = Config::new(name, domain, self.rng.number() | 1, self.rng.number());
        (self.settings)(&mut config);
        change(&mut config);
        let node = Node::new(config.clone(), self.now);
        let id = self.hosts.len();
        self.hosts.push(Host {
            config,
            node,
            app: None,
            segments: BTreeMap::new(),
            up: true,
            boots: 0,
            events: Vec::new(),
            ahead: Duration::ZERO,
            frozen: None,
            moved: BTreeMap::new(),
        });
        self.attach(HostId(id), 0);
        HostId(id)
    }

    /// Gives a host a link on a segment, with the MTU of its other links (1500 if it has none).
    pub fn attach(&mut self, host: HostId, segment: u32) {
        let mtu = self.hosts[host.0].segments.values().next().copied().unwrap_or(1500);
        self.hosts[host.0].segments.insert(segment, mtu);
        self.link_up(host, segment);
        self.drain(host.0);
    }

    /// Takes a host's link on a segment away.
    pub fn detach(&mut self, host: HostId, segment: u32) {
        let now = self.clock(host);
        self.hosts[host.0].segments.remove(&segment);
        self.hosts[host.0].node.link_down(now, LinkId(segment));
        self.drain(host.0);
    }

    fn link_up(&mut self, host: HostId, segment: u32) {
        let now = self.clock(host);
        let addr = LinkAddr::mac(self.mac(host.0, segment));
        let h = &mut self.hosts[host.0];
        let Some(&mtu) = h.segments.get(&segment) else { return };
        h.node.link_up(now, LinkId(segment), LinkInfo { addr, mtu, name: format!("en{segment}") });
    }

    /// Gives a host the addresses of another, as a copied virtual machine has them.
    pub fn copy_addresses(&mut self, host: HostId, other: HostId) {
        self.copies.insert(host.0, other.0);
        for segment in self.segments(host) {
            self.link_up(host, segment);
        }
        self.drain(host.0);
    }

    fn mac(&self, host: usize, segment: u32) -> [u8; 6] {
        let moved = self.hosts[host].moved.get(&segment).copied();
        moved.unwrap_or_else(|| mac(self.copies.get(&host).copied().unwrap_or(host), segment))
    }

    /// Changes the MTU of a host's links.
    pub fn set_mtu(&mut self, host: HostId, mtu: u32) {
        for segment in self.segments(host) {
            self.set_link_mtu(host, segment, mtu);
        }
    }

    /// Changes the MTU of a host's link on a segment, which it must have.
    pub fn set_link_mtu(&mut self, host: HostId, segment: u32, mtu: u32) {
        self.hosts[host.0].segments.insert(segment, mtu);
        self.link_up(host, segment);
        self.drain(host.0);
    }

    /// The segments a host has a link on.
    #[must_use]
    pub fn segments(&self, host: HostId) -> Vec<u32> {
        self.hosts[host.0].segments.keys().copied().collect()
    }

    /// Installs a host's programs.
    pub fn install(&mut self, host: HostId, app: Box<dyn App>) {
        self.hosts[host.0].app = Some(app);
        self.wake(host.0);
        self.drain(host.0);
    }

    /// Gives a host's node a command.
    ///
    /// # Errors
    /// What the node says.
    pub fn command(&mut self, host: HostId, command: Command) -> Result<(), CommandError> {
        let now = self.clock(host);
        let result = self.hosts[host.0].node.handle_command(now, command);
        self.drain(host.0);
        result
    }

    /// A host's node, to look at.
    #[must_use]
    pub fn node(&self, host: HostId) -> &Node {
        &self.hosts[host.0].node
    }

    /// How often a host was started anew.
    #[must_use]
    pub fn boots(&self, host: HostId) -> u64 {
        self.hosts[host.0].boots
    }

    /// How many hosts there are; their numbers count from 0.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Whether a host is on.
    #[must_use]
    pub fn is_up(&self, host: HostId) -> bool {
        self.hosts[host.0].up
    }

    /// Closes a host's sessions in an orderly way.
    pub fn close_sessions(&mut self, host: HostId) {
        let now = self.clock(host);
        self.hosts[host.0].node.shutdown(now);
        self.drain(host.0);
    }

    /// Closes a host's sessions in an orderly way, and turns it off.
    pub fn shut_down(&mut self, host: HostId) {
        self.close_sessions(host);
        self.hosts[host.0].up = false;
    }

    /// Turns a host off without a word.
    pub fn crash(&mut self, host: HostId) {
        self.hosts[host.0].up = false;
        self.hosts[host.0].app = None;
    }

    /// Starts a host anew, without its programs: nothing survives but its name and addresses.
    pub fn reboot(&mut self, host: HostId) {
        let incarnation = self.rng.number() | 1;
        let seed = self.rng.number();
        let h = &mut self.hosts[host.0];
        h.boots += 1;
        h.config.incarnation = incarnation;
        h.config.seed = seed;
        h.node = Node::new(h.config.clone(), h.clock(self.now));
        h.app = None;
        h.events.clear();
        h.moved.clear();
        h.up = true;
        h.frozen = None;
        for segment in self.segments(host) {
            self.link_up(host, segment);
        }
        self.drain(host.0);
    }

    /// A host's clock jumps ahead, as one does that counts the time a machine slept.
    pub fn step_clock(&mut self, host: HostId, by: Duration) {
        self.hosts[host.0].ahead += by;
    }

    /// What a host's clock shows.
    fn clock(&self, host: HostId) -> Instant {
        self.hosts[host.0].clock(self.now)
    }

    /// Nothing on a host runs for a while, and frames for it are lost: a stopped process.
    pub fn freeze(&mut self, host: HostId, span: Duration) {
        self.hosts[host.0].frozen = Some(self.now + span);
    }

    /// From now on nothing gets from one host to the other; the other direction is untouched.
    pub fn cut(&mut self, from: HostId, to: HostId) {
        self.cuts.insert((from.0, to.0));
    }

    /// Nothing passes between the two hosts in either direction.
    pub fn partition(&mut self, a: HostId, b: HostId) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// A segment carries nothing from now on, or carries again.
    pub fn set_segment(&mut self, segment: u32, alive: bool) {
        if alive {
            self.dead_segments.remove(&segment);
        } else {
            self.dead_segments.insert(segment);
        }
    }

    /// Removes all cuts.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// The events of a host without programs, since the last call.
    pub fn events(&mut self, host: HostId) -> Vec<Event> {
        std::mem::take(&mut self.hosts[host.0].events)
    }
}
