//! Locks that remote programs hold on this node's files: real ones of this kernel, so that programs of this node and of all
//! others keep each other out.
//!
//! | the program calls | is here |
//! |---|---|
//! | `fcntl` (POSIX) | an open file description for each owner and file, with the kernel's `F_OFD_` locks on it |
//! | `flock` | `flock` of the description of that very open |
//!
//! This process holds locks for many owners, and the kernel's POSIX locks know processes only; locks of a description are
//! apart from each other and from those of processes. The first owner that locks through an open uses its description, any
//! further one (a child that inherited it) gets a description of its own. What is unlocked or downgraded in part is the
//! kernel's work; [`Ranges`] is a copy, to say who is in the way and to see deadlocks.
//!
//! An owner lets go when its process closes the file (RELEASE), when the last open through which it locked is closed, and so
//! also when its connection ends: node dead, session lost, program killed.
//!
//! Nothing here waits. Who is willing to gets a [`Waiting`]; the request is tried again when a lock of the same file goes
//! ([`LockTable::take_freed`]), and now and then, because of a lock of a local process the kernel tells nobody that it is gone.
//! To wait in the kernel (F_OFD_SETLKW) would take a thread for each who waits, 256 for one node; and the kernel would give a lock to
//! a request whose caller has left meanwhile, over one that the owner may have had before.
//!
//! DEVIATION from local files: a deadlock is seen (EDEADLK) among remote owners only, as the kernel looks for none where
//! descriptions hold locks, and within bounds (see `wants.rs`); and an owner who holds write locks through a write-only open
//! cannot add read locks through another one unless the file may be opened for both (ENOLCK).

mod ranges;
mod shares;
mod sys;
#[cfg(test)]
mod tests;
mod wants;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, fstat};
use qnet_iomsg::filesys::lock::{END, Holder, Kind, Request, Scope, Verb};

use self::ranges::{Ranges, Span};
use self::shares::{Share, Shares};
use self::wants::{Budget, Want, WantKey, Wants};
use crate::file::Failure;
use crate::limits;
use crate::wait::Wait;

/// All bytes of a file.
const ALL: Span = Span { start: 0, end: END };

/// A file, by device and inode.
pub(crate) type FileKey = (u64, u64);

/// An owner: a mount's number for itself, and its number for a process.
type OwnerKey = (u64, u64);

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The answer to the caller.
    Errno(Errno),
    /// Somebody is in the way, and the caller is willing to wait.
    Wait(Waiting),
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Errno(errno) => Self::Errno(errno),
            Denied::Wait(waiting) => Self::WouldWait(Wait::Lock(waiting)),
        }
    }
}

impl From<Errno> for Denied {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// All locks of remote programs.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    files: Mutex<HashMap<FileKey, Arc<FileLocks>>>,
    wants: Mutex<Wants>,
    /// Files of which something was unlocked since somebody asked.
    freed: Mutex<HashSet<FileKey>>,
    any_freed: AtomicBool,
    last: AtomicU64,
    shares: Arc<Shares>,
}

/// The locks of one file.
#[derive(Debug)]
struct FileLocks {
    key: FileKey,
    owners: Mutex<HashMap<OwnerKey, Owner>>,
}

/// An owner that holds locks of a file.
#[derive(Debug)]
struct Owner {
    /// The description that holds them.
    fd: OwnedFd,
    /// Its access mode.
    access: OFlag,
    /// The open whose description it is, if it is no own one.
    home: Option<u64>,
    ranges: Ranges,
    pid: u32,
    /// The opens through which it has locked.
    users: HashSet<u64>,
    share: Share,
}

/// Somebody waits for a lock, for as long as this exists.
#[derive(Debug)]
pub struct Waiting {
    table: Arc<LockTable>,
    /// For a range.
    want: Option<WantKey>,
    file: FileKey,
}

impl Waiting {
    /// The file whose lock is waited for.
    pub(crate) fn file(&self) -> FileKey {
        self.file
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(want) = self.want {
            locked(&self.table.wants).remove(want);
        }
    }
}

