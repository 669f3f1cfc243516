//! A request on its way: find the node's number, find the session, send, await the reply.
//!
//! ```text
//!   Resolve ── nd known ──▶ Reply ── reply ──▶ done          lost, first time: back to Resolve on a new session
//!      └────── error ──────────┴── error, deadline, interrupt ──▶ done
//! ```
//!
//! What only looks starts once more when its connection was lost. What changes something does so only if it cannot have
//! reached the node; otherwise it ends with EHOSTDOWN, and whether it was done is not known.

use std::{rc::Rc, time::Instant};

use qnet_iomsg::filesys::lock::{Kind, Request, Verb};
use tracing::debug;

use super::{
    Engine, Owner,
    files::{self, Handle},
    locks,
    messages::FOR_EXECUTION,
    names::LIFETIME,
    task::{Name, Task},
    xattrs,
};
use crate::{
    caller::Caller,
    fuse::reply::{self, Buffer},
    link::{Failure, Message, Reply, SessionId, TxnId},
};

/// Bit of a CONNECT's status: a redirection instead of an opened file.
const REDIRECTED: i64 = 0x8000_0000;

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
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
    /// The thread that waits, 0 if it is not to be seen from here.
    pub(super) thread: u32,
    pub(super) deadline: Option<Instant>,
    /// It may wait for ever, and any signal ends it.
    pub(super) waits: bool,
    /// The node was asked to let go, and its answer is waited for.
    pub(super) asked_back: bool,
    /// nodeid of the name that the node is asked by, for what begins with a path.
    pub(super) node: u64,
    /// Number of the open file a path is opened as.
    pub(super) coid: i32,
    pub(super) session: Option<SessionId>,
    /// Bytes that earlier replies have brought.
    pub(super) filled: usize,
    /// The message, where it is not made of the task.
    pub(super) payload: Option<Message>,
    /// The message is to be QNX's own, because the node does not know ours.
    pub(super) plain: bool,
    /// [`Engine::changes`] when the message was sent.
    pub(super) changes_before: u64,
    /// [`Engine::answers`] at that time.
    pub(super) answers_before: u64,
    pub(super) stage: Stage,
    retried: bool,
    txn: Option<TxnId>,
}

impl Job {
    pub(super) fn new(task: Task, caller: Rc<Caller>, thread: u32, deadline: Option<Instant>) -> Self {
        Self {
            task,
            caller,
            thread,
            deadline,
            waits: false,
            asked_back: false,
            node: 0,
            coid: 0,
            session: None,
            filled: 0,
            payload: None,
            plain: false,
            changes_before: 0,
            answers_before: 0,
            stage: Stage::Reply,
            retried: false,
            txn: None,
        }
    }

    /// The errno of a job whose time is up: whoever was found does not answer (EHOSTDOWN), or nobody was found.
    pub(super) fn timeout_errno(&self) -> i32 {
        if matches!(self.task, Task::Lock { request: Request { verb: Verb::Wait, .. }, .. }) {
            // it dies, and the node has not said what has become of the lock
            return libc::EINTR;
        }
        let resolving = matches!(self.stage, Stage::Resolve(_)) || self.task.is_for_netmgr();
        if resolving { libc::EHOSTUNREACH } else { libc::EHOSTDOWN }
    }

    /// The transaction that it waits for.
    pub(super) fn txn(&self) -> Option<TxnId> {
        self.txn
    }

