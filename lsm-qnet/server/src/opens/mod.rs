//! Which regular files are open for whom, and who may keep pages of them.
//!
//! A file that is mapped shared, or read through a page cache, is one file only within that cache. Programs that share memory
//! by mapping a file (sqlite's write-ahead log does) would see different memories on two nodes, and believe it. So of the page
//! caches that have a file open while somebody writes it, only one keeps pages: the first. Who opens it after that is told
//! ([`FLAG_SHARED`](qnet_iomsg::stat::FLAG_SHARED)), reads and writes without a cache, and may not map it shared.
//!
//! ```text
//!  somebody else keeps pages and            it is opened        it is opened
//!                                           for reading         for writing
//!  only reads                               keeps pages         does not
//!  writes                                   does not            does not
//! ```
//! The *somebodies* are page caches: one for each process of each node that asks ([`Cache`]), and the one of this node, whose
//! programs open the file past this server. They are looked for when the first one opens a file here, by a lease: the kernel grants
//! one for writing only if nobody else has the file open, and one for reading only if nobody has it open for writing.
//! A local program that comes later is not seen.
//!
//! The lease must meet no descriptor of our own. So a file's opens go one at a time, and where a file is just being made, whose
//! number nobody knows yet, it is waited for until it is known, if it is being made on the same file system, and for a moment only.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::locks::FileKey;
use crate::sys;

/// Longest wait for the numbers of files that are being made; their disk may hang. After that the file counts as shared.
const MAKING: Duration = Duration::from_millis(500);

/// Who keeps pages: a process of a node, `qnet-netfs` as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// The node, as this one numbers it.
    pub nd: u32,
    /// The process there.
    pub pid: i32,
}

/// Who opens a file, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By {
    pub(crate) cache: Cache,
    /// For writing.
    pub(crate) writes: bool,
    /// He keeps pages if he may. Who only appends does not: he does not know where the end is.
    pub(crate) keeps: bool,
}

/// All open files.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    files: Mutex<HashMap<FileKey, Arc<Mutex<Users>>>>,
    making: Mutex<Making>,
    made: Condvar,
}

/// Files that are being made.
#[derive(Debug, Default)]
struct Making {
    last: u64,
    /// Those whose numbers are not known yet, with the device that they will be on.
    unknown: BTreeMap<u64, u64>,
    /// The others, until they are booked.
    known: Vec<FileKey>,
}

/// Who has one file open.
#[derive(Debug, Default)]
struct Users {
    of: Vec<User>,
    /// A program of this node had it open when the first of them came.
    local: bool,
}

/// The opens of one cache.
#[derive(Debug)]
struct User {
    cache: Cache,
    /// All of them.
    opens: usize,
    /// Those with pages.
    keeping: usize,
    /// Of these, those that write.
    writing: usize,
}

/// An open that is booked, for as long as this exists. To be dropped after the descriptor.
#[derive(Debug)]
pub(crate) struct Use {
    place: Place,
    by: By,
    keeps: bool,
}

/// A file's entry, taken off the list with the last who knows it.
#[derive(Debug)]
struct Place {
    table: Arc<Opens>,
    key: FileKey,
    /// Always there until the drop.
    users: Option<Arc<Mutex<Users>>>,
}

