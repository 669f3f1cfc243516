//! Sessions come and go: when one is opened, what happens when it is up, and what must be told to
//! whom when it ends.
//!
//! A session's own states are in `session/state.rs`; here is what they mean to the node around it.
//! Every end passes through `end_session`, so no sender can be forgotten.

use crate::command::Errno;
use crate::event::{DownReason, Event, NodeId};
use crate::session::state::Phase;
use crate::session::{End, Path, Session};
use crate::time::Instant;
use crate::wire::lwl4::{HEADER, Kind};
use crate::wire::tlv::Extensions;

use super::Node;
use super::transmit::Control;
use super::view::SessionEnd;

/// Payload bytes below which nothing sensible fits.
const SMALLEST_PIECE: u32 = 62;

impl Node {
    /// Payload bytes a packet to the node may have: what the narrowest of its links and `mtu_en`
    /// leave.
    pub(super) fn piece(&self, nd: u16) -> u32 {
        let paths = self.peers.get(nd).map(|peer| peer.paths.as_slice()).unwrap_or_default();
        let mtus = paths.iter().filter_map(|path| self.mtu_to(path.link, path.addr));
        let mtu = mtus.min().unwrap_or(u32::MAX).min(self.config.mtu_en);
        mtu.saturating_sub(HEADER as u32).max(SMALLEST_PIECE)
    }

