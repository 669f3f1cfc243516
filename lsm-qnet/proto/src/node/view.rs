//! What a node shows of itself and the others.
//!
//! These are snapshots for listings and statistics, borrowed from the node while it is looked at;
//! nothing here changes anything.

use std::time::Duration;

use crate::counters::PeerCounters;
use crate::event::{DownReason, NodeId};
use crate::link::{LinkAddr, LinkId};
use crate::names::{Domain, NodeName};
use crate::session::health::PathState;
use crate::session::lane::Lane;
use crate::time::Instant;

use super::Node;
use super::peers::Peer;

/// How a node is reached at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// This node.
    Local,
    /// An address is known; no session.
    Known,
    /// A session is being set up.
    Connecting,
    /// A session is established.
    Up,
}

/// What a node shares with another living one, which it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clash {
    /// Its name: one of the two is listed as `NAME-EAxxxxxx`.
    Name,
    /// Its address on a link.
    Address,
}

/// How the last session with a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// When.
    pub at: Instant,
    /// Why; `None`: it was never established, the node did not answer.
    pub why: Option<DownReason>,
}

/// One path of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathView {
    /// The link.
    pub link: LinkId,
    /// The node's address there.
    pub addr: LinkAddr,
    /// Whether it works.
    pub state: PathState,
    /// Its smoothed round trip time, when one was measured.
    pub rtt: Option<Duration>,
    /// Bytes on their way there, unacknowledged.
    pub in_flight: u64,
    /// Bytes that may be on their way there.
    pub window: u64,
    /// Fragments sent there, repeated ones each time.
    pub sent: u64,
    /// Of these the ones that were taken for lost.
    pub lost: u64,
}

impl PathView {
    fn of(lane: &Lane) -> PathView {
        let (sent, lost) = lane.traffic();
        PathView {
            link: lane.link,
            addr: lane.addr,
            state: lane.health.state(),
            rtt: lane.rtt.smoothed(),
            in_flight: lane.in_flight,
            window: lane.congestion.window(),
            sent,
            lost,
        }
    }
}

/// One entry of [`Node::nodes`](crate::Node::nodes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView<'a> {
    /// Its number on this node.
    pub nd: NodeId,
    /// The name it is listed by (an alias when its own was taken).
    pub name: &'a NodeName,
    /// The name it calls itself: another one than `name` when two nodes have the same.
    pub own_name: &'a NodeName,
    /// Its domain.
    pub domain: &'a Domain,
    /// How it is reached.
    pub state: NodeState,
    /// Where it was heard.
    pub addresses: Vec<(LinkId, LinkAddr)>,
    /// The paths of its session.
    pub paths: Vec<PathView>,
    /// Smoothed round trip time, when one was measured.
    pub rtt: Option<Duration>,
    /// Bytes on their way, unacknowledged.
    pub in_flight: u64,
    /// Bytes that may be on their way.
    pub window: u64,
    /// Messages waiting to be sent or acknowledged.
    pub queued: usize,
    /// Whether it uses the extensions of docs/protocol.md; `None` without a session.
    pub extended: Option<bool>,
    /// When it was heard last, by whatever; `None` for this node.
    pub heard: Option<Instant>,
    /// Since when the session is up.
    pub up_since: Option<Instant>,
    /// How the session before ended.
    pub last_end: Option<SessionEnd>,
    /// What it shares with another living node.
    pub clash: Option<Clash>,
    /// Its totals.
    pub counters: PeerCounters,
}

impl<'a> NodeView<'a> {
    /// This node itself.
    pub(super) fn local(node: &'a Node) -> NodeView<'a> {
        NodeView {
            nd: NodeId::LOCAL,
            name: &node.config.name,
            own_name: &node.config.name,
            domain: &node.config.domain,
            state: NodeState::Local,
            addresses: node.links.iter().map(|(&id, info)| (id, info.addr)).collect(),
            paths: Vec::new(),
            rtt: None,
            in_flight: 0,
            window: 0,
            queued: 0,
            extended: None,
            heard: None,
            up_since: None,
            last_end: None,
            clash: node.clash,
            counters: PeerCounters::default(),
        }
    }

    /// Another node.
    pub(super) fn of(nd: NodeId, peer: &'a Peer) -> NodeView<'a> {
        let state = peer.state();
        let session = peer.session.as_deref();
        let outbox = session.map(|session| &session.outbox);
        NodeView {
            nd,
            name: &peer.name.name,
            own_name: &peer.own_name.name,
            domain: &peer.name.domain,
            state,
            addresses: peer.paths.iter().map(|path| (path.link, path.addr)).collect(),
            paths: outbox.map_or_else(Vec::new, |outbox| outbox.lanes.iter().map(PathView::of).collect()),
            rtt: outbox.and_then(|outbox| outbox.rtt()),
            in_flight: outbox.map_or(0, |outbox| outbox.in_flight()),
            window: outbox.map_or(0, |outbox| outbox.window()),
            queued: outbox.map_or(0, |outbox| outbox.queued()),
            extended: session.filter(|_| state == NodeState::Up).map(|session| session.extensions.is_some()),
            heard: Some(peer.heard),
            up_since: peer.up_since.filter(|_| state == NodeState::Up),
            last_end: peer.last_end,
            clash: peer.clash,
            counters: peer.counters,
        }
    }
}
