//! Connections and calls: what goes on between those who call and those who serve.
//!
//! A *front* is where a caller is: a local program on `qnet.sock`, or a process of another node. A *back* is where the
//! server is: a channel of this node (its own server `qnet-server` among them), another node, or the network manager. A
//! connection joins a front and a back, a call is one message on it that waits for its reply. Both sides speak the same
//! verbs, so a call is passed on by changing its number.
//!
//! ```text
//!             front                        conns, calls              back
//!  program ── local.rs  ── ToServer ──►  ┌──────────────┐ ── channel.rs ──► qnet-server, servers
//!  node ───── remote.rs ── Event    ──►  │ ConnId CallId│ ── wire.rs ─────► node (proto Command)
//!             reply.rs  ◄── ToClient ──  └──────────────┘ ── netmgr.rs
//! ```
//!
//! Numbers of connections and calls are the engine's own, never the other side's word: each packet is checked to come
//! from the socket that the number belongs to. Every table and queue has a bound, named where it is enforced. The engine
//! knows no daemon: it is told what is ready, and asks a [`Watcher`] to watch sockets.

mod attention;
mod channel;
mod flow;
mod inlet;
mod local;
mod meter;
mod ndtostr;
mod netmgr;
mod pinging;
mod remote;
mod reply;
mod resolving;
mod shares;
mod signals;
mod watch;
mod wire;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    os::fd::BorrowedFd,
    rc::Rc,
};

use io_pkt_sdk::Error;
use qnet_ipc::{ListenError, Listener, ReceiveBuffer, Root};
use qnet_proto::{Buffer, Config, Instant, LinkAddr, LinkId, Node, NodeId, Qos, Rcv, ServerId};

use crate::{Access, resolvers::Resolvers};
use attention::Attention;
use channel::{Callers, Channel};
use inlet::{Inlet, Ready};
use local::LocalClient;
use meter::Meter;
use shares::Shares;
pub use watch::Verbosity;
use watch::Watch;

/// Number under which a socket is watched. Those below [`FIRST_TOKEN`] belong to the module.
pub type Token = u64;
/// First number that the engine gives to a socket.
pub const FIRST_TOKEN: Token = 1 << 16;

/// Number of a connection, also on the sockets and in the core.
type ConnId = u32;
/// Number of a call, also on the sockets and in the core.
type CallId = u32;

/// Reads of one call that may be unanswered; beyond, they end with `EAGAIN`.
const MAX_READS: usize = 256;
/// Packets that a caller is asked for at once, of all that another node wants of its message.
const MAX_ASKED: usize = 8;
/// Bytes in a socket's queue from which on nobody is read who sends there.
const CLOGGED: usize = 1024 * 1024;

/// Watches descriptors, edge-triggered, and tells the engine by [`Engine::on_ready`].
pub trait Watcher {
    /// Begins to watch for readability; dropping what is returned ends it.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    fn watch(&self, fd: BorrowedFd<'_>, token: Token) -> Result<Box<dyn Watched>, Error>;
}

/// A watched descriptor.
pub trait Watched {
    /// Watches for writability too, or no longer.
    fn set_writing(&self, writing: bool);
}

/// Where a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Local {
        client: Token,
        conn: u32,
    },
    Remote {
        server: ServerId,
        nd: u16,
        big_endian: bool,
    },
    /// A signal of another node, on its way to the node's server.
    Signal,
}

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    Channel(Token),
    Remote,
    Netmgr,
}

#[derive(Debug)]
struct Conn {
    front: Front,
    back: Back,
    open: bool,
    /// `_NTO_CHF_*` of its channel, from a server that tells; such a one tells of each message that it receives, too.
    channel: Option<u32>,
    calls: HashSet<CallId>,
}

/// Where the reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Local {
        client: Token,
        txn: u32,
    },
    Remote {
        rcv: Rcv,
    },
    /// Nobody waits: a signal.
    Nobody,
}

#[derive(Debug)]
struct Call {
    conn: ConnId,
    caller: Caller,
    tid: i32,
    srcmsglen: u32,
    /// The server said that it has received the message.
    received: bool,
    /// Pieces of the message that were asked for, in order.
    reads: VecDeque<Piece>,
    /// What another node wants of the message and the caller was not asked for yet: offset and end.
    wanted: VecDeque<(u32, u32)>,
    /// The reply, while it comes from another node.
    inlet: Option<Inlet>,
}

