//! What a node tells its caller.
//!
//! Events come in the order things happened. Whatever ends is told before what it belonged to:
//! transactions before their connection, connections before their session.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::command::{ClientId, Errno, Handle, PulseInfo, Rcv, ServerId, Sigevent, SignalInfo, VtidInfo};
use crate::link::{LinkAddr, LinkId};
use crate::names::Fqnn;
use crate::wire::kif::ClientInfo;

/// A node descriptor (`nd`): this node's own number for another node. 0 is this node. The low 16
/// bits name the node, those above a quality of service; a number is used again only when every connection to its former owner is
/// gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// This node.
    pub const LOCAL: NodeId = NodeId(0);

    /// The part that names the node (`ND_NODE_CMP` compares only these 16 bits).
    #[must_use]
    pub const fn node(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The part that names the quality of service, an index into a table of this node
    /// ([`Node::with_qos`](crate::Node::with_qos)); 0 is the default, load balance.
    #[must_use]
    pub const fn qos_index(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Received message data: a buffer that begins with headers, seen without them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Data {
    buffer: Vec<u8>,
    start: usize,
}

impl Data {
    /// The bytes of `buffer` from `start` on (all of them gone when `start` is past the end).
    #[must_use]
    pub(crate) fn new(buffer: Vec<u8>, start: usize) -> Data {
        let start = start.min(buffer.len());
        Data { buffer, start }
    }

    /// Drops every byte past the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.buffer.truncate(self.start.saturating_add(len));
    }

    /// The bytes as a vector; moves them to the front of their buffer.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.len())
    }
}

/// Why a session to a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DownReason {
    /// The node closed the session.
    Closed,
    /// The node does not know the session (it restarted, or gave us up).
    Forgotten,
    /// The node runs anew: its incarnation changed.
    Rebooted,
    /// Data stayed unacknowledged through every retransmission.
    Unacknowledged,
    /// Heartbeats stayed unanswered.
    Silent,
    /// This node shuts down.
    Shutdown,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DownReason::Closed => "the node closed the session",
            DownReason::Forgotten => "the node does not know the session",
            DownReason::Rebooted => "the node was restarted",
            DownReason::Unacknowledged => "no acknowledgement after every retransmission",
            DownReason::Silent => "no answer to heartbeats",
            DownReason::Shutdown => "this node shuts down",
        })
    }
}

/// Something happened; see [`Node::poll_event`](crate::Node::poll_event).
#[derive(Debug)]
pub enum Event {
    /// `Command::Resolve` succeeded.
    Resolved {
        /// From the command.
        token: u64,
        /// The node's number.
        nd: NodeId,
    },
    /// `Command::Resolve` failed: nobody answered to the name.
    ResolveFailed {
        /// From the command.
        token: u64,
        /// `ENOENT`.
        errno: Errno,
    },
    /// A resolver of [`Config::directories`](crate::Config::directories) is asked for a node's
    /// addresses; answer with `Command::Found`. No answer within ten seconds counts as none.
    Ask {
        /// For the answer.
        lookup: u32,
        /// The number from [`Resolver::External`](crate::Resolver::External).
        resolver: u32,
        /// The name looked for.
        name: Fqnn,
    },
    /// `Command::Ping` was answered.
    Pong {
        /// From the command.
        token: u64,
        /// How long it took there and back.
        rtt: Duration,
        /// The link it took.
        link: LinkId,
        /// The node's address there.
        addr: LinkAddr,
    },
    /// `Command::Ping` was not answered.
    PingFailed {
        /// From the command.
        token: u64,
        /// `EHOSTUNREACH`: no address, or no answer to the set-up of a session; `EHOSTDOWN`: the session ended;
        /// `ETIMEDOUT`: no answer in time.
        errno: Errno,
        /// The way that it took; before it was sent, those by which the set-up of a session was tried.
        ways: Vec<(LinkId, LinkAddr)>,
    },
    /// A session to a node is established.
    NodeUp {
        /// The node.
        nd: NodeId,
    },
    /// A session to a node ended. The events of its connections and transactions come with it.
    NodeDown {
        /// The node.
        nd: NodeId,
        /// Why.
        why: DownReason,
    },
    /// The list of [`Node::nodes`](crate::Node::nodes) changed.
    NodesChanged,
    /// Two nodes carry one name. The one that came second is listed under `alias`.
    NameClash {
        /// The name both use (FQNN).
        name: String,
        /// How the newcomer is reached.
        alias: String,
        /// Where it was heard.
        link: LinkId,
        /// The newcomer's address.
        addr: LinkAddr,
    },

