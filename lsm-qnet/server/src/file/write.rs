//! Changing what is in an open file: bytes, size, space.
//!
//! A WRITE is one system call, whatever its length: writes of several nodes to one file never mix, and each that appends goes
//! behind all that was there. Each WRITE says whether it does: the descriptor itself does not append, because with such a one
//! Linux ignores the offset.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::uio::pwrite;
use nix::unistd::{Whence as SeekFrom, ftruncate, lseek};
use qnet_iomsg::filesys::{SeekFor, allocate};
use qnet_iomsg::message::space;

use super::{Cancel, Failure, Kind, OpenFile, held_by_a_lease};
use crate::export::Export;
use crate::opens::By;
use crate::{special, sys};

/// Most bytes of one WRITE; of a longer one the beginning is written.
pub const MAX_WRITE: usize = 1024 * 1024;
/// Bytes copied between two looks at the clock and at whether the caller still wants them.
const COPY_STEP: usize = 16 * 1024 * 1024;
/// How long one COPY goes on; its caller asks for the rest.
const COPY_TIME: Duration = Duration::from_secs(1);

/// What a WRITE asks for.
#[derive(Debug, Clone, Copy)]
pub struct WriteArgs<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Where; `None` is the file's position, and its end with IOFLAG_APPEND.
    pub offset: Option<u64>,
    /// At the end, wherever that is; the position stays.
    pub append: bool,
    /// This write does not wait.
    pub nonblock: bool,
}

impl OpenFile {
    /// Writes; the number of bytes, which are fewer where there is no room for all.
    ///
    /// # Errors
    /// EBADF: not open for writing. Those of `write`.
    pub fn write(&self, args: &WriteArgs<'_>, cancel: &Cancel) -> Result<usize, Failure> {
        if !self.writable {
            return Err(Errno::EBADF.into());
        }
        match (self.kind, args.offset) {
            (Kind::Name | Kind::Directory, _) => Err(Errno::EBADF.into()),
            (Kind::Data, offset) if args.append => {
                let believed = file_offset(offset.unwrap_or_default())?;
                self.at_position(|_| Ok(cancel.retry(|| self.append(args.data, believed))?))
            }
            (Kind::Data, Some(offset)) => {
                Ok(cancel.retry(|| pwrite(self.fd(), args.data, file_offset(offset)?))?)
            }
            (Kind::Data, None) => self.at_position(|position| {
                if self.append {
                    let believed = file_offset(*position)?;
                    let n = cancel.retry(|| self.append(args.data, believed))?;
                    *position = lseek(self.fd(), 0, SeekFrom::SeekCur)? as u64;
                    return Ok(n);
                }
                let n = cancel.retry(|| pwrite(self.fd(), args.data, file_offset(*position)?))?;
                *position += n as u64;
                Ok(n)
            }),
            (Kind::Partner, _) => {
                special::write(self.fd(), args.data, self.nonblock || args.nonblock, cancel)
            }
        }
    }

    /// Writes to the end, and moves the descriptor's position there. Files that have none (of `/proc`, `/sys`) are written where
    /// the caller believes it to be.
    fn append(&self, data: &[u8], believed: i64) -> Result<usize, Errno> {
        match sys::append(self.fd(), data) {
            Err(Errno::EOPNOTSUPP) => pwrite(self.fd(), data, believed),
            result => result,
        }
    }