/// A piece of a message that was asked for, at most a packet's worth.
#[derive(Debug)]
struct Piece {
    offset: u32,
    nbytes: u32,
    stage: Stage,
}

/// How far a piece is that another node is asked for.
#[derive(Debug)]
enum Stage {
    /// It waits for its turn, or it is a local caller's to give.
    Waiting,
    /// The core fetches it.
    Asked(Buffer),
    /// It is there, or cannot be had, and those before it are not there yet.
    Done(Result<Vec<u8>, i32>),
}

/// Running totals of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections of programs of this node.
    pub local_connects: u64,
    /// Connections of other nodes, let in.
    pub remote_connects: u64,
    /// Connections of other nodes, refused.
    pub remote_refused: u64,
    /// Messages passed on.
    pub calls: u64,
    /// Nodes that came with a name or an address that was taken.
    pub name_clashes: u64,
    /// Events for programs that do not take them.
    pub events_lost: u64,
    /// Clients that broke the rules or did not read.
    pub clients_dropped: u64,
}

/// What an engine is told once.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The core's settings.
    pub config: Config,
    /// The node's root.
    pub root: Root,
    /// The network directories, as [`Config::directories`] numbers them; never none.
    pub nets: Vec<String>,
    /// Who remote callers become.
    pub access: Access,
    /// What is logged.
    pub verbosity: Verbosity,
}

