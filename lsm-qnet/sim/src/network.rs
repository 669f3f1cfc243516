//! Nodes, wires and time.
//!
//! Time jumps from one thing to the next: a frame that arrives, a node's deadline, an app's
//! deadline. Segments are numbered; a host has a link on each segment it was attached to, with an
//! address made of both numbers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use qnet_proto::{
    Command, CommandError, Config, Destination, Domain, Event, Instant, LinkAddr, LinkId, LinkInfo, Node,
    NodeName,
};

use crate::faults::Faults;
use crate::pcap::Pcap;
use crate::rng::Rng;

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
    segments: BTreeSet<u32>,
    mtu: u32,
    up: bool,
    boots: u64,
    /// Events nobody took, when the host has no app.
    events: Vec<Event>,
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
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    frames: BTreeMap<u64, InFlight>,
    serial: u64,
    /// Steps since time went on.
    idle: u32,
    /// Directions between hosts that carry nothing, on one segment or (`None`) on all.
    cuts: BTreeSet<(usize, usize)>,
    dead_segments: BTreeSet<u32>,
    pcap: Option<Pcap>,
    settings: fn(&mut Config),
    buffer: Vec<u8>,
}

impl Drop for Network {
    /// A repeated run that fails leaves its frames behind.
    fn drop(&mut self) {
        if let Some(pcap) = self.pcap.as_ref().filter(|_| std::thread::panicking()) {
            let path = std::env::temp_dir().join(format!("qnet-sim-failed-{}.pcap", std::process::id()));
            match std::fs::write(&path, pcap.bytes()) {
                Ok(()) => eprintln!("its frames are in {}", path.display()),
                Err(error) => eprintln!("its frames cannot be written to {}: {error}", path.display()),
            }
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
            queue: BinaryHeap::new(),
            frames: BTreeMap::new(),
            serial: 0,
            idle: 0,
            cuts: BTreeSet::new(),
            dead_segments: BTreeSet::new(),
            pcap: crate::seeds::is_repetition().then(Pcap::new),
            settings: |_| {},
            buffer: vec![0; 65_536],
        }
    }

    /// Changes the settings of every host added or rebooted from now on.
    pub fn configure(&mut self, settings: fn(&mut Config)) {
        self.settings = settings;
    }

