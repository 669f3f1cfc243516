//! What has been changed on a node, told to the kernel: new files, names that moved or went, attributes, space.
//!
//! The names known here follow at once. When a node's answer does not say what the new file is (a QNX node's does not), it is
//! looked up.

use std::time::{Duration, Instant};

use qnet_iomsg::{filesys::Statvfs, filesys::rename, flags::S_IFMT};
use zerocopy::IntoBytes;

use super::{
    Engine,
    files::Opened,
    job::{Job, Outcome},
    names::{entry, parse},
    task::{Made, Name},
};
use crate::{
    attributes::{self, FileId},
    fuse::{
        abi::{Kstatfs, OpenOut, WriteOut},
        reply,
    },
    inodes::Kind,
};

impl Engine {
    /// A file was made and is open, or was there and is open.
    pub(super) fn on_created(
        &mut self,
        now: Instant,
        unique: u64,
        job: &Job,
        at: &Name,
        flags: i32,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let session = job.session.ok_or(libc::EIO)?;
        let opened = (|| {
            let stat = parse(data)?;
            let entry = self.named(now, job, at, &stat)?;
            Ok((entry, Opened { nodeid: entry.nodeid, flags, stat }))
        })();
        match opened {
            Ok((entry, opened)) => {
                let (fh, open_flags) = self.keep_open(job, session, &opened, None);
                let open = OpenOut { fh, open_flags, padding: 0 };
                Ok(reply::bytes(unique, &[entry.as_bytes(), open.as_bytes()].concat()))
            }
            Err(errno) => {
                self.link.tell(session, job.coid, qnet_iomsg::Io::Close.to_bytes());
                Err(errno)
            }
        }
    }

    /// Something was made that is not open.
    pub(super) fn on_made(
        &mut self,
        now: Instant,
        unique: u64,
        job: &Job,
        at: &Name,
        what: &Made,
        data: &[u8],
    ) -> Result<Outcome, i32> {
        if let Made::Node { mode } = what
            && mode & S_IFMT == libc::S_IFIFO
        {
            return Ok(Outcome::Answer(self.on_made_fifo(unique, job, *mode)));
        }
        let Ok(stat) = parse(data) else { return Ok(Outcome::LookUp(at.clone())) };
        Ok(Outcome::Answer(reply::body(unique, &self.named(now, job, at, &stat)?)))
    }

    /// The kernel insists that what it has had made is a FIFO, which would be a local one. It gets a number that nothing
    /// comes of; with the next look-up the file is what all special files of other nodes are.
    fn on_made_fifo(&mut self, unique: u64, job: &Job, mode: u32) -> Vec<u8> {
        let id = FileId { device: (0, 0), ino: 0, file_type: mode & S_IFMT, born: (0, 0) };
        let nodeid = self.inodes.unnamed(Kind::File(id));
        let (uid, gid) = (job.caller.uid, job.caller.gid);
        let attr = attributes::of_new_fifo(nodeid, mode, (uid, gid));
        reply::body(unique, &entry(nodeid, Duration::ZERO, attr))
    }

    pub(super) fn on_removed(&mut self, unique: u64, at: &Name) -> Vec<u8> {
        self.inodes.remove_name(at.parent, &at.name);
        reply::status(unique, 0)
    }

    pub(super) fn on_renamed(&mut self, unique: u64, from: &Name, to: &Name, flags: u32) -> Vec<u8> {
        if flags & rename::EXCHANGE != 0 {
            self.inodes.exchange(from.get(), to.get());
        } else {
            self.inodes.rename(from.get(), to.get());
        }
        reply::status(unique, 0)
    }

    /// Bytes have been written at `offset`, by a program or by the node itself.
    pub(super) fn on_written(
        &mut self,
        unique: u64,
        fh: u64,
        offset: u64,
        status: i64,
    ) -> Result<Vec<u8>, i32> {
        let size = u32::try_from(status).map_err(|_| libc::EIO)?;
        if let Some(nodeid) = self.handle_file(fh).map(|file| file.nodeid)
            && let Some(inode) = self.inodes.get_mut(nodeid)
        {
            inode.note_size(|known| known.max(offset.saturating_add(size.into())));
        }
        Ok(reply::body(unique, &WriteOut { size, padding: 0 }))
    }

    /// Space has been allocated or freed up to `end`.
    pub(super) fn on_allocated(&mut self, unique: u64, fh: u64, end: u64, mode: u32) -> Vec<u8> {
        if mode.cast_signed() & libc::FALLOC_FL_KEEP_SIZE == 0
            && let Some(nodeid) = self.handle_file(fh).map(|file| file.nodeid)
            && let Some(inode) = self.inodes.get_mut(nodeid)
        {
            inode.note_size(|known| known.max(end));
        }
        reply::status(unique, 0)
    }

    /// What a node tells of the file system behind a file.
    pub(super) fn on_statistics_of_node(&self, unique: u64, data: &[u8]) -> Result<Vec<u8>, i32> {
        let found = Statvfs::parse(data).map_err(|_| libc::EIO)?;
        let statistics = Kstatfs {
            blocks: found.blocks,
            bfree: found.free,
            bavail: found.available,
            files: found.files,
            ffree: found.free_files,
            bsize: found.block,
            namelen: found.name_max,
            frsize: found.fragment,
            ..Kstatfs::default()
        };
        Ok(reply::body(unique, &statistics))
    }
}
