//! The directory that is served, or several of them, and how their files are opened.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, open, openat};
use nix::sys::stat::Mode;
use thiserror::Error;

use crate::locks::LockTable;
use crate::mounts::{MountKind, MountTable};
use crate::names::Names;
use crate::opens::Opens;
use crate::resolve::{self, Place};
use crate::selection::{Next, Node, Only, OnlyError, ROOT, Selection};
use crate::sys;

/// Why a directory cannot be served.
#[derive(Debug, Error)]
pub enum ExportError {
    /// It cannot be opened.
    #[error("cannot export {path}: {errno}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// It is a network directory or a process.
    #[error("cannot export {path}: it is {what}")]
    Forbidden {
        /// The directory.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The kernel, or a filter between it and this process, does not know the calls that keep paths in
    /// their bounds.
    #[error(
        "cannot export {path}: {what}: {errno}; Linux 5.8 and no system call filter against it are needed"
    )]
    Kernel {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// Not one of several.
    #[error("cannot export {0}")]
    Only(#[from] OnlyError),
    /// There is no `/proc`.
    #[error("cannot read {what}: {source}; serving files needs a mounted /proc")]
    Proc {
        /// The file.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why a caller may change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was not given the right (`allow=write`).
    NoRight,
    /// Nobody may there (`export=PATH:ro`).
    ReadOnly,
}

/// The directory that remote callers see as this node's root.
#[derive(Debug)]
pub struct Export {
    root: OwnedFd,
    kind: MountKind,
    /// What of it is served; `None` is everything.
    selection: Option<Selection>,
    /// Nothing of it may be changed from another node.
    read_only: bool,
    /// What was refused, each kind once in the log.
    told: [AtomicBool; 2],
    mounts: MountTable,
    names: Option<Names>,
    locks: Arc<LockTable>,
    opens: Arc<Opens>,
    /// `/proc/self/fd`: the way from an O_PATH descriptor to an open file.
    descriptors: OwnedFd,
}

impl Export {
    /// Opens the directory.
    ///
    /// # Errors
    /// It cannot be opened, lies in a network directory, or there is no `/proc`.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open_error = |errno| ExportError::Open { path: path.to_owned(), errno };
        let root = open(path, flags, Mode::empty()).map_err(open_error)?;
        check_kernel(root.as_fd()).map_err(|(what, errno)| ExportError::Kernel {
            path: path.to_owned(),
            what,
            errno,
        })?;
        let mounts = MountTable::open()
            .map_err(|source| ExportError::Proc { what: "/proc/self/mountinfo", source })?;
        let descriptors = open("/proc/self/fd", flags, Mode::empty())
            .map_err(|errno| ExportError::Proc { what: "/proc/self/fd", source: errno.into() })?;
        let kind = mount_kind(&mounts, root.as_fd()).map_err(open_error)?;
        let forbidden = |what| ExportError::Forbidden { path: path.to_owned(), what };
        match kind {
            MountKind::Network => Err(forbidden("in a network directory")),
            MountKind::ProcProcess => Err(forbidden("a process")),
            // a directory below /proc could be that of a process
            MountKind::Proc if !is_proc_root(root.as_fd()) => Err(forbidden("inside /proc")),
            _ => {
                let (selection, read_only, told, names) = (None, false, Default::default(), None);
                let (locks, opens) = (Arc::default(), Arc::default());
                Ok(Self { root, kind, selection, read_only, told, mounts, names, locks, opens, descriptors })
            }
        }
    }

    /// Serves these directories of the root directory only, each at its own path.
    ///
    /// # Errors
    /// As [`Export::open`] for each, and when one lies in another.
    pub fn open_only(served: &[Only]) -> Result<Self, ExportError> {
        let mut real = Vec::with_capacity(served.len());
        for only in served {
            let Only { path, read_only } = only;
            Self::open(path)?;
            // A name above it may be a symbolic link; what is walked are directories.
            let path = path.canonicalize().map_err(|error| ExportError::Open {
                path: path.clone(),
                errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
            })?;
            real.push(Only { path, read_only: *read_only });
        }
        let selection = Selection::new(&real)?;
        let whole = real.iter().find(|only| only.path == Path::new("/"));
        let read_only = whole.is_none_or(|only| only.read_only);
        let selection = whole.is_none().then_some(selection);
        Ok(Self { selection, read_only, ..Self::open(Path::new("/"))? })
    }

    /// Serves the names of the node's channels as well.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names: Some(names), ..self }
    }

    /// The names of the node's channels, if they are served.
    pub(crate) fn channel_names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// The locks that remote programs hold on its files.
    pub(crate) fn locks(&self) -> &Arc<LockTable> {
        &self.locks
    }

    /// Who has which of its files open.
    pub(crate) fn opens(&self) -> &Arc<Opens> {
        &self.opens
    }

    /// The directory itself, opened with O_PATH.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What is special about it.
    pub(crate) fn place(&self) -> Place {
        if self.selection.is_some() { Place::Above(ROOT) } else { place(self.kind) }
    }

    /// Whether nothing in the root directory may be changed from another node. Above served directories nothing may.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The answer to who may not change anything; the log says once what would let him.
    pub(crate) fn refusal(&self, why: Refusal) -> Errno {
        let (told, errno, text) = match why {
            Refusal::NoRight => (
                &self.told[0],
                Errno::EACCES,
                "another node wanted to change a file and may not: allow=write, or a mapping of its users (mapany=, maproot=), would let it",
            ),
            Refusal::ReadOnly => (
                &self.told[1],
                Errno::EROFS,
                "another node wanted to change a file where nothing may be changed: export=PATH instead of export=PATH:ro, or an export of the directory, would let it",
            ),
        };
        if !told.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: crate::LOG, "{text}");
        }
        errno
    }

    /// Whether one call of the kernel may resolve a whole path: everything is served, and nothing of it is special.
    pub(crate) fn is_plain(&self) -> bool {
        self.kind == MountKind::Ordinary && self.selection.is_none()
    }

    /// Where `name` in a directory above the served ones leads.
    pub(crate) fn next(&self, node: Node, name: &[u8]) -> Option<Next> {
        self.selection.as_ref()?.next(node, name)
    }

    /// The names that exist in `place` for remote callers; `None`: all that there are.
    pub(crate) fn names(&self, place: Place) -> Option<Vec<Vec<u8>>> {
        let (Place::Above(node), Some(selection)) = (place, &self.selection) else { return None };
        Some(selection.names(node).iter().map(|(name, _)| name.clone()).collect())
    }

    /// One more descriptor for it.
    pub(crate) fn reopen_root(&self) -> Result<OwnedFd, Errno> {
        self.root.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE)))
    }

    /// The place at the root of a mount that was just entered.
    ///
    /// # Errors
    /// EACCES: nothing is known about the mount, or it is a process.
    pub(crate) fn place_of_mount(&self, fd: BorrowedFd<'_>) -> Result<Place, Errno> {
        match mount_kind(&self.mounts, fd)? {
            MountKind::ProcProcess => Err(Errno::EACCES),
            kind => Ok(place(kind)),
        }
    }

    /// The directory in which every descriptor of this process has its number as a name that leads to what it means, and
    /// that name: for calls that take a path only.
    pub(crate) fn by_number(&self, found: BorrowedFd<'_>) -> (BorrowedFd<'_>, String) {
        (self.descriptors.as_fd(), found.as_raw_fd().to_string())
    }

    /// Opens what an O_PATH descriptor means, as the user that the calling thread acts for.
    ///
    /// # Errors
    /// As `open`.
    pub(crate) fn open_found(&self, found: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
        let number = found.as_raw_fd().to_string();
        openat(&self.descriptors, number.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
    }
}

