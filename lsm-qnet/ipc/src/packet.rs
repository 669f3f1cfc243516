//! What the two ends of a channel say to each other.
//!
//! Connection and transaction numbers are chosen by the client and are unique on one socket. A transaction lives from
//! its `Send` to its `Reply`, `Error` or `Lost`; packets that name an unknown transaction are late, not wrong, and are ignored.
//! Message data is borrowed: nothing is copied between a packet and the socket.
//!
//! Order: packets of one socket arrive in the order in which they were sent. Each `Read` is answered by exactly one
//! `ReadData` with the same `offset`; `Read`s of one transaction are answered in order.

/// Whose message a connection carries, when it is not that of the process at the other end of the socket.
///
/// Believed only from the uid that owns the node's root: that is how `lsm-qnet` tells a server about remote callers and
/// `qnet-netfs` tells `lsm-qnet` about the process behind a file request. The fields are those of QNX's `_client_info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Node of the caller as its hearer numbers nodes; 0 is the own node.
    pub nd: u32,
    /// Process of the caller on that node.
    pub pid: i32,
    /// Session of the caller.
    pub sid: i32,
    /// Real user.
    pub ruid: u32,
    /// Effective user.
    pub euid: u32,
    /// Saved user.
    pub suid: u32,
    /// Real group.
    pub rgid: u32,
    /// Effective group.
    pub egid: u32,
    /// Saved group.
    pub sgid: u32,
    /// Supplementary groups, at most [`crate::MAX_GROUPS`].
    pub groups: Vec<u32>,
}

impl Claim {
    /// A caller whose real, effective and saved ids are the same.
    #[must_use]
    pub fn user(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        Self { ruid: uid, euid: uid, suid: uid, rgid: gid, egid: gid, sgid: gid, groups, ..Self::default() }
    }
}

/// What a caller may do beside reading, in [`Connect::flags`] of a connection with a claim. `lsm-qnet` sets them for
/// callers of this node, and for remote ones as its options say; a server refuses the rest with `EPERM`.
pub mod right {
    /// Change files.
    pub const WRITE: u32 = 1 << 16;
    /// Start programs.
    pub const EXEC: u32 = 1 << 17;
    /// Send signals.
    pub const SIGNAL: u32 = 1 << 18;
    /// All of them.
    pub const ALL: u32 = WRITE | EXEC | SIGNAL;
}

/// In [`Connect::flags`], towards `lsm-qnet`: another node need not hear of the connection before something is sent on it.
/// The answer comes after that; what is sent before it waits for it, and learns from it.
pub const LAZY: u32 = 1 << 24;

/// `_NTO_MI_*`, in [`Send::flags`].
pub mod info {
    /// The sender's numbers are big-endian.
    pub const ENDIAN_BIG: u32 = 1;
    /// The sender's numbers are not as ours.
    pub const ENDIAN_DIFF: u32 = 2;
    /// Ours, not seen by programs: the server is to say when it received the message
    /// ([`ToClient::Received`](super::ToClient::Received)).
    pub const TELL_RECEIVED: u32 = 1 << 24;
}

/// First packet of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of the packet layout, [`crate::VERSION`].
    pub version: u16,
    /// What this end can do beyond the packets of this version; an ability is used when both ends have it.
    pub abilities: u64,
}

/// Abilities in a [`Hello`].
pub mod ability {
    /// Packets can go through shared memory; then one may carry up to [`crate::MAX_LENT`] bytes of data.
    pub const RING: u64 = 1 << 0;
}

/// Opens a connection to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Chosen by the client.
    pub conn: u32,
    /// Node of the channel; 0 is the own one. With `pid` 0 and `chid` 0: the network manager.
    pub nd: u32,
    /// Process that owns the channel; 1 is the node's own server.
    pub pid: i32,
    /// Number of the channel in that process.
    pub chid: i32,
    /// `_NTO_COF_*`, and [`right`]s with the claim of `lsm-qnet`.
    pub flags: u32,
    /// Who calls, if not the process at the other end.
    pub claim: Option<Claim>,
}

/// Begins a transaction: the head of a `MsgSend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Send {
    /// Chosen by the client, unique on this socket until the transaction ends.
    pub txn: u32,
    /// Connection it runs on.
    pub conn: u32,
    /// Calling thread, 1-based.
    pub tid: i32,
    /// The caller's own number for the connection (a file's number in `qnet-netfs`); servers key open files by it.
    pub coid: i32,
    /// Priority of the caller.
    pub priority: i32,
    /// Length of the whole message.
    pub srcmsglen: u32,
    /// Room for the reply.
    pub dstmsglen: u32,
    /// `MsgKeyData` key, 0 if unused.
    pub keydata: u32,
    /// The server's node as the caller numbers nodes; 0 when it is the caller's own.
    pub srcnd: u32,
    /// See [`info`].
    pub flags: u32,
}