/// See the head of this file.
pub struct Engine {
    node: Node,
    root: Root,
    nets: Vec<String>,
    resolvers: Option<Resolvers>,
    /// What the resolver says of this node itself.
    own_address: Option<Option<LinkAddr>>,
    access: Access,
    shares: Shares,
    watch: Watch,
    watcher: Rc<dyn Watcher>,
    listener: Option<(Box<dyn Watched>, Listener)>,
    clients: HashMap<Token, LocalClient>,
    channels: HashMap<Token, Channel>,
    /// The sockets to channels by who calls whom there.
    by_callers: HashMap<Callers, Token>,
    /// The node's own server, while it runs.
    server: Option<Token>,
    conns: HashMap<ConnId, Conn>,
    calls: HashMap<CallId, Call>,
    by_server: HashMap<ServerId, ConnId>,
    by_rcv: HashMap<Rcv, CallId>,
    /// What the nodes with a session are called, for the log.
    names: HashMap<NodeId, String>,
    last_token: Token,
    last_id: u32,
    buffer: ReceiveBuffer,
    scratch: flow::Scratch,
    /// Sockets with more to read: for want of budget, or until what they sent has left.
    again: BTreeSet<Token>,
    attention: Attention,
    /// Calls whose reply has packets to pass on.
    ready: Ready,
    /// Sockets that are not read because the queue of another one is full.
    blocked: HashMap<Token, Token>,
    /// Clients wait to be accepted until descriptors are free.
    accept_waits: bool,
    /// Descriptors have become free.
    accept_again: bool,
    /// Calls that wait for the statistics, which only the module can write.
    asked: Vec<CallId>,
    /// Of names that are being looked for: the policy behind each, and the bytes of the text that name the node.
    wanted_names: HashMap<CallId, (Qos, u32)>,
    meter: Meter,
    /// Addresses that links are to have.
    addresses: Vec<(LinkId, LinkAddr)>,
    totals: Totals,
    /// The sentence about refused connections was said.
    told_refusal: bool,
    now: Instant,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("clients", &self.clients.len())
            .field("conns", &self.conns.len())
            .field("calls", &self.calls.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// A node with these settings, reached by nobody yet; `now` is the host's clock.
    #[must_use]
    pub fn new(setup: Setup, watcher: Rc<dyn Watcher>, now: u64) -> Self {
        let Setup { config, root, nets, access, verbosity } = setup;
        let now = Instant::from_nanos(now);
        Self {
            node: Node::new(config, now),
            root,
            nets,
            resolvers: None,
            own_address: None,
            access,
            shares: Shares::of_this_process(),
            watch: Watch::new(verbosity),
            watcher,
            listener: None,
            clients: HashMap::new(),
            channels: HashMap::new(),
            by_callers: HashMap::new(),
            server: None,
            conns: HashMap::new(),
            calls: HashMap::new(),
            by_server: HashMap::new(),
            by_rcv: HashMap::new(),
            names: HashMap::new(),
            last_token: FIRST_TOKEN,
            last_id: 0,
            buffer: ReceiveBuffer::new(),
            scratch: flow::Scratch::default(),
            again: BTreeSet::new(),
            attention: Attention::default(),
            ready: Ready::default(),
            blocked: HashMap::new(),
            accept_waits: false,
            accept_again: false,
            asked: Vec::new(),
            wanted_names: HashMap::new(),
            meter: Meter::default(),
            addresses: Vec::new(),
            totals: Totals::default(),
            told_refusal: false,
            now,
        }
    }

    /// Lets programs of this node connect at `ROOT/qnet.sock`.
    ///
    /// # Errors
    /// Another Qnet of this node listens there, or the directory does not let us.
    pub fn listen(&mut self) -> Result<(), Error> {
        let path = self.root.qnet_socket();
        let listener = Listener::at_path(&path, 0o666).map_err(|error| {
            let ListenError { source, .. } = &error;
            match source.raw_os_error() {
                Some(libc::EADDRINUSE) => Error::new(
                    libc::EBUSY,
                    format!(
                        "another Qnet of this node listens at {}: one per node is allowed",
                        path.display()
                    ),
                ),
                errno => Error::new(errno.unwrap_or(libc::EIO), error.to_string()),
            }
        })?;
        let watched = self.watcher.watch(std::os::fd::AsFd::as_fd(&listener), FIRST_TOKEN)?;
        self.listener = Some((watched, listener));
        Ok(())
    }

    /// The protocol core, for frames and links.
    pub fn node(&mut self) -> &mut Node {
        &mut self.node
    }

    /// The protocol core, for reports.
    #[must_use]
    pub fn core(&self) -> &Node {
        &self.node
    }

    /// Time, for everything that follows until the next call; clock of the host.
    pub fn set_now(&mut self, now: u64) {
        self.now = Instant::from_nanos(now);
    }

    /// The time that was set.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Something is ready on a watched descriptor. Unknown tokens are late and ignored.
    pub fn on_ready(&mut self, token: Token) {
        if token == FIRST_TOKEN {
            return self.accept();
        }
        if let Some(client) = self.clients.get(&token) {
            client.peer.socket_is_ready();
        } else if let Some(channel) = self.channels.get(&token) {
            channel.peer.socket_is_ready();
        }
        self.read(token);
    }

    /// Takes in what a program or a server said.
    fn read(&mut self, token: Token) {
        if self.clients.contains_key(&token) {
            self.read_client(token);
        } else if self.channels.contains_key(&token) {
            self.read_channel(token);
        }
    }

    /// Handles everything that the core has to say, and reads the sockets that were left waiting. Call it after
    /// anything else; afterwards fetch frames.
    pub fn pump(&mut self) {
        self.drain_answers();
        self.drain_events();
        self.pass_replies();
        for token in std::mem::take(&mut self.again) {
            self.read(token);
        }
        if std::mem::take(&mut self.accept_again) {
            self.accept();
        }
        self.drain_events();
        self.pass_replies();
    }

    /// Whether [`Engine::pump`] has work left that no event will announce.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.accept_again || self.attention.is_on() || self.again.iter().any(|token| !self.is_clogged(*token))
    }

    /// Running totals.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Clients of `qnet.sock`, connections and calls under way.
    #[must_use]
    pub fn population(&self) -> (usize, usize, usize) {
        (self.clients.len(), self.conns.len(), self.calls.len())
    }

    /// Ends everything: nobody is heard any more, and the core closes its sessions. Fetch frames once more.
    pub fn shutdown(&mut self) {
        self.listener = None;
        self.clients.clear();
        self.channels.clear();
        self.node.shutdown(self.now);
    }

