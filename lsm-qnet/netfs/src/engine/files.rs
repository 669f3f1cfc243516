//! Open files and directories of other nodes.
//!
//! Files with a size are read through the kernel's page cache, in requests of up to 1 MiB; such a request is filled by as
//! many READs as it takes, because the cache takes a short answer for the end of the file. Everything else (`/proc`,
//! devices, FIFOs, empty files) is read with direct I/O: what has come is passed on at once, and a read may wait as long
//! as the file makes it wait. It ends with a signal or with the connection, not with a deadline.
//!
//! Opening is close-to-open consistent: cached pages are dropped, and attributes the kernel remembers are withdrawn when
//! the node's are newer.

use std::{collections::VecDeque, time::Instant};

use qnet_iomsg::{Dirents, Io};
use tracing::debug;

use super::{
    Engine,
    job::{Job, Outcome, Task},
    names::{is_same, parse},
    nodes::{self, Listed},
};
use crate::{
    attributes::{self, FileId},
    fuse::{
        MAX_TRANSFER,
        abi::{FOPEN_DIRECT_IO, FOPEN_NOFLUSH, OpenOut},
        reply,
    },
    inodes::Kind,
    link::{Reply, SessionId},
};

/// Bytes of entries fetched at once; the kernel mostly asks for less.
pub(super) const DIRECTORY_AHEAD: u32 = 32 * 1024;

/// A file that is open on another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFile {
    pub(super) session: SessionId,
    pub(super) coid: i32,
    nodeid: u64,
    /// nodeid of the node's directory.
    node: u64,
    id: FileId,
    direct: bool,
}

/// Entries of a directory that the kernel has not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The offset at which the kernel continues when it takes the first of them.
    position: u64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    ino: u64,
    next: u64,
    kind: u8,
    name: Box<[u8]>,
}

/// What a file handle of the kernel stands for.
#[derive(Debug)]
pub(super) enum Handle {
    /// `/net` itself, as it was when the present pass over it began.
    Nodes(Vec<Listed>),
    /// A file.
    File(OpenFile),
    /// A directory.
    Directory(OpenFile, Ahead),
    /// The statistics, as they were when they were opened.
    Text(Box<[u8]>),
}

impl Handle {
    /// The open file on another node, if it is one.
    pub(super) fn file(&self) -> Option<&OpenFile> {
        match self {
            Self::Nodes(_) | Self::Text(_) => None,
            Self::File(file) | Self::Directory(file, _) => Some(file),
        }
    }
}

/// The task for an open. Nothing can be changed through `/net`.
pub(super) fn open_task(nodeid: u64, flags: u32) -> Result<Task, i32> {
    let flags = flags.cast_signed();
    if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0 {
        return Err(libc::EROFS);
    }
    Ok(Task::Open { nodeid, directory: false, nonblocking: flags & libc::O_NONBLOCK != 0 })
}

impl Engine {
    pub(super) fn read_task(&self, fh: u64, offset: u64, size: u32) -> Result<Task, i32> {
        match self.handles.get(&fh) {
            Some(Handle::File(_)) => Ok(Task::Read { fh, offset, size: size.min(MAX_TRANSFER) }),
            Some(_) => Err(libc::EISDIR),
            None => Err(libc::EBADF),
        }
    }

    pub(super) fn readdir_task(&self, fh: u64, offset: u64, size: u32) -> Result<Task, i32> {
        match self.handles.get(&fh) {
            Some(Handle::Nodes(_)) => Ok(Task::ListNodes { fh, size }),
            Some(Handle::Directory(..)) => Ok(Task::Readdir { fh, offset, size }),
            Some(Handle::File(_) | Handle::Text(_)) => Err(libc::ENOTDIR),
            None => Err(libc::EBADF),
        }
    }

    /// Whether a task has no deadline of its own.
    pub(super) fn waits_forever(&self, task: &Task) -> bool {
        let Task::Read { fh, .. } = task else { return false };
        matches!(self.handles.get(fh), Some(Handle::File(OpenFile { direct: true, .. })))
    }

    /// A READDIR that needs nobody else, if it is one.
    pub(super) fn buffered_entries(
        &mut self,
        unique: u64,
        fh: u64,
        offset: u64,
        size: u32,
    ) -> Option<Vec<u8>> {
        match self.handles.get_mut(&fh)? {
            Handle::Nodes(listed) if offset > 0 => Some(nodes::entries(unique, listed, offset, size)),
            Handle::Directory(_, ahead) if ahead.position == offset && !ahead.entries.is_empty() => {
                Some(ahead.take(unique, size))
            }
            _ => None,
        }
    }

    pub(super) fn on_open(
        &mut self,
        unique: u64,
        job: &Job,
        nodeid: u64,
        directory: bool,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let session = job.session.ok_or(libc::EIO)?;
        match self.checked_open(job, nodeid, directory, data) {
            Ok((handle, stale)) => {
                let direct = matches!(&handle, Handle::File(file) if file.direct);
                if stale {
                    self.replies.push_back(reply::forget_attributes(nodeid));
                }
                self.link.hold(session);
                let fh = self.insert_handle(handle);
                let open_flags = FOPEN_NOFLUSH | if direct { FOPEN_DIRECT_IO } else { 0 };
                Ok(reply::body(unique, &OpenOut { fh, open_flags, padding: 0 }))
            }
            Err(errno) => {
                self.link.tell(session, job.coid, Io::Close.to_bytes());
                Err(errno)
            }
        }
    }

