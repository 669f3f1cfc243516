//! Requests in, replies out: the file system without its descriptors.
//!
//! ```text
//!  handle_request ──▶ dispatch ──▶ Job ──▶ Link … handle_link ──▶ complete ──▶ poll_reply
//!                        └─ answered at once (forget, statfs, what /net does not do)
//! ```
//!
//! Every request that needs another node becomes a `Job`, kept under the kernel's number for it. It ends exactly once:
//! by its reply, by its deadline, by FUSE_INTERRUPT (EINTR, and the node is asked to let go), or by the end of its
//! connection. Jobs do not wait for each other, so a slow or dead node delays nobody but its own callers.
//!
//! A look-up whose connection turns out to be dead is tried once more on a new one; an open file has no second chance,
//! because the new server does not know it (EHOSTDOWN).
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | entry points, dispatch |
//! | `job.rs` | a request's way through resolution, connection and reply |
//! | `names.rs` | look-ups, attributes, symbolic links, what may be cached |
//! | `links.rs` | where a symbolic link of a node leads |
//! | `files.rs` | open files and directories |
//! | `nodes.rs` | `/net` itself |
//! | `statistics.rs` | `/net/.qnetstats` |

mod files;
mod job;
mod links;
mod names;
mod nodes;
mod statistics;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    os::fd::RawFd,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use tracing::{debug, info, trace};

use self::{
    files::Handle,
    job::{Job, Task},
};
use crate::{
    caller::Caller,
    fuse::{
        Negotiated, Opcode, Operation, ROOT_ID, Request,
        abi::{InHeader, InitIn, Kstatfs},
        negotiate, reply,
    },
    inodes::Inodes,
    link::{Link, TxnId},
};

/// How symbolic links of other nodes read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// An absolute target means the node's own file: `/etc/x` reads as `/net/NODE/etc/x`.
    #[default]
    Node,
    /// The target is what the node says.
    Verbatim,
}

/// What the file system needs to know at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is mounted, absolute; absolute links are given this prefix.
    pub mount: Vec<u8>,
    /// The network directory whose names are shown, as Qnet knows it; `None`: its default one.
    pub directory: Option<Vec<u8>>,
    /// How symbolic links read.
    pub symlinks: Symlinks,
    /// Time after which a request ends with EHOSTDOWN or EHOSTUNREACH.
    pub deadline: Duration,
    /// Owner of the directories that exist here only.
    pub owner: (u32, u32),
    /// Their time stamps.
    pub since: SystemTime,
    /// Supplementary groups of a process.
    pub groups_of: fn(u32) -> Vec<u32>,
}

/// What an event loop has to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The descriptor, always for reading.
    pub fd: RawFd,
    /// Changes when the descriptor is another socket, even if its number is the same.
    pub generation: u32,
    /// Whether it is to be watched for writing, too.
    pub writable: bool,
}

/// Whom a transaction belongs to.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// The request with this `unique`.
    Job(u64),
    /// The question whether everybody may search this directory.
    Search(u64),
}

/// The file system.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    link: Link,
    inodes: Inodes,
    handles: HashMap<u64, Handle>,
    jobs: HashMap<u64, Job>,
    owners: HashMap<TxnId, Owner>,
    deadlines: BTreeSet<(Instant, u64)>,
    replies: VecDeque<Vec<u8>>,
    last_fh: u64,
    last_coid: i32,
    /// The numbers have come round: one may be in use.
    coids_reused: bool,
    ready: bool,
    over: bool,
}

impl Engine {
    /// A file system that reaches other nodes over `link`.
    pub fn new(config: Config, link: Link) -> Self {
        Self {
            config,
            link,
            inodes: Inodes::default(),
            handles: HashMap::new(),
            jobs: HashMap::new(),
            owners: HashMap::new(),
            deadlines: BTreeSet::new(),
            replies: VecDeque::new(),
            last_fh: 0,
            last_coid: 0,
            coids_reused: false,
            ready: false,
            over: false,
        }
    }

