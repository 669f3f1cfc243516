//! The entries of `/net`: how they come, who is who when names or addresses collide, how they leave.
//!
//! ```text
//!  heard under a name ─► learn ─┬─ new name ──────────────► entry (or: a known node was renamed)
//!                               ├─ the same node ─────────► refresh (or: it runs anew)
//!                               └─ another, the known alive ► entry NAME-EAxxxxxx, NameClash
//!  session timed out, never used and silent, rmdir ─► the entry leaves
//! ```
//!
//! DEVIATION: entries nobody used leave after three missed announcements; two nodes of one name are
//! told apart, the newcomer as `NAME-EAxxxxxx`; two nodes of one address are told apart by their
//! incarnations.

use std::time::Duration;

use crate::event::{Event, NodeId};
use crate::link::{LinkAddr, LinkId};
use crate::names::{Domain, Fqnn, NodeName};
use crate::session::state::Phase;
use crate::time::Instant;

use super::peers::Peer;
use super::timers::Timer;
use super::view::Clash;
use super::{CommandError, Node};

/// Announcements a node may miss before it leaves, if nobody used it.
const MISSED: u32 = 3;
/// With `auto_add=0` nobody announces: ticks between two looks at who may be forgotten.
const QUIET_PERIOD: u32 = 150;
/// So often must a node come back to an address that another took before both are taken for alive.
/// Once may be a restart under another name and back.
const RETURNS: u8 = 2;

/// What was heard of a node.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    pub(super) link: LinkId,
    pub(super) addr: LinkAddr,
    /// 0: not told.
    pub(super) incarnation: u64,
    /// Whether this makes an entry that is shown.
    pub(super) lists: bool,
}

impl Node {
    /// A node was heard under a name: finds or makes its entry. The flag tells a new one.
    pub(super) fn learn(&mut self, now: Instant, heard: Heard, name: Fqnn) -> Option<(u16, bool)> {
        if name == self.own {
            return self.learn_alias(now, heard, name);
        }
        let Some(nd) = self.peers.find(&name) else {
            // A newcomer whose rival has left in the meantime gets its name; so does a node that was renamed.
            let alias = self.peers.find(&alias_of(&name, heard.addr));
            if let Some(nd) = alias.or_else(|| self.renamed(heard)) {
                self.give_name(nd, name);
                return Some((nd, self.refresh(now, nd, heard)));
            }
            return self.add_peer(now, heard, name.clone(), name);
        };
        if self.is_same(now, nd, heard) {
            return Some((nd, self.refresh(now, nd, heard)));
        }
        self.learn_alias(now, heard, name)
    }

    /// The known node that speaks from this address in the same life: it has another name now.
    fn renamed(&self, heard: Heard) -> Option<u16> {
        let nd = self.peers.speaker(heard.link, heard.addr)?;
        let known = self.peers.get(nd)?.incarnation;
        (heard.incarnation != 0 && known == heard.incarnation).then_some(nd)
    }

    fn give_name(&mut self, nd: u16, name: Fqnn) {
        self.peers.rename(nd, name.clone());
        if let Some(peer) = self.peers.get_mut(nd) {
            peer.own_name = name;
            peer.clash = peer.clash.filter(|clash| *clash != Clash::Name);
        }
        self.event(Event::NodesChanged);
    }

    /// Whether what was heard is the node of this entry, and not another of the same name.
    fn is_same(&self, now: Instant, nd: u16, heard: Heard) -> bool {
        let Some(peer) = self.peers.get(nd) else { return false };
        let told = peer.incarnation != 0 && heard.incarnation != 0;
        // It was restarted, and its call came by another link before.
        let calls = peer.candidate.as_ref().and_then(|candidate| candidate.extensions);
        if calls.is_some_and(|ext| told && ext.incarnation == heard.incarnation) {
            return true;
        }
        if told && peer.incarnation == heard.incarnation {
            return true;
        }
        if peer.has_path(heard.link, heard.addr) {
            // A copy of the node, with its name and its address, is known by nothing but its incarnation.
            return !(told && peer.clash == Some(Clash::Address));
        }
        if peer.paths.is_empty() || peer.hearsay {
            return true;
        }
        // A node that does not tell its incarnation may well have an address a link.
        let same_link = peer.paths.iter().any(|path| path.link == heard.link);
        if !told && !same_link {
            return true;
        }
        let alive = peer.is_up() || now.since(peer.heard) < self.lately();
        !alive
    }