    /// When [`Engine::pump`] is wanted for the engine's own sake; the core has a deadline of its own.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.watch.deadline().map(Instant::as_nanos)
    }

    /// Links that the node wants to have another address on, since the last call.
    pub fn take_addresses(&mut self) -> Vec<(LinkId, LinkAddr)> {
        std::mem::take(&mut self.addresses)
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            self.on_event(event);
        }
        self.watch.on_event(&self.node, self.now);
    }

    fn fresh_token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    /// A number for a connection or a call.
    fn fresh_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            if id != 0 && !self.conns.contains_key(&id) && !self.calls.contains_key(&id) {
                return id;
            }
        }
    }

    fn add_conn(&mut self, id: ConnId, front: Front, back: Back, open: bool) {
        if let Front::Remote { server, .. } = front {
            self.by_server.insert(server, id);
        }
        if let Back::Channel(token) = back
            && let Some(channel) = self.channels.get_mut(&token)
        {
            channel.conns += 1;
        }
        self.conns.insert(id, Conn { front, back, open, channel: None, calls: HashSet::new() });
    }

    fn add_call(&mut self, conn: ConnId, caller: Caller, tid: i32, srcmsglen: u32) -> CallId {
        let id = self.fresh_id();
        match caller {
            Caller::Remote { rcv } => {
                self.by_rcv.insert(rcv, id);
            }
            Caller::Local { client, txn } => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.txns.insert(txn, id);
                }
            }
            Caller::Nobody => {}
        }
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.calls.insert(id);
        }
        let (reads, wanted) = (VecDeque::new(), VecDeque::new());
        self.calls
            .insert(id, Call { conn, caller, tid, srcmsglen, received: false, reads, wanted, inlet: None });
        self.totals.calls += 1;
        id
    }

    /// Forgets a call; whoever waits for it has been told.
    fn remove_call(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.wanted_names.remove(&id);
        self.reads_over(&call);
        if let Some(conn) = self.conns.get_mut(&call.conn) {
            conn.calls.remove(&id);
        }
        match call.caller {
            Caller::Remote { rcv } => {
                self.by_rcv.remove(&rcv);
            }
            Caller::Local { client, txn } => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.txns.remove(&txn);
                }
            }
            Caller::Nobody => {}
        }
        Some(call)
    }

    /// Forgets a connection with its calls, and closes the socket to its channel with the last one there.
    fn remove_conn(&mut self, id: ConnId) -> Option<Conn> {
        let calls: Vec<CallId> = self.conns.get(&id)?.calls.iter().copied().collect();
        for call in calls {
            self.remove_call(call);
        }
        let conn = self.conns.remove(&id)?;
        match conn.front {
            Front::Remote { server, .. } => {
                self.by_server.remove(&server);
            }
            Front::Local { client, conn } => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.conns.remove(&conn);
                }
            }
            Front::Signal => {}
        }
        if let Back::Channel(token) = conn.back {
            self.leave_channel(token);
        }
        Some(conn)
    }

    /// The server's side of a connection is gone: its callers get `errno`.
    fn back_gone(&mut self, id: ConnId, errno: i32) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (front, open) = (conn.front, conn.open);
        let calls: Vec<CallId> = conn.calls.iter().copied().collect();
        for call in calls {
            self.reply_lost(call, errno);
        }
        if open {
            self.tell_death(front)
        } else {
            self.tell_refusal(front, errno)
        }
        self.remove_conn(id);
    }

    /// The caller's side of a connection is gone: its server is told.
    fn front_gone(&mut self, id: ConnId) {
        let Some(back) = self.conns.get(&id).map(|conn| conn.back) else { return };
        match back {
            Back::Channel(token) => self.tell_channel(token, &qnet_ipc::ToServer::Disconnect { conn: id }),
            Back::Remote => self.wire_disconnect(id),
            Back::Netmgr => {}
        }
        self.remove_conn(id);
    }
}

/// An errno of this machine as it stands on the wire.
fn to_wire(errno: i32) -> qnet_proto::Errno {
    qnet_proto::Errno(qnet_iomsg::linux_to_qnx(errno).cast_unsigned())
}

/// An errno from the wire as this machine has it.
fn from_wire(errno: qnet_proto::Errno) -> i32 {
    qnet_iomsg::qnx_to_linux(errno.0.cast_signed()).clamp(1, 4095)
}

#[cfg(test)]
mod tests;
