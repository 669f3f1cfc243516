//! Making, removing and renaming names.
//!
//! Each is one call on the directory that holds the name ([`resolve_parent`]), which never follows what has the name: no
//! race can lead out of the export. The reply tells the new file's attributes where there is room.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use qnet_iomsg::connect::EFLAG_DIR;
use qnet_iomsg::filesys::{Identity, Request as Filesys, rename as rename_flag};
use qnet_iomsg::flags::{S_IFDIR, S_IFIFO, S_IFMT, S_IFREG};
use qnet_iomsg::stat::QNX_LEN;
use qnet_iomsg::{Connect, Extra, Subtype};

use super::Reply;
use crate::attributes;
use crate::export::Export;
use crate::file::{OpenFile, Opener};
use crate::resolve::{Nameless, Parent, resolve_parent};

/// Where nothing has a name of its own: what is there already cannot be made.
const MADE: Nameless = Nameless { here: Errno::EEXIST, above: Errno::EEXIST };
const RENAMED: Nameless = Nameless { here: Errno::EBUSY, above: Errno::EBUSY };

/// Carries out UNLINK, RENAME, MKNOD and LINK.
pub(super) fn run(
    export: &Export,
    opener: &Opener,
    (request, source): (&Connect<'_>, Option<&OpenFile>),
    reply: Reply<'_>,
) -> Result<i64, Errno> {
    let on = OnName { export, opener, new: request };
    match (request.subtype, request.extra) {
        (Subtype::Unlink, _) => on.unlink(&reply),
        (Subtype::Mknod, _) => on.mknod(reply),
        (Subtype::Link, Extra::Symlink(target)) => on.symlink(target, reply),
        (Subtype::Rename, Extra::Rename(old)) => on.rename((old, None), 0, reply),
        // QNX names the file by a connection to it; ours by path ([`Filesys::Link`]), which saves the opening
        (Subtype::Link, Extra::Link(_)) => on.link_file(source.ok_or(Errno::EBADF)?, reply),
        _ => Err(Errno::ENOSYS),
    }
}

/// What acts on the name that a CONNECT's path ends in.
pub(super) struct OnName<'a> {
    pub(super) export: &'a Export,
    pub(super) opener: &'a Opener,
    pub(super) new: &'a Connect<'a>,
}

