//! One ordered set of deadlines for the whole node.
//!
//! A node's entry is lazy: it is moved when its deadline comes nearer, not when it recedes, so that
//! an acknowledgement costs no reordering; the timer then fires early, finds nothing due, and is
//! set again.

use std::time::Duration;

use crate::link::LinkId;
use crate::time::Instant;

use super::Node;

/// The shortest time between two looks at one node.
const SHORTEST: Duration = Duration::from_micros(1);

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Announce this node on the link.
    Announce(LinkId),
    /// Send an answer that waits for its jitter.
    Reply(u32),
    /// A request for a name is due again, or its resolver too late.
    Lookup(u32),
    /// Something about this node's sessions.
    Peer(u16),
    /// A ping has waited long enough.
    Ping(u16),
    /// Look for entries to drop.
    Expire,
}

impl Node {
    pub(super) fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(super) fn on_timers(&mut self, now: Instant) {
        while let Some(&(at, timer)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            match timer {
                Timer::Announce(link) => self.announce(now, link),
                Timer::Reply(id) => self.send_reply(id),
                Timer::Lookup(id) => self.on_lookup_timer(now, id),
                Timer::Peer(nd) => self.on_peer_timer(now, nd, at),
                Timer::Ping(id) => self.on_ping_timer(id),
                Timer::Expire => self.expire(now),
            }
        }
    }

    /// Makes sure the node's entry is no later than its earliest deadline.
    pub(super) fn update_timer(&mut self, now: Instant, nd: u16) {
        let times = self.times;
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let sessions = [peer.session.as_deref_mut(), peer.candidate.as_deref_mut()];
        let deadlines = sessions.into_iter().flatten().filter_map(|session| session.deadline(&times));
        let Some(at) = deadlines.min() else { return };
        // A deadline in the past means "at once", but never again at this very instant: whatever a
        // session does, its timer cannot hold the node.
        let at = at.max(now + SHORTEST);
        if peer.timer.is_some_and(|set| set <= at) {
            return;
        }
        if let Some(set) = peer.timer.replace(at) {
            self.timers.remove(&(set, Timer::Peer(nd)));
        }
        self.timers.insert((at, Timer::Peer(nd)));
    }

    fn on_peer_timer(&mut self, now: Instant, nd: u16, at: Instant) {
        let times = self.times;
        let Some(peer) = self.peers.get_mut(nd) else { return };
        if peer.timer != Some(at) {
            return;
        }
        peer.timer = None;
        if let Some(candidate) = &mut peer.candidate
            && candidate.on_timeout(now, &times).is_some()
        {
            self.drop_candidate(nd);
        }
        self.on_session_timer(now, nd);
        self.touch(now, nd);
    }
}
