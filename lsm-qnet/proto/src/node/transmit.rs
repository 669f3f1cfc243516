//! Outgoing frames: control messages first, then the nodes in turn, a frame each.
//!
//! Nothing is kept as bytes. What has to be said is remembered as a value, and written straight into
//! the caller's buffer when the caller asks for the next frame.

use crate::link::{Destination, LinkAddr, LinkId, Transmit};
use crate::names::Fqnn;
use crate::session::Out;
use crate::time::Instant;
use crate::wire::Order;
use crate::wire::lr::{Lr, LrKind, Party};
use crate::wire::lwl4::{HEADER, Header, Kind, Layer};
use crate::wire::tcs::Tcs;
use crate::wire::tlv::{ABILITY_CONNECT_PULSE, ABILITY_CRC, ABILITY_SACK, Extensions, VERSION};

use super::Node;

/// Control messages waiting; beyond, the newest are dropped and counted: all of them are repeated
/// by somebody's timer.
const MAX_CONTROL: usize = 8192;

/// Whom an LR message speaks to.
#[derive(Clone, Debug, Default)]
pub(super) struct LrTo {
    /// Nobody in an announcement.
    pub(super) name: Option<Fqnn>,
    pub(super) mac: Option<[u8; 6]>,
}

/// A message that belongs to no session.
#[derive(Clone, Debug)]
pub(super) enum Control {
    /// Discovery.
    Lr { link: LinkId, dst: Destination, kind: LrKind, to: LrTo },
    /// TCS_DOWN, or TCS_REM_DOWN for a session this node does not have.
    Tcs { link: LinkId, addr: LinkAddr, kind: Kind, sconn: u32, dconn: u32 },
}

impl Control {
    pub(super) fn link(&self) -> LinkId {
        match self {
            Control::Lr { link, .. } | Control::Tcs { link, .. } => *link,
        }
    }
}

impl Node {
    pub(super) fn push_control(&mut self, control: Control) {
        if self.control.len() < MAX_CONTROL {
            self.control.push_back(control);
        } else {
            self.counters.tx_control_overflow += 1;
        }
    }

    pub(super) fn next_frame(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some(control) = self.control.pop_front() {
            if let Some(transmit) = self.emit_control(&control, buffer) {
                return Some(transmit);
            }
        }
        while let Some(nd) = self.ready.pop_front() {
            if let Some(transmit) = self.poll_peer(now, nd, buffer) {
                self.ready.push_back(nd);
                return Some(transmit);
            }
            if let Some(peer) = self.peers.get_mut(nd) {
                peer.queued = false;
            }
            // What was sent last may have set new deadlines.
            self.update_timer(now, nd);
        }
        None
    }

    /// Writes header and checksum around the payload, and counts the frame.
    fn finish(&mut self, header: &Header, spare: usize, buffer: &mut [u8]) -> Option<usize> {
        let crc = self.config.do_crc.then_some(&self.crc);
        let len = header.emit(buffer, crc).ok()?;
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += u64::from(header.length);
        Some((len + spare).min(buffer.len()))
    }

    /// What this node tells about itself on a link; nothing when it plays a plain QNX node.
    fn extensions(&self, link: LinkId) -> Option<Extensions> {
        if !self.config.extensions {
            return None;
        }
        let mtu = self.links.get(&link).map_or(0, |info| info.mtu);
        Some(Extensions {
            incarnation: self.config.incarnation,
            version: VERSION,
            abilities: ABILITY_SACK
                | ABILITY_CONNECT_PULSE
                | if self.config.do_crc { ABILITY_CRC } else { 0 },
            largest_payload: mtu.saturating_sub(HEADER as u32),
            window: self.config.limits.reassembly_per_peer,
            meant_for: 0,
        })
    }

