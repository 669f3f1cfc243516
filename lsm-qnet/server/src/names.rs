//! `/dev/name` as other nodes see it: the names of this node's channels, from below the node's root.
//!
//! ```text
//!  /net/NODE/dev/name/local/…      ROOT/dev/name/local, without what dead owners left
//!                     global/…     ROOT/dev/name/global, while a gns keeps it
//!                     gns_server   ROOT/dev/name/gns_server, while that gns lives
//! ```
//!
//! Whatever the machine has at `/dev/name` itself, and whichever files are served: these are names, not files. Reading them
//! shows the lines that their owners wrote for people. An open that asks for the *name* (`FTYPE_NAME`) is answered with the
//! channel that has it, and the caller goes there; whether it lets him in is decided there. Global names that this node
//! offers lead to their channels, all others to the gns.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, open, openat};
use nix::sys::stat::Mode;
use qnet_iomsg::connect::{FTYPE_ANY, FTYPE_NAME};
use qnet_iomsg::redirect::Entry;
use qnet_ipc::Root;
use qnet_ipc::names::{self, Owner};

use crate::export::Export;
use crate::resolve::{Found, Place, open_path};
use crate::sys;

/// What a gns is called, of either kind.
const MANAGERS: [&[u8]; 2] = [b"gns_server", b"gns_client"];
/// Directory of the global names that this node offers; see [`Root::offered_names`].
const OFFERED: &[u8] = b".global";

/// The directory of names. Held open, so that its owner's private root need not be open to callers.
#[derive(Debug)]
pub struct Names {
    directory: OwnedFd,
}

impl Names {
    /// Of the node at `root`; made where it is missing.
    ///
    /// # Errors
    /// It can be neither made nor opened.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let root = Root::at(root)?;
        names::make_local_directory(&root)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { directory: open(&root.names(), flags, Mode::empty())? })
    }

    /// What stands behind `dev/name` in a path; `None` when it leads elsewhere. Slashes at the front mean nothing.
    #[must_use]
    pub fn inside(path: &[u8]) -> Option<Vec<&[u8]>> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let below = parts.next() == Some(b"dev") && parts.next() == Some(b"name");
        let rest: Vec<&[u8]> = parts.collect();
        (below && !rest.contains(&&b".."[..])).then_some(rest)
    }

    /// The place that `parts` below the directory lead to, resolved as the user that the calling thread acts for.
    ///
    /// # Errors
    /// `ENOENT` for what is not there any more, and those of `open`.
    pub(crate) fn resolve(&self, export: &Export, parts: &[&[u8]], follow: bool) -> Result<Found, Errno> {
        let in_global = parts.first() == Some(&&b"global"[..]);
        if parts.first() == Some(&OFFERED) || in_global && self.manager(export).is_none() {
            return Err(Errno::ENOENT);
        }
        let fd = self.open_path(parts, follow && in_global)?;
        if in_global {
            return Ok(Found { fd, place: Place::Ordinary, read_only: true });
        }
        let place = if parts.is_empty() { Place::NamesTop } else { Place::Names };
        let found = Found { fd, place, read_only: true };
        if is_file(&found.fd)? && holder(export, &found.fd)?.is_none() {
            return Err(Errno::ENOENT);
        }
        Ok(found)
    }

    /// The channels that have the name `parts` below the directory, or the gns that knows them.
    ///
    /// # Errors
    /// `ENOENT`: nobody has it. `EISDIR`: a directory of names.
    pub(crate) fn servers(&self, export: &Export, parts: &[&[u8]]) -> Result<Entry, Errno> {
        let entry =
            |owner: Owner, file_type| Entry { nd: 0, pid: owner.pid, chid: owner.chid, handle: 0, file_type };
        let Some((b"global", name)) = parts.split_first().map(|(first, rest)| (*first, rest)) else {
            return self.owner(export, parts).map(|owner| entry(owner, FTYPE_NAME));
        };
        let offered = [&[OFFERED], name].concat();
        match self.owner(export, &offered) {
            Ok(owner) => Ok(entry(owner, FTYPE_NAME)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR) if !name.is_empty() => {
                self.manager(export).map(|owner| entry(owner, FTYPE_ANY)).ok_or(Errno::ENOENT)
            }
            Err(errno) => Err(errno),
        }
    }

    /// The gns of this node.
    fn manager(&self, export: &Export) -> Option<Owner> {
        MANAGERS.iter().find_map(|name| self.owner(export, &[name]).ok())
    }

    fn owner(&self, export: &Export, parts: &[&[u8]]) -> Result<Owner, Errno> {
        let fd = self.open_path(parts, false)?;
        if !is_file(&fd)? {
            return Err(Errno::EISDIR);
        }
        // A process of another PID namespace cannot be reached from here.
        holder(export, &fd)?.filter(|owner| owner.pid != 0).ok_or(Errno::ENOENT)
    }

    fn open_path(&self, parts: &[&[u8]], follow: bool) -> Result<OwnedFd, Errno> {
        let path = if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') };
        let how = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
        // Users may make links among the entries; those in the global directory are the gns's own.
        let how = if follow { how } else { how | ResolveFlag::RESOLVE_NO_SYMLINKS };
        open_path(self.directory.as_fd(), &path, if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW }, how)
    }
}

/// Whether an entry of a directory of names is shown: dead owners' are not, nor what is not for people.
pub(crate) fn is_shown(directory: BorrowedFd<'_>, place: Place, name: &[u8]) -> bool {
    match (place, name) {
        (_, b"." | b"..") => return true,
        (Place::NamesTop, OFFERED) => return false,
        (Place::NamesTop, b"global") => return MANAGERS.iter().any(|name| is_shown(directory, place, name)),
        _ => {}
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(directory, OsStr::from_bytes(name), flags, Mode::empty()) {
        Ok(fd) if is_file(&fd) == Ok(true) => names::holder(&fd).is_ok_and(|owner| owner.is_some()),
        // A directory; what cannot be opened is neither.
        Ok(_) | Err(Errno::EACCES) => true,
        Err(_) => false,
    }
}

fn is_file(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(u32::from(sys::statx(fd.as_fd(), true)?.stx_mode) & libc::S_IFMT == libc::S_IFREG)
}

fn holder(export: &Export, fd: &OwnedFd) -> Result<Option<Owner>, Errno> {
    let file = export.open_found(fd.as_fd(), OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    names::holder(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_dev_name_are_names() {
        for (path, inside) in [
            ("/dev/name", Some(vec![])),
            ("dev//name/./local/", Some(vec!["local"])),
            ("dev/name/local/a/b", Some(vec!["local", "a", "b"])),
            ("dev/names", None),
            ("dev", None),
            ("x/dev/name", None),
            ("dev/name/../null", None),
            ("dev/name/local/../../null", None),
        ] {
            let found = Names::inside(path.as_bytes());
            let expected: Option<Vec<&[u8]>> =
                inside.map(|parts: Vec<&str>| parts.into_iter().map(str::as_bytes).collect());
            assert_eq!(found, expected, "{path}");
        }
    }
}
