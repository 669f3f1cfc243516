//! How a network's time passes, and how frames get from one host to the others.
//!
//! A step is one point in time: every frame that arrives then, every deadline that is reached then,
//! and what the hosts say to it. After a step nobody has anything left to do at that time.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use qnet_proto::{Destination, Event, Instant, LinkAddr, LinkId};

use super::{HostId, InFlight, Network, Programs};

/// Steps at one point in time after which nodes are said to go round in circles.
const MOST_IDLE: u32 = 100_000;

impl Network {
    fn next_at(&self) -> Option<Instant> {
        let frame = self.queue.peek().map(|Reverse((at, _))| *at);
        let wakes = self.hosts.iter().filter(|h| h.up).filter_map(|h| h.wakes_at());
        frame.into_iter().chain(wakes).min()
    }

    /// Lets the next thing happen, if it happens by `limit`. Returns whether something did.
    fn step(&mut self, limit: Instant) -> bool {
        let Some(at) = self.next_at().filter(|&at| at <= limit) else { return false };
        self.idle = if at > self.now { 0 } else { self.idle + 1 };
        assert!(self.idle < MOST_IDLE, "time stands still at {}", self.now);
        self.now = self.now.max(at);
        let mut touched = BTreeSet::new();
        while let Some(&Reverse((at, id))) = self.queue.peek()
            && at <= self.now
        {
            self.queue.pop();
            let Some(frame) = self.frames.remove(&id) else { continue };
            if self.arrive(&frame) {
                touched.insert(frame.to);
            }
        }
        for id in 0..self.hosts.len() {
            if self.hosts[id].up && self.on_clock(id) {
                touched.insert(id);
            }
        }
        for &id in &touched {
            self.drain(id);
        }
        self.touched.clear();
        self.touched.extend(touched.into_iter().map(HostId));
        true
    }

    /// A frame reaches its host; whether the host took notice.
    fn arrive(&mut self, frame: &InFlight) -> bool {
        let now = self.clock(HostId(frame.to));
        let host = &mut self.hosts[frame.to];
        let taken = host.up && host.frozen.is_none();
        if taken {
            host.node.handle_frame(now, frame.link, LinkAddr::mac(frame.src), &frame.frame);
        }
        taken
    }

    /// A host's deadlines; whether one was reached.
    fn on_clock(&mut self, id: usize) -> bool {
        let host = &mut self.hosts[id];
        if host.wakes_at().is_none_or(|at| at > self.now) {
            return false;
        }
        host.frozen = None;
        let now = host.clock(self.now);
        if host.node.poll_timeout().is_some_and(|at| at <= now) {
            host.node.handle_timeout(now);
        }
        if host.app.as_ref().and_then(|app| app.wakes_at()).is_some_and(|at| at <= now) {
            self.wake(id);
        }
        true
    }

    pub(super) fn wake(&mut self, id: usize) {
        let now = self.clock(HostId(id));
        let host = &mut self.hosts[id];
        if let Some(mut app) = host.app.take() {
            app.on_time(&mut Programs { now, node: &mut host.node });
            host.app = Some(app);
        }
    }

    /// Events to the programs, frames to the wire, until there are no more of either.
    pub(super) fn drain(&mut self, id: usize) {
        let now = self.clock(HostId(id));
        loop {
            while let Some(event) = self.hosts[id].node.poll_event() {
                let host = &mut self.hosts[id];
                if let Event::TakeAddress { link, addr } = event {
                    host.moved.insert(link.0, addr.as_mac().expect("the simulated wire is Ethernet"));
                    self.link_up(HostId(id), link.0);
                    continue;
                }
                match host.app.take() {
                    Some(mut app) => {
                        app.on_event(&mut Programs { now, node: &mut host.node }, event);
                        host.app = Some(app);
                    }
                    None => host.events.push(event),
                }
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let sent = self.hosts[id].node.poll_transmit(now, &mut buffer);
            if let Some(transmit) = sent {
                self.carry(id, transmit.link, transmit.dst, &buffer[..transmit.len]);
            }
            self.buffer = buffer;
            if sent.is_none() {
                return;
            }
        }
    }

    fn carry(&mut self, from: usize, link: LinkId, dst: Destination, frame: &[u8]) {
        let mtu = self.hosts[from].segments.get(&link.0).copied();
        let mtu = mtu.expect("a node sends on links that it has") as usize;
        assert!(frame.len() <= mtu, "a frame of {} bytes is longer than the MTU {mtu}", frame.len());
        let src = self.mac(from, link.0);
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
        self.cables.count(link.0, frame);
        self.cables.learn(link.0, src, from);
        let wire = self.wire(link.0);
        let egress = self.egress.entry((from, link.0)).or_default();
        let Some(waits) = egress.send(self.now, &wire, frame.len()) else { return };
        for (to, segment) in self.hearing(from, link.0, dst_mac, frame.len()) {
            for after in wire.faults.arrivals(&mut self.rng).into_iter().flatten() {
                let mut frame = frame.to_vec();
                wire.faults.damage(&mut self.rng, &mut frame);
                self.serial += 1;
                self.queue.push(Reverse((self.now + waits + after, self.serial)));
                self.frames.insert(self.serial, InFlight { to, link: LinkId(segment), src, frame });
            }
        }
    }

    /// Who hears a frame, and on which link.
    fn hearing(&self, from: usize, segment: u32, dst: [u8; 6], len: usize) -> Vec<(usize, u32)> {
        let others = (0..self.hosts.len()).filter(|&to| to != from && !self.cuts.contains(&(from, to)));
        let links = others.flat_map(|to| self.cables.hearing(from, segment, to).map(move |on| (to, on)));
        let hears = |&(to, on): &(usize, u32)| {
            // A switch brings it only to where it heard that address last.
            if self.cables.learned(segment, dst).is_some_and(|port| port != to) {
                return false;
            }
            // What is longer than the receiver's MTU is thrown away by its network card.
            let there = self.hosts[to].segments.get(&on).is_some_and(|&mtu| len <= mtu as usize);
            there && (dst == [0xff; 6] || dst == self.mac(to, on))
        };
        links.filter(hears).collect()
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

    /// Lets time pass until `done`, at most for `span`; `done` is asked before every step and once
    /// at the end. Returns whether it came to be.
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

    /// The hosts that did something in the last step.
    #[must_use]
    pub fn touched(&self) -> &[HostId] {
        &self.touched
    }
}
