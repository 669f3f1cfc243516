//! Incoming frames: checked, counted, and led to the session, resolver or kernel interface they
//! are for.
//!
//! Each frame has exactly one fate and moves exactly one counter. A hostile frame costs no more than
//! that: nothing is allocated, and nothing answered that its sender could not have had cheaper.

use std::borrow::Cow;

use crate::link::{LinkAddr, LinkId};
use crate::names::{Domain, Fqnn, NodeName};
use crate::session::inbox::Arrival;
use crate::session::state::{Input, Phase};
use crate::time::Instant;
use crate::wire::lr::Lr;
use crate::wire::lwl4::{Header, Kind, Layer, Packet};
use crate::wire::nr::Nr;
use crate::wire::tcs::Tcs;
use crate::wire::tlv::Extensions;
use crate::wire::{Order, WireError};

use super::Node;
use super::delivery::Sinks;
use super::entries::Heard;
use super::transmit::Control;

/// Ticks that a sink may have no room for what is there for it; QNX's ticks make it thirty seconds.
const SINK_PATIENCE: u32 = 150;

/// A message as it arrived.
pub(super) struct Incoming<'a> {
    /// The node it came from.
    pub(super) nd: u16,
    /// Its sender's byte order.
    pub(super) order: Order,
    /// Its bytes: a part of the frame, or put together from several.
    pub(super) bytes: Cow<'a, [u8]>,
}

/// What became of a frame, for the counters.
enum Fate {
    Used,
    Duplicate,
    NoRoom,
    OutOfWindow,
    NoSession,
    NotForUs,
    Unknown,
    NoCrc,
    Damaged(WireError),
}

impl From<WireError> for Fate {
    fn from(error: WireError) -> Fate {
        Fate::Damaged(error)
    }
}

impl Node {
    pub(super) fn on_frame(&mut self, now: Instant, link: LinkId, src: LinkAddr, frame: &[u8]) {
        let fate = match Packet::parse(frame) {
            // The link went down while the frame was on its way up.
            Ok(_) if !self.links.contains_key(&link) => Fate::NotForUs,
            Ok(packet) => self.on_packet(now, link, src, &packet),
            Err(error) => error.into(),
        };
        let c = &mut self.counters;
        *match fate {
            Fate::Used => &mut c.rx_frames,
            Fate::Duplicate => &mut c.rx_duplicate,
            Fate::NoRoom => &mut c.rx_no_room,
            Fate::OutOfWindow => &mut c.rx_out_of_window,
            Fate::NoSession => &mut c.rx_no_session,
            Fate::NotForUs => &mut c.rx_not_for_us,
            Fate::Unknown => &mut c.rx_unknown,
            Fate::NoCrc => &mut c.rx_no_crc,
            Fate::Damaged(WireError::BadCrc { .. }) => &mut c.rx_bad_crc,
            Fate::Damaged(_) => &mut c.rx_malformed,
        } += 1;
    }

    fn on_packet(&mut self, now: Instant, link: LinkId, src: LinkAddr, packet: &Packet<'_>) -> Fate {
        if self.config.do_crc
            && let Err(fate) = self.check_crc(packet)
        {
            return fate;
        }
        let (header, payload) = (&packet.header, packet.payload);
        match header.kind {
            Kind::Lres if header.layer == Layer::Lr => match Lr::parse(payload, header.order) {
                Ok(lr) if self.on_lr(now, link, src, &lr) => Fate::Used,
                Ok(_) => Fate::NotForUs,
                Err(error) => error.into(),
            },
            Kind::Lres => Fate::Unknown,
            Kind::TcsInit => self.on_tcs_init(now, link, src, header, payload),
            _ => self.on_session_packet(now, link, src, header, payload),
        }
    }

    fn check_crc(&mut self, packet: &Packet<'_>) -> Result<(), Fate> {
        let id = packet.header.dconn;
        let nd = self.peers.by_id(id);
        let session = nd.and_then(|nd| self.peers.get_mut(nd)).and_then(|peer| peer.by_id(id));
        if packet.has_crc() {
            packet.check(&self.crc)?;
            if let Some(session) = session {
                session.on_good_crc();
            }
            return Ok(());
        }
        // A damaged flag bit must not switch the check off.
        let always = session.is_some_and(|session| session.always_crc());
        if self.config.enforce_crc || always { Err(Fate::NoCrc) } else { Ok(()) }
    }

