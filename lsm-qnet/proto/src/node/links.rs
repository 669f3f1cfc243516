//! This node's links, the paths that sessions have over them, and what quality of service means here.
//!
//! A session has one path a link, over the first `max_num_l4s` links that both ends were heard on. Where all links end in one
//! switch a node is heard by each of its addresses on each link; then each link is given another address, so that
//! the paths share neither end.

use crate::event::NodeId;
use crate::link::{Destination, LinkAddr, LinkId, LinkInfo};
use crate::qos::{Qos, Route};
use crate::session::health::PathState;
use crate::session::lane::Lane;
use crate::session::lanes::MAX_LANES;
use crate::session::message::Message;
use crate::session::order::GateKey;
use crate::session::state::Phase;
use crate::session::{Path, Session};
use crate::time::Instant;
use crate::wire::lr::LrKind;
use crate::wire::lwl4::HEADER;

use super::peers::Peer;
use super::transmit::{Control, LrTo};
use super::{CommandError, Node};

/// Narrow ways that are remembered; beyond, the carrier tells them again.
const MAX_PATH_MTUS: usize = 4096;

impl Node {
    /// A link is there, or its description changed; the node announces itself on it.
    pub fn link_up(&mut self, now: Instant, link: LinkId, info: LinkInfo) {
        self.settle(now, link, info.addr);
        self.links.insert(link, info);
        self.start_announcing(now, link);
        for nd in self.peers.numbers().collect::<Vec<_>>() {
            self.update_paths(now, nd);
            self.update_routes(nd);
            self.touch(now, nd);
        }
    }

    /// The carrier has learned how large a packet to an address may be (as [`LinkInfo::mtu`] counts,
    /// and at most that) without being cut on the way. Tell it before what waits for the address is
    /// sent, and whenever it changes.
    pub fn path_mtu(&mut self, now: Instant, link: LinkId, addr: LinkAddr, mtu: u32) {
        if self.path_mtus.len() >= MAX_PATH_MTUS {
            self.path_mtus.clear();
        }
        if self.path_mtus.insert((link, addr), mtu) == Some(mtu) {
            return;
        }
        for nd in self.peers.numbers().collect::<Vec<_>>() {
            if self.peers.get(nd).is_some_and(|peer| peer.has_path(link, addr)) {
                self.update_piece(nd);
                self.touch(now, nd);
            }
        }
    }

    /// The largest packet to an address on a link; `None`: no such link.
    pub(super) fn mtu_to(&self, link: LinkId, addr: LinkAddr) -> Option<u32> {
        let mtu = self.links.get(&link)?.mtu;
        Some(self.path_mtus.get(&(link, addr)).map_or(mtu, |&path| path.min(mtu)))
    }

