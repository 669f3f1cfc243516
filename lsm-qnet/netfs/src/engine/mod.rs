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
//! because the new server does not know it (EHOSTDOWN), and what changes something is not sent twice.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | entry points, dispatch |
//! | `task.rs` | what a request comes to |
//! | `messages.rs` | the message for a task |
//! | `job.rs` | a request's way through resolution, connection and reply |
//! | `names.rs` | look-ups, attributes, symbolic links, what may be cached |
//! | `links.rs` | where a symbolic link of a node leads |
//! | `change.rs` | what was made, moved, removed, written |
//! | `files.rs` | open files |
//! | `directory.rs` | open directories |
//! | `listing.rs`, `lookahead.rs` | names that were listed, and what is asked for ahead of their look-ups |
//! | `health.rs` | which nodes answer |
//! | `locks.rs` | POSIX locks and flock |
//! | `xattrs.rs` | extended attributes |
//! | `polls.rs` | what is ready |
//! | `interrupt.rs` | signals for who waits |
//! | `nodes.rs` | `/net` itself |
//! | `statistics.rs` | `/net/.qnetstats` |

mod change;
mod directory;
mod entries;
mod files;
mod health;
mod interrupt;
mod job;
mod links;
mod listing;
mod locks;
mod lookahead;
mod messages;
mod names;
mod nodes;
mod polls;
mod short_reads;
mod statistics;
mod task;
#[cfg(test)]
mod tests;
mod xattrs;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    os::fd::RawFd,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use tracing::{debug, info, trace};

use self::{
    directory::Wanted,
    files::Handle,
    health::{Health, Probe},
    interrupt::Patience,
    job::Job,
    locks::Holders,
    lookahead::{Batch, Listings},
    polls::Watches,
    task::Task,
};
use crate::{
    caller::{Caller, Groups, ReadGroups},
    fuse::{
        Negotiated, Opcode, Operation, READ_BUFFER, ROOT_ID, Request,
        abi::{EPOCH_MINOR, InHeader, InitIn, Kstatfs},
        negotiate, reply,
    },
    inodes::Inodes,
    link::{Link, Message, TxnId},
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

/// What the kernel may remember of other nodes' files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// What is opened is as it was when it was closed last, wherever that was; names and attributes may be a second old.
    #[default]
    CloseToOpen,
    /// Nothing.
    Nothing,
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
    /// What is remembered.
    pub cache: Cache,
    /// Time after which a request ends with EHOSTDOWN or EHOSTUNREACH.
    pub deadline: Duration,
    /// Owner of the directories that exist here only.
    pub owner: (u32, u32),
    /// Their time stamps.
    pub since: SystemTime,
    /// Supplementary groups of a process.
    pub groups_of: ReadGroups,
    /// Whether a thread has got a signal that ends it, or is gone.
    pub is_dying: fn(u32) -> bool,
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
#[derive(Clone, Debug)]
enum Owner {
    /// The request with this `unique`.
    Job(u64),
    /// The question whether everybody may search this directory.
    Search(u64),
    /// The question whether the node of this name is there.
    Probe(Probe),
    /// The question when this file handle is ready.
    Watch(u64),
    /// The question for names that are about to be looked up.
    Ahead(Box<Batch>),
}

/// The file system.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    groups: Groups,
    link: Link,
    inodes: Inodes,
    handles: HashMap<u64, Handle>,
    jobs: HashMap<u64, Job>,
    owners: HashMap<TxnId, Owner>,
    deadlines: BTreeSet<(Instant, u64)>,
    patience: Patience,
    health: Health,
    holders: Holders,
    watches: Watches,
    listings: Listings,
    replies: VecDeque<Vec<u8>>,
    short_reads: Vec<short_reads::ShortRead>,
    /// Memory of large replies that were written, for the next ones.
    spares: Vec<Vec<u8>>,
    /// Counts what was changed from here: what was asked before the last one may be old.
    changes: u64,
    /// Counts the answers that have come: tells what was asked for before something else was known.
    answers: u64,
    last_fh: u64,
    last_coid: i32,
    /// The numbers have come round: one may be in use.
    coids_reused: bool,
    ready: bool,
    /// The kernel can be told to look all names up again.
    has_epochs: bool,
    over: bool,
}

impl Engine {
    /// A file system that reaches other nodes over `link`.
    pub fn new(config: Config, link: Link) -> Self {
        Self {
            groups: Groups::new(config.groups_of),
            config,
            link,
            inodes: Inodes::default(),
            handles: HashMap::new(),
            jobs: HashMap::new(),
            owners: HashMap::new(),
            deadlines: BTreeSet::new(),
            patience: Patience::default(),
            health: Health::default(),
            holders: Holders::default(),
            watches: Watches::default(),
            listings: Listings::default(),
            replies: VecDeque::new(),
            short_reads: Vec::new(),
            spares: Vec::new(),
            changes: 0,
            answers: 0,
            last_fh: 0,
            last_coid: 0,
            coids_reused: false,
            ready: false,
            has_epochs: false,
            over: false,
        }
    }

