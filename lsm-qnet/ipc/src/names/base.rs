//! A directory of names, in which any user may make directories and links: nothing in it is reached through a link, so nobody
//! is led to make or remove a file elsewhere with rights that are not his.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

/// Permissions of an entry: who takes it over from a dead owner must be able to lock it.
const ENTRY_MODE: u32 = 0o666;

/// See the head of this file. Paths are relative to it.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    fd: OwnedFd,
    /// Its permissions, which directories below it get, too.
    mode: Mode,
}

impl Base {
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mode = Mode::from_bits_truncate(fstat(&fd)?.st_mode);
        Ok(Self { path: path.to_owned(), fd, mode })
    }

    /// Where a name's entry is, for people and for [`super::HeldName::path`].
    pub(super) fn path_of(&self, name: &Path) -> PathBuf {
        self.path.join(name)
    }

    /// Opens what is there.
    pub(super) fn entry(&self, name: &Path, write: bool) -> Result<File, Errno> {
        let access = if write { OFlag::O_RDWR } else { OFlag::O_RDONLY };
        self.openat(name, access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, Mode::empty()).map(File::from)
    }

    /// Makes an entry; `EEXIST` when something is there.
    pub(super) fn create(&self, name: &Path) -> Result<File, Errno> {
        let mode = Mode::from_bits_truncate(ENTRY_MODE);
        let fd = self.openat(name, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL, mode)?;
        // Whatever the umask says.
        fchmod(&fd, mode)?;
        Ok(File::from(fd))
    }

    /// Whether a name still leads to `file`.
    pub(super) fn is_at(&self, file: &File, name: &Path) -> bool {
        let there = self.openat(name, OFlag::O_PATH, Mode::empty()).and_then(|fd| fstat(&fd));
        match (file.metadata(), there) {
            (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }

    pub(super) fn is_file(&self, name: &Path) -> bool {
        self.kind(name) == Some(SFlag::S_IFREG)
    }

    pub(super) fn is_directory(&self, name: &Path) -> bool {
        self.kind(name) == Some(SFlag::S_IFDIR)
    }

    fn kind(&self, name: &Path) -> Option<SFlag> {
        let stat = self.openat(name, OFlag::O_PATH, Mode::empty()).and_then(|fd| fstat(&fd)).ok()?;
        Some(SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()))
    }

    /// Removes an entry.
    pub(super) fn remove(&self, name: &Path) -> Result<(), Errno> {
        let (parent, last) = self.parent(name)?;
        unlinkat(parent, last, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes a directory, if it is empty.
    pub(super) fn remove_directory(&self, name: &Path) -> Result<(), Errno> {
        let (parent, last) = self.parent(name)?;
        unlinkat(parent, last, UnlinkatFlags::RemoveDir)
    }

    /// Makes the directories above an entry: who may make names in the base may in them, and nobody else. One that goes again
    /// at once because it is empty is no error.
    pub(super) fn make_parents(&self, name: &Path) -> Result<(), Errno> {
        for directory in parents(name) {
            match self.make_directory(directory) {
                Ok(()) | Err(Errno::EEXIST | Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn make_directory(&self, name: &Path) -> Result<(), Errno> {
        let (parent, last) = self.parent(name)?;
        mkdirat(&parent, last, self.mode)?;
        let made = self.openat(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        // Whatever the umask says. Somebody else's is not changed: that is his alone.
        match fchmod(made, self.mode) {
            Err(Errno::EPERM) => Ok(()),
            result => result,
        }
    }

    /// Removes the directories above an entry that is gone, as far as nothing else is in them.
    pub(super) fn remove_empty_parents(&self, name: &Path) {
        for directory in parents(name).into_iter().rev() {
            if self.remove_directory(directory).is_err() {
                return;
            }
        }
    }

    /// Whether a directory above an entry has not got its permissions yet from who just made it.
    pub(super) fn is_being_made(&self, name: &Path) -> bool {
        let mode = |directory: &Path| {
            let fd = self.openat(directory, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
            Some(Mode::from_bits_truncate(fstat(&fd).ok()?.st_mode))
        };
        parents(name).into_iter().any(|directory| mode(directory) != Some(self.mode))
    }

    /// Calls `entry` for every regular file below `directory`, and `left` for every directory after what is in it.
    pub(super) fn walk(
        &self,
        directory: &Path,
        depth: u32,
        entry: &mut impl FnMut(&Path),
        left: &mut impl FnMut(&Path),
    ) {
        for found in fs::read_dir(self.path.join(directory)).into_iter().flatten().flatten() {
            let name = directory.join(found.file_name());
            match found.file_type() {
                Ok(kind) if kind.is_dir() && depth > 0 => {
                    self.walk(&name, depth - 1, entry, left);
                    left(&name);
                }
                Ok(kind) if kind.is_file() => entry(&name),
                _ => {}
            }
        }
    }

    /// The directory that a name is in, and its last part.
    fn parent<'n>(&self, name: &'n Path) -> Result<(OwnedFd, &'n OsStr), Errno> {
        let last = name.file_name().ok_or(Errno::EINVAL)?;
        let above = name.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((self.openat(above, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?, last))
    }

    fn openat(&self, name: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .mode(mode)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(self.fd.as_fd(), name, how)
    }
}

/// The directories above an entry, the outermost first.
fn parents(name: &Path) -> Vec<&Path> {
    let mut parents: Vec<&Path> =
        name.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
    parents.reverse();
    parents
}

/// A name as a path.
pub(super) fn path(name: &OsStr) -> PathBuf {
    PathBuf::from(OsString::from(name))
}
