//! What strangers can make this node hold, and what gives way when there are too many of them.
//!
//! - A call that was answered and is not confirmed costs a session. Of too many the oldest is dropped:
//!   an honest caller confirms within a round trip.
//! - An entry of the table of nodes costs little, and the table is bounded. When it is full, of some
//!   that nobody uses the one that was silent longest leaves for a newcomer; who lives is heard again.
//! - What a peer asks for costs an answer, which waits until the peer acknowledges it. One that asks and
//!   does not acknowledge is not listened to.

use crate::session::End;
use crate::session::state::Phase;
use crate::time::Instant;

use super::Node;

/// Calls answered and not confirmed.
const MAX_CALLS: usize = 1024;
/// Entries looked at for one to leave.
const LOOKED_AT: usize = 64;
/// Answers that every peer may be owed, however much the others are.
const FAIR_QUEUE: usize = 16;

impl Node {
    /// A call of the node was answered: the session waits for the confirmation.
    pub(super) fn note_call(&mut self, now: Instant, nd: u16, remote_id: u32) {
        let Some(peer) = self.peers.get(nd) else { return };
        let sessions = [peer.session.as_deref(), peer.candidate.as_deref()];
        let called = sessions.into_iter().flatten().find(|s| s.remote_id == remote_id && s.is_only_called());
        let Some(id) = called.map(|session| session.local_id) else { return };
        if self.calls.contains(&(nd, id)) {
            return;
        }
        self.calls.push_back((nd, id));
        while self.calls.len() > MAX_CALLS {
            let Some((nd, id)) = self.calls.pop_front() else { return };
            self.drop_call(now, nd, id);
        }
    }

    fn drop_call(&mut self, now: Instant, nd: u16, id: u32) {
        let Some(peer) = self.peers.get_mut(nd) else { return };
        if peer.candidate.as_ref().is_some_and(|c| c.local_id == id) {
            return self.drop_candidate(nd);
        }
        let waiting = |s: &crate::session::Session| s.local_id == id && s.is_only_called();
        if peer.session.as_deref().is_some_and(waiting) {
            self.end_session(now, nd, End::Unreachable);
        }
    }

    /// Makes a place in the table of nodes, if one can be had.
    pub(super) fn make_place(&mut self) -> bool {
        if self.peers.len() < self.config.limits.nodes {
            return true;
        }
        let mut oldest: Option<(Instant, u16)> = None;
        for _ in 0..LOOKED_AT {
            self.hand = self.peers.after(self.hand);
            let Some(peer) = self.peers.get(self.hand) else { continue };
            let idle = peer.session.is_none() && peer.candidate.is_none() && !peer.used;
            if idle && oldest.is_none_or(|(heard, _)| peer.heard < heard) {
                oldest = Some((peer.heard, self.hand));
            }
        }
        if let Some((_, nd)) = oldest {
            self.remove_unused(nd);
        }
        self.peers.len() < self.config.limits.nodes
    }

    /// Whether data of the node is taken: it is not owed too many answers.
    pub(super) fn takes_data(&self, nd: u16) -> bool {
        let Some(session) = self.peers.get(nd).and_then(|peer| peer.session.as_ref()) else { return true };
        let (queued, limits) = (session.outbox.queued(), &self.config.limits);
        let own = limits.queue_per_peer.saturating_mul(2);
        queued < own && (self.queued < limits.queue_total || queued < FAIR_QUEUE)
    }

    /// Counts what the node's sessions have queued now.
    pub(super) fn count_queue(&mut self, nd: u16) {
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let sessions = [peer.session.as_deref(), peer.candidate.as_deref()];
        let now: usize = sessions.into_iter().flatten().map(|session| session.outbox.queued()).sum();
        self.queued = self.queued - peer.queue + now;
        peer.queue = now;
    }
}

impl crate::session::Session {
    /// Whether the peer called and this node wants nothing itself.
    fn is_only_called(&self) -> bool {
        self.phase() == Phase::RemUpSent && !self.is_wanted()
    }
}
