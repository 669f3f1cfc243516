//! The other nodes this one knows: names, numbers, addresses, sessions.
//!
//! A node's number (`nd`) is its place in a table; numbers go round, so that a freed one is not given
//! to another node soon. Names and session ids lead to the same place.

use std::collections::BTreeMap;

use crate::counters::PeerCounters;
use crate::event::NodeId;
use crate::link::{LinkAddr, LinkId};
use crate::names::Fqnn;
use crate::rng::Rng;
use crate::session::Session;
use crate::session::state::Phase;
use crate::time::Instant;

use super::view::{Clash, NodeState, SessionEnd};

/// Addresses remembered of one node: four on one switch are heard on each of our links.
const MAX_PATHS: usize = 16;

/// Where a node was heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) link: LinkId,
    pub(crate) addr: LinkAddr,
}

/// Another node.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The name it is listed by.
    pub(crate) name: Fqnn,
    /// The name it calls itself.
    pub(crate) own_name: Fqnn,
    /// Distinguishes its runs; 0 unknown.
    pub(crate) incarnation: u64,
    /// Where it was heard.
    pub(crate) paths: Vec<Path>,
    /// Addresses it spoke from, the last ones.
    pub(crate) voices: Vec<(LinkId, LinkAddr)>,
    /// When it was heard last, by whatever.
    pub(crate) heard: Instant,
    /// The incarnation it announced last, and the one before; 0: none.
    pub(crate) announced: [u64; 2],
    /// How often a node took its address and it came back, which no restart explains.
    pub(crate) returns: u8,
    /// Another living node has its name or its address.
    pub(crate) clash: Option<Clash>,
    /// Whether it is shown.
    pub(crate) listed: bool,
    /// The network directory whose resolvers find it.
    pub(crate) directory: usize,
    /// Its address is a resolver's word: nothing was heard of it yet.
    pub(crate) hearsay: bool,
    /// Whether a program used it since it was listed.
    pub(crate) used: bool,
    /// Its number for this node; 0 unknown.
    pub(crate) their_nd: u16,
    /// The session, from the first wish for one on.
    pub(crate) session: Option<Box<Session>>,
    /// A newer session the peer asks for while another is up; replaces it when confirmed.
    pub(crate) candidate: Option<Box<Session>>,
    /// Whether it stands in the queue of those who may have something to send.
    pub(crate) queued: bool,
    /// Messages its sessions had queued when they were counted last.
    pub(crate) queue: usize,
    /// Its entry among the timers.
    pub(crate) timer: Option<Instant>,
    /// Until when little is sent to it at once, because there was trouble.
    pub(crate) slow: Option<Instant>,
    /// When the session came up that is, or was, up.
    pub(crate) up_since: Option<Instant>,
    pub(crate) last_end: Option<SessionEnd>,
    pub(crate) counters: PeerCounters,
}

impl Peer {
    pub(crate) fn new(name: Fqnn, own_name: Fqnn, now: Instant) -> Peer {
        Peer {
            name,
            own_name,
            incarnation: 0,
            announced: [0; 2],
            returns: 0,
            clash: None,
            paths: Vec::new(),
            voices: Vec::new(),
            heard: now,
            listed: true,
            directory: 0,
            hearsay: false,
            used: false,
            their_nd: 0,
            session: None,
            candidate: None,
            queued: false,
            queue: 0,
            timer: None,
            slow: None,
            up_since: None,
            last_end: None,
            counters: PeerCounters::default(),
        }
    }

    pub(crate) fn has_path(&self, link: LinkId, addr: LinkAddr) -> bool {
        self.paths.iter().any(|p| p.link == link && p.addr == addr)
    }

    /// Remembers where it was heard. Returns whether that is new. When there are too many, one that no session uses
    /// gives way.
    pub(crate) fn add_path(&mut self, link: LinkId, addr: LinkAddr) -> bool {
        if self.has_path(link, addr) {
            return false;
        }
        if self.paths.len() == MAX_PATHS {
            let lanes = self.session.as_deref().map(|session| &session.outbox.lanes);
            let used = |path: &Path| lanes.is_some_and(|lanes| lanes.of(path.link, path.addr).is_some());
            let at = self.paths.iter().position(|path| !used(path)).unwrap_or(0);
            self.paths.remove(at);
        }
        self.paths.push(Path { link, addr });
        true
    }

    /// Lets another address have its turn: where a link has several, the first one is used that has not proved bad.
    pub(crate) fn next_path(&mut self) {
        if self.paths.len() > 1 {
            self.paths.rotate_left(1);
        }
    }