    fn on_tcs_init(
        &mut self,
        now: Instant,
        link: LinkId,
        src: LinkAddr,
        header: &Header,
        payload: &[u8],
    ) -> Fate {
        let tcs = match Tcs::parse(payload, header.order) {
            Ok(tcs) => tcs,
            Err(error) => return error.into(),
        };
        let meant_for = tcs.extensions.map_or(0, |ext| ext.meant_for);
        if meant_for != 0 && meant_for != self.config.incarnation {
            return Fate::NotForUs; // for the other node that has this address
        }
        let named = |name, domain| -> Option<Fqnn> {
            Some(Fqnn { name: NodeName::new(name).ok()?, domain: Domain::new(domain).ok()? })
        };
        let Some(caller) = named(tcs.src_name, tcs.src_domain) else { return Fate::NotForUs };
        if header.sconn == 0 || named(tcs.dst_name, tcs.dst_domain).as_ref() != Some(&self.own) {
            // The caller's address for somebody else is wrong: it should not wait.
            let (kind, dconn) = (Kind::TcsRemDown, header.sconn);
            self.push_control(Control::Tcs { link, addr: src, kind, sconn: 0, dconn });
            return Fate::NotForUs;
        }
        let extensions = tcs.extensions.filter(|_| self.config.extensions);
        let incarnation = tcs.extensions.map_or(0, |ext| ext.incarnation);
        // auto_add=0: only what programs of this node open is shown.
        let heard = Heard { link, addr: src, incarnation, lists: self.config.auto_add != 0 };
        let Some((nd, _)) = self.learn(now, heard, caller) else {
            return Fate::NoRoom;
        };
        self.on_init(now, nd, (link, src), header.sconn, extensions);
        self.note_call(now, nd, header.sconn);
        if let Some(peer) = self.peers.get_mut(nd) {
            peer.their_nd = header.src_nd_for_dst;
        }
        Fate::Used
    }