    /// Changes the wire from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
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
            segments: BTreeSet::new(),
            mtu: 1500,
            up: true,
            boots: 0,
            events: Vec::new(),
        });
        self.attach(HostId(id), 0);
        HostId(id)
    }

    /// Gives a host a link on a segment.
    pub fn attach(&mut self, host: HostId, segment: u32) {
        self.hosts[host.0].segments.insert(segment);
        self.link_up(host, segment);
        self.drain(host.0);
    }

    /// Takes a host's link on a segment away.
    pub fn detach(&mut self, host: HostId, segment: u32) {
        self.hosts[host.0].segments.remove(&segment);
        self.hosts[host.0].node.link_down(self.now, LinkId(segment));
        self.drain(host.0);
    }

    fn link_up(&mut self, host: HostId, segment: u32) {
        let h = &mut self.hosts[host.0];
        let addr = LinkAddr::mac(mac(host.0, segment));
        let info = LinkInfo { addr, mtu: h.mtu, name: format!("en{segment}") };
        h.node.link_up(self.now, LinkId(segment), info);
    }

    /// Changes the MTU of a host's links.
    pub fn set_mtu(&mut self, host: HostId, mtu: u32) {
        self.hosts[host.0].mtu = mtu;
        for segment in self.hosts[host.0].segments.clone() {
            self.link_up(host, segment);
        }
        self.drain(host.0);
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
        let result = self.hosts[host.0].node.handle_command(self.now, command);
        self.drain(host.0);
        result
    }

    /// A host's node, to look at.
    #[must_use]
    pub fn node(&self, host: HostId) -> &Node {
        &self.hosts[host.0].node
    }

    /// Closes a host's sessions in an orderly way, and turns it off.
    pub fn shut_down(&mut self, host: HostId) {
        self.hosts[host.0].node.shutdown(self.now);
        self.drain(host.0);
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
        h.node = Node::new(h.config.clone(), self.now);
        h.app = None;
        h.events.clear();
        h.up = true;
        for segment in h.segments.clone() {
            self.link_up(host, segment);
        }
        self.drain(host.0);
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

    // ---- time ----

    fn next_at(&mut self) -> Option<Instant> {
        let frame = self.queue.peek().map(|Reverse((at, _))| *at);
        let hosts = self.hosts.iter().filter(|h| h.up);
        let wakes =
            hosts.flat_map(|h| [h.node.poll_timeout(), h.app.as_ref().and_then(|app| app.wakes_at())]);
        frame.into_iter().chain(wakes.flatten()).min()
    }

    /// Lets the next thing happen, if it happens by `limit`. Returns whether something did.
    fn step(&mut self, limit: Instant) -> bool {
        let Some(at) = self.next_at().filter(|&at| at <= limit) else { return false };
        self.idle = if at > self.now { 0 } else { self.idle + 1 };
        assert!(self.idle < 100_000, "time stands still at {}", self.now);
        self.now = self.now.max(at);
        let mut touched = BTreeSet::new();
        while let Some(&Reverse((at, id))) = self.queue.peek()
            && at <= self.now
        {
            self.queue.pop();
            let Some(frame) = self.frames.remove(&id) else { continue };
            let host = &mut self.hosts[frame.to];
            if host.up {
                host.node.handle_frame(self.now, frame.link, LinkAddr::mac(frame.src), &frame.frame);
                touched.insert(frame.to);
            }
        }
        for id in 0..self.hosts.len() {
            let host = &mut self.hosts[id];
            if !host.up {
                continue;
            }
            if host.node.poll_timeout().is_some_and(|at| at <= self.now) {
                host.node.handle_timeout(self.now);
                touched.insert(id);
            }
            if host.app.as_ref().and_then(|app| app.wakes_at()).is_some_and(|at| at <= self.now) {
                self.wake(id);
                touched.insert(id);
            }
        }
        touched.into_iter().for_each(|id| self.drain(id));
        true
    }

    fn wake(&mut self, id: usize) {
        let host = &mut self.hosts[id];
        if let Some(mut app) = host.app.take() {
            app.on_time(&mut Programs { now: self.now, node: &mut host.node });
            host.app = Some(app);
        }
    }

    /// Events to the programs, frames to the wire, until there are no more of either.
    fn drain(&mut self, id: usize) {
        loop {
            let host = &mut self.hosts[id];
            while let Some(event) = host.node.poll_event() {
                match host.app.take() {
                    Some(mut app) => {
                        app.on_event(&mut Programs { now: self.now, node: &mut host.node }, event);
                        host.app = Some(app);
                    }
                    None => host.events.push(event),
                }
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let sent = self.hosts[id].node.poll_transmit(self.now, &mut buffer);
            if let Some(transmit) = sent {
                assert!(transmit.len <= self.hosts[id].mtu as usize, "a frame is longer than the MTU");
                self.carry(id, transmit.link, transmit.dst, &buffer[..transmit.len]);
            }
            self.buffer = buffer;
            if sent.is_none() {
                return;
            }
        }
    }

    fn carry(&mut self, from: usize, link: LinkId, dst: Destination, frame: &[u8]) {
        let src = mac(from, link.0);
        let dst_mac = match dst {
            Destination::Broadcast => [0xff; 6],
            Destination::Unicast(addr) => addr.as_mac().expect("the simulated wire is Ethernet"),
        };
        if let Some(pcap) = &mut self.pcap {
            let at = Duration::from_nanos(self.now.as_nanos());
            pcap.add(at, dst_mac, src, qnet_proto::wire::lwl4::ETHERTYPE, frame);
        }
        if self.dead_segments.contains(&link.0) {
            return;
        }
        for to in 0..self.hosts.len() {
            let there = self.hosts[to].segments.contains(&link.0);
            let meant = dst_mac == [0xff; 6] || dst_mac == mac(to, link.0);
            if to == from || !there || !meant || self.cuts.contains(&(from, to)) {
                continue;
            }
            for after in self.faults.arrivals(&mut self.rng).into_iter().flatten() {
                let mut frame = frame.to_vec();
                self.faults.damage(&mut self.rng, &mut frame);
                self.serial += 1;
                self.queue.push(Reverse((self.now + after, self.serial)));
                self.frames.insert(self.serial, InFlight { to, link, src, frame });
            }
        }
    }

    /// Lets time pass up to `until`.
    ///
    /// # Panics
    /// When the nodes go round in circles without time passing; so do the other ways to run.
    pub fn run_until(&mut self, until: Instant) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Lets time pass by `span`.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    /// Lets time pass until `done`, at most for `span`. Returns whether it came to be.
    pub fn run_while(&mut self, span: Duration, mut done: impl FnMut(&mut Network) -> bool) -> bool {
        let until = self.now + span;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(until) {
                self.now = self.now.max(until);
                return done(self);
            }
        }
    }
}