    /// The handle for a file that the node has opened, if it is the one that was meant; and whether the kernel remembers
    /// older attributes of it.
    fn checked_open(
        &mut self,
        job: &Job,
        nodeid: u64,
        directory: bool,
        data: &[u8],
    ) -> Result<(Handle, bool), i32> {
        let stat = parse(data)?;
        let session = job.session.ok_or(libc::EIO)?;
        let node = self.inodes.location(nodeid).ok_or(libc::ESTALE)?.node;
        let inode = self.inodes.get_mut(nodeid).ok_or(libc::ESTALE)?;
        let id = FileId::of(&stat);
        if matches!(inode.kind(), Kind::File(known) if !is_same(known, &stat)) {
            return Err(libc::ESTALE);
        }
        if id.is_directory() != directory {
            return Err(if directory { libc::ENOTDIR } else { libc::EISDIR });
        }
        let version = Some(attributes::version(&stat));
        let stale = !directory && inode.told != version;
        inode.told = version;
        let direct = attributes::is_direct(&stat);
        let file = OpenFile { session, coid: job.coid, nodeid, node, id, direct };
        let handle = if directory { Handle::Directory(file, Ahead::default()) } else { Handle::File(file) };
        Ok((handle, stale))
    }

    /// Data has come for a read at `offset` that has `filled` bytes already.
    pub(super) fn on_data(
        &mut self,
        unique: u64,
        (fh, offset, size): (u64, u64, u32),
        filled: &mut usize,
        reply: Reply,
    ) -> Result<Outcome, i32> {
        let Reply { status, mut buffer } = reply;
        let got = usize::try_from(status).map_err(|_| libc::EIO)?;
        let total = filled.saturating_add(got);
        if total > size as usize || buffer.data().len() < total {
            debug!(fh, status, "a read was answered with fewer or more bytes than it says");
            return Err(libc::EIO);
        }
        buffer.truncate(total);
        let Some(Handle::File(file)) = self.handles.get(&fh) else { return Err(libc::EBADF) };
        let is_all = got == 0 || total == size as usize || self.reaches_the_end(file, offset, total);
        if file.direct || is_all {
            return Ok(Outcome::Answer(buffer.into_reply(unique)));
        }
        *filled = total;
        Ok(Outcome::More(buffer))
    }

    /// Whether `total` bytes at `offset` are all that the kernel can want: it takes a file to end at the size that it was
    /// told last, and asks anew when it is told another. Saves a small file the READ that only finds its end.
    fn reaches_the_end(&self, file: &OpenFile, offset: u64, total: usize) -> bool {
        let told = self.inodes.get(file.nodeid).and_then(|inode| inode.told);
        told.is_some_and(|(size, ..)| offset.saturating_add(total as u64) >= size)
    }

    /// Entries have come for a directory.
    pub(super) fn on_entries(
        &mut self,
        unique: u64,
        fh: u64,
        offset: u64,
        size: u32,
        status: i64,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let Some(Handle::Directory(file, ahead)) = self.handles.get_mut(&fh) else { return Err(libc::EBADF) };
        let length = usize::try_from(status).unwrap_or(usize::MAX);
        let data = data.get(..length).ok_or(libc::EIO)?;
        *ahead = Ahead { position: offset, entries: VecDeque::new() };
        for entry in Dirents::new(data) {
            let Ok(entry) = entry else {
                debug!(fh, "a directory has a broken entry");
                return Err(libc::EIO);
            };
            ahead.entries.push_back(Entry {
                ino: attributes::mixed_ino(file.node, file.id.device, entry.ino),
                next: entry.next,
                kind: attributes::entry_type(entry.file_type),
                name: entry.name.into(),
            });
        }
        Ok(ahead.take(unique, size))
    }

    /// The kernel has closed a file.
    pub(super) fn close(&mut self, now: Instant, fh: u64) {
        if let Some(file) = self.handles.remove(&fh).as_ref().and_then(Handle::file) {
            self.link.tell(file.session, file.coid, Io::Close.to_bytes());
            self.link.release(now, file.session);
        }
    }

    pub(super) fn insert_handle(&mut self, handle: Handle) -> u64 {
        self.last_fh += 1;
        self.handles.insert(self.last_fh, handle);
        self.last_fh
    }
}

impl Ahead {
    /// The READDIR reply with as many entries as fit. EINVAL when not even one does, as `getdents` says.
    fn take(&mut self, unique: u64, size: u32) -> Vec<u8> {
        let mut directory = reply::Directory::new(size as usize);
        let mut taken = 0;
        while let Some(entry) = self.entries.front() {
            if !directory.push(entry.ino, entry.next, entry.kind, &entry.name) {
                break;
            }
            taken += 1;
            self.position = entry.next;
            self.entries.pop_front();
        }
        if taken == 0 && !self.entries.is_empty() {
            return reply::status(unique, libc::EINVAL);
        }
        directory.into_reply(unique)
    }
}