    /// A node that was heard within this time is taken for alive.
    fn lately(&self) -> Duration {
        self.config.ticks(self.config.auto_add) * 3 / 2
    }

    /// Brings a known entry up to date. Returns whether it is newly listed.
    fn refresh(&mut self, now: Instant, nd: u16, heard: Heard) -> bool {
        let before = self.peers.spoke(heard.link, heard.addr, nd);
        let Some(peer) = self.peers.get_mut(nd) else { return false };
        let rebooted =
            heard.incarnation != 0 && peer.incarnation != 0 && heard.incarnation != peer.incarnation;
        let took_turns = peer.has_returned(heard);
        let returned = took_turns || peer.has_path(heard.link, heard.addr) && before.is_some();
        if rebooted {
            match &mut peer.session {
                // An announcement proves nothing; the answer to a ping will.
                Some(session) if session.phase() == Phase::Up => session.doubt(),
                // Addresses of its former life.
                _ => peer.paths.clear(),
            }
        }
        if heard.incarnation != 0 && !peer.is_up() {
            peer.incarnation = heard.incarnation;
        }
        let found = peer.add_path(heard.link, heard.addr);
        peer.heard = now;
        peer.hearsay = false;
        let new = heard.lists && !peer.listed;
        peer.listed |= heard.lists;
        if new || found {
            self.update_paths(now, nd);
            self.event(Event::NodesChanged);
        }
        for nd in before.into_iter().chain([nd]) {
            self.cede(now, nd, heard.link);
        }
        if returned {
            self.on_return(nd, before.unwrap_or(nd), heard);
        }
        self.on_found(now, nd);
        self.touch(now, nd);
        new || rebooted
    }

    /// A node of a name that is taken, by this node or by a living one.
    fn learn_alias(&mut self, now: Instant, heard: Heard, name: Fqnn) -> Option<(u16, bool)> {
        let alias = alias_of(&name, heard.addr);
        if let Some(nd) = self.peers.find(&alias) {
            return Some((nd, self.refresh(now, nd, heard)));
        }
        let (nd, new) = match self.renamed(heard) {
            // It took the name while everybody knew it by another.
            Some(nd) => {
                self.peers.rename(nd, alias.clone());
                if let Some(peer) = self.peers.get_mut(nd) {
                    peer.own_name = name.clone();
                }
                self.event(Event::NodesChanged);
                (nd, self.refresh(now, nd, heard))
            }
            None => self.add_peer(now, heard, alias.clone(), name.clone())?,
        };
        let rival = self.peers.find(&name).and_then(|nd| self.peers.get_mut(nd));
        let copy = rival.as_ref().is_some_and(|rival| rival.clash == Some(Clash::Address));
        let clash = if copy { Clash::Address } else { Clash::Name };
        match rival {
            Some(rival) => rival.clash = Some(clash),
            None => self.clash = Some(clash),
        }
        if let Some(peer) = self.peers.get_mut(nd) {
            peer.clash = Some(clash);
        }
        self.event(Event::NameClash {
            name: name.to_string(),
            alias: alias.name.to_string(),
            link: heard.link,
            addr: heard.addr,
        });
        Some((nd, new))
    }

