//! What a call can fail with.

use std::io;

use qnet_ipc::{ConnectError, ListenError, PeerError, RootError};
use thiserror::Error;

/// Any failure of this library.
#[derive(Debug, Error)]
pub enum Error {
    /// The channel's process, or `lsm-qnet`, cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The channel refused the connection.
    #[error("channel {chid} of process {pid} on node {nd} refused: {}", io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// Node.
        nd: u32,
        /// Process.
        pid: i32,
        /// Channel.
        chid: i32,
        /// Linux errno.
        errno: i32,
    },
    /// The message or the call ended with this errno.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// The socket broke.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The channel could not be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The node's root directory could not be told.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The network manager's answer makes no sense.
    #[error("answer of the network manager: {0}")]
    Answer(#[from] qnet_iomsg::ParseError),
}

impl Error {
    /// The Linux errno that stands for it.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Connect(error) => error.errno(),
            Self::Refused { errno, .. } | Self::Errno(errno) => *errno,
            Self::Peer(_) => libc::EBADF,
            Self::Listen(error) => error.source.raw_os_error().unwrap_or(libc::EIO),
            Self::Root(_) => libc::ENOENT,
            Self::Io(error) => error.raw_os_error().unwrap_or(libc::EIO),
            Self::Answer(error) => error.linux_errno(),
        }
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Errno(errno as i32)
    }
}
