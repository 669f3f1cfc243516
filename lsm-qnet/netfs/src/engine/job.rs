//! A request on its way: find the node's number, find the session, send, await the reply.
//!
//! ```text
//!   Resolve ── nd known ──▶ Reply ── reply ──▶ done          lost, first time: back to Resolve on a new session
//!      └────── error ──────────┴── error, deadline, interrupt ──▶ done
//! ```

use std::{rc::Rc, time::Instant};

use qnet_iomsg::{
    Connect, Extra, Io, Subtype,
    connect::EFLAG_DIR,
    flags::{IOFLAG_NONBLOCK, IOFLAG_READ},
    message::XTYPE_DIR_EXTRA_HINT,
    netmgr, stat,
};

use super::{
    Engine, Owner,
    files::{self, Handle},
    names::LIFETIME,
    statistics,
};
use crate::{
    caller::Caller,
    fuse::reply::{self, Buffer},
    inodes::Location,
    link::{Failure, Reply, Request, SessionId, Target, TxnId},
};

/// Longest target of a symbolic link.
pub(super) const LINK_MAX: usize = libc::PATH_MAX as usize - 1;
/// Room for the list of nodes.
const NODES_ROOM: usize = 1 << 20;
/// Bit of a CONNECT's status: a redirection instead of an opened file.
const REDIRECTED: i64 = 0x8000_0000;

/// What a job has to find out.
#[derive(Debug)]
pub(super) enum Task {
    /// The number of the node `name`.
    LookupNode { name: Vec<u8> },
    /// The nodes there are, for the open directory `fh`.
    ListNodes { fh: u64, size: u32 },
    /// The statistics, to be read from a new file handle.
    Statistics,
    /// The node `name` is to leave the list.
    Forget { name: Vec<u8> },
    /// What `name` in the directory `parent` is.
    Lookup { parent: u64, name: Vec<u8> },
    /// Attributes by name.
    Getattr { nodeid: u64 },
    /// Attributes of an open file.
    GetattrOpen { nodeid: u64, fh: u64 },
    /// Target of a symbolic link.
    Readlink { nodeid: u64 },
    /// A new open file.
    Open { nodeid: u64, directory: bool, nonblocking: bool },
    /// Bytes of an open file.
    Read { fh: u64, offset: u64, size: u32 },
    /// Entries of an open directory.
    Readdir { fh: u64, offset: u64, size: u32 },
}

impl Task {
    /// Whether the task names its file by path, which any session of the caller can serve.
    pub(super) fn is_by_path(&self) -> bool {
        matches!(self, Self::Lookup { .. } | Self::Getattr { .. } | Self::Readlink { .. } | Self::Open { .. })
    }

    /// Whether the network manager is asked, not a node.
    fn is_for_netmgr(&self) -> bool {
        matches!(
            self,
            Self::LookupNode { .. } | Self::ListNodes { .. } | Self::Forget { .. } | Self::Statistics
        )
    }

    /// The inode a task by path starts from, and the name below it.
    fn start(&self) -> Option<(u64, Option<&[u8]>)> {
        match self {
            Self::Lookup { parent, name } => Some((*parent, Some(name))),
            Self::Getattr { nodeid } | Self::Readlink { nodeid } | Self::Open { nodeid, .. } => {
                Some((*nodeid, None))
            }
            _ => None,
        }
    }

    /// The open file a task is about.
    fn handle(&self) -> Option<u64> {
        match self {
            Self::GetattrOpen { fh, .. } | Self::Read { fh, .. } | Self::Readdir { fh, .. } => Some(*fh),
            _ => None,
        }
    }
}

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The number of the node whose directory is this inode.
    Resolve(u64),
    /// The reply to the message itself.
    Reply,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) caller: Rc<Caller>,
    pub(super) deadline: Option<Instant>,
    /// Number of the open file a path is opened as.
    pub(super) coid: i32,
    pub(super) session: Option<SessionId>,
    /// Bytes that earlier replies have brought.
    pub(super) filled: usize,
    stage: Stage,
    retried: bool,
    txn: Option<TxnId>,
}

impl Job {
    pub(super) fn new(task: Task, caller: Rc<Caller>, deadline: Option<Instant>) -> Self {
        Self {
            task,
            caller,
            deadline,
            coid: 0,
            session: None,
            filled: 0,
            stage: Stage::Reply,
            retried: false,
            txn: None,
        }
    }

