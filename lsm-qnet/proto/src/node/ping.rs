//! Pings on behalf of somebody: is the node there, by which link, how long does it take?
//!
//! A ping needs a session, which is opened when there is none; it waits for that. It ends exactly once: with its answer, with
//! the session's end, or when its patience is over.

use std::time::Duration;

use crate::command::Errno;
use crate::event::{Event, NodeId};
use crate::link::{LinkAddr, LinkId};
use crate::session::echo::Echo;
use crate::time::Instant;

use super::timers::Timer;
use super::{CommandError, Node};

/// Pings under way; beyond: `Busy`.
const MAX_PINGS: usize = 4096;

/// A ping that has no end yet.
#[derive(Clone, Debug)]
pub(super) struct Ping {
    token: u64,
    nd: u16,
    /// When it is given up.
    until: Instant,
    /// The ways it may take: until it is sent, the set-up of a session goes by all of them.
    ways: Vec<(LinkId, LinkAddr)>,
}

impl Node {
    pub(super) fn ping(
        &mut self,
        now: Instant,
        token: u64,
        nd: NodeId,
        link: Option<LinkId>,
        patience: Duration,
    ) -> Result<(), CommandError> {
        let nd = nd.node();
        let peer = self.peers.get(nd).ok_or(CommandError::NoSuchNode)?;
        let ways = peer.paths.iter().filter(|path| link.is_none_or(|link| path.link == link));
        let ways: Vec<_> = ways.map(|path| (path.link, path.addr)).collect();
        if link.is_some() && ways.is_empty() {
            return Err(CommandError::NoSuchPath);
        }
        if self.pings.len() >= MAX_PINGS {
            return Err(CommandError::Busy);
        }
        self.last_ping = self.last_ping.wrapping_add(1);
        while self.pings.contains_key(&self.last_ping) {
            self.last_ping = self.last_ping.wrapping_add(1);
        }
        let (id, until) = (self.last_ping, now + patience);
        self.pings.insert(id, Ping { token, nd, until, ways });
        self.set_timer(until, Timer::Ping(id));
        self.want_session(now, nd);
        let session = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut());
        // Without a session the ping has ended with it.
        if session.is_some_and(|session| !session.echoes.want(id, link)) {
            self.end_ping(id);
            return Err(CommandError::Busy);
        }
        self.touch(now, nd);
        Ok(())
    }

    /// The answer to a ping, if it is one that somebody waits for.
    pub(super) fn on_echo(&mut self, answered: Option<Echo>) {
        let Some(Echo { id, rtt, path: (link, addr) }) = answered else { return };
        if let Some(Ping { token, .. }) = self.end_ping(id) {
            self.event(Event::Pong { token, rtt, link, addr });
        }
    }

    pub(super) fn on_ping_timer(&mut self, id: u16) {
        let Some(Ping { token, nd, ways, .. }) = self.end_ping(id) else { return };
        let session = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut());
        let sent = session.and_then(|session| session.echoes.forget(id));
        let ways = sent.map_or(ways, |path| vec![path]);
        self.event(Event::PingFailed { token, errno: Errno::ETIMEDOUT, ways });
    }

    /// The session is over, and so are the pings that went by it.
    pub(super) fn pings_down(&mut self, nd: u16, errno: Errno) {
        let ended: Vec<u16> =
            self.pings.iter().filter(|(_, ping)| ping.nd == nd).map(|(id, _)| *id).collect();
        for id in ended {
            if let Some(Ping { token, ways, .. }) = self.end_ping(id) {
                self.event(Event::PingFailed { token, errno, ways });
            }
        }
    }

    fn end_ping(&mut self, id: u16) -> Option<Ping> {
        let ping = self.pings.remove(&id)?;
        self.timers.remove(&(ping.until, Timer::Ping(id)));
        Some(ping)
    }
}

#[cfg(test)]
mod tests;
