//! Why a transaction has no reply.

/// How a transaction ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Linux errno.
    pub errno: i32,
    /// The connection failed, not the operation: it may succeed on a new session.
    pub lost: bool,
    /// The node may have got the message, and may have done what it says.
    pub sent: bool,
}

impl Failure {
    /// No Qnet runs on this node.
    pub const NO_LINK: Self = Self { errno: libc::EHOSTUNREACH, lost: true, sent: false };
    /// The connection has ended.
    pub const GONE: Self = Self { errno: libc::EHOSTDOWN, lost: true, sent: true };

    /// Something is wrong that another attempt would not mend, and nothing was sent.
    pub const fn of(errno: i32) -> Self {
        Self { errno, lost: false, sent: false }
    }

    /// What a node's server answered. Its disks and mounts have words for lost connections of their own, and lose nobody else's.
    pub(super) const fn answered(errno: i32) -> Self {
        Self { errno, lost: false, sent: true }
    }

    /// What `lsm-qnet` says of a connection that is gone or was refused.
    pub(super) const fn lost(errno: i32) -> Self {
        Self { errno, lost: true, sent: true }
    }

    /// What the network manager answered, which speaks of connections to other nodes.
    pub(super) fn of_netmgr(errno: i32) -> Self {
        Self { lost: errno == libc::EHOSTDOWN, ..Self::answered(errno) }
    }
}