    fn add_peer(&mut self, now: Instant, heard: Heard, name: Fqnn, own_name: Fqnn) -> Option<(u16, bool)> {
        if !self.make_place() {
            return None;
        }
        let mut peer = Peer::new(name, own_name, now);
        peer.incarnation = heard.incarnation;
        peer.announced[0] = heard.incarnation;
        peer.listed = heard.lists;
        peer.add_path(heard.link, heard.addr);
        let nd = self.peers.insert(peer)?;
        if let Some(before) = self.peers.spoke(heard.link, heard.addr, nd) {
            self.cede(now, before, heard.link);
        }
        self.event(Event::NodesChanged);
        self.on_found(now, nd);
        Some((nd, true))
    }

    // ---- one address, two nodes ----

    /// A node is back at an address from where another had spoken meanwhile (itself, in another life).
    fn on_return(&mut self, nd: u16, other: u16, heard: Heard) {
        let Some((name, incarnation)) =
            self.peers.get(other).map(|p| (p.own_name.to_string(), p.incarnation))
        else {
            return;
        };
        let Some(peer) = self.peers.get_mut(nd) else { return };
        let one_life = nd != other && heard.incarnation != 0 && incarnation == heard.incarnation;
        if one_life || peer.clash == Some(Clash::Address) {
            return;
        }
        peer.returns = peer.returns.saturating_add(1);
        if peer.returns < RETURNS {
            return;
        }
        peer.clash = Some(Clash::Address);
        let event = Event::AddressClash {
            name: peer.own_name.to_string(),
            other: name,
            link: heard.link,
            addr: heard.addr,
        };
        let told = self.peers.get(other).is_some_and(|p| nd != other && p.clash == Some(Clash::Address));
        if let Some(other) = self.peers.get_mut(other) {
            other.clash = Some(Clash::Address);
        }
        if !told {
            self.event(event);
        }
    }

    /// Somebody speaks from one of this node's own addresses: usually an echo of its own voice.
    pub(super) fn on_own_address(&mut self, now: Instant, heard: Heard, name: &Fqnn) {
        let Heard { link, addr, incarnation, .. } = heard;
        let ours = *name == self.own && (incarnation == 0 || incarnation == self.config.incarnation);
        // What it said before it was renamed may still be on its way.
        if ours || incarnation == self.config.incarnation {
            return;
        }
        if self.clash != Some(Clash::Address) {
            self.clash = Some(Clash::Address);
            let (own, other) = (self.own.to_string(), name.to_string());
            self.event(Event::AddressClash { name: own, other, link, addr });
        }
        self.contend(now, link, addr, incarnation);
    }

    /// Whether a refusal from the node's address came from somebody else who has the same address.
    pub(super) fn is_of_another(&self, nd: u16, incarnation: u64) -> bool {
        let told = |peer: &Peer| peer.incarnation != 0 && incarnation != 0;
        self.peers.get(nd).is_some_and(|peer| {
            peer.clash == Some(Clash::Address) && told(peer) && peer.incarnation != incarnation
        })
    }

    /// What a message to the node says about whom it is meant for; 0: whoever is at the address.
    pub(super) fn meant_for(&self, nd: u16) -> u64 {
        let shared = self.peers.get(nd).filter(|peer| peer.clash == Some(Clash::Address));
        shared.map_or(0, |peer| peer.incarnation)
    }

    // ---- this node gets another name ----

