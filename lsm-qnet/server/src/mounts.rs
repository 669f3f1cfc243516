//! Which mounts a path may enter.
//!
//! Whoever walks over a mount point asks here what is behind it: an ordinary file system, a `/proc`
//! (whose links lead into processes, our own among them), or a network directory of Qnet, which a node
//! never serves to others. The kernel's mount table is read once, and again when it has changed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// File system type of a network directory.
const NETWORK_TYPE: &str = "fuse.qnet";

/// What lies behind a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// Any other file system.
    Ordinary,
    /// A whole `/proc`.
    Proc,
    /// A part of a `/proc` without processes, such as a `/proc/sys` mounted read-only by a container.
    ProcPart,
    /// The directory of one process, mounted by itself.
    ProcProcess,
    /// A network directory.
    Network,
}

/// The kernel's mount table as seen by this process.
#[derive(Debug)]
pub struct MountTable {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    kinds: HashMap<u64, MountKind>,
}

impl MountTable {
    /// Reads the table.
    ///
    /// # Errors
    /// `/proc/self/mountinfo` cannot be read.
    pub fn open() -> io::Result<Self> {
        let mut inner = Inner { file: File::open("/proc/self/mountinfo")?, kinds: HashMap::new() };
        inner.reload()?;
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// The kind of the mount with this id (`stx_mnt_id`), which the caller keeps busy by an open
    /// descriptor, so that the id cannot be given to another one meanwhile.
    ///
    /// `None`: the mount is not in the table, so nothing is known about it.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn kind(&self, id: u64) -> io::Result<Option<MountKind>> {
        // nothing in here is left half-done by a panic
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.has_changed()? {
            inner.reload()?;
        }
        Ok(inner.kinds.get(&id).copied())
    }
}

impl Inner {
    /// The kernel marks the file of a table that has changed since it was last polled.
    fn has_changed(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::ZERO)?;
        let changed = PollFlags::POLLPRI | PollFlags::POLLERR;
        Ok(fds[0].revents().is_some_and(|events| events.intersects(changed)))
    }

    fn reload(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        self.kinds = text.split(|b| *b == b'\n').filter_map(parse_line).collect();
        Ok(())
    }
}

/// `36 35 98:0 /root /point opts [optional]... - type source opts` → (36, kind).
fn parse_line(line: &[u8]) -> Option<(u64, MountKind)> {
    // paths may hold any bytes; the fields that are used here are ASCII
    let line = String::from_utf8_lossy(line);
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    let root = fields.nth(2)?;
    let kind = match file_system.split(' ').next()? {
        NETWORK_TYPE => MountKind::Network,
        "proc" => match root.trim_start_matches('/').split('/').next() {
            None | Some("") => MountKind::Proc,
            Some(name) if name.bytes().all(|b| b.is_ascii_digit()) => MountKind::ProcProcess,
            Some(_) => MountKind::ProcPart,
        },
        _ => MountKind::Ordinary,
    };
    Some((id, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_from_the_table() {
        for (line, kind) in [
            ("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw", MountKind::Ordinary),
            ("23 22 0:21 / /proc rw - proc proc rw", MountKind::Proc),
            ("24 23 0:21 /sys /proc/sys ro - proc proc rw", MountKind::ProcPart),
            ("25 22 0:21 /77/fd /mnt/x rw - proc proc rw", MountKind::ProcProcess),
            ("26 22 0:50 / /net rw,nosuid - fuse.qnet qnet rw,allow_other", MountKind::Network),
            ("27 22 0:51 / /a\\040b rw master:2 propagate_from:1 - fuse.sshfs x rw", MountKind::Ordinary),
        ] {
            let id = line[..2].parse().unwrap();
            assert_eq!(parse_line(line.as_bytes()), Some((id, kind)), "{line}");
        }
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"x y z"), None);
    }

    #[test]
    fn own_table_has_a_proc() {
        let table = MountTable::open().unwrap();
        let proc = std::fs::File::open("/proc").unwrap();
        let id = crate::sys::statx(proc.as_fd(), true).unwrap().stx_mnt_id;
        assert_eq!(table.kind(id).unwrap(), Some(MountKind::Proc));
        assert_eq!(table.kind(u64::MAX).unwrap(), None);
    }
}
