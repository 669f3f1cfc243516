//! Two nodes of one address on a link, as copied virtual machines have it: one of the two takes another address.
//!
//! ```text
//!   newcomer  announces itself ───────────────► holder   "that is my address": announces itself at once
//!             ◄─────────────────────────────────
//!             its link is young: takes another address, announces itself from there
//! ```
//!
//! Without that a switch, which learns where an address is from those who speak from it, brings each frame to whichever of the two
//! spoke last, and never one of the two's to the other. Where neither is young (two networks became one), the one with the
//! smaller incarnation moves when it still hears the other after a while. The carrier may be unable to give the node another address;
//! then everything stays as docs/protocol.md §3 says of two nodes of one address.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::Event;
use crate::link::{LinkAddr, LinkId};
use crate::time::Instant;

use super::Node;

/// A link counts as young for this time: the announcement with which it began is answered by then.
const YOUNG: Duration = Duration::from_secs(3);
/// Who is heard again after this time is there to stay.
const PERSISTENT: Duration = Duration::from_secs(5);
/// Least time between two announcements that defend an address.
const PAUSE: Duration = Duration::from_secs(1);
/// Other addresses that a link takes: beyond, somebody plays with us.
const MAX_MOVES: u32 = 3;

/// What is known of the address of each link.
pub(super) type Twins = BTreeMap<LinkId, Tenancy>;

/// This node's time at an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenancy {
    addr: LinkAddr,
    since: Instant,
    /// When another node was first heard from there.
    heard: Option<Instant>,
    defended: Option<Instant>,
    /// How often the link got another address for this.
    moves: u32,
}

impl Node {
    /// A link has this address.
    pub(super) fn settle(&mut self, now: Instant, link: LinkId, addr: LinkAddr) {
        let before = self.twins.get(&link);
        if before.is_some_and(|tenancy| tenancy.addr == addr) {
            return;
        }
        let moves = before.map_or(0, |tenancy| tenancy.moves);
        self.twins.insert(link, Tenancy { addr, since: now, heard: None, defended: None, moves });
    }

    /// Another node, with this incarnation, spoke from this node's address on the link.
    pub(super) fn contend(&mut self, now: Instant, link: LinkId, addr: LinkAddr, incarnation: u64) {
        if !self.config.may_move || addr.as_mac().is_none() {
            return;
        }
        let Some(tenancy) = self.twins.get_mut(&link).filter(|tenancy| tenancy.addr == addr) else { return };
        let heard = *tenancy.heard.get_or_insert(now);
        let young = now.since(tenancy.since) < YOUNG;
        // A plain node will never move.
        let weaker = incarnation == 0 || self.config.incarnation < incarnation;
        let persistent = now.since(heard) >= PERSISTENT;
        if (young || persistent && weaker) && tenancy.moves < MAX_MOVES {
            tenancy.moves += 1;
            let again = tenancy.moves > 1;
            let addr = self.another_address(addr, again);
            self.event(Event::TakeAddress { link, addr });
        } else if tenancy.defended.is_none_or(|at| now.since(at) >= PAUSE) {
            tenancy.defended = Some(now);
            self.start_announcing(now, link);
        }
    }

    /// A node that has another address on the link is not looked for any more where somebody else speaks now.
    pub(super) fn cede(&mut self, now: Instant, nd: u16, link: LinkId) {
        let Some(peer) = self.peers.get(nd) else { return };
        let speaks = |addr| self.peers.speaker(link, addr);
        let on_link = || peer.paths.iter().filter(|path| path.link == link).map(|path| path.addr);
        if !on_link().any(|addr| speaks(addr) == Some(nd)) {
            return;
        }
        let is_another =
            |other| self.peers.get(other).is_some_and(|other| other.incarnation != peer.incarnation);
        let gone = on_link().find(|&addr| speaks(addr).is_some_and(|other| other != nd && is_another(other)));
        if let Some(addr) = gone
            && let Some(peer) = self.peers.get_mut(nd)
        {
            peer.paths.retain(|path| (path.link, path.addr) != (link, addr));
            self.update_paths(now, nd);
            self.update_routes(nd);
            self.event(Event::NodesChanged);
            self.touch(now, nd);
        }
    }

    /// A locally administered address: the same at each start of this node, unless that one is taken, too.
    fn another_address(&mut self, addr: LinkAddr, again: bool) -> LinkAddr {
        let seed = if again { self.rng.next() } else { 0 };
        let text = format!("{addr} {} {seed}", self.own);
        // FNV-1a: any even spread does.
        let hash = text
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let [a, b, c, d] = hash.to_be_bytes();
        LinkAddr::mac([0x02, 0xea, a, b, c, d])
    }
}
