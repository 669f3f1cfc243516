//! Bounds of everything that a remote caller can make this process hold.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use qnet_iomsg::filesys::xattr;

use crate::file::MAX_WRITE;

/// Requests carried out at once beside those of [`Limits::workers`]: one of each node of which no other runs.
pub const WORKERS_BEYOND: usize = 32;
/// Connections of one node.
pub const CONNECTIONS_PER_NODE: usize = 512;
/// Connections of all nodes.
pub const CONNECTIONS: usize = 2048;
/// Requests of one connection that wait for a worker; more are answered with EAGAIN, but for what gives a file or a lock back.
pub const QUEUE_PER_CONNECTION: usize = 512;
/// The same of one node.
pub const QUEUE_PER_NODE: usize = 1024;
/// The same of all nodes.
pub const QUEUE: usize = 4096;
/// Bytes of replies that wait for the socket; above this nothing is received until it takes some.
pub const OUTGOING_BYTES: usize = 8 * 1024 * 1024;
/// Requests of one node that wait for a FIFO or device; more are answered with EAGAIN.
pub const WAITING_PER_NODE: usize = 1024;
/// Those among them that are tried again and again, because nobody tells when they may go on.
pub const TRIED_PER_NODE: usize = 64;
/// Requests of one node that wait for a lock; more are answered with ENOLCK.
pub const LOCK_WAITS_PER_NODE: usize = 256;
/// Owners of locks of one file, each with a descriptor; more are answered with ENOLCK.
pub const LOCK_OWNERS_PER_FILE: usize = 1024;
/// Ranges that one owner may hold in one file; one that would make more is answered with ENOLCK.
pub const LOCK_RANGES_PER_OWNER: usize = 4096;
/// Most owners of locks in all files, of all nodes; each has a descriptor beside those of open files.
pub const LOCK_OWNERS: usize = 4096;
/// Ranges that all owners hold.
pub const LOCK_RANGES: usize = 128 * 1024;
/// The same of one node's owners.
pub const LOCK_RANGES_PER_NODE: usize = 96 * 1024;
/// Owners and waits that are looked at, for one request that waits for a lock, to find a deadlock.
pub const LOCK_SEARCH: usize = 2048;
/// Vain attempts to read from a device that claims to be ready, before the caller gets EAGAIN.
pub const WAIT_ATTEMPTS: u32 = 1000;
/// Messages of one connection of which a part is still to come; more are answered with EAGAIN.
pub const GATHERING_PER_CONNECTION: usize = 256;
/// The same of one node.
pub const GATHERING_PER_NODE: usize = 768;
/// The same of all nodes.
pub const GATHERING: usize = 1024;
/// Bytes of an `_IO_CONNECT` with the longest path and the longest extra, and an extended attribute behind it.
pub const CONNECT_MESSAGE: usize = 40 + 4096 + 8 + 65_535 + xattr::VALUE_MAX;
/// Bytes kept of a WRITE: its head and the most that one writes.
pub const WRITE_MESSAGE: usize = 24 + MAX_WRITE;
/// Bytes kept of any other message: the longest extended attribute, its name and the head.
pub const FILE_MESSAGE: usize = 64 * 1024 + 1024;
/// Bytes of messages that come in pieces, from the first question for more until the request is done; beyond, no
/// more is asked for.
pub const MESSAGES: usize = 64 * 1024 * 1024;
/// The same of one node.
pub const MESSAGES_PER_NODE: usize = 48 * 1024 * 1024;
/// Beside [`MESSAGES`], for the first message of nodes that hold none of them.
pub const MESSAGES_BEYOND: usize = 64 * 1024 * 1024;

/// Descriptors that are not open files of remote callers: the sockets and logs, and what resolving a
/// path takes for a moment in each worker.
const RESERVED_DESCRIPTORS: usize = 64;

/// Bounds that depend on how the program was started.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests carried out at once; see also [`WORKERS_BEYOND`].
    pub workers: usize,
    /// Files of all connections.
    pub open_files: usize,
    /// Owners of locks of all connections.
    pub lock_owners: usize,
}

impl Limits {
    /// At most `workers` threads, and at most `open_files` files or what the system allows.
    #[must_use]
    pub fn new(workers: usize, open_files: usize) -> Self {
        let workers = workers.max(1);
        let limit = descriptor_limit();
        // where there are few descriptors, locks have a quarter of them
        let lock_owners = LOCK_OWNERS.min(limit / 4).max(1);
        let room = limit.saturating_sub(RESERVED_DESCRIPTORS + 4 * (workers + WORKERS_BEYOND) + lock_owners);
        Self { workers, open_files: open_files.min(room).max(1), lock_owners }
    }

    /// Requests of all nodes that are carried out at once.
    pub(crate) fn most_workers(&self) -> usize {
        self.workers + WORKERS_BEYOND
    }

    /// Requests of one connection that are carried out at once.
    pub(crate) fn workers_per_connection(&self) -> usize {
        self.workers.div_ceil(2)
    }

    /// Requests of one node that are carried out at once; the rest is for the others.
    pub(crate) fn workers_per_node(&self) -> usize {
        (self.workers * 3 / 4).max(1)
    }

    /// Files of one node.
    pub(crate) fn files_per_node(&self) -> usize {
        (self.open_files * 3 / 4).max(1)
    }

    /// Files of one connection.
    pub(crate) fn files_per_connection(&self) -> usize {
        self.open_files.div_ceil(2)
    }
}

/// Raises the limit on descriptors as far as this user may, and returns it.
fn descriptor_limit() -> usize {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => {
            let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
            usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
        }
        // POSIX's smallest
        Err(_) => 20,
    }
}