    pub(super) fn update_piece(&mut self, nd: u16) {
        let piece = self.piece(nd);
        if let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut())
            && session.phase() == Phase::Up
        {
            session.set_piece(piece);
        }
    }

    fn new_session(&mut self, now: Instant, nd: u16) -> Box<Session> {
        let id = self.peers.new_id(nd, &mut self.rng);
        let mut session = Session::new(now, id, self.piece(nd));
        session.number_from(self.config.first_message);
        if self.config.no_ack {
            session.without_acks();
        }
        let slow = self.peers.get(nd).and_then(|peer| peer.slow);
        session.outbox.set_slow(slow.filter(|&until| until > now));
        Box::new(session)
    }

    /// Makes sure there is a session or that one is being set up.
    pub(super) fn want_session(&mut self, now: Instant, nd: u16) {
        let times = self.times;
        let Some(peer) = self.peers.get_mut(nd) else { return };
        peer.used = true;
        if peer.session.is_none() {
            let session = self.new_session(now, nd);
            if let Some(peer) = self.peers.get_mut(nd) {
                peer.session = Some(session);
            }
            self.update_paths(now, nd);
        }
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let no_path = peer.paths.is_empty();
        let Some(session) = &mut peer.session else { return };
        if session.phase() != Phase::Closed || !no_path {
            session.open(now, &times);
            return;
        }
        let (directory, name) = (peer.directory, peer.own_name.clone());
        if self.look_up(now, directory, name, None, Some(nd)).is_err() {
            self.end_session(now, nd, End::Unreachable);
        }
    }

    /// The node's address became known.
    pub(super) fn address_known(&mut self, now: Instant, nd: u16) {
        let times = self.times;
        if let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut()) {
            if session.phase() == Phase::Closed {
                session.open(now, &times);
            }
            session.hurry(now);
            self.touch(now, nd);
        }
    }

    /// TCS_INIT arrived from a known node. A session that is up is not given up for it before the
    /// caller has proved, by answering our TCS_REM_UP, that it means now and not some past.
    pub(super) fn on_init(
        &mut self,
        now: Instant,
        nd: u16,
        (link, addr): Path,
        remote_id: u32,
        ext: Option<Extensions>,
    ) {
        let times = self.times;
        let Some(peer) = self.peers.get(nd) else { return };
        let other_life = peer
            .session
            .as_ref()
            .is_some_and(|session| session.phase() == Phase::Up && session.remote_id != remote_id);
        let candidate_fits = peer.candidate.as_ref().is_some_and(|c| c.remote_id == remote_id);
        if other_life && !candidate_fits {
            self.drop_candidate(nd);
        }
        let missing = if other_life { !candidate_fits } else { peer_has_none(self.peers.get(nd)) };
        let fresh = missing.then(|| self.new_session(now, nd));
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let slot = if other_life { &mut peer.candidate } else { &mut peer.session };
        if let Some(fresh) = fresh {
            *slot = Some(fresh);
            self.update_paths(now, nd);
        }
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let slot = if other_life { &mut peer.candidate } else { &mut peer.session };
        if let Some(session) = slot {
            session.arrived_by(now, link, addr);
            session.on_init(now, &times, remote_id, ext);
        }
        self.touch(now, nd);
    }

    /// A session came up: the candidate takes its place, the extensions take effect.
    pub(super) fn session_up(&mut self, now: Instant, nd: u16, local_id: u32) {
        let Some(peer) = self.peers.get_mut(nd) else { return };
        if peer.candidate.as_ref().is_some_and(|c| c.local_id == local_id) {
            let candidate = peer.candidate.take();
            let told = candidate.as_ref().and_then(|c| c.extensions).map_or(0, |ext| ext.incarnation);
            let rebooted = told != 0 && peer.incarnation != 0 && told != peer.incarnation;
            let why = if rebooted { DownReason::Rebooted } else { DownReason::Forgotten };
            self.end_session(now, nd, End::Down(why));
            if let Some(peer) = self.peers.get_mut(nd) {
                peer.session = candidate;
            }
        }
        let Some(peer) = self.peers.get_mut(nd) else { return };
        peer.heard = now;
        let ext = peer.session.as_ref().and_then(|session| session.extensions);
        if let Some(incarnation) = ext.map(|ext| ext.incarnation).filter(|&i| i != 0) {
            peer.incarnation = incarnation;
        }
        let listed = peer.listed;
        peer.listed |= peer.used || self.config.auto_add != 0;
        let now_listed = peer.listed;
        peer.up_since = Some(now);
        peer.counters.sessions += 1;
        self.counters.sessions_up += 1;
        self.update_piece(nd);
        self.event(Event::NodeUp { nd: NodeId(nd.into()) });
        if now_listed != listed {
            self.event(Event::NodesChanged);
        }
    }

    pub(super) fn drop_candidate(&mut self, nd: u16) {
        let candidate = self.peers.get_mut(nd).and_then(|peer| peer.candidate.take());
        self.release(candidate);
    }

    fn release(&mut self, session: Option<Box<Session>>) {
        if let Some(mut session) = session {
            session.release(&mut self.budget);
            self.peers.drop_id(session.local_id);
        }
    }

    /// Time passed for the node's session.
    pub(super) fn on_session_timer(&mut self, now: Instant, nd: u16) {
        let times = self.times;
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let Some(session) = &mut peer.session else { return };
        let end = session.on_timeout(now, &times);
        let failed = session.outbox.take_failed();
        let search = session.take_search();
        let down = session.outbox.take_down();
        let calling = session.phase() == Phase::InitSent;
        let lost = session.phase() == Phase::Up && peer.paths.is_empty() && !session.outbox.is_idle();
        match end {
            Some(end) => {
                if matches!(end, End::Down(_)) {
                    self.say_down(nd);
                }
                self.end_session(now, nd, end);
            }
            // The next call goes to the next address.
            None if calling => {
                peer.next_path();
                self.update_paths(now, nd);
            }
            None => {
                let search_for = lost.then(|| (peer.directory, peer.own_name.clone()));
                if down {
                    peer.next_path();
                    self.update_paths(now, nd);
                }
                if let Some((directory, name)) = search_for {
                    // Whoever is full now is asked again by the session's next timeout.
                    let _busy = self.look_up(now, directory, name, None, None);
                }
                if search {
                    self.search_paths(nd);
                }
                for index in failed {
                    self.route_failed(now, nd, index);
                }
            }
        }
    }

    /// The only link of a policy stayed away: its connections to the node end.
    fn route_failed(&mut self, now: Instant, nd: u16, index: u16) {
        for client in self.clients.of_node(nd) {
            if self.clients.connections.get(client).is_some_and(|c| c.qos == index) {
                self.lose_client(now, client);
            }
        }
    }

    /// Tells the peer that its session is over.
    pub(super) fn say_down(&mut self, nd: u16) {
        let Some(peer) = self.peers.get(nd) else { return };
        let Some(session) = &peer.session else { return };
        let Some(lane) = session.outbox.lanes.for_control(None) else { return };
        if session.remote_id != 0 {
            let (sconn, dconn) = (session.local_id, session.remote_id);
            let (link, addr) = (lane.link, lane.addr);
            self.push_control(Control::Tcs { link, addr, kind: Kind::TcsDown, sconn, dconn });
        }
    }

    /// The session is over: everybody who depended on it is told, with the right error.
    pub(super) fn end_session(&mut self, now: Instant, nd: u16, end: End) {
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let session = peer.session.take();
        // A call that waits for its confirmation is all there is of a session now.
        peer.session = peer.candidate.take();
        let called = peer.session.is_some();
        match end {
            End::Unreachable | End::Down(DownReason::Unacknowledged | DownReason::Silent) if called => {}
            // A wrong or stale address: the entry leaves until the node is heard again.
            End::Unreachable | End::Down(DownReason::Unacknowledged | DownReason::Silent) => {
                peer.listed = false;
                peer.paths.clear();
            }
            End::Down(_) => {}
        }
        peer.used = false;
        let unlisted = !peer.listed;
        if session.is_none() {
            return;
        }
        let why = if let End::Down(why) = end { Some(why) } else { None };
        // It did not answer for as long as it could: the next session begins slowly.
        let silent = matches!(end, End::Down(DownReason::Unacknowledged));
        let slow = session.as_ref().and_then(|session| session.outbox.slow());
        let memory =
            (silent && self.config.slow_mode > 0).then(|| now + self.config.ticks(self.config.slow_mode));
        peer.slow = memory.or(slow).or(peer.slow);
        peer.last_end = Some(SessionEnd { at: now, why });
        self.release(session);
        let errno = match end {
            End::Unreachable => Errno::EHOSTUNREACH,
            End::Down(_) => Errno::EHOSTDOWN,
        };
        self.questions_down(nd, errno);
        self.clients_down(nd, errno);
        self.pings_down(nd, errno);
        self.servers_down(nd);
        if let End::Down(why) = end {
            self.counters.sessions_down += 1;
            if why == DownReason::Unacknowledged {
                self.counters.tx_failures += 1;
            }
            self.event(Event::NodeDown { nd: NodeId(nd.into()), why });
        }
        if unlisted {
            self.event(Event::NodesChanged);
        }
        self.touch(now, nd);
    }
}

fn peer_has_none(peer: Option<&super::peers::Peer>) -> bool {
    peer.is_some_and(|peer| peer.session.is_none())
}
