//! Cables and switches: which links of which hosts a segment joins, and what went over it.
//!
//! A segment is a switch of its own unless several are joined to one. A cable that is pulled silently looks alive to its
//! host: the network card sees a carrier, and nothing arrives.

use std::collections::{BTreeMap, BTreeSet};

use qnet_proto::NodeId;
use qnet_proto::wire::lwl4::{Kind, Layer, Packet};

use super::{HostId, Network};

/// The state of the cables.
#[derive(Debug, Default)]
pub(super) struct Cables {
    /// Segments that end in one switch.
    joined: BTreeSet<u32>,
    /// Links whose cable was pulled silently, by host and segment.
    pulled: BTreeSet<(usize, u32)>,
    /// Links that hear, and are not heard.
    mute: BTreeSet<(usize, u32)>,
    /// Bytes of messages that were put on each segment.
    carried: BTreeMap<u32, u64>,
    /// For segments that are learning switches, the host that spoke last from an address.
    learned: Option<BTreeMap<(u32, [u8; 6]), usize>>,
    /// Acknowledgements and refusals, on all segments.
    answers: u64,
}

impl Cables {
    /// The links of the host `to` that hear what is sent on `segment` by `from`.
    pub(super) fn hearing(&self, from: usize, segment: u32, to: usize) -> impl Iterator<Item = u32> + '_ {
        let cut = self.pulled.contains(&(from, segment)) || self.mute.contains(&(from, segment));
        let one_switch = self.joined.contains(&segment);
        let others = self.joined.iter().copied().filter(move |&other| one_switch && other != segment);
        std::iter::once(segment)
            .chain(others)
            .filter(move |&other| !cut && !self.pulled.contains(&(to, other)))
    }

    /// A host spoke from an address.
    pub(super) fn learn(&mut self, segment: u32, addr: [u8; 6], host: usize) {
        if let Some(learned) = &mut self.learned {
            learned.insert((segment, addr), host);
        }
    }

    /// The only host to which a switch brings what is for that address; `None`: to all.
    pub(super) fn learned(&self, segment: u32, addr: [u8; 6]) -> Option<usize> {
        self.learned.as_ref()?.get(&(segment, addr)).copied()
    }

    pub(super) fn count(&mut self, segment: u32, frame: &[u8]) {
        let Ok(packet) = Packet::parse(frame) else { return };
        match packet.header.kind {
            Kind::User if packet.header.layer == Layer::Kif => {
                *self.carried.entry(segment).or_default() += u64::from(packet.header.length);
            }
            Kind::Ack | Kind::Nack => self.answers += 1,
            _ => {}
        }
    }
}

impl Network {
    /// Makes these segments one switch: what is sent on one is heard on all.
    pub fn join(&mut self, segments: impl IntoIterator<Item = u32>) {
        self.cables.joined.extend(segments);
    }

    /// Makes all segments switches that learn where an address is from who spoke from it last; before, they are hubs.
    pub fn learning_switches(&mut self) {
        self.cables.learned = Some(BTreeMap::new());
    }

    /// Pulls the cable of a host's link out of the switch, or puts it back, without the host's noticing.
    pub fn pull(&mut self, host: HostId, segment: u32, out: bool) {
        if out {
            self.cables.pulled.insert((host.0, segment));
        } else {
            self.cables.pulled.remove(&(host.0, segment));
        }
    }

    /// Makes a host's link lose what it sends, and hear as before; or mends it.
    pub fn mute(&mut self, host: HostId, segment: u32, mute: bool) {
        if mute {
            self.cables.mute.insert((host.0, segment));
        } else {
            self.cables.mute.remove(&(host.0, segment));
        }
    }

    /// Acknowledgements and refusals that were sent so far, by anybody.
    #[must_use]
    pub fn acknowledgements(&self) -> u64 {
        self.cables.answers
    }

    /// `_NETMGR_QOS_FLUSH` on a host, for all nodes.
    pub fn flush(&mut self, host: HostId) {
        let now = self.clock(host);
        self.hosts[host.0].node.flush(now, NodeId::LOCAL);
        self.drain(host.0);
    }

    /// Bytes of messages that were put on a segment so far, by anybody, again or for the first time.
    #[must_use]
    pub fn carried(&self, segment: u32) -> u64 {
        self.cables.carried.get(&segment).copied().unwrap_or(0)
    }
}