impl OnName<'_> {
    /// Carries out one of our requests by path; `meant`: the file that it is for.
    pub(super) fn run(
        &self,
        request: Filesys<'_>,
        meant: Option<Identity>,
        reply: Reply<'_>,
    ) -> Result<i64, Errno> {
        let guard = |guard| (guard != 0).then_some(guard);
        match request {
            Filesys::Rename { flags, guard: of_old, old } => self.rename((old, guard(of_old)), flags, reply),
            Filesys::Link { guard: of_old, old } => self.link((old, guard(of_old)), meant, reply),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// The directory and name of the CONNECT's path.
    fn parent(&self, nameless: Nameless, reply: &Reply<'_>) -> Result<Parent, Errno> {
        self.resolve((self.new.path, self.new.guard()), nameless, reply)
    }

    fn resolve(
        &self,
        (path, guard): (&[u8], Option<u32>),
        nameless: Nameless,
        reply: &Reply<'_>,
    ) -> Result<Parent, Errno> {
        let parent = reply.cancel.retry(|| resolve_parent(self.export, path, nameless))?;
        parent.check(guard)?;
        Ok(parent)
    }

    /// # Errors
    /// What who may not change the directory is told.
    fn may_change(&self, parent: &Parent) -> Result<(), Errno> {
        match self.opener.refusal(parent.dir.read_only) {
            Some(refusal) => Err(self.export.refusal(refusal)),
            None => Ok(()),
        }
    }

    /// The same for a name that is to be made: one that is there is told first, as by a file system that is mounted
    /// read-only, so that `mkdir -p` works.
    fn may_make(&self, parent: &Parent) -> Result<(), Errno> {
        let refused = self.opener.refusal(parent.dir.read_only).is_some();
        if refused && parent.exists() { Err(Errno::EEXIST) } else { self.may_change(parent) }
    }

    fn unlink(&self, reply: &Reply<'_>) -> Result<i64, Errno> {
        let directory = self.new.eflag & EFLAG_DIR != 0;
        let (nameless, flags) = if directory {
            (last_is_dot(self.new.path), UnlinkatFlags::RemoveDir)
        } else {
            (Nameless { here: Errno::EISDIR, above: Errno::EISDIR }, UnlinkatFlags::NoRemoveDir)
        };
        let parent = self.parent(nameless, reply)?;
        self.may_change(&parent)?;
        if parent.directory && !directory {
            return Err(Errno::ENOTDIR);
        }
        reply.cancel.retry(|| unlinkat(parent.dir.fd.as_fd(), parent.name.as_c_str(), flags))?;
        Ok(0)
    }

    /// Directories, FIFOs and files. A device or socket of this node is nothing that another one should make.
    fn mknod(&self, reply: Reply<'_>) -> Result<i64, Errno> {
        let parent = self.parent(MADE, &reply)?;
        self.may_make(&parent)?;
        let kind = self.new.mode & S_IFMT;
        let mode = Mode::from_bits_truncate(self.new.mode & !S_IFMT);
        let (dir, name) = (parent.dir.fd.as_fd(), parent.name.as_c_str());
        let make = || match kind {
            S_IFDIR => mkdirat(dir, name, mode),
            _ if parent.directory => Err(Errno::ENOENT),
            S_IFIFO => mknodat(dir, name, SFlag::S_IFIFO, mode, 0),
            S_IFREG | 0 => mknodat(dir, name, SFlag::S_IFREG, mode, 0),
            _ => Err(Errno::EPERM),
        };
        reply.cancel.retry(make)?;
        Ok(tell(&parent, reply))
    }

    fn symlink(&self, target: &[u8], reply: Reply<'_>) -> Result<i64, Errno> {
        let parent = self.parent(MADE, &reply)?;
        self.may_make(&parent)?;
        if parent.directory {
            return Err(Errno::ENOENT);
        }
        let target = OsStr::from_bytes(target);
        reply.cancel.retry(|| symlinkat(target, parent.dir.fd.as_fd(), parent.name.as_c_str()))?;
        Ok(tell(&parent, reply))
    }

    fn link(
        &self,
        old: (&[u8], Option<u32>),
        meant: Option<Identity>,
        reply: Reply<'_>,
    ) -> Result<i64, Errno> {
        let nameless = Nameless { here: Errno::EPERM, above: Errno::EPERM };
        let old = self.resolve(old, nameless, &reply)?;
        let new = self.parent(MADE, &reply)?;
        self.may_make(&new)?;
        // one more name is a change of the file, too
        self.may_change(&old)?;
        if new.directory || old.directory {
            return Err(Errno::ENOENT);
        }
        let Some(meant) = meant else {
            let (from, to) = (old.dir.fd.as_fd(), new.dir.fd.as_fd());
            let (old, name) = (old.name.as_c_str(), new.name.as_c_str());
            reply.cancel.retry(|| linkat(from, old, to, name, AtFlags::empty()))?;
            return Ok(tell(&new, reply));
        };
        let found = old.open()?;
        if !meant.is_met_by(&attributes::stat(found.as_fd(), old.dir.place)?) {
            return Err(Errno::ESTALE);
        }
        self.link_found(found.as_fd(), &new, reply)
    }

    /// One more name for an open file.
    fn link_file(&self, file: &OpenFile, reply: Reply<'_>) -> Result<i64, Errno> {
        let new = self.parent(MADE, &reply)?;
        self.may_make(&new)?;
        file.may_change(self.export)?;
        if new.directory {
            return Err(Errno::ENOENT);
        }
        self.link_found(file.fd(), &new, reply)
    }

    /// One more name for what a descriptor means, open or not.
    fn link_found(&self, found: BorrowedFd<'_>, new: &Parent, reply: Reply<'_>) -> Result<i64, Errno> {
        let (by_number, number) = self.export.by_number(found);
        let (to, name) = (new.dir.fd.as_fd(), new.name.as_c_str());
        // the name in /proc leads to the file itself: a symbolic link is not followed any further
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        reply.cancel.retry(|| linkat(by_number, number.as_str(), to, name, follow))?;
        Ok(tell(new, reply))
    }

    fn rename(&self, old: (&[u8], Option<u32>), flags: u32, reply: Reply<'_>) -> Result<i64, Errno> {
        let flags = match flags {
            0 => RenameFlags::empty(),
            rename_flag::NOREPLACE => RenameFlags::RENAME_NOREPLACE,
            rename_flag::EXCHANGE => RenameFlags::RENAME_EXCHANGE,
            _ => return Err(Errno::EINVAL),
        };
        let old = self.resolve(old, RENAMED, &reply)?;
        let new = self.parent(RENAMED, &reply)?;
        self.may_change(&old)?;
        self.may_change(&new)?;
        let mut from = old.name.as_bytes().to_vec();
        let mut to = new.name.as_bytes().to_vec();
        // the kernel knows what a slash behind a name asks for
        for (name, parent) in [(&mut from, &old), (&mut to, &new)] {
            if parent.directory {
                name.push(b'/');
            }
        }
        let (from, to) = (OsStr::from_bytes(&from), OsStr::from_bytes(&to));
        let (of_old, of_new) = (old.dir.fd.as_fd(), new.dir.fd.as_fd());
        reply.cancel.retry(|| renameat2(of_old, from, of_new, to, flags))?;
        Ok(tell(&new, reply))
    }
}

/// What RMDIR of `.`, of the root and of `..` says.
fn last_is_dot(path: &[u8]) -> Nameless {
    let trimmed = path.iter().rposition(|byte| *byte != b'/').map_or(&[][..], |end| &path[..=end]);
    let here = if trimmed.ends_with(b".") { Errno::EINVAL } else { Errno::EBUSY };
    Nameless { here, above: Errno::ENOTEMPTY }
}

/// Replies with the attributes of what has the name now, if there is room; it was made, whatever becomes of this.
fn tell(parent: &Parent, mut reply: Reply<'_>) -> i64 {
    if reply.left() >= QNX_LEN
        && let Ok(stat) = parent.stat()
    {
        reply.put(&stat.emit(reply.left()));
    }
    0
}
