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
//! could not remove (entries may be written by all, directories are sticky); whoever may remove it does when he meets it.
//!
//! DEVIATION: a name is no directory of others at the same time; on QNX both may be attached. A file cannot be a directory.
//!
//! The kernel drops such a lock when its process closes *any* descriptor of the file. So everything in here that touches
//! entries happens under one lock of the process, and files of names that this process has are not opened.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        },
    },
    path::{Component, Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
};

use crate::Root;

/// Longest name, with the slashes in it: QNX's `PATH_MAX` without the NUL.
pub const NAME_MAX: usize = 1023;
/// Permissions of an entry: who takes it over from a dead owner must be able to lock it.
const ENTRY_MODE: u32 = 0o666;
/// Permissions of a directory of names: everybody makes entries, nobody removes another one's.
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
    base: PathBuf,
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
    let path = base.join(name);
    let pid = process::id();
    let mut held = lock();
    if held.get(&path).is_some_and(|(owner, _)| *owner == pid) {
        return Err(Errno::EEXIST);
    }
    for _ in 0..ATTEMPTS {
        if let Some(file) = take(base, &path, chid, &held)? {
            held.insert(path.clone(), (pid, chid));
            let mut name = HeldName { base: base.to_owned(), path, pid, file: Some(file) };
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
    let path = base.join(name);
    let held = lock();
    if let Some(own) = own(&held, &path) {
        return Ok(own);
    }
    let file = open_entry(&path, false)?;
    if file.metadata().map_err(errno)?.is_dir() {
        return Err(Errno::EISDIR);
    }
    let owner = holder(&file)?;
    drop(file);
    owner.ok_or_else(|| {
        remove_dead(&path);
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

/// The names below `base` with their owners, sorted. Entries of dead owners are removed where this user may.
#[must_use]
pub fn list(base: &Path) -> Vec<(PathBuf, Owner)> {
    let held = lock();
    let mut found = Vec::new();
    walk(base, &mut |path| {
        let owner = own(&held, path).or_else(|| {
            let file = open_entry(path, false).ok()?;
            holder(&file).ok().flatten()
        });
        match owner {
            Some(owner) => found.extend(path.strip_prefix(base).ok().map(|name| (name.to_owned(), owner))),
            None => remove_dead(path),
        }
    });
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
        if self.file.as_ref().is_some_and(|file| is_at(file, &self.path)) {
            // An entry taken over from another user stays, unlocked: nobody's.
            let _ = fs::remove_file(&self.path);
        }
        self.file = None;
        remove_empty_parents(&self.base, &self.path);
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
fn take(base: &Path, path: &Path, chid: i32, held: &Held) -> Result<Option<File>, Errno> {
    let file = match open_entry(path, true) {
        Ok(file) => file,
        Err(Errno::ENOENT) => match create_entry(path) {
            Ok(file) => file,
            Err(Errno::EEXIST) => return Ok(None),
            Err(Errno::ENOENT) => return make_parents(base, path).map(|()| None),
            Err(errno) => return Err(errno),
        },
        Err(Errno::EISDIR) => return clear_directory(path, held).map(|()| None),
        Err(Errno::ENOTDIR) => return clear_parent(base, path, held).map(|()| None),
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
    Ok(is_at(&file, path).then_some(file))
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

fn open_entry(path: &Path, write: bool) -> Result<File, Errno> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).write(write).custom_flags(flags.bits());
    options.open(path).map_err(errno)
}

fn create_entry(path: &Path) -> Result<File, Errno> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(errno)?;
    file.set_permissions(fs::Permissions::from_mode(ENTRY_MODE)).map_err(errno)?;
    Ok(file)
}

/// Whether `path` still leads to `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(path)) => (file.dev(), file.ino()) == (path.dev(), path.ino()),
        _ => false,
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        // Not for whom made it alone, whatever his umask says.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_parents(base: &Path, path: &Path) -> Result<(), Errno> {
    let mut directory = base.to_owned();
    let inner = path.parent().and_then(|parent| parent.strip_prefix(base).ok());
    for part in inner.into_iter().flat_map(Path::components) {
        directory.push(part);
        make_directory(&directory).map_err(errno)?;
    }
    // Without directories in between it is the base itself that is missing.
    if base.is_dir() { Ok(()) } else { Err(Errno::ENOENT) }
}

/// The directories above an entry that is gone, as far as nothing else is in them.
fn remove_empty_parents(base: &Path, path: &Path) {
    let mut directory = path.parent();
    while let Some(inner) = directory.filter(|inner| *inner != base && inner.starts_with(base)) {
        if fs::remove_dir(inner).is_err() {
            return;
        }
        directory = inner.parent();
    }
}

/// A directory stands where a name is wanted: it makes way when all names in it are those of dead owners.
fn clear_directory(path: &Path, held: &Held) -> Result<(), Errno> {
    walk(path, &mut |entry| {
        if own(held, entry).is_none() {
            remove_dead(entry);
        }
    });
    remove_empty_directories(path, 0);
    if path.is_dir() { Err(Errno::EEXIST) } else { Ok(()) }
}

fn remove_empty_directories(path: &Path, depth: u32) {
    if depth < MAX_DEPTH {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_empty_directories(&entry.path(), depth + 1);
            }
        }
    }
    let _ = fs::remove_dir(path);
}

/// A name stands where a directory is wanted: it makes way when its owner is dead.
fn clear_parent(base: &Path, path: &Path, held: &Held) -> Result<(), Errno> {
    let mut part = base.to_owned();
    for component in path.strip_prefix(base).into_iter().flat_map(Path::components) {
        let Component::Normal(name) = component else { return Err(Errno::EINVAL) };
        part.push(name);
        if part.is_file() {
            if own(held, &part).is_some() {
                return Err(Errno::ENOTDIR);
            }
            remove_dead(&part);
            return if part.is_file() { Err(Errno::ENOTDIR) } else { Ok(()) };
        }
    }
    Err(Errno::ENOTDIR)
}

/// Removes an entry that nobody has, if this user may. It is locked meanwhile, so nobody takes it over just now.
fn remove_dead(path: &Path) {
    let Ok(file) = open_entry(path, true) else { return };
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return;
    }
    let locked = fcntl(&file, FcntlArg::F_SETLK(&record(libc::F_WRLCK, 0))).is_ok();
    if locked && is_at(&file, path) {
        let _ = fs::remove_file(path);
    }
}

/// Calls `entry` for every regular file below `directory`.
fn walk(directory: &Path, entry: &mut impl FnMut(&Path)) {
    fn inner(directory: &Path, depth: u32, entry: &mut impl FnMut(&Path)) {
        for found in fs::read_dir(directory).into_iter().flatten().flatten() {
            match found.file_type() {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => inner(&found.path(), depth + 1, entry),
                Ok(kind) if kind.is_file() => entry(&found.path()),
                _ => {}
            }
        }
    }
    inner(directory, 0, entry);
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
