//! Names of channels: entries below `ROOT/dev/name`, which last as long as their owners.
//!
//! ```text
//!  ROOT/dev/name/local/plant/valve       a regular file of one line, for people
//!                     └ a directory       its first N bytes are locked for writing by process P:
//!                                         channel N of process P has the name
//! ```
//!
//! **The lock is the name.** It is a POSIX record lock, so the kernel lets one process hold it, tells everybody who asks
//! which process that is and how many bytes it locked (the number of the channel), takes it away when the process ends,
//! however it ends, and does not hand it on to a child. Nothing in the file itself is believed: a file that nobody has
//! locked is what a dead owner left. Whoever wants its name takes the file over, also a file of another user, which he
//! could not remove (entries may be written by all, directories are sticky); whoever may remove it does when he meets it,
//! and who takes a name looks for others ([`clear`]). No daemon is needed for that; where Qnet runs, its `qnet-server` removes
//! what the dead leave when they die.
//!
//! DEVIATION: a name is no directory of others at the same time; on QNX both may be attached. A file cannot be a directory.
//!
//! Names may have slashes, and so anybody makes directories: no link among them is followed (`base`).
//!
//! The kernel drops such a lock when its process closes *any* descriptor of the file. So everything in here that touches
//! entries happens under one lock of the process, and files of names that this process has are not opened.

mod base;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, FileExt, PermissionsExt},
        },
    },
    path::{Component, Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use crate::Root;
use base::Base;

/// Longest name, with the slashes in it: QNX's `PATH_MAX` without the NUL.
pub const NAME_MAX: usize = 1023;
/// Permissions of the directory of local names: everybody makes entries, nobody removes another one's.
const DIRECTORY_MODE: u32 = 0o1777;
/// Attempts to get hold of an entry that others make and remove at the same time.
const ATTEMPTS: u32 = 10_000;
/// Directories within each other that are looked through.
const MAX_DEPTH: u32 = 64;

/// Who has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The process; 0 when it is not visible from this PID namespace, so that its channels cannot be reached either.
    pub pid: i32,
    /// Its channel.
    pub chid: i32,
}

/// A name that this process has. Dropping it gives the name up.
#[derive(Debug)]
pub struct HeldName {
    base: Base,
    name: PathBuf,
    path: PathBuf,
    pid: u32,
    file: Option<File>,
}

/// Names that this process has, by the paths of their entries, with the process (a child inherits a copy of the table,
/// but no names) and the channel. Who touches entries holds this lock.
static HELD: Mutex<BTreeMap<PathBuf, (u32, i32)>> = Mutex::new(BTreeMap::new());

type Held = MutexGuard<'static, BTreeMap<PathBuf, (u32, i32)>>;

