//! Interfaces and frames: the core's links are io-pkt's interfaces, its frames are put behind an Ethernet header.
//!
//! ```text
//!  0      6      12     14
//!  | dst  | src  | 8204 | two pad bytes and the packet … | zeros up to 60 |
//! ```
//!
//! Nothing is allocated for a frame: the core writes it where the driver takes it from, into a chunk of the pool. Only one
//! that is longer than a chunk is written elsewhere first, and copied into several.

mod sys;

use std::collections::BTreeMap;

use io_pkt_sdk::{
    Batch, ETHERNET_HEADER, Host, InterfaceId, Mac, PushError, Stock, Work,
    interface::{Event, EventKind},
};
use qnet_proto::{Destination, Instant, LinkAddr, LinkId, LinkInfo, Node, Transmit};

use crate::{
    internet::{self, Internet},
    vlan,
};

/// Qnet's ethertype.
pub(crate) const ETHERTYPE: u16 = 0x8204;
/// Shortest frame that Ethernet carries, checksum not counted.
const SHORTEST: usize = 60;
/// Longest payload of a frame that any interface has.
const LONGEST: usize = 65_536;
const PADDING: [u8; SHORTEST] = [0; SHORTEST];

/// An interface that Qnet uses.
#[derive(Debug)]
pub(crate) struct Port {
    /// Its name.
    pub(crate) name: String,
    /// Its name in Linux, if it has one.
    system_name: String,
    /// Its address.
    pub(crate) mac: Mac,
    /// The address that Qnet has there, when another node has the interface's.
    moved: Option<(Mac, Option<sys::Hearing>)>,
    /// Whether it has a carrier.
    pub(crate) up: bool,
    /// Longest payload.
    mtu: usize,
}

impl Port {
    /// Qnet's address there.
    fn station(&self) -> Mac {
        self.moved.as_ref().map_or(self.mac, |(mac, _)| *mac)
    }

    fn info(&self) -> LinkInfo {
        LinkInfo { addr: LinkAddr::mac(self.station().0), mtu: self.mtu as u32, name: self.name.clone() }
    }
}

/// All interfaces, and the way out.
pub(crate) struct Ports {
    host: Host,
    ports: BTreeMap<InterfaceId, Port>,
    stock: Stock,
    out: Batch,
    out_link: LinkId,
    /// Longest payload of all of them.
    longest: usize,
    buffer: Vec<u8>,
    vlan: Option<u16>,
    /// Frames lost because the pool had no free chunk; the core sends them again.
    pub(crate) no_memory: u64,
    /// Frames whose header was cut short.
    pub(crate) runts: u64,
    /// Frames for other stations, which an interface hears that hears everything.
    pub(crate) strangers: u64,
    /// The other carrier, when there is one.
    internet: Option<Internet>,
    /// Sockets of it that may have packets.
    ready: Vec<u64>,
}

impl Ports {
    pub(crate) fn new(host: &Host, internet: Option<Internet>) -> Self {
        Self {
            internet,
            ready: Vec::new(),
            host: host.clone(),
            ports: BTreeMap::new(),
            stock: Stock::new(host),
            out: host.batch(),
            out_link: LinkId(0),
            longest: 0,
            buffer: vec![0; LONGEST],
            vlan: None,
            no_memory: 0,
            runts: 0,
            strangers: 0,
        }
    }

    /// Sends and hears packets of that VLAN only, and keeps that many buffers for sending, at most an eighth of the pool.
    pub(crate) fn tune(&mut self, vlan: Option<u16>, reserve: usize) {
        let pool = self.host.pool_view();
        self.vlan = vlan;
        self.stock.set_reserve(reserve.min(pool.len / pool.chunk_size.max(1) / 8));
    }

    /// The ethertype to ask the host for.
    pub(crate) fn ethertype(&self) -> u16 {
        if self.vlan.is_some() { vlan::ETHERTYPE } else { ETHERTYPE }
    }

    /// The VLAN of every packet.
    pub(crate) fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    /// Buffers kept for sending.
    pub(crate) fn in_reserve(&self) -> usize {
        self.stock.in_reserve()
    }