impl Use {
    /// Whether pages may be kept of the file.
    pub(crate) fn keeps_pages(&self) -> bool {
        self.keeps
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let Self { by, keeps, .. } = *self;
        self.place.lock().remove(by, keeps);
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Users> {
        locked(self.users.as_ref().expect("it is there until the drop"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut files = locked(&self.table.files);
        // Given back before it is looked at: of two that go at the same time, the last one finds the map's alone.
        drop(self.users.take());
        if files.get(&self.key).is_some_and(|users| Arc::strong_count(users) == 1) {
            files.remove(&self.key);
        }
    }
}

impl Opens {
    /// Opens the file with this number, and books that.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn open(
        self: &Arc<Self>,
        key: FileKey,
        by: By,
        open: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Result<(OwnedFd, Use), Errno> {
        let place = self.place(key);
        let mut users = place.lock();
        let fd = open()?;
        if users.of.is_empty() {
            users.local = self.is_open_locally(key, fd.as_fd(), by.writes);
        }
        let keeps = users.add(by);
        drop(users);
        Ok((fd, Use { place, by, keeps }))
    }

    /// Makes a file on this device, and books that it is open.
    ///
    /// # Errors
    /// Those of `make`, and of asking for its number.
    pub(crate) fn make(
        self: &Arc<Self>,
        (by, device): (By, u64),
        make: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Result<(OwnedFd, Use), Errno> {
        let number = self.begin_making(device);
        let made = make().and_then(|fd| Ok((sys::file_key(fd.as_fd())?, fd)));
        self.end_making(number, made.as_ref().ok().map(|(key, _)| *key));
        let (key, fd) = made?;
        let place = self.place(key);
        // nobody had it open before it was there
        let keeps = place.lock().add(by);
        let known = &mut locked(&self.making).known;
        if let Some(at) = known.iter().position(|other| *other == key) {
            known.swap_remove(at);
        }
        Ok((fd, Use { place, by, keeps }))
    }

    fn place(self: &Arc<Self>, key: FileKey) -> Place {
        let users = Arc::clone(locked(&self.files).entry(key).or_default());
        Place { table: Arc::clone(self), key, users: Some(users) }
    }

    /// Whether a program of this node has the file open whose first descriptor in this process is `fd`. Where the kernel cannot be
    /// asked, nobody has.
    fn is_open_locally(&self, key: FileKey, fd: BorrowedFd<'_>, writes: bool) -> bool {
        match sys::is_open_elsewhere(fd, writes) {
            Ok(true) => !self.is_being_made(key),
            Ok(false) | Err(_) => false,
        }
    }

    /// Whether it is us who are just making the file. Who makes one cannot book it while its entry is locked, as it is here.
    fn is_being_made(&self, key: FileKey) -> bool {
        let making = locked(&self.making);
        let last = making.last;
        let is_open = |making: &mut Making| making.may_become(key.0, last);
        let waited = self.made.wait_timeout_while(making, MAKING, is_open);
        let (making, _) = waited.unwrap_or_else(PoisonError::into_inner);
        making.known.contains(&key)
    }

    fn begin_making(&self, device: u64) -> u64 {
        let mut making = locked(&self.making);
        making.last += 1;
        let number = making.last;
        making.unknown.insert(number, device);
        number
    }

    fn end_making(&self, number: u64, key: Option<FileKey>) {
        let mut making = locked(&self.making);
        making.unknown.remove(&number);
        making.known.extend(key);
        self.made.notify_all();
    }
}

impl Making {
    /// Whether one of those up to `last` may turn out to be a file of this device.
    fn may_become(&self, device: u64, last: u64) -> bool {
        self.unknown.range(..=last).any(|(_, on)| *on == device)
    }
}

impl Users {
    /// Books an open; whether it may keep pages.
    fn add(&mut self, by: By) -> bool {
        let By { cache, writes, .. } = by;
        let in_the_way =
            |user: &User| user.cache != cache && if writes { user.keeping > 0 } else { user.writing > 0 };
        let keeps = by.keeps && !self.local && !self.of.iter().any(in_the_way);
        let at = self.of.iter().position(|user| user.cache == cache).unwrap_or_else(|| {
            self.of.push(User { cache, opens: 0, keeping: 0, writing: 0 });
            self.of.len() - 1
        });
        self.of[at].count(writes, keeps, 1);
        keeps
    }

    fn remove(&mut self, by: By, keeps: bool) {
        let By { cache, writes, .. } = by;
        if let Some(user) = self.of.iter_mut().find(|user| user.cache == cache) {
            user.count(writes, keeps, -1);
        }
        self.of.retain(|user| user.opens > 0);
    }
}

impl User {
    fn count(&mut self, writes: bool, keeps: bool, change: isize) {
        let add = |count: &mut usize, counts: bool| {
            *count = count.saturating_add_signed(if counts { change } else { 0 });
        };
        add(&mut self.opens, true);
        add(&mut self.keeping, keeps);
        add(&mut self.writing, keeps && writes);
    }
}

/// Whoever panicked with the lock held has left whole values behind: they are changed last.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