/// Tries on `root` what every path will need.
fn check_kernel(root: BorrowedFd<'_>) -> Result<(), (&'static str, Errno)> {
    resolve::open_below(root, b"", true, ResolveFlag::RESOLVE_IN_ROOT).map_err(|errno| ("openat2", errno))?;
    let stat = sys::statx(root, true).map_err(|errno| ("statx", errno))?;
    if stat.stx_mask & libc::STATX_MNT_ID == 0 {
        return Err(("statx with a mount's id", Errno::ENOSYS));
    }
    Ok(())
}

fn mount_kind(mounts: &MountTable, fd: BorrowedFd<'_>) -> Result<MountKind, Errno> {
    let id = sys::statx(fd, true)?.stx_mnt_id;
    match mounts.kind(id) {
        Ok(kind) => kind.ok_or(Errno::EACCES),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

/// The kernel gives the root of every `/proc` this inode number.
fn is_proc_root(fd: BorrowedFd<'_>) -> bool {
    sys::statx(fd, true).is_ok_and(|stat| stat.stx_ino == 1)
}

fn place(kind: MountKind) -> Place {
    match kind {
        MountKind::Ordinary => Place::Ordinary,
        MountKind::Proc => Place::ProcRoot,
        MountKind::ProcPart => Place::ProcPart,
        MountKind::ProcProcess => Place::Process,
        MountKind::Network => Place::Network,
    }
}
