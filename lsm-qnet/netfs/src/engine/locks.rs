//! Locks of open files: the node that has the file decides, for programs of all nodes and its own.
//!
//! The kernel keeps none of them. It says who closes a file (FLUSH), because with that all POSIX locks of a process go, through
//! whichever open they were made: the node is told if that process may hold any, and the close waits for the answer, so that
//! whoever is started next finds the file free. Nothing else is asked at a close.
//!
//! A lock has no deadline, waited for or not: were its request given up, the node might grant it all the same, and nobody would
//! know. The end of the session ends it, and the node's locks. When a signal comes for who waits, the node is asked to let go of the
//! lock, and its answer says whether it was had before. Only a process that dies does not stay for the answer; should the lock be
//! had, it is given back, which cannot meet one of a later request: there is none.
//!
//! Who gets a lock has to see what others wrote under theirs, so what the kernel remembers of the file's attributes goes; it
//! then asks for them with the next read, and drops its pages if they are others.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use qnet_iomsg::filesys::lock::{END, HOLDER_LEN, Holder, Kind, Request, Scope, Verb};

use super::{
    Engine,
    files::{Handle, OpenFile},
    job::Job,
    task::Task,
};
use crate::{
    attributes::FileId,
    fuse::{
        FileLock,
        abi::{InHeader, LkOut},
        reply,
    },
};

/// How long a close waits for a node that does not answer. The locks go with the session then.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a process that dies waits for the node to say what has become of its lock.
const TAKE_BACK: Duration = Duration::from_millis(500);

/// Who may hold POSIX locks of which file, by what was asked for. One too many costs a message, none may be missing.
#[derive(Debug)]
pub(super) struct Holders {
    /// This mount's number, by which nodes tell its owners from others'.
    mount: u64,
    /// Owner, node, file.
    held: HashSet<(u64, u64, FileId)>,
}

impl Default for Holders {
    fn default() -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        // keyed with what the system gives for such purposes
        Self { mount: RandomState::new().build_hasher().finish(), held: HashSet::new() }
    }
}

/// Room that the reply of a request needs.
pub(super) fn room(request: &Request) -> usize {
    if request.verb == Verb::Test { HOLDER_LEN } else { 0 }
}

/// What takes a lock back that was had after all.
pub(super) fn undo(request: &Request) -> Vec<u8> {
    Request { verb: Verb::Set, kind: Kind::Unlock, ..*request }.emit()
}

impl Engine {
    /// The task for a lock of the open file `fh`.
    pub(super) fn lock_task(&mut self, fh: u64, lock: FileLock, verb: Verb) -> Result<Task, i32> {
        let kind = match lock.kind.cast_signed() {
            libc::F_RDLCK => Kind::Read,
            libc::F_WRLCK => Kind::Write,
            libc::F_UNLCK => Kind::Unlock,
            _ => return Err(libc::EINVAL),
        };
        if lock.start > lock.end {
            return Err(libc::EINVAL);
        }
        let key = self.lock_key(fh, lock.owner)?;
        if !lock.whole && verb != Verb::Test && kind != Kind::Unlock {
            self.holders.held.insert(key);
        }
        let scope = if lock.whole { Scope::Open } else { Scope::Owner };
        let (mount, owner, pid) = (self.holders.mount, lock.owner, lock.pid);
        let (start, end) = (lock.start.min(END), lock.end.min(END));
        Ok(Task::Lock { fh, request: Request { verb, scope, kind, mount, owner, pid, start, end } })
    }

    fn lock_key(&self, fh: u64, owner: u64) -> Result<(u64, u64, FileId), i32> {
        let file = self.handle_file(fh).ok_or(libc::EBADF)?;
        Ok((owner, self.node_of(file), file.id))
    }

    fn node_of(&self, file: &OpenFile) -> u64 {
        self.inodes.get(file.nodeid).map_or(0, crate::inodes::Inode::node)
    }

    /// A process has closed a file: its POSIX locks go.
    pub(super) fn flush(&mut self, now: Instant, header: &InHeader, fh: u64, owner: u64) {
        let held = self.lock_key(fh, owner).is_ok_and(|key| self.holders.held.remove(&key));
        if !held {
            return self.replies.push_back(reply::status(header.unique, 0));
        }
        let (verb, scope, kind, mount) = (Verb::Release, Scope::Owner, Kind::Unlock, self.holders.mount);
        let request = Request { verb, scope, kind, mount, owner, pid: 0, start: 0, end: END };
        self.begin(now, header, Task::Lock { fh, request }, None);
    }

    /// Forgets who held locks of a file that nobody has open any more: the node has let go of them.
    pub(super) fn forget_holders(&mut self, node: u64, id: FileId) {
        if self.holders.held.is_empty() {
            return;
        }
        let is_open =
            |handle: &Handle| handle.file().is_some_and(|file| file.id == id && self.node_of(file) == node);
        if !self.handles.values().any(is_open) {
            self.holders.held.retain(|(_, at, file)| (*at, *file) != (node, id));
        }
    }

    /// The answer of a node.
    pub(super) fn on_lock(
        &mut self,
        unique: u64,
        fh: u64,
        request: &Request,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        if request.verb == Verb::Test {
            let Holder { kind, pid, start, end } = Holder::parse(data).map_err(|_| libc::EIO)?;
            let kind = match kind {
                Kind::Read => libc::F_RDLCK,
                Kind::Write => libc::F_WRLCK,
                Kind::Unlock => libc::F_UNLCK,
            };
            return Ok(reply::body(unique, &LkOut { start, end, kind: kind.cast_unsigned(), pid }));
        }
        if request.kind != Kind::Unlock
            && let Some(file) = self.handle_file(fh)
        {
            // also what came along with an open before the lock
            self.replies.push_back(reply::forget_attributes(file.nodeid));
            self.changes += 1;
        }
        Ok(reply::status(unique, 0))
    }

    /// A node that is gone holds no locks: closing is done.
    pub(super) fn lock_errno(request: &Request, errno: i32, lost: bool) -> i32 {
        match request.verb {
            Verb::Release if lost => 0,
            _ => errno,
        }
    }

    /// How long such a request may take; `None`: as long as it takes.
    pub(super) fn lock_patience(&self, request: &Request) -> Option<Duration> {
        match request.verb {
            Verb::Wait => None,
            Verb::Release => Some(FLUSH.min(self.config.deadline)),
            // a Set has no deadline either, but only a signal that ends the process ends it
            Verb::Test | Verb::Set => Some(self.config.deadline),
        }
    }

    /// A signal has come for who waits for a lock: the node is asked to let go, and says what has become of it. False: this
    /// request waits for no lock.
    pub(super) fn take_lock_back(&mut self, now: Instant, unique: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&unique).filter(|job| is_wait(job)) else { return false };
        let Some(txn) = job.txn() else { return false };
        let asked = std::mem::replace(&mut job.asked_back, true);
        if job.deadline.is_none() {
            if (self.config.is_dying)(job.thread) {
                let deadline = now + TAKE_BACK;
                job.deadline = Some(deadline);
                self.deadlines.insert((deadline, unique));
            } else {
                // the kernel tells of one signal only, and the next may end the process
                self.look_again_later(now, unique);
            }
        }
        if !asked {
            self.link.unblock(txn);
        }
        true
    }
}

fn is_wait(job: &Job) -> bool {
    matches!(job.task, Task::Lock { request: Request { verb: Verb::Wait, .. }, .. })
}