    /// The errno for the caller.
    fn errno(&self, failure: Failure) -> i32 {
        match (self.stage, failure.errno) {
            // The directory of the node is there, the node is not.
            (Stage::Resolve(_), libc::ENOENT) => libc::EHOSTUNREACH,
            // A server that does not know the file is not the one that has opened it.
            (_, libc::EBADF) => libc::EHOSTDOWN,
            // QNX's words for a connection that ended.
            (_, libc::ESRCH | libc::ENOTCONN | libc::ECONNRESET) if failure.lost => libc::EHOSTDOWN,
            // The name is gone since it was looked up. Told so, the kernel looks it up once more, and then creates what it was
            // to create; ENOENT would be the caller's.
            (Stage::Reply, libc::ENOENT) if matches!(self.task, Task::Open { .. }) => libc::ESTALE,
            // The kernel takes ENOSYS for the whole mount's word and never asks any node again.
            (Stage::Reply, libc::ENOSYS) if !self.task.is_for_netmgr() => libc::EOPNOTSUPP,
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
    /// Done, but the node has not told what has become of it: it is looked up.
    LookUp(Name),
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
        if !job.retried && result.as_ref().is_err_and(|failure| failure.lost) {
            self.doubt_others(now, &job);
        }
        match (job.stage, result) {
            (Stage::Resolve(node), Ok(reply)) => {
                let nd = u32::try_from(reply.status).ok().map(|nd| (self.link.generation(), nd));
                self.inodes.set_nd(node, nd);
                job.stage = Stage::Reply;
                if nd.is_some() {
                    self.advance(now, unique, job, None);
                } else {
                    self.fail(now, unique, &job, Failure::of(libc::EIO));
                }
            }
            (Stage::Reply, Ok(reply)) => {
                if job.node != 0 {
                    self.note_health(now, job.node, None);
                }
                self.note_change(now, &job.task);
                match self.complete(now, unique, &mut job, reply) {
                    Ok(Outcome::Answer(answer)) => self.finish(unique, &job, answer),
                    Ok(Outcome::More(buffer)) => self.advance(now, unique, job, Some(buffer)),
                    Ok(Outcome::LookUp(name)) => {
                        job.task = Task::Lookup(name);
                        self.advance(now, unique, job, None);
                    }
                    Err(errno) => self.fail(now, unique, &job, Failure::of(errno)),
                }
            }
            (Stage::Reply, Err(failure)) if is_in_other_words(&job, failure) => {
                job.plain = true;
                self.advance(now, unique, job, None);
            }
            (_, Err(failure)) if self.retries(&mut job, failure) => self.advance(now, unique, job, None),
            (_, Err(failure)) => {
                // It may have been done all the same.
                self.note_change(now, &job.task);
                self.fail(now, unique, &job, failure);
            }
        }
    }

    /// Takes a job back before its end; the other side is asked to let go of it.
    pub(super) fn withdraw(&mut self, unique: u64) -> Option<Job> {
        let job = self.jobs.remove(&unique)?;
        self.changes += u64::from(job.task.changes());
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, unique));
        }
        if let Some(txn) = job.txn {
            self.owners.remove(&txn);
            let undo = match job.task {
                // what is let go of at a close is to be, however long it takes
                Task::Lock { request: Request { verb: Verb::Release, .. }, .. } => return Some(job),
                Task::Lock { request, .. } if request.kind != Kind::Unlock => Some(locks::undo(&request)),
                _ if job.task.opens() && job.stage == Stage::Reply => Some(qnet_iomsg::Io::Close.to_bytes()),
                _ => None,
            };
            self.link.abandon(txn, undo);
        }
        Some(job)
    }

    /// Whether a job whose connection was lost starts again. It does once, unless its file was open on that connection or it
    /// may have been done.
    fn retries(&mut self, job: &mut Job, failure: Failure) -> bool {
        if let Some(session) = job.session.take().filter(|_| failure.lost) {
            self.link.retire(session);
        }
        let done = job.stage == Stage::Reply && failure.sent && job.task.changes();
        if !failure.lost || done || job.retried || job.task.handle().is_some() {
            return false;
        }
        job.retried = true;
        job.stage = Stage::Reply;
        // A node that was restarted may have another number.
        self.inodes.set_nd(job.node, None);
        true
    }

    /// Counts what may have changed something, and has names looked up anew that it may have changed.
    fn note_change(&mut self, now: Instant, task: &Task) {
        self.changes += u64::from(task.changes());
        if let (true, Some((directory, _))) = (task.changes(), task.start()) {
            self.names_changed(now, directory);
        }
    }

    fn complete(&mut self, now: Instant, unique: u64, job: &mut Job, reply: Reply) -> Result<Outcome, i32> {
        if job.task.is_by_path() && reply.status & REDIRECTED != 0 {
            // A QNX resource manager that sends its client on to another process: not part of reading files.
            return Err(libc::EOPNOTSUPP);
        }
        if let Task::Read { fh, offset, size } = job.task {
            return self.on_data(unique, (fh, offset, size), &mut job.filled, reply);
        }
        let (status, data) = (reply.status, reply.buffer.data());
        match &job.task {
            Task::LookupNode { name } => self.on_node(unique, name, status),
            Task::Forget { .. } | Task::Access { .. } | Task::Sync { .. } => Ok(reply::status(unique, 0)),
            Task::ListNodes { fh, size, plus } => self.on_nodes(now, unique, (*fh, *size, *plus), data),
            Task::Statistics => Ok(self.on_statistics(unique, data)),
            Task::Lookup(at) => self.on_lookup(now, unique, job, at, data),
            Task::Getattr { nodeid } => self.on_attributes(now, unique, &job.caller, *nodeid, data, true),
            Task::GetattrOpen { nodeid, .. } => {
                self.on_attributes(now, unique, &job.caller, *nodeid, data, false)
            }
            Task::Setattr { nodeid, fh, .. } => {
                self.on_attributes(now, unique, &job.caller, *nodeid, data, fh.is_none())
            }
            Task::Readlink { nodeid } => self.on_link(unique, job, *nodeid, data),
            Task::Statfs { .. } => self.on_statistics_of_node(unique, data),
            Task::Open { nodeid, flags } => self.on_open(now, unique, job, (*nodeid, *flags), status, data),
            Task::OpenDirectory { nodeid } => self.on_open_directory(now, unique, job, *nodeid, status, data),
            Task::Create { at, flags, .. } => self.on_created(now, unique, job, at, *flags, data),
            Task::Make { at, what } => return self.on_made(now, unique, job, at, what, data),
            Task::Remove { at, .. } => Ok(self.on_removed(unique, at)),
            Task::Rename { from, to, flags } => Ok(self.on_renamed(unique, from, to, *flags)),
            Task::Readdir { .. } => self.on_entries(now, unique, job, status, data),
            Task::Write { fh, offset, .. } => self.on_written(unique, *fh, *offset, status),
            Task::Allocate { fh, offset, length, mode } => {
                Ok(self.on_allocated(unique, *fh, offset.saturating_add(*length), *mode))
            }
            Task::Seek { .. } => on_found(unique, data),
            Task::Lock { fh, request } => self.on_lock(unique, *fh, request, data),
            Task::Poll { .. } => self.on_poll(unique, job, status),
            Task::Attribute { size, .. } => xattrs::on_attribute(unique, *size, status, data),
            Task::Copy { to, to_offset, .. } => self.on_written(unique, *to, *to_offset, status),
            Task::Read { .. } => Err(libc::EIO),
        }
        .map(Outcome::Answer)
    }

    /// Ends a job with an error; "no such file" is remembered by the kernel where everybody may know it.
    fn fail(&mut self, now: Instant, unique: u64, job: &Job, failure: Failure) {
        let errno = job.errno(failure);
        if job.node != 0
            && (failure.lost || matches!(job.stage, Stage::Resolve(_)))
            && matches!(errno, libc::EHOSTDOWN | libc::EHOSTUNREACH)
            && self.link.descriptor().is_some()
        {
            self.note_health(now, job.node, Some(errno));
        }
        debug!(unique, errno, "{:?}", job.task);
        let answer = match &job.task {
            Task::LookupNode { name } if errno == libc::ENOENT => {
                self.note_absent(now, name);
                self.absent(unique, LIFETIME)
            }
            Task::Lookup(at) if errno == libc::ENOENT => {
                self.inodes.remove_name(at.parent, &at.name);
                let lifetime = self.lifetime_below(now, at.parent, &job.caller);
                self.absent(unique, lifetime)
            }
            Task::Statistics if failure.lost => reply::status(unique, libc::ENOENT),
            Task::Lock { request, .. } => {
                reply::status(unique, Self::lock_errno(request, errno, failure.lost))
            }
            // A node that cannot be asked decides when it is tried.
            Task::Access { .. } if errno == libc::EOPNOTSUPP => reply::status(unique, 0),
            Task::Seek { .. } | Task::Rename { .. } if errno == libc::EOPNOTSUPP => {
                reply::status(unique, libc::EINVAL)
            }
            // A node that refuses to be looked at is there; one that does not answer is not.
            Task::Getattr { nodeid }
                if self.is_node(*nodeid)
                    && !matches!(errno, libc::EHOSTDOWN | libc::EHOSTUNREACH | libc::ESTALE) =>
            {
                self.own_attributes(unique, *nodeid)
            }
            // Without Qnet there are no nodes; that is not an error of the directory.
            Task::ListNodes { fh, size, plus } if failure.lost => self
                .on_nodes(now, unique, (*fh, *size, *plus), &[])
                .unwrap_or_else(|errno| reply::status(unique, errno)),
            _ => reply::status(unique, errno),
        };
        self.finish(unique, job, answer);
    }

    pub(super) fn finish(&mut self, unique: u64, job: &Job, answer: Vec<u8>) {
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, unique));
        }
        match job.task {
            Task::Read { fh, offset, size } => self.answer_read(fh, offset, size, answer),
            _ => self.replies.push_back(answer),
        }
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

/// Whether the node did not understand a request that can also be made in QNX's words.
fn is_in_other_words(job: &Job, failure: Failure) -> bool {
    let has_others = match job.task {
        Task::Rename { flags, .. } => flags == 0,
        Task::Open { flags, .. } => flags & (FOR_EXECUTION | libc::O_TRUNC) != 0,
        Task::Setattr { fh, .. } => fh.is_none(),
        Task::Readlink { .. } => true,
        _ => false,
    };
    failure.errno == libc::ENOSYS && !job.plain && has_others
}

/// The reply to a search for data or a hole.
fn on_found(unique: u64, data: &[u8]) -> Result<Vec<u8>, i32> {
    let offset = data.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(libc::EIO)?;
    Ok(reply::body(unique, &crate::fuse::abi::LseekOut { offset }))
}
