//! What is said about channels, messages, pulses and connections.

use std::sync::Arc;

use qnet_ipc::Claim;

/// `_NTO_CHF_*`: what a channel wants to hear of, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelFlags(u32);

impl ChannelFlags {
    /// `_NTO_CHF_FIXED_PRIORITY`: who receives a message keeps its own priority.
    pub const FIXED_PRIORITY: Self = Self(0x1);
    /// `_NTO_CHF_UNBLOCK`: a pulse when a client that waits for a reply wants to leave; the server must then reply.
    pub const UNBLOCK: Self = Self(0x2);
    /// `_NTO_CHF_THREAD_DEATH`: a pulse when a thread of this process ends that the library knows: one that called it.
    pub const THREAD_DEATH: Self = Self(0x4);
    /// `_NTO_CHF_DISCONNECT`: a pulse when a client is gone, or detached its last connection.
    pub const DISCONNECT: Self = Self(0x8);
    /// `_NTO_CHF_NET_MSG`: for network managers; changes nothing here.
    pub const NET_MSG: Self = Self(0x10);
    /// `_NTO_CHF_SENDER_LEN`: the length of the whole message is told, which here is always so.
    pub const SENDER_LEN: Self = Self(0x20);
    /// `_NTO_CHF_COID_DISCONNECT`: a pulse when the server behind a connection of this process (made by
    /// [`crate::calls::connect_attach`]) is gone.
    pub const COID_DISCONNECT: Self = Self(0x40);
    /// `_NTO_CHF_REPLY_LEN`: the room for the reply is told, which here is always so.
    pub const REPLY_LEN: Self = Self(0x80);
    /// `_NTO_CHF_PRIVATE`: no other process may connect.
    pub const PRIVATE: Self = Self(0x1000);

    /// All of them.
    pub(crate) const KNOWN: u32 = 0x10ff;

    /// No flags.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// QNX's `_NTO_CHF_*` numbers.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// As QNX's numbers.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Both sets of flags together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `struct _msg_info`: about a received message.
#[doc(alias = "_msg_info")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// The sender's node; 0 is this one.
    pub nd: u32,
    /// This node as the sender numbers nodes; 0 on one node.
    pub srcnd: u32,
    /// Process of the sender, on its own node.
    pub pid: i32,
    /// Thread of the sender.
    pub tid: i32,
    /// Channel it came in on.
    pub chid: i32,
    /// Number of the client on this channel.
    pub scoid: i32,
    /// The sender's number of the connection.
    pub coid: i32,
    /// Bytes received at first ([`crate::Message::data`]).
    pub msglen: usize,
    /// Length of the whole message.
    pub srcmsglen: u32,
    /// Room for the reply.
    pub dstmsglen: u32,
    /// The sender's priority.
    pub priority: i32,
    /// `_NTO_MI_*`, see [`MessageInfo::UNBLOCK_REQ`] and its like.
    pub flags: u32,
    /// Key of the message, 0 if it has none (`MsgKeyData`).
    pub keydata: u32,
    /// Who the sender is: from the kernel for a local process, mapped by `lsm-qnet` for a remote one.
    pub credentials: Arc<Claim>,
}

impl MessageInfo {
    /// `_NTO_MI_ENDIAN_BIG`: the sender's numbers are big-endian.
    pub const ENDIAN_BIG: u32 = 0x1;
    /// `_NTO_MI_ENDIAN_DIFF`: the sender's numbers are not as ours.
    pub const ENDIAN_DIFF: u32 = 0x2;
    /// `_NTO_MI_UNBLOCK_REQ`: the sender wants to leave.
    pub const UNBLOCK_REQ: u32 = 0x100;
    /// `_NTO_MI_NET_CRED_DIRTY`: the sender's credentials changed since its last message.
    pub const NET_CRED_DIRTY: u32 = 0x200;
}

/// A pulse as received.
#[doc(alias = "_pulse")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Code: 0 to 127 from users, negative from the system.
    pub code: i8,
    /// Its value.
    pub value: u64,
    /// Its priority.
    pub priority: i32,
    /// Client that it came from; 0 for those of the system about this process itself.
    pub scoid: i32,
}

impl Pulse {
    /// `_PULSE_CODE_UNBLOCK`: the client behind the message whose number is the value wants to leave.
    pub const UNBLOCK: i8 = -32;
    /// `_PULSE_CODE_DISCONNECT`: the client `scoid` is gone.
    pub const DISCONNECT: i8 = -33;
    /// `_PULSE_CODE_THREADDEATH`: the thread whose number is the value ended.
    pub const THREADDEATH: i8 = -34;
    /// `_PULSE_CODE_COIDDEATH`: the server behind the connection whose number is the value ended.
    pub const COIDDEATH: i8 = -35;
}

/// `struct _server_info`: where a connection leads.
#[doc(alias = "_server_info")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Node of the server.
    pub nd: u32,
    /// Its process.
    pub pid: i32,
    /// Its channel.
    pub chid: i32,
    /// Its number for this process, once it told it.
    pub scoid: Option<i32>,
    /// The connection that was found.
    pub coid: i32,
    /// `_NTO_COF_*`.
    pub flags: u32,
}
