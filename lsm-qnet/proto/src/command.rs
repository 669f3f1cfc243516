//! What the caller asks of a node: the kernel interface (`KIF`) verbs of both sides, and names.
//!
//! The *client side* is where a program calls `MsgSend`; it names its connections and transactions
//! with keys of its own choice ([`ClientId`], [`Handle`]), unique while they are in use. The
//! *server side* is where the channel is; there the core hands out [`ServerId`] and [`Rcv`] in
//! events and the caller gives them back.
//!
//! Error numbers are the ones of the wire, QNX's (see [`Errno`]).

use std::time::Duration;

use crate::event::NodeId;
use crate::link::{LinkAddr, LinkId};
use crate::names::{Domain, NodeName};
use crate::sink::Outlet;
use crate::source::Body;
use crate::wire::kif::ClientInfo;

/// The caller's key of a client-side connection. Free choice; unique until its
/// `ConnectFailed` or `Death` event, or its `Disconnect` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// The caller's key of a client-side transaction (a blocked sender). Free choice; unique until its
/// `Reply` or `Error` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// The core's number of a server-side connection, unique on this node and not soon used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// The core's number of a received message that waits for its reply, unique on this node and not
/// soon used again: a late reply never reaches another sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rcv(pub u32);

/// An error number with QNX's numbering, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub u32);

impl Errno {
    /// No such entry: the name could not be resolved.
    pub const ENOENT: Errno = Errno(2);
    /// The peer process, or the sender, is gone.
    pub const ESRCH: Errno = Errno(3);
    /// Interrupted.
    pub const EINTR: Errno = Errno(4);
    /// Input or output error: the other side makes no sense.
    pub const EIO: Errno = Errno(5);
    /// The connection does not exist (any more).
    pub const EBADF: Errno = Errno(9);
    /// A table of the peer is full; later it may work.
    pub const EAGAIN: Errno = Errno(11);
    /// It took too long.
    pub const ETIMEDOUT: Errno = Errno(260);
    /// An established session to the node died.
    pub const EHOSTDOWN: Errno = Errno(264);
    /// No address is known for the node, or it does not answer the set-up.
    pub const EHOSTUNREACH: Errno = Errno(265);
}

/// The sender's side of a message, as the server sees it (`struct _vtid_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VtidInfo {
    /// The sending thread, counted from 1.
    pub tid: i32,
    /// The sender's connection number.
    pub coid: i32,
    /// The sender's priority.
    pub priority: i32,
    /// Length of the whole message, of which the first chunk is the beginning.
    pub srcmsglen: u32,
    /// `MsgKeyData` key, 0 if unused.
    pub keydata: i32,
    /// The server's node as the sender sees it. The core fills it in when it sends.
    pub srcnd: u32,
    /// Size of the sender's reply buffer.
    pub dstmsglen: u32,
}

/// A pulse (`struct _pulse`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PulseInfo {
    /// User codes are 0 to 127.
    pub code: i8,
    /// `union sigval`, as a number. 32 bits of it travel to a plain QNX node, all of it to one of ours.
    pub value: u64,
    /// Delivery priority.
    pub priority: i32,
}

/// An event for a client (`struct sigevent`), whose meaning only the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sigevent {
    /// `sigev_notify`, with its flags.
    pub notify: u32,
    /// `sigev_signo`, `sigev_coid` or `sigev_id`.
    pub id: i32,
    /// `union sigval`, as a number; it travels as a pulse's does.
    pub value: u64,
    /// `sigev_code`.
    pub code: i16,
    /// `sigev_priority`.
    pub priority: i16,
}

/// A signal for a process (`SignalKill`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalInfo {
    /// The process.
    pub pid: i32,
    /// Its thread; 0: any.
    pub tid: i32,
    /// Signal number, QNX's.
    pub signo: i32,
    /// Signal code.
    pub code: i32,
    /// Signal value.
    pub value: i32,
}

/// A request to [`Node::handle_command`](crate::Node::handle_command).
///
/// A command either takes effect, and its outcome comes as the events named here, or is refused at
/// once with a [`CommandError`](crate::CommandError) and has no effect and no event.
#[derive(Debug)]
pub enum Command {
    /// Find a node by name: `name`, or `name.domain`. Outcome: `Resolved` or `ResolveFailed`.
    Resolve {
        /// Comes back in the outcome.
        token: u64,
        /// The name, without a quality-of-service suffix.
        name: String,
    },
    /// The same for a name of another network directory than the first.
    ResolveIn {
        /// Comes back in the outcome.
        token: u64,
        /// Index in [`Config::directories`](crate::Config::directories).
        directory: usize,
        /// The name, without a quality-of-service suffix.
        name: String,
    },
    /// This node is called differently from now on; sessions go on, and the others are told.
    Rename {
        /// Its new name.
        name: NodeName,
        /// Its new domain.
        domain: Domain,
    },
    /// Take another node off the list (`rmdir /net/NODE`). It is told nothing; a session goes on,
    /// and the node is listed again when it is heard of or used.
    Forget {
        /// The node.
        nd: NodeId,
    },
    /// Answers an `Event::Ask`. An answer that comes too late is ignored.
    Found {
        /// From the event.
        lookup: u32,
        /// Where the node is; empty when the resolver does not know it.
        addresses: Vec<LinkAddr>,
    },