    /// The interfaces in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (InterfaceId, &Port)> {
        self.ports.iter().map(|(id, port)| (*id, port))
    }

    /// The name of a link, for people.
    pub(crate) fn link_name(&self, link: LinkId) -> &str {
        match &self.internet {
            Some(internet) if link == internet::LINK => internet.name(),
            _ => self.ports.get(&InterfaceId(link.0)).map_or("-", |port| port.name.as_str()),
        }
    }

    /// The Internet carrier: its name, this node's address in it, packets that could not be sent.
    pub(crate) fn internet(&self) -> Option<(&'static str, LinkAddr, u64)> {
        self.internet.as_ref().map(|internet| (internet.name(), internet.own(), internet.unsent))
    }

    /// Something is ready on a watched descriptor; false when it is none of the carrier's.
    pub(crate) fn on_ready(&mut self, token: u64) -> bool {
        let ours = self.internet.is_some() && internet::TOKENS.contains(&token);
        if ours && !self.ready.contains(&token) {
            self.ready.push(token);
        }
        ours
    }

    /// Hands packets of the carrier to the core; true when more may wait.
    pub(crate) fn receive_packets(&mut self, node: &mut Node, now: Instant) -> bool {
        if let Some(internet) = &mut self.internet {
            self.ready.retain(|token| internet.receive(node, now, *token));
        }
        !self.ready.is_empty()
    }

    /// Tells the core about the Internet carrier, if that is the carrier.
    pub(crate) fn open_packets(&mut self, node: &mut Node, now: Instant) -> bool {
        let Some(internet) = &mut self.internet else { return false };
        internet.tell(node, now, None);
        true
    }

    /// The resolver has said where this node is itself, or that it does not know.
    pub(crate) fn on_own_address(&mut self, node: &mut Node, now: Instant, own: Option<LinkAddr>) {
        let Some(internet) = &mut self.internet else { return };
        let (carrier, config) = (internet.name(), node.config());
        let dot = if config.domain.as_str().is_empty() { "" } else { "." };
        let name = format!("{}{dot}{}", config.name, config.domain);
        match own {
            Some(own) => tracing::info!("other nodes find {name} at {own} ({carrier})"),
            None => tracing::warn!(
                "nobody knows an address of this node, {name}: others cannot find it \
                 until DNS or their /etc/hosts has it"
            ),
        }
        if own.is_some() {
            internet.tell(node, now, own);
        }
    }

    /// Takes news of an interface, and tells whether it was not known before.
    pub(crate) fn on_event(&mut self, event: &Event) -> bool {
        let is_new = if event.kind == EventKind::Gone {
            self.ports.remove(&event.id);
            false
        } else {
            let interface = &event.interface;
            let mtu = (interface.mtu as usize).min(LONGEST);
            let before = self.ports.remove(&event.id);
            let is_new = before.is_none();
            // Without a carrier all is forgotten: it may come back as another device, in another network.
            let stays = |port: &Port| port.mac == interface.mac && interface.link_up;
            let moved = before.filter(stays).and_then(|port| port.moved);
            let (name, system_name) = (event.name.clone(), interface.system_name.clone());
            let port = Port { name, system_name, mac: interface.mac, moved, up: interface.link_up, mtu };
            self.ports.insert(event.id, port);
            is_new
        };
        self.longest = self.ports.values().map(|port| port.mtu).max().unwrap_or(0);
        is_new
    }

    /// Tells the core about a link.
    pub(crate) fn tell(&self, node: &mut Node, now: Instant, event: &Event) {
        let link = LinkId(event.id.0);
        match self.ports.get(&event.id) {
            Some(port) if port.up => node.link_up(now, link, port.info()),
            _ => node.link_down(now, link),
        }
    }

    /// Another node has the address of an interface: Qnet is to have this one there.
    pub(crate) fn take_address(&mut self, node: &mut Node, now: Instant, link: LinkId, addr: LinkAddr) {
        let Some(mac) = addr.as_mac().map(Mac) else { return };
        let Some(port) = self.ports.get_mut(&InterfaceId(link.0)).filter(|port| port.up) else { return };
        let (name, taken) = (&port.name, port.station());
        let hearing = match port.system_name.as_str() {
            "" => Ok(None),
            system => sys::Hearing::open(system, mac).map(Some),
        };
        match hearing {
            Ok(hearing) => {
                tracing::info!(
                    "{name}: Qnet takes the address {mac} there, because another node has {taken}"
                );
                port.moved = Some((mac, hearing));
                node.link_up(now, link, port.info());
            }
            Err(error) => tracing::warn!(
                "{name}: another node has the address {taken}, too, and {} cannot have {mac} beside it: {error}",
                port.system_name
            ),
        }
    }

    /// Hands received frames to the core.
    pub(crate) fn receive(&mut self, node: &mut Node, now: Instant, interface: InterfaceId, frames: &Batch) {
        let link = LinkId(interface.0);
        let station = self.ports.get(&interface).map(Port::station);
        for frame in frames.frames() {
            let bytes = match frame.contiguous() {
                Some(bytes) => bytes,
                None => {
                    let len = frame.copy_to(&mut self.buffer);
                    &self.buffer[..len]
                }
            };
            let (Some(source), Some(_)) = (frame.source(), bytes.get(ETHERNET_HEADER..)) else {
                self.runts += 1;
                continue;
            };
            if frame.destination().is_some_and(|to| !to.is_group() && Some(to) != station) {
                self.strangers += 1;
                continue;
            }
            let header = vlan::header_len(bytes, self.vlan, ETHERTYPE);
            let Some(packet) = header.and_then(|len| bytes.get(len..)) else { continue };
            node.handle_frame(now, link, LinkAddr::mac(source.0), packet);
        }
    }

    /// Sends what the core wants sent, up to the budget. False when more is left.
    pub(crate) fn transmit(&mut self, node: &mut Node, now: Instant, work: &mut Budget<'_, '_>) -> bool {
        let mut drained = false;
        while work.may_go_on() {
            let sent = self.send_in_place(node, now).unwrap_or_else(|| self.send_copied(node, now));
            let Some(bytes) = sent else {
                drained = true;
                break;
            };
            work.handled(bytes);
        }
        self.flush();
        if let Some(internet) = &mut self.internet {
            internet.flush();
        }
        while self.stock.replenish() {}
        drained
    }

    /// Sends the next packet, which the core writes into a chunk, and gives its length. `None` when that cannot be: packets
    /// may be longer than a chunk, or no frames, or the pool is empty.
    fn send_in_place(&mut self, node: &mut Node, now: Instant) -> Option<Option<usize>> {
        let header_len = self.header_len();
        let end = header_len + self.longest;
        let chunk = if self.internet.is_none() { self.stock.begin().ok() } else { None };
        let (header, packet) = chunk?.get_mut(..end.max(SHORTEST))?.split_at_mut(header_len);
        let Some(transmit) = node.poll_transmit(now, &mut packet[..self.longest]) else { return Some(None) };
        let len = transmit.len.max(SHORTEST - header_len);
        packet[transmit.len..len].fill(0);
        if let Some(built) = header_of(&self.ports, self.vlan, &transmit) {
            header.copy_from_slice(&built[..header_len]);
            self.turn_to(transmit.link);
            if self.stock.finish(&mut self.out, header_len + len) == Err(PushError::Full) {
                self.flush();
                // There is room now, and the chunk is still there.
                let _done = self.stock.finish(&mut self.out, header_len + len);
            }
        }
        Some(Some(transmit.len))
    }

    /// Sends the next packet by way of a buffer, and gives its length.
    fn send_copied(&mut self, node: &mut Node, now: Instant) -> Option<usize> {
        let Some(internet) = &mut self.internet else {
            let transmit = node.poll_transmit(now, &mut self.buffer)?;
            self.push(&transmit);
            return Some(transmit.len);
        };
        let transmit = node.poll_transmit(now, internet.buffer())?;
        // There is no other link beside this carrier, and nothing is broadcast on it.
        if let (internet::LINK, Destination::Unicast(to)) = (transmit.link, transmit.dst) {
            internet.push(node, now, to, transmit.len);
        }
        Some(transmit.len)
    }

    /// Bytes before a packet.
    fn header_len(&self) -> usize {
        ETHERNET_HEADER + if self.vlan.is_some() { vlan::TAG } else { 0 }
    }

    /// Copies a packet out of the buffer, into as many chunks as it takes.
    fn push(&mut self, transmit: &Transmit) {
        let Some(header) = header_of(&self.ports, self.vlan, transmit) else { return };
        self.turn_to(transmit.link);
        let header = &header[..self.header_len()];
        let padding = &PADDING[..SHORTEST.saturating_sub(header.len() + transmit.len)];
        let parts: [&[u8]; 3] = [header, &self.buffer[..transmit.len], padding];
        let mut pushed = self.stock.push(&mut self.out, &parts);
        if pushed == Err(PushError::Full) {
            self.host.send(InterfaceId(transmit.link.0), &mut self.out);
            pushed = self.stock.push(&mut self.out, &parts);
        }
        if pushed.is_err() {
            self.no_memory += 1;
        }
    }

    /// What follows goes out by that link.
    fn turn_to(&mut self, link: LinkId) {
        if link != self.out_link {
            self.flush();
            self.out_link = link;
        }
    }

    fn flush(&mut self) {
        self.host.send(InterfaceId(self.out_link.0), &mut self.out);
    }
}