/// Whether `name` can be the name of a channel: not empty, without a slash at its ends, without empty components, `.`
/// and `..`.
///
/// # Errors
/// `EINVAL`; `ENAMETOOLONG` above [`NAME_MAX`] bytes.
pub fn check(name: &OsStr) -> Result<(), Errno> {
    let bytes = name.as_bytes();
    if bytes.len() > NAME_MAX || bytes.split(|byte| *byte == b'/').any(|part| part.len() > 255) {
        return Err(Errno::ENAMETOOLONG);
    }
    let is_wrong = |part: &[u8]| matches!(part, b"" | b"." | b"..");
    if bytes.contains(&0) || bytes.split(|byte| *byte == b'/').any(is_wrong) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Makes the directory of local names, in which everybody may make entries, and what is missing of the root above it.
///
/// # Errors
/// Those of `mkdir`.
pub fn make_local_directory(root: &Root) -> io::Result<()> {
    make_plain_directory(root, &root.names())?;
    make_directory(&root.local_names())
}

/// Makes the directory of the global names that channels of this node offer, in which the root's owner may make entries.
///
/// # Errors
/// Those of `mkdir`.
pub fn make_offered_directory(root: &Root) -> io::Result<()> {
    make_plain_directory(root, &root.offered_names())
}

fn make_plain_directory(root: &Root, directory: &Path) -> io::Result<()> {
    // A root of one user, such as /tmp/io-pkt-UID, must not be open to others.
    let mode = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(root.path())?;
    DirBuilder::new().recursive(true).mode(0o755).create(directory)
}

/// Gives channel `chid` of this process the name `name` below `base` ([`Root::local_names`]), which exists.
///
/// # Errors
/// `EEXIST`: somebody has it, or it is a directory of other names. `ENOTDIR`: a part of it is the name of a channel.
/// `EINVAL`, `ENAMETOOLONG`: see [`check`]. `EACCES`: the directory is not open to this user. `EAGAIN`: others make and
/// remove this entry all the time.
pub fn attach(base: &Path, name: &OsStr, chid: i32) -> Result<HeldName, Errno> {
    check(name)?;
    if chid < 1 {
        return Err(Errno::EINVAL);
    }
    let base = Base::open(base)?;
    let name = base::path(name);
    let path = base.path_of(&name);
    let pid = process::id();
    let mut held = lock();
    if held.get(&path).is_some_and(|(owner, _)| *owner == pid) {
        return Err(Errno::EEXIST);
    }
    for _ in 0..ATTEMPTS {
        if let Some(file) = take(&base, &name, chid, &held)? {
            held.insert(path.clone(), (pid, chid));
            // Whoever gives the name up takes the lock of the table.
            drop(held);
            let mut name = HeldName { base, name, path, pid, file: Some(file) };
            // It is for people; a full disk takes no name away.
            let _ = name.write_note(&format!("pid {pid} chid {chid}\n"));
            return Ok(name);
        }
        thread::yield_now();
    }
    Err(Errno::EAGAIN)
}

/// Who has `name` below `base`.
///
/// # Errors
/// `ENOENT`: nobody. `EISDIR`: it is a directory of names. `ENOTDIR`, `EACCES`, `ELOOP`, `EMFILE`: those of `open`.
/// `EINVAL`, `ENAMETOOLONG`: see [`check`].
pub fn owner(base: &Path, name: &OsStr) -> Result<Owner, Errno> {
    check(name)?;
    let base = Base::open(base)?;
    let name = base::path(name);
    let held = lock();
    if let Some(own) = own(&held, &base.path_of(&name)) {
        return Ok(own);
    }
    let file = base.entry(&name, false)?;
    if file.metadata().map_err(errno)?.is_dir() {
        return Err(Errno::EISDIR);
    }
    let owner = holder(&file)?;
    drop(file);
    owner.ok_or_else(|| {
        remove_dead(&base, &name);
        Errno::ENOENT
    })
}

/// Who has the name whose entry `file` is open; `None`: nobody. For processes that have no names themselves, such as
/// servers that show names to others.
///
/// # Errors
/// Those of `fcntl`.
pub fn holder(file: &impl AsFd) -> Result<Option<Owner>, Errno> {
    let mut lock = record(libc::F_RDLCK, 1);
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    if lock.l_type != libc::F_WRLCK as libc::c_short || lock.l_start != 0 {
        return Ok(None);
    }
    // Length 0 is somebody who removes a dead entry.
    let chid = i32::try_from(lock.l_len).ok().filter(|chid| *chid > 0);
    Ok(chid.map(|chid| Owner { pid: lock.l_pid, chid }))
}

/// Removes what dead owners left below `base`, where this user may, looking at `most` entries; gives the directories of names
/// that are left, `base` first, paths relative to it.
pub fn clear(base: &Path, most: usize) -> Vec<PathBuf> {
    let Ok(base) = Base::open(base) else { return Vec::new() };
    let held = lock();
    let (mut looked, mut left) = (0, vec![PathBuf::new()]);
    let is_nobodys = |name: &Path| base.entry(name, false).is_ok_and(|file| holder(&file) == Ok(None));
    let mut entry = |name: &Path| {
        looked += 1;
        if looked <= most && own(&held, &base.path_of(name)).is_none() && is_nobodys(name) {
            remove_dead(&base, name);
        }
    };
    // One with names in it stays.
    let mut directory = |name: &Path| {
        if base.remove_directory(name).is_err() {
            left.push(name.to_owned());
        }
    };
    base.walk(Path::new(""), MAX_DEPTH, &mut entry, &mut directory);
    left
}

/// The names below `base` with their owners, sorted. Entries of dead owners are removed where this user may.
#[must_use]
pub fn list(base: &Path) -> Vec<(PathBuf, Owner)> {
    let Ok(base) = Base::open(base) else { return Vec::new() };
    let held = lock();
    let mut found = Vec::new();
    let mut entry = |name: &Path| {
        let owner = own(&held, &base.path_of(name)).or_else(|| {
            let file = base.entry(name, false).ok()?;
            holder(&file).ok().flatten()
        });
        match owner {
            Some(owner) => found.push((name.to_owned(), owner)),
            None => remove_dead(&base, name),
        }
    };
    base.walk(Path::new(""), MAX_DEPTH, &mut entry, &mut |_| {});
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

impl HeldName {
    /// The entry.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces what the entry says to people who read it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_note(&mut self, text: &str) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        // Shorter ones first lose their end, so nobody reads more than was written.
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }
}

impl Drop for HeldName {
    fn drop(&mut self) {
        // A child that inherited this value has nothing to give up.
        if process::id() != self.pid {
            return;
        }
        let mut held = lock();
        held.remove(&self.path);
        if self.file.as_ref().is_some_and(|file| self.base.is_at(file, &self.name)) {
            // An entry taken over from another user stays, unlocked: nobody's.
            let _ = self.base.remove(&self.name);
        }
        self.file = None;
        self.base.remove_empty_parents(&self.name);
    }
}

impl Root {
    /// Directory of everything that QNX has below `/dev/name`.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        self.path().join("dev/name")
    }

    /// Directory of the names of this node's channels.
    #[must_use]
    pub fn local_names(&self) -> PathBuf {
        self.names().join("local")
    }

    /// Directory of the global names that channels of this node offer. Only the root's owner writes there, so the right
    /// to attach such a name is the kernel's to check.
    #[must_use]
    pub fn offered_names(&self) -> PathBuf {
        self.names().join(".global")
    }

    /// Directory in which `gns` shows the names of all nodes.
    #[must_use]
    pub fn global_names(&self) -> PathBuf {
        self.names().join("global")
    }
}

