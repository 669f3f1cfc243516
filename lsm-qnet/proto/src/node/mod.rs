//! A node: everything the core does, behind one set of calls.

mod view;

use crate::command::Command;
use crate::config::Config;
use crate::counters::Counters;
use crate::event::{Event, NodeId};
use crate::link::{LinkAddr, LinkId, LinkInfo, Transmit};
use crate::time::Instant;

pub use view::{NodeState, NodeView};

use std::collections::{BTreeMap, VecDeque};

/// Why a command was refused. It had no effect and has no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The key names no open connection (answer `EBADF`).
    #[error("no such connection")]
    NoSuchConnection,
    /// The key or number names no open transaction (answer `ESRCH`).
    #[error("no such message, or it has been answered")]
    NoSuchMessage,
    /// The new key is in use already.
    #[error("the key is in use")]
    KeyInUse,
    /// The node number is not known (answer `EHOSTUNREACH`).
    #[error("no such node")]
    NoSuchNode,
    /// No range of that offset was asked for.
    #[error("no such read is pending")]
    NoSuchRead,
    /// Larger than one command may carry.
    #[error("more than {} bytes in one piece", crate::MAX_PIECE)]
    TooLarge,
    /// The node's queue is full; later it may work (answer `EAGAIN`).
    #[error("too many messages wait for the node")]
    Busy,
}

/// One Qnet node.
///
/// The caller feeds frames ([`Node::handle_frame`]), time ([`Node::handle_timeout`]) and requests
/// ([`Node::handle_command`]); after any of them it drains [`Node::poll_event`] and
/// [`Node::poll_transmit`] until both give `None`, and sleeps until [`Node::poll_timeout`].
#[derive(Debug)]
pub struct Node {
    config: Config,
    links: BTreeMap<LinkId, LinkInfo>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Node {
    /// A node without links.
    #[must_use]
    pub fn new(config: Config, _now: Instant) -> Node {
        Node { config, links: BTreeMap::new(), events: VecDeque::new(), counters: Counters::default() }
    }

    /// The settings it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A link is there, or its description changed; the node announces itself on it.
    pub fn link_up(&mut self, _now: Instant, link: LinkId, info: LinkInfo) {
        self.links.insert(link, info);
    }

    /// A link is gone: nothing more is sent on it.
    pub fn link_down(&mut self, _now: Instant, link: LinkId) {
        self.links.remove(&link);
    }

    /// A frame arrived: everything behind the carrier's header (Ethernet: behind the ethertype),
    /// with whatever padding the carrier added. `src` is the carrier's source address. Bad frames
    /// are counted and otherwise ignored.
    pub fn handle_frame(&mut self, _now: Instant, _link: LinkId, _src: LinkAddr, _frame: &[u8]) {}

    /// Time has passed; call it at or after [`Node::poll_timeout`]. Calling it early is harmless.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// A request.
    ///
    /// # Errors
    /// [`CommandError`] when it is refused; it had no effect then.
    pub fn handle_command(&mut self, _now: Instant, command: Command) -> Result<(), CommandError> {
        match command {
            Command::Connect { .. } => Err(CommandError::NoSuchNode),
            _ => Err(CommandError::NoSuchConnection),
        }
    }

    /// The next frame to send, written into `buffer`: everything behind the carrier's header.
    /// `buffer` should hold the largest MTU of all links; a frame is never longer than it. Call
    /// again until `None`.
    #[must_use]
    pub fn poll_transmit(&mut self, _now: Instant, _buffer: &mut [u8]) -> Option<Transmit> {
        None
    }

    /// The next event. Call again until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Node::handle_timeout`] is wanted at the latest; `None`: not at all. Changes with
    /// every other call. May be earlier than anything happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Every known node, this one (number 0) first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        std::iter::once(NodeView {
            nd: NodeId::LOCAL,
            name: &self.config.name,
            domain: &self.config.domain,
            state: NodeState::Local,
            addresses: self.links.iter().map(|(&id, info)| (id, info.addr)).collect(),
            rtt: None,
            in_flight: 0,
            window: 0,
        })
    }

    /// Running totals.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Closes every session in an orderly way; drain `poll_transmit` once more before the end.
    pub fn shutdown(&mut self, _now: Instant) {}
}