/// The header of a frame, as long as the VLAN wants it; `None` when its interface is gone or its address is not one of
/// Ethernet.
fn header_of(
    ports: &BTreeMap<InterfaceId, Port>,
    vlan: Option<u16>,
    transmit: &Transmit,
) -> Option<[u8; ETHERNET_HEADER + vlan::TAG]> {
    let port = ports.get(&InterfaceId(transmit.link.0))?;
    let destination = match transmit.dst {
        Destination::Broadcast => Mac::BROADCAST.0,
        Destination::Unicast(addr) => addr.as_mac()?,
    };
    let mut header = [0; ETHERNET_HEADER + vlan::TAG];
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&port.station().0);
    vlan::put_types(&mut header, vlan, ETHERTYPE);
    Some(header)
}

/// How many frames may be sent in one go: a call of `poll` has a budget, one of `receive` a fixed share.
pub(crate) enum Budget<'w, 'a> {
    /// That of a call of `poll`.
    Work(&'w mut Work<'a>),
    /// A number of frames.
    Frames(usize),
}

impl Budget<'_, '_> {
    fn may_go_on(&self) -> bool {
        match self {
            Self::Work(work) => work.may_go_on(),
            Self::Frames(left) => *left > 0,
        }
    }

    fn handled(&mut self, bytes: usize) {
        match self {
            Self::Work(work) => work.handled(1, bytes),
            Self::Frames(left) => *left -= 1,
        }
    }
}
