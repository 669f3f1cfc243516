//! Finding nodes on the LAN: announcements, requests, replies. What becomes of what was heard is in
//! `entries.rs`.
//!
//! DEVIATION: a newly heard announcement is answered at once (with jitter), so that `/net` fills in
//! a second instead of half a minute.

use std::time::Duration;

use crate::link::{Destination, LinkAddr, LinkId};
use crate::names::{Domain, Fqnn, NodeName};
use crate::time::Instant;
use crate::wire::lr::{Lr, LrKind, Party};

use super::Node;
use super::entries::Heard;
use super::timers::Timer;
use super::transmit::{Control, LrTo};

/// Answers to announcements spread over this time.
const JITTER: Duration = Duration::from_millis(150);
/// Answers waiting for their jitter; beyond, an announcement stays unanswered until the next.
const MAX_REPLIES: usize = 4096;

/// An answer that waits for its jitter.
#[derive(Debug)]
pub(super) struct PendingReply {
    link: LinkId,
    to: LrTo,
    dst: LinkAddr,
}

impl Node {
    // ---- this node speaks ----

    pub(super) fn start_announcing(&mut self, now: Instant, link: LinkId) {
        self.timers.retain(|(_, timer)| *timer != Timer::Announce(link));
        self.announce(now, link);
    }

    /// Tells everybody on the link who this node is, and when to do it again.
    pub(super) fn announce(&mut self, now: Instant, link: LinkId) {
        if self.config.auto_add == 0 || !self.speaks_lan(link) {
            return;
        }
        self.push_control(Control::Lr {
            link,
            dst: Destination::Broadcast,
            kind: LrKind::Reply,
            to: LrTo::default(),
        });
        self.set_timer(now + self.config.ticks(self.config.auto_add), Timer::Announce(link));
    }

    pub(super) fn send_reply(&mut self, id: u32) {
        if let Some(PendingReply { link, to, dst }) = self.replies.remove(&id) {
            let dst = Destination::Unicast(dst);
            self.push_control(Control::Lr { link, dst, kind: LrKind::Reply, to });
        }
    }

    // ---- others speak ----

    /// An LR message arrived. Returns whether it was of any use.
    pub(super) fn on_lr(&mut self, now: Instant, link: LinkId, src: LinkAddr, lr: &Lr<'_>) -> bool {
        let addr = lr.src.mac.map_or(src, LinkAddr::mac);
        let Ok(name) = party_name(&lr.src) else { return false };
        let incarnation = lr.extensions.map_or(0, |ext| ext.incarnation);
        let heard = Heard { link, addr, incarnation, lists: true };
        if self.links.values().any(|info| info.addr == addr) {
            self.on_own_address(now, heard, &name);
            return false;
        }
        let to_us = party_name(&lr.dst).is_ok_and(|dst| dst == self.own);
        match lr.kind {
            LrKind::Request if !to_us => false,
            LrKind::Request => {
                let to = LrTo { name: Some(name.clone()), mac: addr.as_mac() };
                let dst = Destination::Unicast(addr);
                self.push_control(Control::Lr { link, dst, kind: LrKind::Reply, to });
                if self.config.auto_add != 0 {
                    self.learn(now, heard, name);
                }
                true
            }
            LrKind::Reply => self.on_lr_reply(now, heard, name, to_us),
        }
    }

    fn on_lr_reply(&mut self, now: Instant, heard: Heard, name: Fqnn, to_us: bool) -> bool {
        let asked = self.lookups.values().any(|lookup| lookup.asks_lan_for(&name));
        // auto_add=0: only what a program asked for is believed.
        // While there is a session with it, its other links are searched for.
        let searched =
            self.peers.find(&name).and_then(|nd| self.peers.get(nd)).is_some_and(|peer| peer.is_up());
        if self.config.auto_add == 0 && !(to_us && (asked || searched)) {
            return false;
        }
        let Some((nd, new)) = self.learn(now, heard, name) else { return false };
        if new && !to_us && self.replies.len() < MAX_REPLIES {
            self.answer_announcement(now, heard, nd);
        }
        true
    }

    /// A newcomer learns of this node without waiting for the next announcement.
    fn answer_announcement(&mut self, now: Instant, heard: Heard, nd: u16) {
        let Some(peer) = self.peers.get(nd) else { return };
        let to = LrTo { name: Some(peer.own_name.clone()), mac: heard.addr.as_mac() };
        let id = self.new_id();
        let jitter = Duration::from_nanos(self.rng.below(JITTER.as_nanos() as u64));
        self.replies.insert(id, PendingReply { link: heard.link, to, dst: heard.addr });
        self.set_timer(now + jitter, Timer::Reply(id));
    }
}

fn party_name(party: &Party<'_>) -> Result<Fqnn, crate::names::NameError> {
    Ok(Fqnn { name: NodeName::new(party.name)?, domain: Domain::new(party.domain)? })
}