fn lock() -> Held {
    // Changed by single calls only: a panic leaves it whole.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn own(held: &Held, path: &Path) -> Option<Owner> {
    let (pid, chid) = *held.get(path)?;
    (pid == process::id()).then_some(Owner { pid: pid.cast_signed(), chid })
}

/// Gets hold of an entry, making it or taking it from a dead owner; `None`: something moved, try again.
fn take(base: &Base, name: &Path, chid: i32, held: &Held) -> Result<Option<File>, Errno> {
    let file = match base.entry(name, true).or_else(|errno| match errno {
        Errno::ENOENT => base.create(name),
        errno => Err(errno),
    }) {
        Ok(file) => file,
        Err(Errno::EEXIST | Errno::EAGAIN) => return Ok(None),
        Err(Errno::ENOENT) => return base.make_parents(name).map(|()| None),
        Err(Errno::EACCES) if base.is_being_made(name) => return Ok(None),
        Err(Errno::EISDIR) => return clear_directory(base, name, held).map(|()| None),
        Err(Errno::ENOTDIR) => return clear_parent(base, name, held).map(|()| None),
        Err(Errno::ELOOP | Errno::ENXIO) => return Err(Errno::EEXIST),
        Err(errno) => return Err(errno),
    };
    if !file.metadata().map_err(errno)?.is_file() {
        return Err(Errno::EEXIST);
    }
    match fcntl(&file, FcntlArg::F_SETLK(&record(libc::F_WRLCK, chid.into()))) {
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EACCES) => {
            return if holder(&file)?.is_some() { Err(Errno::EEXIST) } else { Ok(None) };
        }
        Err(errno) => return Err(errno),
    }
    Ok(base.is_at(&file, name).then_some(file))
}

/// The lock on the first `len` bytes; 0: all that there may ever be.
fn record(kind: libc::c_int, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: len,
        l_pid: 0,
    }
}

/// Makes the directory of local names; one that is there is no error.
fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        // Whatever the umask says.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A directory stands where a name is wanted: it makes way when all names in it are those of dead owners.
fn clear_directory(base: &Base, name: &Path, held: &Held) -> Result<(), Errno> {
    let mut dead = |entry: &Path| {
        if own(held, &base.path_of(entry)).is_none() {
            remove_dead(base, entry);
        }
    };
    // Those with living names in them stay.
    let mut empty = |directory: &Path| {
        let _ = base.remove_directory(directory);
    };
    base.walk(name, MAX_DEPTH, &mut dead, &mut empty);
    match base.remove_directory(name) {
        Err(_) if base.is_directory(name) => Err(Errno::EEXIST),
        _ => Ok(()),
    }
}

/// A name stands where a directory is wanted: it makes way when its owner is dead.
fn clear_parent(base: &Base, name: &Path, held: &Held) -> Result<(), Errno> {
    let mut part = PathBuf::new();
    for component in name.components() {
        let Component::Normal(next) = component else { return Err(Errno::EINVAL) };
        part.push(next);
        if base.is_file(&part) {
            if own(held, &base.path_of(&part)).is_some() {
                return Err(Errno::ENOTDIR);
            }
            remove_dead(base, &part);
            return if base.is_file(&part) { Err(Errno::ENOTDIR) } else { Ok(()) };
        }
    }
    Err(Errno::ENOTDIR)
}

/// Removes an entry that nobody has, if this user may. It is locked meanwhile, so nobody takes it over just now.
fn remove_dead(base: &Base, name: &Path) {
    let Ok(file) = base.entry(name, true) else { return };
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return;
    }
    let locked = fcntl(&file, FcntlArg::F_SETLK(&record(libc::F_WRLCK, 0))).is_ok();
    if locked && base.is_at(&file, name) {
        // Who may not remove it leaves it to those who may.
        let _ = base.remove(name);
    }
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