/// A pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Connection it is sent on.
    pub conn: u32,
    /// Code; user codes are 0 to 127.
    pub code: i8,
    /// Priority of the pulse.
    pub priority: i32,
    /// `union sigval`, as a number.
    pub value: u64,
}

/// `struct sigevent`, as a client gave it to a server; what it means is known to the client alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sigevent {
    /// `sigev_notify`, with its flags.
    pub notify: u32,
    /// `sigev_signo`, `sigev_coid` or `sigev_id`.
    pub id: i32,
    /// `union sigval`, as a number.
    pub value: u64,
    /// `sigev_code`.
    pub code: i16,
    /// `sigev_priority`.
    pub priority: i16,
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToServer<'a> {
    /// Opens a connection; answered by [`ToClient::ConnectOk`] or [`ToClient::ConnectFail`].
    Connect(Connect),
    /// Begins a transaction with the first piece of its message (the whole of it when `data.len() == srcmsglen`).
    Send(Send, &'a [u8]),
    /// Answers a [`ToClient::Read`]. Fewer bytes than asked for mean the end of the message.
    ReadData {
        /// The transaction.
        txn: u32,
        /// As in the `Read`.
        offset: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// Answers a [`ToClient::Read`] that the client cannot satisfy.
    ReadError {
        /// The transaction.
        txn: u32,
        /// As in the `Read`.
        offset: u32,
        /// Linux errno.
        errno: i32,
    },
    /// The caller wants to leave (signal or timeout); it stays blocked until the server ends the transaction.
    Unblock {
        /// The transaction.
        txn: u32,
        /// Calling thread.
        tid: i32,
    },
    /// A pulse; not answered.
    Pulse(Pulse),
    /// Closes a connection; its transactions end without an answer.
    Disconnect {
        /// The connection.
        conn: u32,
    },
    /// The caller behind a connection is somebody else from the next message on (`_NTO_MI_NET_CRED_DIRTY`); believed
    /// from whom its first claim is believed.
    Credentials {
        /// The connection.
        conn: u32,
        /// What it may do now: [`right`]s, as in [`Connect::flags`].
        flags: u32,
        /// Who it is now.
        claim: Claim,
    },
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToClient<'a> {
    /// The connection is open.
    ConnectOk {
        /// The connection.
        conn: u32,
        /// The server's number for the client.
        scoid: i32,
        /// Most bytes that a [`ToServer::Send`] on it may carry, at most [`crate::Peer::max_data`].
        limit: u32,
    },
    /// About the channel behind an open connection, from servers that know; may never come. Behind `ConnectOk`.
    Channel {
        /// The connection.
        conn: u32,
        /// `_NTO_CHF_*`.
        flags: u32,
    },
    /// The connection was refused.
    ConnectFail {
        /// The connection; its number is free again.
        conn: u32,
        /// Linux errno.
        errno: i32,
    },
    /// The message was received: its sender waits for the reply from now on. Comes when [`info::TELL_RECEIVED`] asked for
    /// it, and on channels with `_NTO_CHF_UNBLOCK`, from servers that announced themselves by [`ToClient::Channel`].
    Received {
        /// The transaction.
        txn: u32,
    },
    /// Asks for a piece of the message.
    Read {
        /// The transaction.
        txn: u32,
        /// First byte wanted.
        offset: u32,
        /// Bytes wanted, at most [`crate::MAX_DATA`].
        nbytes: u32,
    },
    /// Puts bytes into the client's reply buffer; what does not fit is dropped.
    Write {
        /// The transaction.
        txn: u32,
        /// Place in the reply buffer.
        offset: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// Ends the transaction.
    Reply {
        /// The transaction.
        txn: u32,
        /// What `MsgSend` returns.
        status: i64,
        /// Place of `data` in the reply buffer: 0, unless `Write`s carried what stands before.
        offset: u32,
        /// The last piece of the reply, may be empty.
        data: &'a [u8],
    },
    /// Ends the transaction with an error.
    Error {
        /// The transaction.
        txn: u32,
        /// Linux errno.
        errno: i32,
    },
    /// Ends the transaction because its connection is gone, which is no answer of the server; [`ToClient::Death`] or
    /// [`ToClient::ConnectFail`] follows.
    Lost {
        /// The transaction.
        txn: u32,
        /// Linux errno.
        errno: i32,
    },
    /// An event for the client (`MsgDeliverEvent`), which may have its reply already; not answered.
    Event {
        /// A connection of the client.
        conn: u32,
        /// As the client gave it.
        event: Sigevent,
    },
    /// The channel is gone; transactions on the connection have been ended before.
    Death {
        /// The connection; its number is free again.
        conn: u32,
    },
}