    /// Takes what one read of `/dev/fuse` returned.
    pub fn handle_request(&mut self, now: Instant, bytes: &[u8]) {
        match Request::parse(bytes) {
            Ok(request) => {
                trace!(
                    unique = request.header.unique,
                    nodeid = request.header.nodeid,
                    "{:?}",
                    request.operation
                );
                self.dispatch(now, &request.header, request.operation);
            }
            Err(error) => {
                debug!("{error}");
                if let Some(unique) = error.unique() {
                    self.replies.push_back(reply::status(unique, libc::EINVAL));
                }
            }
        }
        self.settle(now);
    }

    /// Takes what has arrived from `lsm-qnet`, at most `budget` packets; `true` when more may wait.
    pub fn handle_link(&mut self, now: Instant, budget: usize) -> bool {
        let more = self.link.receive(budget);
        self.settle(now);
        more
    }

    /// Does what is due: ends requests whose deadline has passed, reconnects, closes idle sessions.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, unique)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(job) = self.withdraw(unique) {
                let errno = job.timeout_errno();
                debug!(unique, errno, "no answer in time: {:?}", job.task);
                self.replies.push_back(reply::status(unique, errno));
            }
        }
        self.link.handle_timeout(now);
        self.settle(now);
    }

    /// The next bytes to write to `/dev/fuse`, each with one write. Call until `None` after every `handle_*`.
    #[must_use]
    pub fn poll_reply(&mut self) -> Option<Vec<u8>> {
        self.replies.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called. Ask again after every `handle_*`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        deadline.into_iter().chain(self.link.poll_timeout()).min()
    }

    /// The socket to watch, if there is one. Ask again after every `handle_*`.
    pub fn link(&self) -> Option<Watch> {
        let (generation, writable) = (self.link.generation(), self.link.wants_write());
        self.link.descriptor().map(|fd| Watch { fd, generation, writable })
    }

    /// Whether the kernel has accepted the mount.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the kernel has ended the mount.
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn dispatch(&mut self, now: Instant, header: &InHeader, operation: Operation<'_>) {
        let unique = header.unique;
        let answer = match operation {
            Operation::Forget { nlookup } => return self.inodes.forget(header.nodeid, nlookup),
            Operation::BatchForget(list) => {
                return list.for_each(|one| self.inodes.forget(one.nodeid, one.nlookup));
            }
            Operation::Interrupt { unique } => return self.interrupt(unique),
            Operation::Init { asked, flags2 } => self.init(unique, asked, flags2),
            Operation::Destroy => {
                self.over = true;
                reply::status(unique, 0)
            }
            Operation::Statfs => reply::body(unique, &statistics()),
            Operation::Release { fh } | Operation::Releasedir { fh } => {
                self.close(now, fh);
                reply::status(unique, 0)
            }
            Operation::Rmdir { .. } if header.nodeid != ROOT_ID => reply::status(unique, libc::EROFS),
            operation if operation.changes_files() => reply::status(unique, libc::EROFS),
            Operation::Readdir { plus: true, .. } => reply::status(unique, libc::ENOSYS),
            Operation::Other(opcode) => reply::status(unique, refusal(opcode)),
            Operation::Getattr { .. } if self.is_own(header.nodeid) => {
                self.own_attributes(unique, header.nodeid)
            }
            Operation::Lookup { name: statistics::NAME } if header.nodeid == ROOT_ID => {
                self.lookup_statistics(unique)
            }
            Operation::Read { fh, offset, size } => match self.read_text(unique, fh, offset, size) {
                Some(answer) => answer,
                None => return self.start(now, header, operation),
            },
            Operation::Opendir if header.nodeid == ROOT_ID => self.open_nodes(unique),
            Operation::Readdir { fh, offset, size, .. } => {
                match self.buffered_entries(unique, fh, offset, size) {
                    Some(answer) => answer,
                    None => return self.start(now, header, operation),
                }
            }
            _ => return self.start(now, header, operation),
        };
        self.replies.push_back(answer);
    }

    /// Begins a request that needs another node or the network manager.
    fn start(&mut self, now: Instant, header: &InHeader, operation: Operation<'_>) {
        match self.task(header.nodeid, operation) {
            // The network manager believes us, whoever asks.
            Ok(Task::Forget { .. }) if header.uid != 0 && header.uid != self.config.owner.0 => {
                self.replies.push_back(reply::status(header.unique, libc::EPERM));
            }
            Ok(task) => {
                let (uid, gid) = (header.uid, header.gid);
                let groups = if task.is_by_path() { (self.config.groups_of)(header.pid) } else { Vec::new() };
                let caller = Rc::new(Caller { uid, gid, groups });
                let deadline = (!self.waits_forever(&task)).then(|| now + self.config.deadline);
                if let Some(deadline) = deadline {
                    self.deadlines.insert((deadline, header.unique));
                }
                self.advance(now, header.unique, Job::new(task, caller, deadline), None);
            }
            Err(errno) => self.replies.push_back(reply::status(header.unique, errno)),
        }
    }

    /// What there is to do for an operation, or why not.
    fn task(&self, nodeid: u64, operation: Operation<'_>) -> Result<Task, i32> {
        Ok(match operation {
            Operation::Lookup { name } if nodeid == ROOT_ID => nodes::lookup_task(name)?,
            Operation::Rmdir { name } => nodes::forget_task(name)?,
            Operation::Lookup { name: b"." | b".." } => return Err(libc::EINVAL),
            Operation::Lookup { name } => Task::Lookup { parent: nodeid, name: name.into() },
            Operation::Getattr { fh: Some(fh) } if self.handles.contains_key(&fh) => {
                Task::GetattrOpen { nodeid, fh }
            }
            Operation::Getattr { .. } => Task::Getattr { nodeid },
            Operation::Readlink => Task::Readlink { nodeid },
            Operation::Open { flags } if self.is_statistics(nodeid) => statistics::open_task(flags)?,
            Operation::Open { flags } => files::open_task(nodeid, flags)?,
            Operation::Opendir => Task::Open { nodeid, directory: true, nonblocking: false },
            Operation::Read { fh, offset, size } => self.read_task(fh, offset, size)?,
            Operation::Readdir { fh, offset, size, .. } => self.readdir_task(fh, offset, size)?,
            _ => return Err(libc::ENOSYS),
        })
    }

    fn init(&mut self, unique: u64, asked: InitIn, flags2: u32) -> Vec<u8> {
        match negotiate(asked, flags2) {
            Ok(Negotiated::Agreed(body)) => {
                info!(
                    kernel = format_args!("{}.{}", asked.major, asked.minor),
                    max_readahead = body.max_readahead,
                    flags = format_args!("{:#x}", body.flags),
                    "mounted"
                );
                self.ready = true;
                reply::body(unique, &body)
            }
            Ok(Negotiated::Again(body)) => reply::body(unique, &body),
            Err(error) => {
                tracing::error!("{error}");
                self.over = true;
                reply::status(unique, libc::EPROTO)
            }
        }
    }

    /// A signal hit the process that waits for `unique`. A request that has ended meanwhile needs nothing.
    fn interrupt(&mut self, unique: u64) {
        if let Some(job) = self.withdraw(unique) {
            debug!(unique, "interrupted: {:?}", job.task);
            self.replies.push_back(reply::status(unique, libc::EINTR));
        }
    }

    /// Handles transactions that have ended, and those that end because of that.
    fn settle(&mut self, now: Instant) {
        while let Some(done) = self.link.poll_completion() {
            match self.owners.remove(&done.txn) {
                Some(Owner::Job(unique)) => self.on_reply(now, unique, done.result),
                Some(Owner::Search(nodeid)) => self.on_search(now, nodeid, done.result),
                None => {}
            }
        }
    }
}

/// What `statfs` says: `/net` has no blocks or inodes of its own (`df` leaves such file systems out).
fn statistics() -> Kstatfs {
    Kstatfs { bsize: 4096, frsize: 4096, namelen: 255, ..Kstatfs::default() }
}

/// The answer to an operation that `/net` does not do.
///
/// ENOSYS lets the kernel do without: it does not ask again, and takes access as granted until the node decides.
fn refusal(opcode: Option<Opcode>) -> i32 {
    match opcode {
        Some(opcode) if opcode.changes_files() => libc::EROFS,
        // Terminals of other nodes are no terminals here.
        Some(Opcode::Ioctl) => libc::ENOTTY,
        _ => libc::ENOSYS,
    }
}