    pub(super) fn rename(&mut self, now: Instant, name: NodeName, domain: Domain) {
        let own = Fqnn { name: name.clone(), domain: domain.clone() };
        let same_text = own.to_string() == self.own.to_string();
        if same_text {
            return;
        }
        if let Some(nd) = self.peers.find(&own)
            && let Some(peer) = self.peers.get_mut(nd)
        {
            // It was there first; but here the own name comes first.
            let (link, addr) =
                peer.paths.first().map_or((LinkId(0), LinkAddr::mac([0; 6])), |p| (p.link, p.addr));
            peer.clash = Some(Clash::Name);
            let alias = alias_of(&own, addr);
            self.peers.rename(nd, alias.clone());
            self.clash = Some(Clash::Name);
            let (name, alias) = (own.to_string(), alias.name.to_string());
            self.event(Event::NameClash { name, alias, link, addr });
        } else {
            self.clash = self.clash.filter(|clash| *clash != Clash::Name);
        }
        self.config.name = name;
        self.config.domain = domain;
        self.own = own;
        self.event(Event::NodesChanged);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.start_announcing(now, link);
        }
    }

    // ---- entries leave ----

    pub(super) fn start_expiry(&mut self, now: Instant) {
        self.set_timer(now + self.period(), Timer::Expire);
    }

    fn period(&self) -> Duration {
        let ticks = if self.config.auto_add == 0 { QUIET_PERIOD } else { self.config.auto_add };
        self.config.ticks(ticks)
    }

    /// Drops entries that nobody used and nobody heard of. With `auto_add=0` nodes do not announce themselves, so those
    /// that are shown stay until they are used and found dead.
    pub(super) fn expire(&mut self, now: Instant) {
        self.start_expiry(now);
        // Three missed announcements, and half a period for the fourth to be late.
        let period = self.period();
        let silent = period * MISSED + period / 2;
        let quiet = self.config.auto_add == 0;
        let old: Vec<u16> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.session.is_none() && peer.candidate.is_none())
            .filter(|(_, peer)| !(peer.used || quiet && peer.listed) && now.since(peer.heard) >= silent)
            .map(|(nd, _)| nd.node())
            .collect();
        for nd in old {
            self.remove_unused(nd);
        }
    }

    /// `rmdir /net/NODE`.
    pub(super) fn forget(&mut self, nd: NodeId) -> Result<(), CommandError> {
        let nd = nd.node();
        let peer = self.peers.get_mut(nd).filter(|peer| peer.listed).ok_or(CommandError::NoSuchNode)?;
        peer.listed = false;
        let idle = peer.session.is_none() && peer.candidate.is_none();
        self.event(Event::NodesChanged);
        if idle {
            self.remove_unused(nd);
        }
        Ok(())
    }

    /// Removes an entry, unless some connection still counts on its number.
    pub(super) fn remove_unused(&mut self, nd: u16) {
        if self.clients.of_node(nd).is_empty() && self.servers.of_node(nd).is_empty() {
            self.remove_peer(nd);
        }
    }

    pub(super) fn remove_peer(&mut self, nd: u16) {
        if let Some(peer) = self.peers.remove(nd) {
            self.queued -= peer.queue;
            if let Some(at) = peer.timer {
                self.timers.remove(&(at, Timer::Peer(nd)));
            }
            if peer.listed {
                self.event(Event::NodesChanged);
            }
            if peer.clash.is_some() {
                self.rival_left(&peer);
            }
        }
    }

    /// One of two nodes that had something in common is gone: the other is alone with it now.
    fn rival_left(&mut self, gone: &Peer) {
        if self.own == gone.own_name && self.clash == Some(Clash::Name) {
            self.clash = None;
        }
        let shares = |peer: &Peer| {
            peer.own_name == gone.own_name
                || gone.paths.iter().any(|path| peer.has_path(path.link, path.addr))
        };
        let rivals: Vec<u16> =
            self.peers.iter().filter(|(_, peer)| shares(peer)).map(|(nd, _)| nd.node()).collect();
        if let [rival] = rivals[..]
            && let Some(peer) = self.peers.get_mut(rival)
            && (peer.clash != Some(Clash::Name) || peer.own_name != self.own)
        {
            peer.clash = None;
            peer.returns = 0;
        }
    }
}

impl Peer {
    /// Notes the incarnation that was heard. True when it is the one before the last: two nodes take turns.
    fn has_returned(&mut self, heard: Heard) -> bool {
        let [last, before] = self.announced;
        if heard.incarnation == 0 || heard.incarnation == last {
            return false;
        }
        self.announced = [heard.incarnation, last];
        heard.incarnation == before
    }
}

fn alias_of(name: &Fqnn, addr: LinkAddr) -> Fqnn {
    Fqnn { name: name.name.alias(addr.tail()), domain: name.domain.clone() }
}
