//! Paths of remote callers, resolved below the export root.
//!
//! A path that stays on one file system is resolved by one `openat2` that cannot leave the root. At a
//! mount point the kernel stops (RESOLVE_NO_XDEV), and this code looks where it leads before it goes on:
//!
//! - a network directory of Qnet is shown, never entered (ELOOP): a node serves its own files only, so
//!   that no chain of nodes can become a loop;
//! - in `/proc`, the links of processes (`exe`, `cwd`, `fd/3`, …) are never followed, and the directory of
//!   this very process is closed (EACCES): the kernel lets every thread see all of its own process,
//!   whoever the thread acts for. `self` and `thread-self` do not exist (ENOENT), because the process
//!   that asks runs on another node. What `/proc/net` and `/proc/mounts` show is served under these names.
//!
//! DEVIATION: QNX's `/proc/self` is the caller's own; and a QNX node serves whatever its path names lead
//! to, `/net` included.
//!
//! - above the directories that are served when it is not all of them ([`crate::selection`]), only the names that
//!   lead to them exist (ENOENT).
//!
//! - `/dev/name` are the names of the node's channels ([`crate::names`]).
//!
//! Nothing is opened here: the result is an O_PATH descriptor. All calls run as the caller.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};

use crate::export::Export;
use crate::names::Names;
use crate::selection::{Next, Node};
use crate::sys;

mod parent;
pub(crate) use parent::{Nameless, Parent, resolve_guarded, resolve_parent};

/// Symbolic links in one path, as in the kernel.
const MAX_LINKS: u32 = 40;
/// Bytes of a path with its NUL, as in the kernel.
const PATH_MAX: usize = 4096;
/// Directories that are held open while a path is walked step by step.
const MAX_DEPTH: usize = 256;

/// What is special about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Ordinary,
    /// The root directory of a `/proc`.
    ProcRoot,
    /// Inside `/proc`, but not of a process.
    ProcPart,
    /// A process in `/proc`, or below it.
    Process,
    /// The directory of this process in `/proc`: it may be seen, but nothing in it.
    OwnProcess,
    /// The root of a network directory: it may be seen, but nothing in it.
    Network,
    /// A directory above those that are served: only the names that lead to them exist in it.
    Above(Node),
    /// The root of the names of channels.
    NamesTop,
    /// A name of a channel, or a directory of them: only living owners' are shown.
    Names,
}

/// A place that a path leads to.
#[derive(Debug)]
pub struct Found {
    /// The place, opened with O_PATH.
    pub fd: OwnedFd,
    /// What is special about it.
    pub place: Place,
    /// Nobody from another node may change anything there.
    pub read_only: bool,
}

/// Resolves `path` as the user that the calling thread acts for.
///
/// `follow`: a symbolic link at the end is followed. A trailing slash follows it too and wants a
/// directory, as everywhere.
///
/// # Errors
/// The errors of `open`, EACCES and ELOOP as described above.
pub fn resolve(export: &Export, path: &[u8], follow: bool) -> Result<Found, Errno> {
    if path.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    if let (Some(names), Some(parts)) = (export.channel_names(), Names::inside(path)) {
        return names.resolve(export, &parts, follow || wants_directory(path));
    }
    if export.is_plain() {
        let path = path.trim_slashes();
        match open_below(export.root(), path, follow, ResolveFlag::RESOLVE_IN_ROOT) {
            Err(Errno::EXDEV | Errno::EAGAIN) => {}
            result => {
                let read_only = export.is_read_only();
                return result.map(|fd| Found { fd, place: Place::Ordinary, read_only });
            }
        }
    }
    Walk::new(export, path, follow, None).run()
}

/// Slashes at the front mean nothing: every path begins at the root.
trait TrimSlash {
    fn trim_slashes(&self) -> &[u8];
}

impl TrimSlash for [u8] {
    fn trim_slashes(&self) -> &[u8] {
        let start = self.iter().position(|b| *b != b'/').unwrap_or(self.len());
        self.get(start..).unwrap_or_default()
    }
}

/// One `openat2` for all of `path`, which must stay on the file system of `dir`.
pub(crate) fn open_below(
    dir: BorrowedFd<'_>,
    path: &[u8],
    follow: bool,
    scope: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    open_path(dir, path, flags, scope | ResolveFlag::RESOLVE_NO_XDEV)
}

pub(crate) fn open_path(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    how: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(how | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(dir, path.as_c_str(), how)
}

/// A path walked component by component.
struct Walk<'e> {
    export: &'e Export,
    /// Directories from the root (not in here) to where the walk is.
    stack: Vec<Found>,
    /// Components still to walk, the next one last.
    pending: Vec<Vec<u8>>,
    links: u32,
    follow: bool,
    /// What is found must be a directory.
    directory: bool,
    /// Of the directory that holds the last name, until the walk is there.
    guard: Option<u32>,
}