    /// Takes what one read of `/dev/fuse` returned: the first `len` bytes of `buffer`. The buffer is replaced when its data
    /// are to be sent from where they are.
    pub fn handle_request(&mut self, now: Instant, buffer: &mut Vec<u8>, len: usize) {
        match Request::parse(&buffer[..len]) {
            Ok(Request { header, operation: Operation::Write { fh, offset, append, mapped, data } }) => {
                let payload = data.len();
                trace!(
                    header.unique,
                    header.nodeid, "Write {{ fh: {fh}, offset: {offset}, {payload} bytes }}"
                );
                let task = Task::Write { fh, offset, append, mapped };
                self.write(now, &header, task, buffer, payload);
            }
            Ok(Request { header, operation }) => {
                trace!(header.unique, header.nodeid, "{operation:?}");
                self.dispatch(now, &header, operation);
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
        self.look_again(now);
        self.watch_again(now);
        self.listings.sweep(now);
        self.link.handle_timeout(now);
        self.settle(now);
    }

    /// The next bytes to write to `/dev/fuse`, each with one write. Call until `None` after every `handle_*`.
    #[must_use]
    pub fn poll_reply(&mut self) -> Option<Vec<u8>> {
        self.release_short_reads();
        self.replies.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called. Ask again after every `handle_*`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let own = deadline.into_iter().chain(self.patience.next()).chain(self.watches.next());
        own.chain(self.listings.next()).chain(self.link.poll_timeout()).min()
    }

    /// The socket to watch, if there is one. Ask again after every `handle_*`.
    pub fn link(&self) -> Option<Watch> {
        let (generation, writable) = (self.link.generation(), self.link.wants_write());
        self.link.descriptor().map(|fd| Watch { fd, generation, writable })
    }

    /// The link itself, for who looks at it by itself instead of being woken for each packet ([`Link::attend`]).
    pub fn link_mut(&mut self) -> &mut Link {
        &mut self.link
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
            Operation::Interrupt { unique } => return self.interrupt(now, unique),
            Operation::Init { asked } => self.init(unique, asked),
            Operation::Destroy => {
                self.over = true;
                reply::status(unique, 0)
            }
            Operation::Release { fh } | Operation::Releasedir { fh } => {
                self.close(now, fh);
                reply::status(unique, 0)
            }
            // A write has reached the node before it returns.
            Operation::Flush { fh, lock_owner } => return self.flush(now, header, fh, lock_owner),
            Operation::Listxattr { size } if self.is_local(header.nodeid) => self.no_attributes(unique, size),
            Operation::Poll { fh, events, .. } => match self.always_ready(unique, fh, events) {
                Some(answer) => answer,
                None => return self.start(now, header, operation),
            },
            Operation::Other(opcode) => reply::status(unique, refusal(opcode)),
            Operation::Getattr { .. } if self.is_own(header.nodeid) => {
                self.own_attributes(unique, header.nodeid)
            }
            Operation::Statfs if self.is_local(header.nodeid) => reply::body(unique, &statistics()),
            Operation::Access { mask } if self.is_local(header.nodeid) => {
                reply::status(unique, own_access(mask))
            }
            Operation::Lookup { name: statistics::NAME } if header.nodeid == ROOT_ID => {
                self.lookup_statistics(unique)
            }
            Operation::Read { fh, offset, size } => {
                let text = self.read_text(unique, fh, offset, size);
                match text.or_else(|| self.read_small(now, unique, fh, offset, size)) {
                    Some(answer) => answer,
                    None => return self.start(now, header, operation),
                }
            }
            Operation::Opendir if header.nodeid == ROOT_ID => self.open_nodes(unique),
            Operation::Open { flags } => match self.open_again(header, flags.cast_signed()) {
                Some(answer) => answer,
                None => return self.start(now, header, operation),
            },
            Operation::Readdir { fh, offset, size, plus } => {
                match self.buffered_entries(now, unique, Wanted { fh, offset, size, plus }) {
                    Some(answer) => answer,
                    None => return self.start(now, header, operation),
                }
            }
            Operation::Lookup { name } if header.nodeid == ROOT_ID => {
                match self.known_absent(now, unique, name) {
                    Some(answer) => answer,
                    None => return self.start(now, header, operation),
                }
            }
            Operation::Lookup { name } => return self.look_up(now, header, operation, name),
            Operation::Getxattr { .. } | Operation::Listxattr { .. } => {
                match self.known_bare(now, header, &operation) {
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
        match self.task(header, operation) {
            // The network manager believes us, whoever asks.
            Ok(Task::Forget { .. }) if header.uid != 0 && header.uid != self.config.owner.0 => {
                self.replies.push_back(reply::status(header.unique, libc::EPERM));
            }
            Ok(task) => self.begin(now, header, task, None),
            Err(errno) => self.replies.push_back(reply::status(header.unique, errno)),
        }
    }

    /// Begins to write the `len` bytes of data in a request.
    fn write(&mut self, now: Instant, header: &InHeader, task: Task, buffer: &mut Vec<u8>, len: usize) {
        let Task::Write { fh, offset, append, .. } = task else { return };
        match self.regular(fh) {
            Ok(_) => {
                let payload = self.write_message(fh, (offset, append), buffer, len);
                if buffer.is_empty() {
                    *buffer = self.link.take_spare().unwrap_or_else(|| vec![0; READ_BUFFER]);
                }
                self.begin(now, header, task, Some(payload));
            }
            Err(errno) => self.replies.push_back(reply::status(header.unique, errno)),
        }
    }

    fn begin(&mut self, now: Instant, header: &InHeader, task: Task, payload: Option<Message>) {
        let caller = match task {
            Task::Open { .. } | Task::OpenDirectory { .. } | Task::Create { .. } => self.opener(header),
            _ if task.is_by_path() => self.caller(header),
            _ => Rc::new(Caller { uid: header.uid, gid: header.gid, groups: Vec::new() }),
        };
        let patience = self.patience_with(&task);
        let waits = patience.is_none();
        let deadline = patience.filter(|_| !task.takes_its_time()).map(|patience| now + patience);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, header.unique));
        }
        let mut job = Job::new(task, caller, header.pid, deadline);
        job.payload = payload;
        job.waits = waits;
        match job.task {
            Task::Getattr { nodeid } if self.is_node(nodeid) => {
                self.ask_whether_there(now, header.unique, job)
            }
            _ => self.advance(now, header.unique, job, None),
        }
    }

    /// Who asks, with the groups that he had at his last open.
    pub(super) fn caller(&mut self, header: &InHeader) -> Rc<Caller> {
        self.groups.caller(header.pid, header.uid, header.gid)
    }

    /// Who opens a file, with the groups that he has now.
    pub(super) fn opener(&mut self, header: &InHeader) -> Rc<Caller> {
        self.groups.caller_now(header.pid, header.uid, header.gid)
    }

    fn init(&mut self, unique: u64, asked: InitIn) -> Vec<u8> {
        match negotiate(asked) {
            Ok(Negotiated::Agreed(body)) => {
                info!(
                    kernel = format_args!("{}.{}", asked.major, asked.minor),
                    max_readahead = body.max_readahead,
                    flags = format_args!("{:#x}", body.flags),
                    "mounted"
                );
                self.ready = true;
                self.has_epochs = asked.minor >= EPOCH_MINOR;
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

    /// Handles transactions that have ended, and those that end because of that.
    fn settle(&mut self, now: Instant) {
        while let Some(done) = self.link.poll_completion() {
            self.answers += 1;
            match self.owners.remove(&done.txn) {
                Some(Owner::Job(unique)) => self.on_reply(now, unique, done.result),
                Some(Owner::Search(nodeid)) => self.on_search(now, nodeid, done.result),
                Some(Owner::Probe(probe)) => self.on_probe(now, probe, done.result),
                Some(Owner::Watch(fh)) => self.on_watch(now, fh, done.result),
                Some(Owner::Ahead(batch)) => self.on_ahead(now, &batch, done.result),
                None => {}
            }
        }
    }
}

/// What `statfs` says: `/net` has no blocks or inodes of its own (`df` leaves such file systems out).
fn statistics() -> Kstatfs {
    Kstatfs { bsize: 4096, frsize: 4096, namelen: 255, ..Kstatfs::default() }
}

/// Whether somebody may do this with `/net` itself, whose directories everybody may read and enter.
fn own_access(mask: u32) -> i32 {
    if mask.cast_signed() & libc::W_OK != 0 { libc::EROFS } else { 0 }
}

/// The answer to an operation that `/net` does not do.
///
/// ENOSYS lets the kernel do without: it does not ask again.
fn refusal(opcode: Option<Opcode>) -> i32 {
    match opcode {
        // Terminals of other nodes are no terminals here.
        Some(Opcode::Ioctl) => libc::ENOTTY,
        _ => libc::ENOSYS,
    }
}