    /// The errno of a job whose time is up: whoever was found does not answer (EHOSTDOWN), or nobody was found.
    pub(super) fn timeout_errno(&self) -> i32 {
        let resolving = matches!(self.stage, Stage::Resolve(_)) || self.task.is_for_netmgr();
        if resolving { libc::EHOSTUNREACH } else { libc::EHOSTDOWN }
    }

    /// The errno for the caller.
    fn errno(&self, failure: Failure) -> i32 {
        match (self.stage, failure.errno) {
            // The directory of the node is there, the node is not.
            (Stage::Resolve(_), libc::ENOENT) => libc::EHOSTUNREACH,
            // QNX's words for a connection that ended; ESRCH may also come from an open `/proc` file of a process.
            (_, libc::EBADF | libc::ENOTCONN | libc::ECONNRESET | libc::EPIPE) => libc::EHOSTDOWN,
            (_, libc::ESRCH) if self.task.is_by_path() => libc::EHOSTDOWN,
            (_, errno) => errno,
        }
    }
}

/// What a reply means for its job.
pub(super) enum Outcome {
    /// The request is answered with these bytes.
    Answer(Vec<u8>),
    /// More is to be read, into the same buffer.
    More(Buffer),
}

impl Engine {
    /// Sends the job's next message, or ends the job.
    pub(super) fn advance(&mut self, now: Instant, unique: u64, mut job: Job, mut buffer: Option<Buffer>) {
        loop {
            match self.send(now, &mut job, buffer.take()) {
                Ok(txn) => {
                    job.txn = Some(txn);
                    self.owners.insert(txn, Owner::Job(unique));
                    self.jobs.insert(unique, job);
                    return;
                }
                Err(failure) if self.retries(&mut job, failure) => {}
                Err(failure) => return self.fail(now, unique, &job, failure),
            }
        }
    }

    /// A transaction of a job has ended.
    pub(super) fn on_reply(&mut self, now: Instant, unique: u64, result: Result<Reply, Failure>) {
        let Some(mut job) = self.jobs.remove(&unique) else { return };
        job.txn = None;
        match (job.stage, result) {
            (Stage::Resolve(node), Ok(reply)) => {
                let nd = u32::try_from(reply.status).ok().map(|nd| (self.link.generation(), nd));
                self.inodes.set_nd(node, nd);
                job.stage = Stage::Reply;
                if nd.is_some() {
                    self.advance(now, unique, job, None);
                } else {
                    self.fail(now, unique, &job, Failure { errno: libc::EIO, lost: false });
                }
            }
            (Stage::Reply, Ok(reply)) => match self.complete(now, unique, &mut job, reply) {
                Ok(Outcome::Answer(answer)) => self.finish(unique, &job, answer),
                Ok(Outcome::More(buffer)) => self.advance(now, unique, job, Some(buffer)),
                Err(errno) => self.fail(now, unique, &job, Failure { errno, lost: false }),
            },
            (_, Err(failure)) if self.retries(&mut job, failure) => self.advance(now, unique, job, None),
            (_, Err(failure)) => self.fail(now, unique, &job, failure),
        }
    }