/// One component, opened.
struct Entered {
    found: Found,
    /// It was opened as a directory, so nobody need ask what it is.
    is_directory: bool,
    /// A mount point was crossed, or a served directory begins here.
    jumped: bool,
}

/// Where one component led.
enum Step {
    /// The walk goes on.
    On,
    /// It goes on in another file system or at another place of the tree.
    Jumped,
    /// It ends here.
    End(Found),
}

impl<'e> Walk<'e> {
    fn new(export: &'e Export, path: &[u8], follow: bool, guard: Option<u32>) -> Self {
        let directory = wants_directory(path);
        let mut walk = Self {
            export,
            stack: Vec::new(),
            pending: Vec::new(),
            links: 0,
            follow: follow || directory,
            directory,
            guard,
        };
        walk.push_components(path);
        walk
    }

    fn push_components(&mut self, path: &[u8]) {
        let parts = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
        self.pending.extend(parts.rev().map(<[u8]>::to_vec));
    }

    fn run(mut self) -> Result<Found, Errno> {
        while let Some(name) = self.pending.pop() {
            if self.pending.is_empty() {
                let guard = self.guard.take();
                parent::check_guard(self.here().0, guard)?;
            }
            let step = if name == b".." {
                self.stack.pop();
                Step::On
            } else {
                self.step(&name)?
            };
            match step {
                Step::On => {}
                Step::Jumped => {
                    if let Some(fd) = self.rest_at_once()? {
                        let read_only = self.is_read_only_here();
                        return Ok(Found { fd, place: Place::Ordinary, read_only });
                    }
                }
                Step::End(found) => return Ok(found),
            }
        }
        match self.stack.pop() {
            Some(found) => Ok(found),
            None => {
                let (place, read_only) = (self.export.place(), self.is_read_only_here());
                self.export.reopen_root().map(|fd| Found { fd, place, read_only })
            }
        }
    }

    /// Where the walk is.
    fn here(&self) -> (BorrowedFd<'_>, Place) {
        match self.stack.last() {
            Some(found) => (found.fd.as_fd(), found.place),
            None => (self.export.root(), self.export.place()),
        }
    }

    /// Whether anything where the walk is may be changed from another node.
    fn is_read_only_here(&self) -> bool {
        self.stack.last().map_or_else(|| self.export.is_read_only(), |found| found.read_only)
    }

