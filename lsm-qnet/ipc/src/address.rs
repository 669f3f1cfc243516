//! Addresses of channels.
//!
//! A channel is an abstract Unix socket, so it vanishes with its process and needs no directory:
//!
//! ```text
//!  \0 io-pkt/ROOT/NAMESPACE/PID/CHID
//!            │    │         └ as the owner sees itself
//!            │    └ inode of the owner's PID namespace, decimal
//!            └ FNV-1a (64 bit) of the absolute path of the node's root directory, 16 hexadecimal digits
//! ```
//!
//! The root's *path* is hashed, not the directory, so channels live on when a daemon is started, ended or was never
//! there. Abstract names are shared by all who share a network namespace; nothing is believed because of a name: both
//! ends ask the kernel who the other is ([`crate::PeerIdentity`]).

use std::{fmt, fs, io, os::unix::fs::MetadataExt, path::Path};

/// Where a channel of this machine is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelAddress {
    /// [`crate::Root::hash`] of the node.
    pub root: u64,
    /// [`pid_namespace`] of the owner.
    pub namespace: u64,
    /// The owner.
    pub pid: i32,
    /// Number of the channel in that process.
    pub chid: i32,
}

impl fmt::Display for ChannelAddress {
    /// The abstract name without its leading NUL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io-pkt/{:016x}/{}/{}/{}", self.root, self.namespace, self.pid, self.chid)
    }
}

/// Inode of the calling process's PID namespace; two processes with the same number see the same pids.
///
/// # Errors
/// `/proc` is not mounted.
pub fn pid_namespace() -> io::Result<u64> {
    fs::metadata("/proc/self/ns/pid").map(|data| data.ino())
}

/// FNV-1a, 64 bit, of a path's bytes.
pub(crate) fn hash(path: &Path) -> u64 {
    path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