    /// Takes a job back before its end; the other side is asked to let go of it.
    pub(super) fn withdraw(&mut self, unique: u64) -> Option<Job> {
        let job = self.jobs.remove(&unique)?;
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, unique));
        }
        if let Some(txn) = job.txn {
            self.owners.remove(&txn);
            let opening = matches!(job.task, Task::Open { .. }) && job.stage == Stage::Reply;
            self.link.abandon(txn, opening.then(|| Io::Close.to_bytes()));
        }
        Some(job)
    }

    /// Whether a job whose connection was lost starts again. It does once, unless its file was open on that connection.
    fn retries(&mut self, job: &mut Job, failure: Failure) -> bool {
        if let Some(session) = job.session.take().filter(|_| failure.lost) {
            self.link.retire(session);
        }
        if !failure.lost || job.retried || job.task.handle().is_some() {
            return false;
        }
        job.retried = true;
        job.stage = Stage::Reply;
        if let Some((nodeid, _)) = job.task.start()
            && let Some(Location { node, .. }) = self.inodes.location(nodeid)
        {
            // A node that was restarted may have another number.
            self.inodes.set_nd(node, None);
        }
        true
    }

    fn send(&mut self, now: Instant, job: &mut Job, buffer: Option<Buffer>) -> Result<TxnId, Failure> {
        let (session, request) = if job.task.is_for_netmgr() {
            (self.link.session(now, &Target::Netmgr)?, self.netmgr_request(&job.task)?)
        } else if let Some(fh) = job.task.handle() {
            self.file_request(fh, job, buffer)?
        } else {
            self.path_request(now, job)?
        };
        job.session = Some(session);
        self.link.request(session, request)
    }

    fn netmgr_request(&mut self, task: &Task) -> Result<Request, Failure> {
        let directory = self.config.directory.as_deref();
        let (message, room) = match task {
            Task::LookupNode { name } => (netmgr::Request::Strtond { name: &self.full_name(name) }.emit(), 0),
            Task::Forget { name } => (netmgr::Request::Forget { name: &self.full_name(name) }.emit(), 0),
            Task::Statistics => (netmgr::Request::Stats.emit(), statistics::ROOM),
            _ => match directory {
                Some(directory) => (netmgr::Request::List { directory }.emit(), NODES_ROOM),
                None => (netmgr::Request::Nodes.emit(), NODES_ROOM),
            },
        };
        Ok(Request::new(self.next_coid(), message.map_err(unsendable)?, room))
    }

    /// A node's name as the network manager takes it: with the directory it is a name in.
    fn full_name(&self, name: &[u8]) -> Vec<u8> {
        match &self.config.directory {
            Some(directory) => [directory, &b"/"[..], name].concat(),
            None => name.to_vec(),
        }
    }

    /// The message of a task by path, or first the question for the node's number.
    fn path_request(&mut self, now: Instant, job: &mut Job) -> Result<(SessionId, Request), Failure> {
        let stale = Failure { errno: libc::ESTALE, lost: false };
        let (nodeid, name) = job.task.start().ok_or(stale)?;
        let Location { node, mut path } = self.inodes.location(nodeid).ok_or(stale)?;
        // Reconnects first if need be: numbers of an earlier connection mean nothing on this one.
        let netmgr = self.link.session(now, &Target::Netmgr)?;
        let Some(nd) = self.inodes.nd(node, self.link.generation()) else {
            let name = self.full_name(self.inodes.get(node).ok_or(stale)?.name());
            let message = netmgr::Request::Strtond { name: &name }.emit().map_err(unsendable)?;
            job.stage = Stage::Resolve(node);
            return Ok((netmgr, Request::new(self.next_coid(), message, 0)));
        };
        if let Some(name) = name {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        job.coid = self.next_coid();
        let target = Target::Node { nd, caller: Rc::clone(&job.caller) };
        let session = self.link.session(now, &target)?;
        let (message, room) = connect_message(&job.task, &path)?;
        Ok((session, Request::new(job.coid, message, room)))
    }

    /// The message of a task on an open file.
    fn file_request(
        &mut self,
        fh: u64,
        job: &Job,
        buffer: Option<Buffer>,
    ) -> Result<(SessionId, Request), Failure> {
        let bad = Failure { errno: libc::EBADF, lost: false };
        let file = self.handles.get(&fh).and_then(Handle::file).ok_or(bad)?;
        let filled = job.filled;
        let (message, room) = match job.task {
            Task::Read { offset, size, .. } => {
                let left = size.saturating_sub(filled as u32);
                let offset = Some(offset.saturating_add(filled as u64));
                (Io::Read { nbytes: left, xtype: 0, offset }, size as usize)
            }
            Task::Readdir { offset, .. } => {
                let nbytes = files::DIRECTORY_AHEAD;
                (Io::Read { nbytes, xtype: XTYPE_DIR_EXTRA_HINT, offset: Some(offset) }, nbytes as usize)
            }
            _ => (Io::Stat, stat::REPLY_LEN),
        };
        let reply = buffer.unwrap_or_else(|| Buffer::new(room));
        Ok((file.session, Request { coid: file.coid, message: message.to_bytes(), reply, filled }))
    }

    fn complete(&mut self, now: Instant, unique: u64, job: &mut Job, reply: Reply) -> Result<Outcome, i32> {
        if job.task.is_by_path() && reply.status & REDIRECTED != 0 {
            // A QNX resource manager that sends its client on to another process: not part of reading files.
            return Err(libc::EOPNOTSUPP);
        }
        if let Task::Read { fh, offset, size } = job.task {
            return self.on_data(unique, (fh, offset, size), &mut job.filled, reply);
        }
        let data = reply.buffer.data();
        match &job.task {
            Task::LookupNode { name } => self.on_node(unique, name, reply.status),
            Task::Forget { .. } => Ok(reply::status(unique, 0)),
            Task::ListNodes { fh, size } => self.on_nodes(unique, *fh, *size, data),
            Task::Statistics => Ok(self.on_statistics(unique, data)),
            Task::Lookup { parent, name } => self.on_lookup(now, unique, job, *parent, name, data),
            Task::Getattr { nodeid } => self.on_attributes(now, unique, &job.caller, *nodeid, data, true),
            Task::GetattrOpen { nodeid, .. } => {
                self.on_attributes(now, unique, &job.caller, *nodeid, data, false)
            }
            Task::Readlink { nodeid } => self.on_link(unique, *nodeid, data),
            Task::Open { nodeid, directory, .. } => self.on_open(unique, job, *nodeid, *directory, data),
            Task::Readdir { fh, offset, size } => {
                self.on_entries(unique, *fh, *offset, *size, reply.status, data)
            }
            Task::Read { .. } => Err(libc::EIO),
        }
        .map(Outcome::Answer)
    }

    /// Ends a job with an error; "no such file" is remembered by the kernel where everybody may know it.
    fn fail(&mut self, now: Instant, unique: u64, job: &Job, failure: Failure) {
        let errno = job.errno(failure);
        let answer = match &job.task {
            Task::LookupNode { .. } if errno == libc::ENOENT => self.absent(unique, LIFETIME),
            Task::Lookup { parent, .. } if errno == libc::ENOENT => {
                let lifetime = self.lifetime_below(now, *parent, &job.caller);
                self.absent(unique, lifetime)
            }
            Task::Statistics if failure.lost => reply::status(unique, libc::ENOENT),
            // A node that refuses to be looked at is there; one that does not answer is not.
            Task::Getattr { nodeid }
                if self.is_node(*nodeid)
                    && !matches!(errno, libc::EHOSTDOWN | libc::EHOSTUNREACH | libc::ESTALE) =>
            {
                self.own_attributes(unique, *nodeid)
            }
            // Without Qnet there are no nodes; that is not an error of the directory.
            Task::ListNodes { fh, size } if failure.lost => {
                self.on_nodes(unique, *fh, *size, &[]).unwrap_or_else(|errno| reply::status(unique, errno))
            }
            _ => reply::status(unique, errno),
        };
        self.finish(unique, job, answer);
    }

    fn finish(&mut self, unique: u64, job: &Job, answer: Vec<u8>) {
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, unique));
        }
        self.replies.push_back(answer);
    }

    /// A number for an open file (or a message that is about none). Those of open files are skipped when the numbers
    /// come round.
    pub(super) fn next_coid(&mut self) -> i32 {
        loop {
            self.last_coid = self.last_coid.checked_add(1).unwrap_or_else(|| {
                self.coids_reused = true;
                1
            });
            let coid = self.last_coid;
            let in_use = |file: &files::OpenFile| file.coid == coid;
            if !self.coids_reused || !self.handles.values().filter_map(Handle::file).any(in_use) {
                return coid;
            }
        }
    }
}

/// The `_IO_CONNECT` of a task by path, and the room its reply needs.
fn connect_message(task: &Task, path: &[u8]) -> Result<(Vec<u8>, usize), Failure> {
    let stat = Io::Stat.to_bytes();
    let (connect, room) = match task {
        Task::Readlink { .. } => (Connect::readlink(path), LINK_MAX),
        Task::Open { directory, nonblocking, .. } => {
            let new = Connect::new(Subtype::Combine, path);
            let ioflag = new.ioflag | IOFLAG_READ | if *nonblocking { IOFLAG_NONBLOCK } else { 0 };
            let eflag = if *directory { EFLAG_DIR } else { 0 };
            (Connect { ioflag, eflag, extra: Extra::Messages(&stat), ..new }, stat::REPLY_LEN)
        }
        _ => (Connect::combine_close(path, false, &stat), stat::REPLY_LEN),
    };
    Ok((connect.emit().map_err(unsendable)?, room))
}

fn unsendable(error: qnet_iomsg::BuildError) -> Failure {
    Failure { errno: error.linux_errno(), lost: false }
}