    /// Everything that names one of our sessions by its id.
    fn on_session_packet(
        &mut self,
        now: Instant,
        link: LinkId,
        src: LinkAddr,
        header: &Header,
        payload: &[u8],
    ) -> Fate {
        let nd = self.peers.by_id(header.dconn);
        let known = nd.and_then(|nd| {
            let session = self.peers.get_mut(nd)?.by_id(header.dconn)?;
            // Until TCS_REM_UP tells it, and in a refusal, the peer's id is unknown.
            // Once up it changes no more: another answer to the same call came from another life.
            let called = header.kind == Kind::TcsRemUp && session.phase() != Phase::Up;
            let open = session.remote_id == 0 || called;
            let refused = header.kind == Kind::TcsRemDown && header.sconn == 0;
            (open || refused || session.remote_id == header.sconn).then_some(nd)
        });
        let Some(nd) = known else {
            self.answer_stranger(link, src, header);
            return Fate::NoSession;
        };
        if let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.by_id(header.dconn)) {
            session.arrived_by(now, link, src);
        }
        let fate = match header.kind {
            Kind::TcsRemUp | Kind::TcsUp => self.on_tcs_up(now, nd, header, payload),
            Kind::TcsDown | Kind::TcsRemDown => self.on_tcs_down(now, nd, (link, src), header, payload),
            _ => self.on_traffic(now, nd, link, header, payload),
        };
        self.count(nd, &fate, payload.len());
        // What there is no room for is answered, too.
        if matches!(fate, Fate::Used | Fate::Duplicate | Fate::NoRoom) {
            if let Some(peer) = self.peers.get_mut(nd) {
                peer.heard = now;
                if header.src_nd_for_dst != 0 {
                    peer.their_nd = header.src_nd_for_dst;
                }
                if peer.is_up() && peer.add_path(link, src) {
                    self.update_paths(now, nd);
                }
            }
            self.touch(now, nd);
        }
        fate
    }

    /// A message of the node was received whole.
    fn count_message(&mut self, nd: u16) {
        self.counters.messages_in += 1;
        if let Some(peer) = self.peers.get_mut(nd) {
            peer.counters.messages_in += 1;
        }
    }

    fn count(&mut self, nd: u16, fate: &Fate, bytes: usize) {
        let Some(peer) = self.peers.get_mut(nd) else { return };
        if matches!(fate, Fate::Used) {
            peer.counters.rx_bytes += bytes as u64;
        }
        *match fate {
            Fate::Used => &mut peer.counters.rx_frames,
            Fate::Duplicate => &mut peer.counters.rx_duplicate,
            _ => &mut peer.counters.rx_dropped,
        } += 1;
    }

    /// A packet of a session this node does not have: the sender should know.
    fn answer_stranger(&mut self, link: LinkId, src: LinkAddr, header: &Header) {
        let wants_answer = matches!(header.kind, Kind::User | Kind::TcsUp | Kind::TcsRemUp | Kind::TcsDown);
        if wants_answer && header.sconn != 0 {
            let (sconn, dconn) = (header.dconn, header.sconn);
            let kind = Kind::TcsRemDown;
            self.push_control(Control::Tcs { link, addr: src, kind, sconn, dconn });
        }
    }

    fn on_tcs_up(&mut self, now: Instant, nd: u16, header: &Header, payload: &[u8]) -> Fate {
        let times = self.times;
        let extensions = match payload {
            [] => None,
            bytes => match Tcs::parse(bytes, header.order) {
                Ok(tcs) => tcs.extensions.filter(|_| self.config.extensions),
                // A plain QNX node may put there what it likes.
                Err(_) => None,
            },
        };
        let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.by_id(header.dconn)) else {
            return Fate::NoSession;
        };
        let came_up = if header.kind == Kind::TcsRemUp {
            session.on_rem_up(now, &times, header.sconn, extensions)
        } else {
            session.on_alive(now, &times, extensions)
        };
        match came_up {
            Ok(true) => self.session_up(now, nd, header.dconn),
            Ok(false) => {}
            Err(_) => return Fate::Unknown,
        }
        Fate::Used
    }

    fn on_tcs_down(
        &mut self,
        now: Instant,
        nd: u16,
        (link, src): (LinkId, LinkAddr),
        header: &Header,
        payload: &[u8],
    ) -> Fate {
        // A plain QNX node may put there what it likes.
        let told = Extensions::parse(payload, header.order).ok().flatten();
        if self.is_of_another(nd, told.map_or(0, |ext| ext.incarnation)) {
            return Fate::NotForUs;
        }
        let times = self.times;
        let input = if header.kind == Kind::TcsDown { Input::Down } else { Input::RemDown };
        if input == Input::Down {
            self.answer_stranger(link, src, header);
        }
        let Some(peer) = self.peers.get_mut(nd) else { return Fate::NoSession };
        if let Some(candidate) = &mut peer.candidate
            && candidate.local_id == header.dconn
        {
            if candidate.on_down(now, &times, input).is_some() {
                self.drop_candidate(nd);
            }
            return Fate::Used;
        }
        let end = peer.session.as_mut().and_then(|session| session.on_down(now, &times, input));
        if let Some(end) = end {
            self.end_session(now, nd, end);
        }
        Fate::Used
    }

    /// Data, acknowledgements and pings of a session.
    fn on_traffic(&mut self, now: Instant, nd: u16, link: LinkId, header: &Header, payload: &[u8]) -> Fate {
        let times = self.times;
        self.note_policy(link, header.qos_type);
        let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.by_id(header.dconn)) else {
            return Fate::NoSession;
        };
        match session.on_alive(now, &times, None) {
            Ok(true) => self.session_up(now, nd, header.dconn),
            Ok(false) => {}
            Err(_) => return Fate::Unknown,
        }
        let counts = header.kind == Kind::User && header.seq != 0 && header.layer != Layer::Seq;
        if counts && !self.takes_data(nd) {
            return Fate::NoRoom;
        }
        // The candidate, if it was one, is the session now.
        let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut()) else {
            return Fate::NoSession;
        };
        match header.kind {
            Kind::Ack => match session.on_ack(now, header, payload) {
                Ok(true) => Fate::Used,
                Ok(false) => Fate::OutOfWindow,
                Err(error) => error.into(),
            },
            Kind::Nack => match session.on_nack(now, header, payload) {
                Ok(()) => Fate::Used,
                Err(error) => error.into(),
            },
            Kind::User if is_ping(header, payload) => match Nr::parse(payload, header.order) {
                Ok(ping) => {
                    let answered = session.on_ping(now, &ping);
                    self.on_echo(answered);
                    Fate::Used
                }
                Err(error) => error.into(),
            },
            Kind::User => {
                let mut sinks = Sinks {
                    nd,
                    now,
                    patience: self.config.ticks(SINK_PATIENCE),
                    clients: &mut self.clients,
                    servers: &mut self.servers,
                    given_up: None,
                };
                let arrival = session.on_data(now, header, payload, &mut self.budget, &mut sinks);
                if let Some(transaction) = sinks.given_up {
                    self.give_up_sink(transaction);
                }
                self.on_arrival(now, nd, header, payload, arrival)
            }
            _ => Fate::Unknown,
        }
    }

    fn on_arrival(
        &mut self,
        now: Instant,
        nd: u16,
        header: &Header,
        payload: &[u8],
        arrival: Arrival,
    ) -> Fate {
        let bytes = match arrival {
            Arrival::Packet => Cow::Borrowed(payload),
            Arrival::Message(bytes) => Cow::Owned(bytes),
            Arrival::Transfer(message) => {
                self.counters.rx_bytes += payload.len() as u64;
                self.count_message(nd);
                self.on_transfer(nd, &message);
                return Fate::Used;
            }
            Arrival::Part => {
                self.counters.rx_bytes += payload.len() as u64;
                return Fate::Used;
            }
            Arrival::Duplicate | Arrival::Again => return Fate::Duplicate,
            Arrival::NoRoom | Arrival::Dropped => return Fate::NoRoom,
            Arrival::Refused => return Fate::OutOfWindow,
        };
        self.counters.rx_bytes += payload.len() as u64;
        let incoming = Incoming { nd, order: header.order, bytes };
        let delivered = match header.layer {
            Layer::Kif => self.on_kif(now, incoming),
            Layer::Nr => self.on_nr(now, &incoming),
            // The sender gave a message up; its number is all that matters.
            Layer::Seq => Ok(()),
            Layer::Lr => return Fate::Unknown,
        };
        match delivered {
            Ok(()) => self.count_message(nd),
            Err(_) => self.counters.rx_bad_message += 1,
        }
        Fate::Used
    }
}

/// Whether a packet is a ping outside of the sequence.
fn is_ping(header: &Header, payload: &[u8]) -> bool {
    let unsequenced = header.seq == 0 && header.is_whole() && header.layer == Layer::Nr;
    unsequenced && payload.first().is_some_and(|&kind| kind <= 1)
}
