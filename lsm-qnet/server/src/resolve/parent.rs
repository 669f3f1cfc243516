//! The directory that holds the last name of a path, for calls that act on names.
//!
//! The directory is resolved as every path is; what follows are calls that take this directory's descriptor and one name,
//! and never follow a symbolic link: whatever happens to the path meanwhile, nothing outside of the export is touched.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::fcntl::ResolveFlag;
use qnet_iomsg::Stat;
use qnet_iomsg::filesys;

use super::{Found, PATH_MAX, Place, TrimSlash, Walk, open_below, open_path, resolve};
use crate::export::Export;
use crate::names::Names;
use crate::{attributes, sys};

/// A directory and a name in it.
#[derive(Debug)]
pub(crate) struct Parent {
    /// The directory.
    pub(crate) dir: Found,
    /// The name; a single component, not `.` or `..`.
    pub(crate) name: CString,
    /// The path ended in a slash: a directory is meant.
    pub(crate) directory: bool,
}

/// How a path that ends in no name of its own is answered, by what was to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nameless {
    /// For the root, and `.`.
    pub(crate) here: Errno,
    /// For `..`.
    pub(crate) above: Errno,
}

/// Resolves all of `path` but its last name, as the user that the calling thread acts for.
///
/// # Errors
/// Those of [`resolve`] for the directory; what `nameless` says.
pub(crate) fn resolve_parent(export: &Export, path: &[u8], nameless: Nameless) -> Result<Parent, Errno> {
    if path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let path = path.trim_slashes();
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let (path, slashes) = path.split_at(end);
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (above, name) = path.split_at(start);
    match name {
        b"" | b"." => return Err(nameless.here),
        b".." => return Err(nameless.above),
        _ => {}
    }
    let mut dir = resolve(export, if above.is_empty() { b"." } else { above }, true)?;
    // names of channels are made and removed by their owners alone
    if export.channel_names().is_some() && Names::inside(path).is_some() {
        dir.read_only = true;
    }
    if dir.place == Place::Network {
        return Err(Errno::ELOOP);
    }
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    Ok(Parent { dir, name, directory: !slashes.is_empty() })
}

/// Resolves `path` as [`resolve`] does, if the directory that holds its last name is the one that `guard` means: what is
/// found is found in the very directory that was looked at, whatever is renamed meanwhile.
///
/// # Errors
/// ESTALE: it is another one; EINVAL: the path ends in no name; those of [`resolve`].
pub(crate) fn resolve_guarded(
    export: &Export,
    path: &[u8],
    guard: u32,
    follow: bool,
) -> Result<Found, Errno> {
    if path.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let parent = resolve_parent(export, path, Nameless { here: Errno::EINVAL, above: Errno::EINVAL })?;
    parent.check(Some(guard))?;
    if export.channel_names().is_some() && Names::inside(path).is_some() {
        // nobody from another node renames anything there
        return resolve(export, path, follow);
    }
    if parent.dir.place == Place::Ordinary {
        let mut name = parent.name.as_bytes().to_vec();
        if parent.directory {
            name.push(b'/');
        }
        match open_below(parent.dir.fd.as_fd(), &name, follow, ResolveFlag::RESOLVE_BENEATH) {
            Err(Errno::EXDEV | Errno::EAGAIN) => {}
            result => {
                let read_only = parent.dir.read_only;
                return result.map(|fd| Found { fd, place: Place::Ordinary, read_only });
            }
        }
    }
    // a mount point, or a link that leads away: where to, only the whole way tells
    Walk::new(export, path, follow, Some(guard)).run()
}

impl Parent {
    /// Whether this is the directory that the caller means; see [`filesys::guard`].
    ///
    /// # Errors
    /// ESTALE: it is another one.
    pub(crate) fn check(&self, guard: Option<u32>) -> Result<(), Errno> {
        check_guard(self.dir.fd.as_fd(), guard)
    }

    /// Attributes of what has the name now; a symbolic link is not followed.
    ///
    /// # Errors
    /// As `statx`; EXDEV for a mount point.
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        attributes::stat(self.open()?.as_fd(), self.dir.place)
    }

    /// What has the name now, opened with O_PATH; a symbolic link is not followed.
    ///
    /// # Errors
    /// As `openat2`; EXDEV for a mount point.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        let how = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
        open_path(self.dir.fd.as_fd(), self.name.as_bytes(), OFlag::O_NOFOLLOW, how)
    }

    /// Whether anything has the name.
    pub(crate) fn exists(&self) -> bool {
        !matches!(self.stat(), Err(Errno::ENOENT | Errno::ENOTDIR))
    }
}

/// See [`Parent::check`].
pub(super) fn check_guard(dir: BorrowedFd<'_>, guard: Option<u32>) -> Result<(), Errno> {
    let Some(guard) = guard else { return Ok(()) };
    let found = sys::statx(dir, true)?;
    let dev = (found.stx_dev_major, found.stx_dev_minor);
    if filesys::guard(dev, found.stx_ino) == guard { Ok(()) } else { Err(Errno::ESTALE) }
}