    /// Ask a node for its number for another (`netmgr_remote_nd`). Outcome: `Event::RemoteNd`.
    RemoteNd {
        /// Comes back in the outcome.
        token: u64,
        /// The node that is asked.
        nd: NodeId,
        /// The FQNN of the node it is asked about.
        name: String,
    },
    /// Send a signal to a process of another node (`SignalKill`). No outcome.
    Signal {
        /// The node.
        nd: NodeId,
        /// The signal.
        signal: SignalInfo,
        /// Who sends it. `nd` in it is filled in by the core.
        cred: ClientInfo,
    },
    /// Ask a node for a sign of life, over a session that is opened when there is none. Outcome: `Pong` or `PingFailed`.
    Ping {
        /// Comes back in the outcome.
        token: u64,
        /// The node, from `Resolved`.
        nd: NodeId,
        /// The link to take; `None`: the best one.
        link: Option<LinkId>,
        /// How long to wait for the answer.
        patience: Duration,
    },

    // ---- client side ----
    /// Connect to a channel (`ConnectAttach`). Outcome: `Connected` or `ConnectFailed`.
    Connect {
        /// The caller's new key.
        client: ClientId,
        /// The node, from `Resolved`.
        nd: NodeId,
        /// The server's process.
        pid: i32,
        /// The server's channel.
        chid: i32,
        /// The process that connects, and who it claims to be. `nd` in it is filled in by the core.
        cred: ClientInfo,
    },
    /// The same, but the other node hears of it no sooner than with the first message or pulse, which then travels with the
    /// connection's set-up where the other node can read that. Outcome, from then on: as of `Connect`.
    Attach {
        /// The caller's new key.
        client: ClientId,
        /// The node, from `Resolved`.
        nd: NodeId,
        /// The server's process.
        pid: i32,
        /// The server's channel.
        chid: i32,
        /// As in `Connect`.
        cred: ClientInfo,
    },
    /// Send a message (`MsgSend`). Outcome: any number of `Read`, and bytes in the reply's sink, then
    /// `Reply` or `Error`. Allowed before `Connected`: the core then holds the message back.
    Send {
        /// The connection.
        client: ClientId,
        /// The caller's new key of the transaction.
        handle: Handle,
        /// About the sender; `srcmsglen` is the length of the whole message.
        info: VtidInfo,
        /// The first bytes of the message; at most the server's limit is carried, the rest is
        /// asked for by `Read` events.
        first: Body,
        /// The reply buffer. Bytes are written as they arrive, never beyond `dstmsglen`; all of them
        /// are there when `Reply` comes, and only then.
        reply: Outlet,
    },
    /// The sink of a transaction's reply, which had too little room, has some again.
    Room {
        /// The transaction.
        handle: Handle,
    },
    /// Answers an `Event::Read`, whole or in pieces that together cover it; of any length, read from
    /// its source as the network takes it.
    ReadData {
        /// The transaction.
        handle: Handle,
        /// Offset in the message, inside the range asked for.
        offset: u32,
        /// The bytes.
        data: Body,
    },
    /// Answers an `Event::Read`: the bytes cannot be had.
    ReadError {
        /// The transaction.
        handle: Handle,
        /// The offset asked for.
        offset: u32,
        /// Why (`EFAULT`, usually).
        errno: Errno,
    },
    /// The blocked sender wants to leave (signal or timeout). It stays blocked until `Reply` or
    /// `Error`; a sender whose message has not left yet gets `Error(EINTR)` at once.
    Unblock {
        /// The transaction.
        handle: Handle,
    },
    /// Send a pulse. No outcome; a pulse on a dead connection is dropped.
    Pulse {
        /// The connection.
        client: ClientId,
        /// About the sender; the lengths in it are 0.
        info: VtidInfo,
        /// The pulse.
        pulse: PulseInfo,
    },
    /// The last `ConnectDetach`, or the death of the client process. Its transactions end without
    /// events, and the key is free at once.
    Disconnect {
        /// The connection.
        client: ClientId,
    },

    // ---- server side ----
    /// Deliver an event to the client of a connection (`MsgDeliverEvent`), which may have its reply
    /// already. No outcome.
    Deliver {
        /// The connection.
        server: ServerId,
        /// As the client gave it.
        sigevent: Sigevent,
    },
    /// Answers `Event::Connect`: the channel exists and takes the client.
    Accept {
        /// The connection.
        server: ServerId,
        /// The server connection number the channel knows the client by.
        scoid: i32,
        /// The most message bytes to put into one send; QNX says 8192.
        nbytes: u32,
    },
    /// Answers `Event::Connect`: refused.
    Reject {
        /// The connection.
        server: ServerId,
        /// Why.
        errno: Errno,
    },
    /// Fetch bytes of the sender's message (`MsgRead`). Outcome: bytes in the sink, then `ReadDone` or
    /// `ReadError`.
    Read {
        /// The message.
        rcv: Rcv,
        /// Offset in the message.
        offset: u32,
        /// Bytes wanted; as many as there are.
        nbytes: u32,
        /// Where they go, by their offset in the message.
        into: Outlet,
    },
    /// Put bytes into the sender's reply buffer (`MsgWrite`), of any length.
    Write {
        /// The message.
        rcv: Rcv,
        /// Offset in the reply buffer.
        offset: u32,
        /// The bytes.
        data: Body,
    },
    /// End the transaction (`MsgReply`). Arrives after every earlier `Write` of this message.
    Reply {
        /// The message; the number is void afterwards.
        rcv: Rcv,
        /// What `MsgSend` returns.
        status: i32,
        /// Reply data for offset 0 of the reply buffer.
        data: Body,
    },
    /// End the transaction with an error (`MsgError`).
    Error {
        /// The message; the number is void afterwards.
        rcv: Rcv,
        /// The sender's errno.
        errno: Errno,
    },
    /// The channel or its process is gone. Arrives after every earlier reply on this connection;
    /// messages that wait for a reply end with `ESRCH`.
    ConnectDeath {
        /// The connection; the number is void afterwards.
        server: ServerId,
    },
}