/// What an open file has to do with locks. When it goes, so do those that were made through it alone.
#[derive(Debug)]
pub(crate) struct OpenLocks {
    table: Arc<LockTable>,
    id: u64,
    /// The node that has it open.
    nd: u32,
    /// Known with the first lock.
    file: OnceLock<Arc<FileLocks>>,
    /// It was locked with `flock`.
    whole: AtomicBool,
}

impl OpenLocks {
    /// For a file that a node has just opened.
    pub(crate) fn new(table: &Arc<LockTable>, nd: u32) -> Self {
        let whole = AtomicBool::new(false);
        Self { table: Arc::clone(table), id: table.number(), nd, file: OnceLock::new(), whole }
    }

    /// Carries out a request for the file, whose descriptor is `fd`. A TEST's answer is who is in the way.
    ///
    /// # Errors
    /// See [`qnet_iomsg::filesys::lock`].
    pub(crate) fn carry_out(&self, fd: BorrowedFd<'_>, request: &Request) -> Result<Option<Holder>, Denied> {
        let file = self.file(fd)?;
        match (request.verb, request.scope) {
            (Verb::Test, Scope::Owner) => return Ok(Some(file.holder(fd, request)?)),
            // flock() has no such question
            (Verb::Test, Scope::Open) => return Err(Errno::EINVAL.into()),
            (Verb::Release, Scope::Owner) => self.table.release(file, request),
            (Verb::Release, Scope::Open) => {
                self.lock_whole(fd, file, &Request { kind: Kind::Unlock, ..*request })?
            }
            (Verb::Set | Verb::Wait, Scope::Open) => self.lock_whole(fd, file, request)?,
            (Verb::Set | Verb::Wait, Scope::Owner) if request.kind == Kind::Unlock => {
                self.table.unlock(file, request)?;
            }
            (Verb::Set | Verb::Wait, Scope::Owner) => self.lock_range(fd, file, request)?,
        }
        Ok(None)
    }

    fn file(&self, fd: BorrowedFd<'_>) -> Result<&Arc<FileLocks>, Errno> {
        if self.file.get().is_none() {
            let stat = fstat(fd)?;
            // two requests at once agree: the file stays the same
            let _ = self.file.set(self.table.file((stat.st_dev, stat.st_ino)));
        }
        self.file.get().ok_or(Errno::EIO)
    }