    /// The session and the candidate.
    pub(crate) fn sessions(&mut self) -> impl Iterator<Item = &mut Session> {
        [self.session.as_deref_mut(), self.candidate.as_deref_mut()].into_iter().flatten()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.phase() == Phase::Up)
    }

    pub(crate) fn state(&self) -> NodeState {
        match &self.session {
            None => NodeState::Known,
            Some(session) if session.phase() == Phase::Up => NodeState::Up,
            Some(_) => NodeState::Connecting,
        }
    }

    /// The session or candidate with this id.
    pub(crate) fn by_id(&mut self, local_id: u32) -> Option<&mut Session> {
        self.sessions().find(|s| s.local_id == local_id)
    }
}

/// All other nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    names: BTreeMap<String, u16>,
    ids: BTreeMap<u32, u16>,
    /// Who spoke last from an address.
    voices: BTreeMap<(LinkId, LinkAddr), u16>,
    next: u16,
    count: usize,
}

impl Peers {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, nd: u16) -> Option<&Peer> {
        self.slots.get(usize::from(nd))?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, nd: u16) -> Option<&mut Peer> {
        self.slots.get_mut(usize::from(nd))?.as_deref_mut()
    }

    pub(crate) fn find(&self, name: &Fqnn) -> Option<u16> {
        self.names.get(&name.key()).copied()
    }

    /// Adds a node under its name, which must be free; `None` when all numbers are taken. Numbers
    /// go round, so that one is not used again soon.
    pub(crate) fn insert(&mut self, peer: Peer) -> Option<u16> {
        let taken = |nd: u16| nd == 0 || self.get(nd).is_some();
        let after = (0..=u16::MAX).map(|i| self.next.wrapping_add(1).wrapping_add(i));
        let nd = after.into_iter().find(|&nd| !taken(nd))?;
        if self.slots.len() <= usize::from(nd) {
            self.slots.resize_with(usize::from(nd) + 1, || None);
        }
        self.next = nd;
        self.count += 1;
        self.names.insert(peer.name.key(), nd);
        self.slots[usize::from(nd)] = Some(Box::new(peer));
        Some(nd)
    }

    /// The node that spoke last from an address, before `nd` does so now.
    pub(crate) fn spoke(&mut self, link: LinkId, addr: LinkAddr, nd: u16) -> Option<u16> {
        let voice = (link, addr);
        if let Some(peer) = self.get_mut(nd)
            && !peer.voices.contains(&voice)
        {
            peer.voices.push(voice);
            let oldest = if peer.voices.len() > MAX_PATHS { Some(peer.voices.remove(0)) } else { None };
            oldest.into_iter().for_each(|oldest| self.silence(oldest, nd));
        }
        self.voices.insert(voice, nd).filter(|&before| before != nd)
    }

    /// The node that spoke last from an address.
    pub(crate) fn speaker(&self, link: LinkId, addr: LinkAddr) -> Option<u16> {
        self.voices.get(&(link, addr)).copied()
    }

    fn silence(&mut self, voice: (LinkId, LinkAddr), nd: u16) {
        if self.voices.get(&voice) == Some(&nd) {
            self.voices.remove(&voice);
        }
    }

    /// Lists a node under another name, which must be free.
    pub(crate) fn rename(&mut self, nd: u16, name: Fqnn) {
        let Some(peer) = self.slots.get_mut(usize::from(nd)).and_then(Option::as_mut) else { return };
        self.names.remove(&peer.name.key());
        self.names.insert(name.key(), nd);
        peer.name = name;
    }

    pub(crate) fn remove(&mut self, nd: u16) -> Option<Box<Peer>> {
        let peer = self.slots.get_mut(usize::from(nd))?.take()?;
        self.names.remove(&peer.name.key());
        peer.voices.iter().for_each(|&voice| self.silence(voice, nd));
        self.count -= 1;
        Some(peer)
    }

    /// The number that comes after one in the table, used or not.
    pub(crate) fn after(&self, nd: u16) -> u16 {
        let next = nd.wrapping_add(1);
        if usize::from(next) < self.slots.len() { next } else { 1 }
    }

    /// Every known node's number.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + '_ {
        self.iter().map(|(nd, _)| nd.node())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| {
            let nd = NodeId(u32::try_from(i).ok()?);
            slot.as_deref().map(|peer| (nd, peer))
        })
    }

    /// A session id nobody could guess or remember from another life, registered for the node.
    pub(crate) fn new_id(&mut self, nd: u16, rng: &mut Rng) -> u32 {
        loop {
            let id = (rng.next() >> 32) as u32;
            if id != 0 && !self.ids.contains_key(&id) {
                self.ids.insert(id, nd);
                return id;
            }
        }
    }

    pub(crate) fn drop_id(&mut self, id: u32) {
        self.ids.remove(&id);
    }

    /// How many session ids are in use.
    pub(crate) fn ids(&self) -> usize {
        self.ids.len()
    }

    /// Whose session an id names.
    pub(crate) fn by_id(&self, id: u32) -> Option<u16> {
        self.ids.get(&id).copied()
    }
}
