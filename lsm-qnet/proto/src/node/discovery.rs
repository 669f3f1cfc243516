//! Finding nodes: announcements, requests, replies, and who is who when names collide.
//!
//! DEVIATION: a newly heard announcement is answered at once (with jitter), so that `/net` fills in
//! a second instead of half a minute; entries nobody used leave after three missed announcements;
//! two nodes of one name are told apart, the newcomer as `NAME-EAxxxxxx`.

use std::time::Duration;

use crate::command::Errno;
use crate::event::{Event, NodeId};
use crate::link::{Destination, LinkAddr, LinkId};
use crate::names::{Domain, Fqnn, NameError, NodeName};
use crate::session::End;
use crate::session::state::Phase;
use crate::time::Instant;
use crate::wire::lr::{Lr, LrKind, Party};

use super::peers::Peer;
use super::timers::Timer;
use super::transmit::{Control, LrTo};
use super::{CommandError, Node};

/// Answers to announcements spread over this time.
const JITTER: Duration = Duration::from_millis(150);
/// Answers waiting for their jitter; beyond, an announcement stays unanswered until the next.
const MAX_REPLIES: usize = 4096;
/// Names looked for at once; beyond: `Busy`.
const MAX_LOOKUPS: usize = 4096;
/// Announcements a node may miss before it leaves, if nobody used it.
const MISSED: u32 = 3;

/// A name being looked for.
#[derive(Debug)]
pub(super) struct Lookup {
    name: Fqnn,
    tokens: Vec<u64>,
    /// Nodes whose sessions wait for the address.
    waiting: Vec<u16>,
    tries: u32,
}

/// An answer that waits for its jitter.
#[derive(Debug)]
pub(super) struct PendingReply {
    link: LinkId,
    to: LrTo,
    dst: LinkAddr,
}

/// What was heard of a node.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    pub(super) link: LinkId,
    pub(super) addr: LinkAddr,
    /// 0: not told.
    pub(super) incarnation: u64,
}

impl Node {
    // ---- this node speaks ----

    pub(super) fn start_announcing(&mut self, now: Instant, link: LinkId) {
        self.timers.retain(|(_, timer)| *timer != Timer::Announce(link));
        self.announce(now, link);
    }

    /// Tells everybody on the link who this node is, and when to do it again.
    pub(super) fn announce(&mut self, now: Instant, link: LinkId) {
        if self.config.auto_add == 0 || !self.links.contains_key(&link) {
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

    // ---- programs ask ----

    pub(super) fn resolve(&mut self, now: Instant, token: u64, name: &str) -> Result<(), CommandError> {
        let name = self.meant(name).map_err(|_| CommandError::BadName)?;
        if name == self.own {
            self.event(Event::Resolved { token, nd: NodeId::LOCAL });
            return Ok(());
        }
        if let Some(nd) = self.peers.find(&name)
            && self.peers.get(nd).is_some_and(|peer| !peer.paths.is_empty() || peer.is_up())
        {
            self.event(Event::Resolved { token, nd: NodeId(nd.into()) });
            return Ok(());
        }
        self.look_up(now, name, Some(token), None)
    }

    /// The node that a program means. A bare name is one of our domain; a node that has no domain is listed by its bare name
    /// too, and is meant when ours has no such node.
    fn meant(&self, text: &str) -> Result<Fqnn, NameError> {
        let name = Fqnn::parse(text, &self.config.domain)?;
        if text.contains('.') || name == self.own || self.peers.find(&name).is_some() {
            return Ok(name);
        }
        let bare = Fqnn { name: name.name.clone(), domain: Domain::default() };
        Ok(if self.peers.find(&bare).is_some() { bare } else { name })
    }

    /// Asks the network for a name, unless that is being done already.
    pub(super) fn look_up(
        &mut self,
        now: Instant,
        name: Fqnn,
        token: Option<u64>,
        waiting: Option<u16>,
    ) -> Result<(), CommandError> {
        if let Some(lookup) = self.lookups.values_mut().find(|lookup| lookup.name == name) {
            lookup.tokens.extend(token);
            lookup.waiting.extend(waiting);
            return Ok(());
        }
        if self.lookups.len() >= MAX_LOOKUPS {
            return Err(CommandError::Busy);
        }
        let id = self.new_id();
        self.ask(&name);
        self.lookups.insert(
            id,
            Lookup { name, tokens: Vec::from_iter(token), waiting: Vec::from_iter(waiting), tries: 0 },
        );
        self.set_timer(now + self.config.ticks(self.config.res_ticks.max(1)), Timer::Lookup(id));
        Ok(())
    }

    /// Broadcasts a request on every link.
    pub(super) fn ask(&mut self, name: &Fqnn) {
        let to = LrTo { name: Some(name.clone()), mac: None };
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            let dst = Destination::Broadcast;
            self.push_control(Control::Lr { link, dst, kind: LrKind::Request, to: to.clone() });
        }
    }

    pub(super) fn on_lookup_timer(&mut self, now: Instant, id: u32) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        lookup.tries += 1;
        if lookup.tries <= self.config.res_retries {
            let name = lookup.name.clone();
            self.ask(&name);
            self.set_timer(now + self.config.ticks(self.config.res_ticks.max(1)), Timer::Lookup(id));
            return;
        }
        let Some(lookup) = self.lookups.remove(&id) else { return };
        for token in lookup.tokens {
            self.event(Event::ResolveFailed { token, errno: Errno::ENOENT });
        }
        self.give_up(now, lookup.waiting);
    }