    /// Sets the size. A file that is open for nothing is opened for it, as `truncate` does, and booked like every open, so that
    /// neither takes the other for a local program's.
    ///
    /// # Errors
    /// Those of `truncate`; what who may not change the file is told. A file of which somebody has a lease is waited for.
    pub fn resize(&self, export: &Export, size: u64, cancel: &Cancel) -> Result<(), Failure> {
        let size = file_offset(size)?;
        if self.kind != Kind::Name {
            return Ok(cancel.retry(|| ftruncate(self.fd(), size))?);
        }
        self.may_change(export)?;
        let stat = sys::statx(self.fd(), true)?;
        match u32::from(stat.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::EISDIR.into()),
            libc::S_IFLNK => return Err(Errno::ELOOP.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        let by = By { cache: self.opener.cache, writes: true, keeps: false };
        let open = || cancel.retry(|| export.open_found(self.fd(), OFlag::O_WRONLY | OFlag::O_NONBLOCK));
        let opened = export.opens().open(sys::key_of(&stat), by, open);
        let (file, booked) = opened.map_err(|errno| held_by_a_lease(errno, false))?;
        let resized = cancel.retry(|| ftruncate(&file, size));
        // the descriptor goes before the booking
        drop(file);
        drop(booked);
        Ok(resized?)
    }

    /// `_IO_SPACE` with the range counted from the beginning.
    ///
    /// # Errors
    /// EINVAL: an unknown subtype. Those of `fallocate`.
    pub fn space(
        &self,
        export: &Export,
        subtype: u16,
        start: u64,
        len: u64,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        match (subtype, len) {
            (space::FREE, 0) => return self.resize(export, start, cancel),
            (space::FREE, _) => {
                self.allocate(allocate::PUNCH_HOLE | allocate::KEEP_SIZE, start, len, cancel)?
            }
            (space::ALLOCATE, _) => self.allocate(0, start, len, cancel)?,
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(())
    }

    /// Allocates, frees or shifts space; `mode` has bits of [`allocate`].
    ///
    /// # Errors
    /// EOPNOTSUPP: bits that are not known. Those of `fallocate`; EBADF for a file that is not open for writing.
    pub fn allocate(&self, mode: u32, offset: u64, len: u64, cancel: &Cancel) -> Result<(), Errno> {
        if !self.writable {
            return Err(Errno::EBADF);
        }
        if mode & !allocate::ALL != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mode = FallocateFlags::from_bits_retain(mode.cast_signed());
        let (offset, len) = (file_offset(offset)?, file_offset(len)?);
        cancel.retry(|| fallocate(self.fd(), mode, offset, len))
    }

    /// The next data or hole at or behind `offset`; the position stays.
    ///
    /// # Errors
    /// ENXIO: there is none. EBADF: open for nothing.
    pub fn seek_for(&self, what: SeekFor, offset: u64) -> Result<u64, Errno> {
        if self.kind != Kind::Data {
            return Err(if self.kind == Kind::Partner { Errno::ESPIPE } else { Errno::EBADF });
        }
        let whence = match what {
            SeekFor::Data => SeekFrom::SeekData,
            SeekFor::Hole => SeekFrom::SeekHole,
        };
        // an append without an offset finds out by the descriptor's position where it ended
        let _position = self.position.lock();
        Ok(lseek(self.fd(), file_offset(offset)?, whence)? as u64)
    }

    /// Copies from another open file; the number of bytes, 0 at its end. A long copy ends early.
    ///
    /// # Errors
    /// Those of `copy_file_range`.
    pub fn copy_from(&self, source: &Self, copy: &CopyArgs, cancel: &Cancel) -> Result<u64, Errno> {
        if (self.kind, source.kind) != (Kind::Data, Kind::Data) || !self.writable {
            return Err(Errno::EBADF);
        }
        let begun = Instant::now();
        let mut from = file_offset(copy.source_offset)?;
        let mut to = file_offset(copy.offset)?;
        let mut done = 0;
        while done < copy.len && !cancel.is_set() && (done == 0 || begun.elapsed() < COPY_TIME) {
            let step = usize::try_from(copy.len - done).unwrap_or(COPY_STEP).min(COPY_STEP);
            let copied = cancel.retry(|| sys::copy_range(source.fd(), &mut from, self.fd(), &mut to, step));
            match copied {
                Ok(0) => break,
                Ok(n) => done += n as u64,
                // an error after some bytes is told by the next copy
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }
}

/// What a COPY asks for.
#[derive(Debug, Clone, Copy)]
pub struct CopyArgs {
    /// Where to read.
    pub source_offset: u64,
    /// Where to write.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

fn file_offset(offset: u64) -> Result<i64, Errno> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}
