//! What a node shows of itself and the others.
//!
//! These are snapshots for listings and statistics, borrowed from the node while it is looked at;
//! nothing here changes anything.

use std::time::Duration;

use crate::event::NodeId;
use crate::link::{LinkAddr, LinkId};
use crate::names::{Domain, NodeName};

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

/// One entry of [`Node::nodes`](crate::Node::nodes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView<'a> {
    /// Its number on this node.
    pub nd: NodeId,
    /// The name it is listed by (an alias when its own was taken).
    pub name: &'a NodeName,
    /// Its domain.
    pub domain: &'a Domain,
    /// How it is reached.
    pub state: NodeState,
    /// Where it was heard, the one in use first.
    pub addresses: Vec<(LinkId, LinkAddr)>,
    /// Smoothed round trip time, when one was measured.
    pub rtt: Option<Duration>,
    /// Bytes on their way, unacknowledged.
    pub in_flight: u64,
    /// Bytes that may be on their way.
    pub window: u64,
}