    /// The sessions of nodes whose address was not found cannot be.
    fn give_up(&mut self, now: Instant, waiting: Vec<u16>) {
        for nd in waiting {
            if self.peers.get(nd).is_some_and(|peer| peer.paths.is_empty() && !peer.is_up()) {
                self.end_session(now, nd, End::Unreachable);
            }
        }
    }

    /// A node's address became known: whoever waited for it goes on.
    fn on_found(&mut self, now: Instant, nd: u16) {
        let Some(peer) = self.peers.get(nd) else { return };
        let (name, own_name) = (peer.name.clone(), peer.own_name.clone());
        let found = |lookup: &Lookup| lookup.name == name || lookup.name == own_name;
        let ids: Vec<u32> = self.lookups.iter().filter(|(_, l)| found(l)).map(|(&id, _)| id).collect();
        self.address_known(now, nd);
        for lookup in ids.into_iter().filter_map(|id| self.lookups.remove(&id)).collect::<Vec<_>>() {
            for token in lookup.tokens {
                self.event(Event::Resolved { token, nd: NodeId(nd.into()) });
            }
            // Another node answers to that name now.
            self.give_up(now, lookup.waiting);
        }
    }

    // ---- others speak ----

    /// An LR message arrived. Returns whether it was of any use.
    pub(super) fn on_lr(&mut self, now: Instant, link: LinkId, src: LinkAddr, lr: &Lr<'_>) -> bool {
        let addr = lr.src.mac.map_or(src, LinkAddr::mac);
        if self.links.values().any(|info| info.addr == addr) {
            return false; // our own voice
        }
        let Ok(name) = party_name(&lr.src) else { return false };
        let incarnation = lr.extensions.map_or(0, |ext| ext.incarnation);
        let heard = Heard { link, addr, incarnation };
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
        let asked = self.lookups.values().any(|lookup| lookup.name == name);
        // auto_add=0: only what a program asked for is believed.
        if self.config.auto_add == 0 && !(to_us && asked) {
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

    /// A node was heard under a name: finds or makes its entry. The flag tells a new one.
    pub(super) fn learn(&mut self, now: Instant, heard: Heard, name: Fqnn) -> Option<(u16, bool)> {
        if name == self.own {
            return self.learn_alias(now, heard, name);
        }
        let Some(nd) = self.peers.find(&name) else {
            // A newcomer whose rival has left in the meantime gets its name.
            let alias = heard.addr.as_mac().map(|mac| alias_of(&name, mac));
            if let Some(nd) = alias.and_then(|alias| self.peers.find(&alias)) {
                self.peers.rename(nd, name);
                self.event(Event::NodesChanged);
                return Some((nd, self.refresh(now, nd, heard)));
            }
            return self.add_peer(now, heard, name.clone(), name);
        };
        if self.is_same(now, nd, heard) {
            return Some((nd, self.refresh(now, nd, heard)));
        }
        self.learn_alias(now, heard, name)
    }

    /// Whether what was heard is the node of this entry, and not another of the same name.
    fn is_same(&self, now: Instant, nd: u16, heard: Heard) -> bool {
        let Some(peer) = self.peers.get(nd) else { return false };
        if peer.has_path(heard.link, heard.addr) || peer.paths.is_empty() {
            return true;
        }
        let told = peer.incarnation != 0 && heard.incarnation != 0;
        if told && peer.incarnation == heard.incarnation {
            return true;
        }
        // A node that does not tell its incarnation may well have an address a link.
        let same_link = peer.paths.iter().any(|path| path.link == heard.link);
        if !told && !same_link {
            return true;
        }
        let lately = self.config.ticks(self.config.auto_add) * 3 / 2;
        let alive = peer.is_up() || now.since(peer.heard) < lately;
        !alive
    }

    /// Brings a known entry up to date. Returns whether it is newly listed.
    fn refresh(&mut self, now: Instant, nd: u16, heard: Heard) -> bool {
        let Some(peer) = self.peers.get_mut(nd) else { return false };
        let rebooted =
            heard.incarnation != 0 && peer.incarnation != 0 && heard.incarnation != peer.incarnation;
        if rebooted {
            match &mut peer.session {
                // An announcement proves nothing; the answer to a ping will.
                Some(session) if session.phase() == Phase::Up => session.doubt(),
                // Addresses of its former life.
                _ => peer.paths.clear(),
            }
        }
        let known = peer.has_path(heard.link, heard.addr);
        if heard.incarnation != 0 && !peer.is_up() {
            peer.incarnation = heard.incarnation;
        }
        peer.add_path(heard.link, heard.addr);
        peer.heard = now;
        let new = !peer.listed;
        peer.listed = true;
        if new || !known {
            self.update_piece(nd);
            self.event(Event::NodesChanged);
        }
        self.on_found(now, nd);
        self.touch(now, nd);
        new || rebooted
    }

    fn learn_alias(&mut self, now: Instant, heard: Heard, name: Fqnn) -> Option<(u16, bool)> {
        let alias = alias_of(&name, heard.addr.as_mac()?);
        if let Some(nd) = self.peers.find(&alias) {
            return Some((nd, self.refresh(now, nd, heard)));
        }
        let added = self.add_peer(now, heard, alias.clone(), name.clone())?;
        self.event(Event::NameClash {
            name: name.to_string(),
            alias: alias.name.to_string(),
            link: heard.link,
            addr: heard.addr,
        });
        Some(added)
    }

    fn add_peer(&mut self, now: Instant, heard: Heard, name: Fqnn, own_name: Fqnn) -> Option<(u16, bool)> {
        if self.peers.len() >= self.config.limits.nodes {
            return None;
        }
        let mut peer = Peer::new(name, own_name, now);
        peer.incarnation = heard.incarnation;
        peer.add_path(heard.link, heard.addr);
        let nd = self.peers.insert(peer)?;
        self.event(Event::NodesChanged);
        self.on_found(now, nd);
        Some((nd, true))
    }

    // ---- entries leave ----

    pub(super) fn start_expiry(&mut self, now: Instant) {
        if self.config.auto_add != 0 {
            self.set_timer(now + self.config.ticks(self.config.auto_add), Timer::Expire);
        }
    }

    /// Drops entries that nobody used and nobody heard of.
    pub(super) fn expire(&mut self, now: Instant) {
        self.start_expiry(now);
        // Three missed announcements, and half a period for the fourth to be late.
        let period = self.config.ticks(self.config.auto_add);
        let silent = period * MISSED + period / 2;
        let old: Vec<u16> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.session.is_none() && peer.candidate.is_none())
            .filter(|(_, peer)| !peer.used && now.since(peer.heard) >= silent)
            .map(|(nd, _)| nd.node())
            .collect();
        for nd in old {
            if self.clients.of_node(nd).is_empty() && self.servers.of_node(nd).is_empty() {
                self.remove_peer(nd);
            }
        }
    }

    pub(super) fn remove_peer(&mut self, nd: u16) {
        if let Some(peer) = self.peers.remove(nd) {
            if let Some(at) = peer.timer {
                self.timers.remove(&(at, Timer::Peer(nd)));
            }
            if peer.listed {
                self.event(Event::NodesChanged);
            }
        }
    }
}

fn party_name(party: &Party<'_>) -> Result<Fqnn, crate::names::NameError> {
    Ok(Fqnn { name: NodeName::new(party.name)?, domain: Domain::new(party.domain)? })
}

fn alias_of(name: &Fqnn, mac: [u8; 6]) -> Fqnn {
    Fqnn { name: name.name.alias(mac), domain: name.domain.clone() }
}