    /// Lets the kernel do what is left, if that stays on one file system and below where the walk is, and if no directory on
    /// the way is still to be looked at.
    fn rest_at_once(&self) -> Result<Option<OwnedFd>, Errno> {
        let (dir, place) = self.here();
        if place != Place::Ordinary || self.pending.is_empty() || self.guard.is_some() {
            return Ok(None);
        }
        let parts: Vec<&[u8]> = self.pending.iter().rev().map(Vec::as_slice).collect();
        let mut rest = parts.join(&b'/');
        if self.directory {
            rest.push(b'/');
        }
        match open_below(dir, &rest, self.follow, ResolveFlag::RESOLVE_BENEATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::EXDEV | Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn step(&mut self, name: &[u8]) -> Result<Step, Errno> {
        let last = self.pending.is_empty();
        let want_directory = !last || self.directory;
        let Entered { found, is_directory, jumped } = self.enter(name, want_directory)?;
        match found.place {
            Place::Network if want_directory => return Err(Errno::ELOOP),
            Place::OwnProcess if want_directory => return Err(Errno::EACCES),
            Place::Network | Place::OwnProcess => return Ok(Step::End(found)),
            _ => {}
        }
        let mode = match is_directory {
            true => libc::S_IFDIR,
            false => u32::from(sys::statx(found.fd.as_fd(), true)?.stx_mode),
        };
        match mode & libc::S_IFMT {
            libc::S_IFLNK if !last || self.follow => {
                // every link in there leads to wherever the process has something open
                if found.place == Place::Process {
                    return Err(Errno::ELOOP);
                }
                self.follow_link(&found)
            }
            libc::S_IFDIR if self.stack.len() >= MAX_DEPTH => Err(Errno::ENAMETOOLONG),
            libc::S_IFDIR => {
                self.stack.push(found);
                Ok(if jumped { Step::Jumped } else { Step::On })
            }
            _ if want_directory => Err(Errno::ENOTDIR),
            _ => Ok(Step::End(found)),
        }
    }

    /// Opens one component.
    fn enter(&self, name: &[u8], want_directory: bool) -> Result<Entered, Errno> {
        let (dir, place) = self.here();
        if let Place::Above(node) = place {
            return self.descend(dir, node, name);
        }
        let name = match (place, name) {
            (Place::ProcRoot, b"self" | b"thread-self") => return Err(Errno::ENOENT),
            (Place::ProcRoot, b"net") => &b"self/net"[..],
            (Place::ProcRoot, b"mounts") => b"self/mounts",
            _ => name,
        };
        match open_component(dir, name, want_directory, ResolveFlag::RESOLVE_NO_XDEV) {
            Ok((fd, is_directory)) => {
                let place = self.place_of(dir, place, name)?;
                let found = Found { fd, place, read_only: self.is_read_only_here() };
                Ok(Entered { found, is_directory, jumped: false })
            }
            Err(Errno::EXDEV) => {
                let (fd, is_directory) = open_component(dir, name, want_directory, ResolveFlag::empty())?;
                let place = self.export.place_of_mount(fd.as_fd())?;
                let found = Found { fd, place, read_only: self.is_read_only_here() };
                Ok(Entered { found, is_directory, jumped: true })
            }
            Err(errno) => Err(errno),
        }
    }

    /// Opens one component above the served directories.
    fn descend(&self, dir: BorrowedFd<'_>, node: Node, name: &[u8]) -> Result<Entered, Errno> {
        let next = self.export.next(node, name).ok_or(Errno::ENOENT)?;
        let (fd, is_directory) = open_component(dir, name, true, ResolveFlag::empty())?;
        let place = match (self.export.place_of_mount(fd.as_fd())?, next) {
            (Place::Network, _) => Place::Network,
            (_, Next::Above(node)) => Place::Above(node),
            (place, Next::Served { .. }) => place,
        };
        // What lies above the served directories is nobody's to change.
        let read_only = !matches!(next, Next::Served { read_only: false });
        // From a served directory on the kernel may do the rest at once.
        let jumped = matches!(next, Next::Served { .. });
        Ok(Entered { found: Found { fd, place, read_only }, is_directory, jumped })
    }

    /// The place of something just opened in `dir`. A process that is ours must be open already: its
    /// number cannot come to mean another one then.
    fn place_of(&self, dir: BorrowedFd<'_>, place: Place, name: &[u8]) -> Result<Place, Errno> {
        if place != Place::ProcRoot {
            return Ok(place);
        }
        if !name.iter().all(u8::is_ascii_digit) {
            return Ok(Place::ProcPart);
        }
        Ok(if is_own_process(dir, name)? { Place::OwnProcess } else { Place::Process })
    }

    fn follow_link(&mut self, link: &Found) -> Result<Step, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        self.check_protected(link)?;
        let target = read_link(link.fd.as_fd())?;
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        // a slash behind the last component of a target wants a directory
        self.directory |= self.pending.is_empty() && wants_directory(&target);
        self.push_components(&target);
        if target.starts_with(b"/") {
            self.stack.clear();
            return Ok(Step::Jumped);
        }
        Ok(Step::On)
    }

    /// The kernel's rule for links in directories such as `/tmp` (fs.protected_symlinks), which it can
    /// only apply to links that it follows itself.
    fn check_protected(&self, link: &Found) -> Result<(), Errno> {
        const STICKY: u32 = libc::S_ISVTX | libc::S_IWOTH;
        let directory = sys::statx(self.here().0, true)?;
        if u32::from(directory.stx_mode) & STICKY != STICKY {
            return Ok(());
        }
        let owner = sys::statx(link.fd.as_fd(), true)?.stx_uid;
        if owner == directory.stx_uid || owner == sys::thread_identity()?.fsuid {
            return Ok(());
        }
        Err(Errno::EACCES)
    }
}

/// A path that ends in a slash or a dot means a directory.
fn wants_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.") || path == b"."
}

/// Opens a single component, never following it; true when it was opened as a directory.
fn open_component(
    dir: BorrowedFd<'_>,
    name: &[u8],
    want_directory: bool,
    how: ResolveFlag,
) -> Result<(OwnedFd, bool), Errno> {
    if want_directory {
        // O_DIRECTORY makes automounted file systems appear
        match open_path(dir, name, OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY, how) {
            Err(Errno::ENOTDIR) => {}
            result => return result.map(|fd| (fd, true)),
        }
    }
    open_path(dir, name, OFlag::O_NOFOLLOW, how).map(|fd| (fd, false))
}

/// Whether a number in a `/proc` is this process or one of its threads, as that `/proc` counts.
fn is_own_process(proc_root: BorrowedFd<'_>, number: &[u8]) -> Result<bool, Errno> {
    let own = match readlinkat(proc_root, c"self") {
        Ok(own) => own.into_vec(),
        // this process does not exist in the PID namespace of that /proc
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    if own == number {
        return Ok(true);
    }
    let task = [own.as_slice(), b"/task/", number].concat();
    match open_path(proc_root, &task, OFlag::O_NOFOLLOW, ResolveFlag::RESOLVE_NO_XDEV) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The target of a symbolic link that is open with O_PATH.
///
/// # Errors
/// EINVAL: not a symbolic link.
pub fn read_link(link: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    match readlinkat(link, c"").map(OsString::into_vec) {
        // with an empty path the kernel says ENOENT where it means "not a link"
        Err(Errno::ENOENT) => Err(Errno::EINVAL),
        result => result,
    }
}

#[cfg(test)]
mod tests;