    fn emit_control(&mut self, control: &Control, buffer: &mut [u8]) -> Option<Transmit> {
        let (mut header, dst) = match *control {
            Control::Lr { dst, .. } => (Header::new(Kind::Lres, Layer::Lr), dst),
            Control::Tcs { addr, kind, sconn, dconn, .. } => {
                let mut header = Header::new(kind, Layer::Kif);
                header.sconn = sconn;
                header.dconn = dconn;
                (header, Destination::Unicast(addr))
            }
        };
        let link = control.link();
        if let Control::Tcs { kind: Kind::TcsRemDown, .. } = control {
            // Who says so: at a shared address it may be the wrong one.
            if let Some(ext) = self.extensions(link) {
                let told = Extensions { incarnation: ext.incarnation, ..Extensions::default() };
                header.layer = Layer::Seq;
                header.length = told.write(buffer.get_mut(HEADER..)?, Order::Little).ok()? as u32;
            }
        }
        if let Control::Lr { kind, to, .. } = control {
            let room = buffer.get_mut(HEADER..)?;
            let own = self.links.get(&link)?.addr.as_mac();
            let src = Party { mac: own, ..party(Some(&self.own)) };
            let dst = Party { mac: to.mac, ..party(to.name.as_ref()) };
            // Discovery tells who, the session's set-up tells what it can.
            let extensions = self
                .extensions(link)
                .map(|ext| Extensions { incarnation: ext.incarnation, ..Extensions::default() });
            let lr = Lr { kind: *kind, src, dst, extensions };
            header.length = lr.emit(room, Order::Little).ok()? as u32; // bounded by the buffer
        }
        let len = self.finish(&header, 0, buffer)?;
        Some(Transmit { link, dst, len })
    }

    fn poll_peer(&mut self, now: Instant, nd: u16, buffer: &mut [u8]) -> Option<Transmit> {
        let peer = self.peers.get_mut(nd)?;
        let their_nd = peer.their_nd;
        let sessions = [peer.candidate.as_deref_mut(), peer.session.as_deref_mut()];
        let mut found = None;
        for session in sessions.into_iter().flatten() {
            if let Some((out, path)) = session.poll(now, buffer, &self.budget) {
                let (retransmits, acknowledged) = session.outbox.take_counts();
                self.counters.tx_retransmits += retransmits;
                self.counters.messages_out += acknowledged;
                peer.counters.tx_retransmits += retransmits;
                peer.counters.messages_out += acknowledged;
                found = Some((out, path, session.local_id, session.remote_id));
                break;
            }
        }
        let (out, (link, addr), local_id, remote_id) = found?;
        let (mut header, spare) = match out {
            Out::Packet(header, spare) => (header, spare),
            Out::Tcs(kind) => (self.emit_tcs(nd, link, kind, buffer)?, 0),
        };
        header.src_nd_for_dst = nd;
        header.dst_nd_for_src = their_nd;
        header.sconn = local_id;
        header.dconn = remote_id;
        let len = self.finish(&header, spare, buffer)?;
        if let Some(peer) = self.peers.get_mut(nd) {
            peer.counters.tx_frames += 1;
            peer.counters.tx_bytes += u64::from(header.length);
        }
        Some(Transmit { link, dst: Destination::Unicast(addr), len })
    }

    /// The body of TCS_INIT, and with extensions of TCS_REM_UP and TCS_UP.
    fn emit_tcs(&self, nd: u16, link: LinkId, kind: Kind, buffer: &mut [u8]) -> Option<Header> {
        let mut header = Header::new(kind, Layer::Kif);
        let meant_for = if kind == Kind::TcsInit { self.meant_for(nd) } else { 0 };
        let extensions = self.extensions(link).map(|ext| Extensions { meant_for, ..ext });
        let bare = matches!(kind, Kind::TcsDown | Kind::TcsRemDown)
            || (kind != Kind::TcsInit && extensions.is_none());
        if !bare {
            let peer = self.peers.get(nd)?;
            let tcs = Tcs {
                src_name: self.own.name.as_str(),
                src_domain: self.own.domain.as_str(),
                dst_name: peer.own_name.name.as_str(),
                dst_domain: peer.own_name.domain.as_str(),
                extensions,
            };
            let room = buffer.len().min(self.links.get(&link)?.mtu as usize);
            // bounded by the buffer
            header.length = tcs.emit(buffer.get_mut(HEADER..room)?, Order::Little).ok()? as u32;
        }
        Some(header)
    }
}

fn party(name: Option<&Fqnn>) -> Party<'_> {
    name.map_or(Party::default(), |name| Party {
        name: name.name.as_str(),
        domain: name.domain.as_str(),
        mac: None,
    })
}
