//! A node: everything the core does, behind one set of calls.
//!
//! The parts, each in its file: discovery (`LR`), incoming frames, outgoing frames, sessions,
//! timers, and the kernel interface's client and server side. They share the state below; none
//! keeps a copy of another's.

mod attach;
mod bounds;
mod client;
mod delivery;
mod discovery;
mod entries;
mod frames;
mod holdings;
mod kernel;
mod links;
mod peers;
mod ping;
mod resolve;
mod server;
mod sessions;
mod tables;
mod timers;
mod transmit;
mod twins;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::command::Command;
use crate::config::Config;
use crate::counters::Counters;
use crate::event::{DownReason, Event, NodeId};
use crate::link::{LinkAddr, LinkId, LinkInfo, Transmit};
use crate::names::Fqnn;
use crate::qos::QosTable;
use crate::rng::Rng;
use crate::session::inbox::Budget;
use crate::session::message::Message;
use crate::session::{End, Times};
use crate::time::Instant;
use crate::wire::crc::Crc;

use discovery::PendingReply;
use kernel::Question;
use peers::Peers;
use ping::Ping;
use resolve::Lookup;
use tables::{Clients, Servers};
use timers::Timer;
use transmit::Control;
use twins::Twins;

pub use holdings::Holdings;
pub use view::{Clash, NodeState, NodeView, PathView, SessionEnd};

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
    /// The node was never heard on that link (answer `ENODEV`).
    #[error("the node was never heard on that link")]
    NoSuchPath,
    /// The text cannot be a node's name (answer `ENOENT`).
    #[error("not a node's name")]
    BadName,
    /// No range of that offset was asked for.
    #[error("no such read is pending")]
    NoSuchRead,
    /// Larger than a message can be.
    #[error("more than 4 GiB - 1 bytes")]
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
    own: Fqnn,
    times: Times,
    crc: Crc,
    rng: Rng,
    links: BTreeMap<LinkId, LinkInfo>,
    /// Where the way to an address is narrower than the link.
    path_mtus: BTreeMap<(LinkId, LinkAddr), u32>,
    qos: QosTable,
    /// Index of the policy for answers to the packet at hand.
    answer_qos: u16,
    events: VecDeque<Event>,
    counters: Counters,
    peers: Peers,
    /// Another living node has this one's name or address.
    clash: Option<Clash>,
    twins: Twins,
    lookups: BTreeMap<u32, Lookup>,
    replies: BTreeMap<u32, PendingReply>,
    next_id: u32,
    pings: BTreeMap<u16, Ping>,
    last_ping: u16,
    timers: BTreeSet<(Instant, Timer)>,
    control: VecDeque<Control>,
    /// Nodes that may have something to send.
    ready: VecDeque<u16>,
    budget: Budget,
    /// What other nodes were asked, by the number in the message.
    questions: BTreeMap<u16, Question>,
    /// Sessions that were only called, the oldest first.
    calls: VecDeque<(u16, u32)>,
    /// Messages queued for all nodes.
    queued: usize,
    /// Where the last look for an entry to leave ended.
    hand: u16,
    clients: Clients,
    servers: Servers,
}

