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

    /// An errno that a server or `lsm-qnet` sent. QNX says EBADF and ESRCH for a connection or server that is gone;
    /// EPIPE is the word of a FIFO that nobody reads.
    pub(super) fn from_errno(errno: i32) -> Self {
        let lost =
            matches!(errno, libc::EHOSTDOWN | libc::EBADF | libc::ESRCH | libc::ENOTCONN | libc::ECONNRESET);
        Self { errno, lost, sent: true }
    }
}