    fn lock_whole(&self, fd: BorrowedFd<'_>, file: &FileLocks, request: &Request) -> Result<(), Denied> {
        let had_one = self.whole.load(Ordering::Relaxed);
        let result = sys::whole(fd, request.kind);
        // also a failed change from one kind to the other has let the old one go, as flock() does
        if had_one && (request.kind != Kind::Write || result.is_err()) {
            self.table.note_freed(file.key);
        }
        match result {
            Ok(()) => {
                self.whole.store(request.kind != Kind::Unlock, Ordering::Relaxed);
                Ok(())
            }
            Err(Errno::EAGAIN) if request.verb == Verb::Wait => {
                let table = Arc::clone(&self.table);
                Err(Denied::Wait(Waiting { table, want: None, file: file.key }))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn lock_range(&self, fd: BorrowedFd<'_>, file: &FileLocks, request: &Request) -> Result<(), Denied> {
        let (key, span) = ((request.mount, request.owner), span(request));
        let mut owners = locked(&file.owners);
        let known = owners.contains_key(&key);
        if known {
            self.prepare(fd, &mut owners, key, request.kind)?;
        } else {
            if owners.len() >= limits::LOCK_OWNERS_PER_FILE {
                return Err(Errno::ENOLCK.into());
            }
            let owner = self.new_owner(fd, &owners)?;
            owners.insert(key, owner);
        }
        let owner = owners.get_mut(&key).ok_or(Errno::EIO)?;
        if owner.ranges.len() >= limits::LOCK_RANGES_PER_OWNER {
            return Err(Errno::ENOLCK.into());
        }
        if known {
            owner.share.may_grow()?;
        }
        let result = sys::set(owner.fd.as_fd(), span, request.kind);
        if result.is_ok() {
            owner.ranges.set(span, Some(request.kind == Kind::Write));
            owner.share.note(owner.ranges.len());
            owner.users.insert(self.id);
            owner.pid = request.pid;
        } else if !known {
            owners.remove(&key);
        }
        drop(owners);
        match result {
            Ok(()) if request.kind == Kind::Read => self.table.note_freed(file.key),
            Ok(()) => {}
            Err(Errno::EAGAIN) if request.verb == Verb::Wait => {
                let want = Want { owner: key, file: file.key, span, write: request.kind == Kind::Write };
                return Err(Denied::Wait(self.table.wait(want)?));
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// A description for somebody who has none for this file yet.
    fn new_owner(&self, fd: BorrowedFd<'_>, owners: &HashMap<OwnerKey, Owner>) -> Result<Owner, Errno> {
        let share = self.table.shares.owner(self.nd)?;
        share.may_grow()?;
        let access = access_of(fd)?;
        let taken = owners.values().any(|owner| owner.home == Some(self.id));
        // a read lock may follow, which this one could not hold
        let both = if access == OFlag::O_WRONLY { reopen(fd, OFlag::O_RDWR).ok() } else { None };
        let (fd, access, home) = match both {
            Some(fd) => (fd, OFlag::O_RDWR, None),
            None if taken => (reopen(fd, access)?, access, None),
            None => {
                let copy = fd.try_clone_to_owned();
                let copy =
                    copy.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
                (copy, access, Some(self.id))
            }
        };
        Ok(Owner { fd, access, home, ranges: Ranges::default(), pid: 0, users: HashSet::new(), share })
    }

    /// Sees to it that the description of an owner may hold a lock of this kind.
    fn prepare(
        &self,
        fd: BorrowedFd<'_>,
        owners: &mut HashMap<OwnerKey, Owner>,
        key: OwnerKey,
        kind: Kind,
    ) -> Result<(), Errno> {
        let lacking = if kind == Kind::Write { OFlag::O_RDONLY } else { OFlag::O_WRONLY };
        let Some(owner) = owners.get(&key).filter(|owner| owner.access == lacking) else { return Ok(()) };
        // Write locks cannot be held twice while they move from one description to another; read locks can.
        if owner.ranges.iter().any(|range| range.write) {
            return Err(Errno::ENOLCK);
        }
        let mut new = self.new_owner(fd, owners)?;
        if new.access == lacking {
            return Err(Errno::EBADF);
        }
        for range in owner.ranges.iter() {
            sys::set(new.fd.as_fd(), range.span, Kind::Read)?;
            new.ranges.set(range.span, Some(false));
        }
        new.share.note(new.ranges.len());
        new.users.clone_from(&owner.users);
        if let Some(old) = owners.insert(key, new) {
            // its description may stay open as that of a file
            sys::set(old.fd.as_fd(), ALL, Kind::Unlock)?;
        }
        Ok(())
    }
}

impl Drop for OpenLocks {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let whole = self.whole.load(Ordering::Relaxed);
        let mut freed = whole;
        locked(&file.owners).retain(|_, owner| {
            if !owner.users.remove(&self.id) || !owner.users.is_empty() {
                if whole && owner.home == Some(self.id) {
                    // the description lives on with this owner, the open's own lock does not
                    let _ = sys::whole(owner.fd.as_fd(), Kind::Unlock);
                }
                return true;
            }
            freed = true;
            owner.let_go();
            false
        });
        if freed {
            self.table.note_freed(file.key);
        }
        let (key, mut files) = (file.key, locked(&self.table.files));
        // Given back before it is looked at: of two that go at the same time, the last one finds the map's alone.
        drop(file);
        if files.get(&key).is_some_and(|file| Arc::strong_count(file) == 1) {
            files.remove(&key);
        }
    }
}

impl Owner {
    /// Unlocks everything; the description may stay open as that of a file.
    fn let_go(&self) {
        // nothing can be done about an error; closing the description does the same
        let _ = sys::set(self.fd.as_fd(), ALL, Kind::Unlock);
    }
}

impl FileLocks {
    /// Who is in the way of a lock.
    fn holder(&self, fd: BorrowedFd<'_>, request: &Request) -> Result<Holder, Errno> {
        if request.kind == Kind::Unlock {
            return Err(Errno::EINVAL);
        }
        let (key, span) = ((request.mount, request.owner), span(request));
        let owners = locked(&self.owners);
        let others = owners.iter().filter(|(other, _)| **other != key);
        let write = request.kind == Kind::Write;
        let first =
            others.filter_map(|(other, owner)| Some((*other, owner, owner.ranges.in_the_way(span, write)?)));
        if let Some(((mount, _), owner, held)) = first.min_by_key(|(_, _, held)| held.span.start) {
            let kind = if held.write { Kind::Write } else { Kind::Read };
            // a number of another node would name somebody else here
            let pid = if mount == request.mount { owner.pid } else { 0 };
            return Ok(Holder { kind, pid, start: held.span.start, end: held.span.end });
        }
        let own = owners.get(&key).map_or(fd, |owner| owner.fd.as_fd());
        let found = sys::holder(own, span, request.kind)?;
        Ok(found.map_or(Holder::NOBODY, |(kind, Span { start, end })| Holder { kind, pid: 0, start, end }))
    }
}

impl LockTable {
    /// Files of which something was unlocked since the last call.
    pub(crate) fn take_freed(&self) -> HashSet<FileKey> {
        if !self.any_freed.swap(false, Ordering::Acquire) {
            return HashSet::new();
        }
        std::mem::take(&mut *locked(&self.freed))
    }

    /// Lets all nodes together have so many owners.
    pub(crate) fn bound(&self, owners: usize) {
        self.shares.bound(owners);
    }

    fn note_freed(&self, key: FileKey) {
        locked(&self.freed).insert(key);
        self.any_freed.store(true, Ordering::Release);
    }

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn file(&self, key: FileKey) -> Arc<FileLocks> {
        let mut files = locked(&self.files);
        let new = || Arc::new(FileLocks { key, owners: Mutex::default() });
        Arc::clone(files.entry(key).or_insert_with(new))
    }

    fn unlock(&self, file: &FileLocks, request: &Request) -> Result<(), Errno> {
        let mut owners = locked(&file.owners);
        let key = (request.mount, request.owner);
        // who holds nothing has unlocked it
        let Some(owner) = owners.get_mut(&key) else { return Ok(()) };
        if owner.ranges.are_split_by(span(request)) {
            if owner.ranges.len() >= limits::LOCK_RANGES_PER_OWNER {
                return Err(Errno::ENOLCK);
            }
            owner.share.may_grow()?;
        }
        sys::set(owner.fd.as_fd(), span(request), Kind::Unlock)?;
        owner.ranges.set(span(request), None);
        owner.share.note(owner.ranges.len());
        if owner.ranges.is_empty() {
            owners.remove(&key);
        }
        self.note_freed(file.key);
        Ok(())
    }

    fn release(&self, file: &FileLocks, request: &Request) {
        if let Some(owner) = locked(&file.owners).remove(&(request.mount, request.owner)) {
            owner.let_go();
            self.note_freed(file.key);
        }
    }

    /// Notes that somebody waits.
    ///
    /// # Errors
    /// EDEADLK: those in the way wait for him.
    fn wait(self: &Arc<Self>, want: Want) -> Result<Waiting, Errno> {
        let mut wants = locked(&self.wants);
        if self.is_deadlock(&wants, &want, Budget::SEARCH) {
            return Err(Errno::EDEADLK);
        }
        let key = wants.insert(self.number(), want);
        Ok(Waiting { table: Arc::clone(self), want: Some(key), file: want.file })
    }
}

fn span(request: &Request) -> Span {
    Span { start: request.start, end: request.end }
}

/// O_RDONLY, O_WRONLY or O_RDWR.
fn access_of(fd: BorrowedFd<'_>) -> Result<OFlag, Errno> {
    Ok(OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE)
}

/// A description of its own for an open file, as the user that the calling thread acts for.
fn reopen(fd: BorrowedFd<'_>, access: OFlag) -> Result<OwnedFd, Errno> {
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(), flags, Mode::empty())
}

/// Whoever panicked with the lock held has left whole values behind: they are changed last.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