impl Node {
    /// A node without links.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Node {
        let own = Fqnn { name: config.name.clone(), domain: config.domain.clone() };
        let limits = config.limits;
        let mut node = Node {
            times: Times::new(&config),
            own,
            crc: Crc::new(),
            rng: Rng::new(config.seed),
            links: BTreeMap::new(),
            path_mtus: BTreeMap::new(),
            qos: QosTable::default(),
            answer_qos: 0,
            events: VecDeque::new(),
            counters: Counters::default(),
            peers: Peers::default(),
            clash: None,
            twins: Twins::new(),
            lookups: BTreeMap::new(),
            replies: BTreeMap::new(),
            next_id: 0,
            pings: BTreeMap::new(),
            last_ping: 0,
            timers: BTreeSet::new(),
            control: VecDeque::new(),
            ready: VecDeque::new(),
            budget: Budget {
                total: limits.reassembly_total,
                per_peer: limits.reassembly_per_peer,
                reserved: 0,
            },
            questions: BTreeMap::new(),
            calls: VecDeque::new(),
            queued: 0,
            hand: 0,
            clients: Clients::default(),
            servers: Servers::default(),
            config,
        };
        node.start_expiry(now);
        node
    }

    /// The settings it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A frame arrived: everything behind the carrier's header (Ethernet: behind the ethertype),
    /// with whatever padding the carrier added. `src` is the carrier's source address. Bad frames
    /// are counted and otherwise ignored.
    pub fn handle_frame(&mut self, now: Instant, link: LinkId, src: LinkAddr, frame: &[u8]) {
        self.on_frame(now, link, src, frame);
    }

    /// Time has passed; call it at or after [`Node::poll_timeout`]. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.on_timers(now);
    }

    /// A request.
    ///
    /// # Errors
    /// [`CommandError`] when it is refused; it had no effect then.
    pub fn handle_command(&mut self, now: Instant, command: Command) -> Result<(), CommandError> {
        match command {
            Command::Resolve { token, name } => self.resolve(now, token, 0, &name),
            Command::ResolveIn { token, directory, name } => self.resolve(now, token, directory, &name),
            Command::Rename { name, domain } => {
                self.rename(now, name, domain);
                Ok(())
            }
            Command::Forget { nd } => self.forget(nd),
            Command::Found { lookup, addresses } => {
                self.on_answer(now, lookup, &addresses);
                Ok(())
            }
            Command::Ping { token, nd, link, patience } => self.ping(now, token, nd, link, patience),
            Command::Connect { client, nd, pid, chid, cred } => {
                self.connect(now, client, nd, (pid, chid), cred)
            }
            Command::Attach { client, nd, pid, chid, cred } => self.attach(client, nd, (pid, chid), cred),
            Command::Send { client, handle, info, first, reply } => {
                self.send(now, client, handle, info, (first, reply))
            }
            Command::ReadData { handle, offset, data } => self.read_data(now, handle, offset, data),
            Command::ReadError { handle, offset, errno } => self.read_error(now, handle, offset, errno),
            Command::Unblock { handle } => self.unblock(now, handle),
            Command::Pulse { client, info, pulse } => self.pulse(now, client, info, pulse),
            Command::Disconnect { client } => self.disconnect(now, client),
            Command::Accept { server, scoid, nbytes } => self.accept(now, server, scoid, nbytes),
            Command::Reject { server, errno } => self.reject(now, server, errno),
            Command::Read { rcv, offset, nbytes, into } => self.read(now, rcv, (offset, nbytes), into),
            Command::Room { handle } => self.room(now, handle),
            Command::RemoteNd { token, nd, name } => self.remote_nd(now, token, nd, &name),
            Command::Deliver { server, sigevent } => self.deliver(now, server, sigevent),
            Command::Signal { nd, signal, cred } => self.signal(now, nd, signal, cred),
            Command::Write { rcv, offset, data } => self.write(now, rcv, offset, data),
            Command::Reply { rcv, status, data } => self.reply(now, rcv, status, data),
            Command::Error { rcv, errno } => self.error(now, rcv, errno),
            Command::ConnectDeath { server } => self.connect_death(now, server),
        }
    }

    /// The next frame to send, written into `buffer`: everything behind the carrier's header.
    /// `buffer` should hold the largest MTU of all links; a frame is never longer than it. Call
    /// again until `None`.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.next_frame(now, buffer)
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
        self.timers.first().map(|&(at, _)| at)
    }

    /// Every known node, this one (number 0) first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        let others = self.peers.iter().filter(|(_, peer)| peer.listed);
        std::iter::once(NodeView::local(self)).chain(others.map(|(nd, peer)| NodeView::of(nd, peer)))
    }

    /// The links that are up.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, &LinkInfo)> {
        self.links.iter().map(|(&id, info)| (id, info))
    }

    /// How many other nodes it keeps in mind, listed or not; bounded by `Limits::nodes`.
    #[must_use]
    pub fn known(&self) -> usize {
        self.peers.len()
    }

    /// The domain of names without one in a network directory
    /// ([`Config::directories`](crate::Config::directories)).
    #[must_use]
    pub fn domain_of_directory(&self, directory: usize) -> &crate::names::Domain {
        self.default_domain(directory)
    }

    /// Running totals.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes reserved for incomplete messages of all peers; bounded by `Limits::reassembly_total`.
    #[must_use]
    pub fn reassembly_bytes(&self) -> u32 {
        self.budget.reserved
    }

    /// Sends everything unacknowledged to a node again at once, whatever the timers say, and asks its paths for a sign of
    /// life (`_NETMGR_QOS_FLUSH`); to every node when the number is this node's own.
    pub fn flush(&mut self, now: Instant, nd: NodeId) {
        let meant = |other: &u16| nd == NodeId::LOCAL || nd.node() == *other;
        for nd in self.peers.numbers().filter(meant).collect::<Vec<_>>() {
            if let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut()) {
                session.outbox.flush();
            }
            self.touch(now, nd);
        }
    }

    /// Closes every session in an orderly way; drain `poll_event` and `poll_transmit` once more
    /// before the end.
    pub fn shutdown(&mut self, now: Instant) {
        for nd in self.peers.numbers().collect::<Vec<_>>() {
            self.drop_candidate(nd);
            let Some(peer) = self.peers.get(nd).filter(|peer| peer.session.is_some()) else { continue };
            let end = if peer.is_up() { End::Down(DownReason::Shutdown) } else { End::Unreachable };
            self.say_down(nd);
            self.end_session(now, nd, end);
        }
    }

    // ---- for the parts ----

    fn new_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn event(&mut self, event: Event) {
        let repeated =
            matches!(event, Event::NodesChanged) && matches!(self.events.back(), Some(Event::NodesChanged));
        if !repeated {
            self.events.push_back(event);
        }
    }

    /// Something about the node changed: it may have something to send, and other deadlines.
    fn touch(&mut self, now: Instant, nd: u16) {
        self.count_queue(nd);
        self.update_timer(now, nd);
        if let Some(peer) = self.peers.get_mut(nd)
            && !peer.queued
            && (peer.session.is_some() || peer.candidate.is_some())
        {
            peer.queued = true;
            self.ready.push_back(nd);
        }
    }

    /// Whether the node's queue takes another message.
    fn check_queue(&self, nd: u16) -> Result<(), CommandError> {
        let session = self.peers.get(nd).and_then(|peer| peer.session.as_ref());
        let queued = session.map_or(0, |session| session.outbox.queued());
        if queued < self.config.limits.queue_per_peer { Ok(()) } else { Err(CommandError::Busy) }
    }

    /// Gives a message to the node's session, which is opened when there is none.
    fn send_message(&mut self, now: Instant, nd: u16, message: Option<Message>) {
        // Every fixed part fits; there is nothing else that is none.
        let Some(message) = message else { return };
        self.want_session(now, nd);
        let qos = self.qos_behind(&message).unwrap_or(message.qos);
        let route = self.route(qos);
        if let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut()) {
            session.push(now, message, route);
        }
        self.touch(now, nd);
    }
}

#[cfg(test)]
mod tests;