    /// Two living nodes have one address on a link: frames for either reach whoever the network
    /// pleases.
    AddressClash {
        /// The node that was heard (FQNN).
        name: String,
        /// The other one; the same name when one is a copy of the other.
        other: String,
        /// Where they were heard.
        link: LinkId,
        /// The address.
        addr: LinkAddr,
    },

    /// Another node has this one's address on a link, and this one is to move: give the link this address
    /// ([`Node::link_up`](crate::Node::link_up)) if frames for it can be heard.
    TakeAddress {
        /// The link.
        link: LinkId,
        /// An address that nobody else should have.
        addr: LinkAddr,
    },

    /// What `Command::RemoteNd` asked for.
    RemoteNd {
        /// From the command.
        token: u64,
        /// The other node's number; `ENOENT` when it does not know the name, or why it did not answer.
        outcome: Result<u32, Errno>,
    },
    /// A process of another node signals one of this node.
    Signal {
        /// Its node.
        nd: NodeId,
        /// The signal.
        signal: SignalInfo,
        /// Who sends it, as its node claims.
        cred: Option<ClientInfo>,
    },

    // ---- client side ----
    /// A server delivers an event that a client of it registered.
    Sigevent {
        /// The connection.
        client: ClientId,
        /// As the client gave it.
        sigevent: Sigevent,
    },
    /// `Command::Connect` succeeded.
    Connected {
        /// The connection.
        client: ClientId,
        /// Server connection number.
        scoid: i32,
        /// The most bytes to pass as the first part of a send.
        limit: u32,
    },
    /// `Command::Connect` failed; the key is free. Held-back sends ended with `Error` before.
    ConnectFailed {
        /// The connection.
        client: ClientId,
        /// `EHOSTUNREACH`, `EHOSTDOWN`, or the server node's refusal.
        errno: Errno,
    },
    /// The server wants bytes of the message; answer with `ReadData` or `ReadError`. Never empty,
    /// never beyond `srcmsglen`.
    Read {
        /// The transaction.
        handle: Handle,
        /// Offset in the message.
        offset: u32,
        /// Bytes wanted.
        nbytes: u32,
    },
    /// The transaction ended well; the key is free, the reply's data is in its sink.
    Reply {
        /// The transaction.
        handle: Handle,
        /// What `MsgSend` returns.
        status: i32,
    },
    /// The transaction failed; the key is free.
    Error {
        /// The transaction.
        handle: Handle,
        /// Why.
        errno: Errno,
        /// The connection is gone, and this is no answer of the server: its `Death` or `ConnectFailed` follows.
        lost: bool,
    },
    /// The connection is gone; its key is free. Its transactions ended with `Error` before.
    Death {
        /// The connection.
        client: ClientId,
    },

    // ---- server side ----
    /// A remote process wants to connect; answer with `Accept` or `Reject`.
    Connect {
        /// The new connection.
        server: ServerId,
        /// The client's node.
        nd: NodeId,
        /// The process asked for.
        pid: i32,
        /// The channel asked for.
        chid: i32,
        /// The client process as its own node names it.
        client_pid: i32,
        /// Who the client is, as its node claims; `None` when the node sent no credentials.
        cred: Option<ClientInfo>,
        /// Its node's numbers are big-endian.
        big_endian: bool,
    },
    /// The client of a connection is somebody else from the next message on, as its node claims.
    Credentials {
        /// The connection.
        server: ServerId,
        /// Who it is now.
        cred: ClientInfo,
    },
    /// A message arrived for a channel.
    Message {
        /// The number to reply to.
        rcv: Rcv,
        /// The connection it came by.
        server: ServerId,
        /// About the sender.
        info: VtidInfo,
        /// The first bytes of the message; the rest (`info.srcmsglen`) is had by `Read`.
        data: Data,
    },
    /// The bytes that `Command::Read` asked for are in its sink.
    ReadDone {
        /// The message.
        rcv: Rcv,
        /// The offset asked for.
        offset: u32,
        /// Bytes that arrived: fewer than asked for only at the message's end.
        nbytes: u32,
    },
    /// `Command::Read` failed.
    ReadError {
        /// The message.
        rcv: Rcv,
        /// The offset asked for.
        offset: u32,
        /// Why.
        errno: Errno,
    },
    /// The sender wants to leave; reply when convenient.
    Unblock {
        /// The message.
        rcv: Rcv,
    },
    /// A pulse arrived for a channel.
    Pulse {
        /// The connection it came by.
        server: ServerId,
        /// The pulse.
        pulse: PulseInfo,
    },
    /// The client is gone (it closed, died, or its node is down); the number is void, and so are
    /// those of its messages: replies to them are refused with `CommandError::NoSuchMessage`.
    Disconnect {
        /// The connection.
        server: ServerId,
    },
}