    /// A link is gone: nothing more is sent on it.
    pub fn link_down(&mut self, now: Instant, link: LinkId) {
        if self.links.remove(&link).is_none() {
            return;
        }
        self.twins.remove(&link);
        self.control.retain(|control| control.link() != link);
        for nd in self.peers.numbers().collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(nd) {
                peer.paths.retain(|path| path.link != link);
            }
            self.update_paths(now, nd);
            self.update_routes(nd);
            self.touch(now, nd);
        }
    }

    /// The descriptor of the node `nd` under a policy: connections made with it use the links that the policy allows. The
    /// same policy gives the same descriptor.
    ///
    /// # Errors
    /// [`CommandError::NoSuchNode`] for an unknown node, [`CommandError::Busy`] when programs have used too many
    /// different policies.
    pub fn with_qos(&mut self, nd: NodeId, qos: &Qos) -> Result<NodeId, CommandError> {
        if nd.node() != 0 && self.peers.get(nd.node()).is_none() {
            return Err(CommandError::NoSuchNode);
        }
        let index = self.qos.index(qos).ok_or(CommandError::Busy)?;
        Ok(NodeId(u32::from(index) << 16 | u32::from(nd.node())))
    }

    /// The policy of a descriptor; `None` when this node gave no such descriptor.
    #[must_use]
    pub fn qos_of(&self, nd: NodeId) -> Option<&Qos> {
        self.qos.get(nd.qos_index())
    }

    /// What a policy allows at the moment.
    pub(super) fn route(&self, index: u16) -> Route {
        let named = |name: &str| self.links.iter().find(|(_, info)| info.name == name).map(|(&id, _)| id);
        self.qos.route(index, named)
    }

    /// The policy of the connection that a message belongs to.
    pub(super) fn qos_behind(&self, message: &Message) -> Option<u16> {
        let of = |key: GateKey| match key {
            GateKey::Client(number) => self.clients.connections.get(number).map(|client| client.qos),
            GateKey::Server(number) | GateKey::Events(number) => {
                self.servers.connections.get(number).map(|server| server.qos)
            }
            GateKey::Rcv(number) => {
                let server = self.servers.received.get(number)?.server;
                self.servers.connections.get(server).map(|server| server.qos)
            }
        };
        let gate = message.gate.map(|(key, _)| key);
        gate.into_iter().chain(message.also).find_map(of)
    }

    /// A packet of type `wire_type` came by the link: answers go under the same policy.
    pub(super) fn note_policy(&mut self, link: LinkId, wire_type: u16) {
        self.answer_qos = match wire_type {
            // the usual case
            0 => 0,
            _ => {
                let name = self.links.get(&link).map_or("", |info| info.name.as_str());
                self.qos.answer(wire_type, name)
            }
        };
    }

    pub(super) fn update_routes(&mut self, nd: u16) {
        for index in self.qos.indices() {
            let route = self.route(index);
            if let Some(peer) = self.peers.get_mut(nd) {
                peer.sessions().for_each(|session| session.outbox.set_route(route));
            }
        }
    }

    /// The paths of a node's sessions follow the addresses that are known of it.
    pub(super) fn update_paths(&mut self, now: Instant, nd: u16) {
        let most = (self.config.max_num_l4s as usize).clamp(1, MAX_LANES);
        let mut chosen = [None; MAX_LANES];
        let Some(peer) = self.peers.get(nd) else { return };
        let mut count = 0;
        for &link in self.links.keys() {
            if count < most
                && let Some(addr) = choose_addr(peer, link, &chosen)
            {
                chosen[count] = Some((link, addr));
                count += 1;
            }
        }
        // What was cut for a wider way may be cut by the carrier; the link's own limit is final.
        let mtu = |link: LinkId| self.links.get(&link).map_or(0, |info| info.mtu);
        let largest = |path: Path| mtu(path.0).saturating_sub(HEADER as u32);
        let paths: Vec<(Path, u32)> = chosen.iter().flatten().map(|&path| (path, largest(path))).collect();
        if let Some(peer) = self.peers.get_mut(nd) {
            peer.sessions().for_each(|session| session.set_paths(now, &paths));
        }
        let (times, lacks) = (self.times, paths.len() < self.links.len().min(most));
        if let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.session.as_deref_mut()) {
            session.lacks_paths(now, &times, lacks);
        }
        self.update_piece(nd);
    }

    /// Asks for the node on the links where it was not heard.
    pub(super) fn search_paths(&mut self, nd: u16) {
        let Some(peer) = self.peers.get(nd) else { return };
        let heard = |link: LinkId| peer.paths.iter().any(|path| path.link == link);
        let silent: Vec<LinkId> = self.links.keys().copied().filter(|&link| !heard(link)).collect();
        let to = LrTo { name: Some(peer.own_name.clone()), mac: None };
        for link in silent.into_iter().filter(|&link| self.speaks_lan(link)).collect::<Vec<_>>() {
            let dst = Destination::Broadcast;
            self.push_control(Control::Lr { link, dst, kind: LrKind::Request, to: to.clone() });
        }
    }
}

/// The address of the node to use on a link: the one in use, else one that no other path uses.
fn choose_addr(peer: &Peer, link: LinkId, chosen: &[Option<Path>]) -> Option<LinkAddr> {
    let on_link = || peer.paths.iter().filter(|path| path.link == link).map(|path| path.addr);
    let taken = |addr: &LinkAddr| chosen.iter().flatten().any(|(_, other)| other == addr);
    let in_use = peer.session.as_deref().and_then(|session| lane_addr(session, link));
    let in_use = in_use.filter(|addr| on_link().any(|known| known == *addr) && !taken(addr));
    in_use.or_else(|| on_link().find(|addr| !taken(addr))).or_else(|| on_link().next())
}

/// The address in use on a link, unless it proved bad.
fn lane_addr(session: &Session, link: LinkId) -> Option<LinkAddr> {
    let calling = session.phase() == Phase::InitSent;
    let good = |lane: &&Lane| lane.link == link && !calling && lane.health.state() != PathState::Down;
    session.outbox.lanes.iter().find(good).map(|lane| lane.addr)
}
