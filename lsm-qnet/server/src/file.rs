//! An open file of a connection, and what can be done with it.
//!
//! Nothing here waits for a partner: files are opened and read without blocking. Where a local reader
//! would wait (an empty FIFO, a silent terminal), [`Failure::WouldWait`] says so, and the service tries
//! again when the kernel reports data.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Whence as SeekFrom, lseek};
use qnet_iomsg::flags::{IOFLAG_NONBLOCK, IOFLAG_READ};
use qnet_iomsg::message::Whence;
use qnet_iomsg::{Dirent, DirentWriter, Stat};

use crate::export::Export;
use crate::resolve::{Found, Place};
use crate::{attributes, names, sys};

/// Most bytes that one READ returns.
pub const MAX_READ: usize = 1024 * 1024;
/// Bytes of directory records fetched from the kernel at once; a name has at most 255.
const DIRECTORY_CHUNK: usize = 32 * 1024;
/// Bytes read between two looks at whether the caller still wants them.
const CANCEL_STEP: usize = 256 * 1024;

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The answer to the caller.
    Errno(Errno),
    /// Nothing to read now; the caller is willing to wait.
    WouldWait,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Sequence of bytes with positions; reading never waits for a partner.
    Data,
    /// Directory.
    Directory,
    /// FIFO or character device: reading may have to wait.
    Partner,
    /// Opened without access: attributes only.
    Name,
}

/// An open file (QNX: OCB). Closed when the last request that uses it is done.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    place: Place,
    kind: Kind,
    /// The only names in a directory that exist for remote callers; `None`: all that there are.
    names: Option<Vec<Vec<u8>>>,
    nonblock: bool,
    /// Bytes, or a directory's cookie. Reads without an offset hold the lock, so that each byte is
    /// given out once.
    position: Mutex<u64>,
}

/// Tells a request that its caller has left.
#[derive(Debug, Default)]
pub struct Cancel {
    left: AtomicBool,
    /// The thread that works on the request; 0 is none.
    thread: AtomicI32,
}

impl Cancel {
    /// The caller has left: a thread that waits in the kernel for it is woken.
    pub fn set(&self) {
        self.left.store(true, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            sys::wake_thread(thread);
        }
    }

    /// Whether it has.
    pub fn is_set(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Runs `work` as the thread that [`Cancel::set`] wakes.
    pub fn guard<T>(&self, work: impl FnOnce() -> T) -> T {
        self.thread.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
        let result = work();
        self.thread.store(0, Ordering::SeqCst);
        result
    }

    /// Repeats a call that a signal ended, unless the signal meant this request.
    pub fn retry<T>(&self, mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        loop {
            match call() {
                Err(Errno::EINTR) if !self.is_set() => {}
                result => return result,
            }
        }
    }
}

impl OpenFile {
    /// Opens a found place for reading, or for its attributes alone when `ioflag` has no access bit.
    ///
    /// # Errors
    /// Those of `open`; ELOOP for a symbolic link or network directory, EACCES for our own process.
    pub fn open(export: &Export, found: Found, ioflag: u32, cancel: &Cancel) -> Result<Self, Errno> {
        let nonblock = ioflag & IOFLAG_NONBLOCK != 0;
        let (place, position) = (found.place, Mutex::new(0));
        let names = export.names(place);
        if ioflag & IOFLAG_READ == 0 {
            return Ok(Self { fd: found.fd, place, kind: Kind::Name, names, nonblock, position });
        }
        match place {
            Place::Network => return Err(Errno::ELOOP),
            Place::OwnProcess => return Err(Errno::EACCES),
            _ => {}
        }
        let kind = match u32::from(sys::statx(found.fd.as_fd(), true)?.stx_mode) & libc::S_IFMT {
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => return Err(Errno::ELOOP),
            libc::S_IFREG | libc::S_IFBLK => Kind::Data,
            _ => Kind::Partner,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = cancel.retry(|| export.open_found(found.fd.as_fd(), flags))?;
        Ok(Self { fd, place, kind, names, nonblock, position })
    }

    /// The descriptor, to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the same bytes can be read again.
    pub fn has_positions(&self) -> bool {
        self.kind != Kind::Partner
    }

    /// Attributes.
    ///
    /// # Errors
    /// As `statx`.
    pub fn stat(&self) -> Result<Stat, Errno> {
        attributes::stat(self.fd(), self.place)
    }

    /// Appends data or directory entries to `out`, at most `max` bytes. Fewer than `max` bytes of a file
    /// mean its end, unless it is a FIFO or a device.
    ///
    /// # Errors
    /// EBADF: not open for reading. EINTR: the caller left. Those of `read`. A directory whose next entry
    /// does not fit into `max`: EINVAL.
    pub fn read(&self, out: &mut Vec<u8>, read: &ReadArgs, cancel: &Cancel) -> Result<(), Failure> {
        let max = read.max.min(MAX_READ);
        let offset = match read.offset {
            Some(offset) => Some(i64::try_from(offset).map_err(|_| Errno::EINVAL)?),
            None => None,
        };
        let nonblock = self.nonblock || read.nonblock;
        match self.kind {
            Kind::Name => Err(Errno::EBADF.into()),
            Kind::Data => match offset {
                Some(offset) => self.read_at(out, offset, max, nonblock, cancel),
                None => self.at_position(|position| {
                    let start = out.len();
                    self.read_at(out, *position as i64, max, nonblock, cancel)?;
                    *position += (out.len() - start) as u64;
                    Ok(())
                }),
            },
            Kind::Directory => self.at_position(|position| {
                let from = read.offset.unwrap_or(*position);
                *position = self.read_directory(out, from, max, read.with_type, cancel)?;
                Ok(())
            }),
            Kind::Partner => self.read_partner(out, max, nonblock, cancel),
        }
    }

    /// Moves the position; returns the new one.
    ///
    /// # Errors
    /// EINVAL: before the beginning. ESPIPE: a FIFO or device. EBADF: not open for reading.
    pub fn seek(&self, whence: Whence, offset: i64) -> Result<u64, Errno> {
        match self.kind {
            Kind::Name => return Err(Errno::EBADF),
            Kind::Partner => return Err(Errno::ESPIPE),
            // cookies cannot be counted with
            Kind::Directory if whence != Whence::Set => return Err(Errno::EINVAL),
            Kind::Data | Kind::Directory => {}
        }
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => *position as i64,
            Whence::End => lseek(self.fd(), 0, SeekFrom::SeekEnd)?,
        };
        let new = base.checked_add(offset).and_then(|sum| u64::try_from(sum).ok()).ok_or(Errno::EINVAL)?;
        *position = new;
        Ok(new)
    }

    /// Writes to the medium what the kernel still holds of this file.
    ///
    /// # Errors
    /// As `fsync`.
    pub fn sync(&self, data_only: bool) -> Result<(), Errno> {
        match self.kind {
            Kind::Data if data_only => nix::unistd::fdatasync(self.fd()),
            Kind::Data | Kind::Directory => nix::unistd::fsync(self.fd()),
            Kind::Partner | Kind::Name => Ok(()),
        }
    }

    fn at_position<T>(&self, work: impl FnOnce(&mut u64) -> Result<T, Failure>) -> Result<T, Failure> {
        // the position is written last, so a panic leaves the old one
        work(&mut self.position.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Until `max` bytes or the end. An error after some bytes is told by the next read.
    fn read_at(
        &self,
        out: &mut Vec<u8>,
        offset: i64,
        max: usize,
        nonblock: bool,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        let start = out.len();
        while out.len() - start < max {
            let have = out.len() - start;
            let at = offset.checked_add(have as i64).ok_or(Errno::EINVAL)?;
            let step = (max - have).min(CANCEL_STEP);
            if cancel.is_set() {
                out.truncate(start);
                return Err(Errno::EINTR.into());
            }
            match cancel.retry(|| sys::read_more(self.fd(), Some(at), step, out)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if have > 0 => break,
                // regular files that deliver events, such as trace_pipe
                Err(Errno::EAGAIN) if !nonblock => return Err(Failure::WouldWait),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn read_partner(
        &self,
        out: &mut Vec<u8>,
        max: usize,
        nonblock: bool,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        // A FIFO that no writer ever opened reads as ended; only poll tells the difference.
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        let ready = cancel.retry(|| poll(&mut fds, PollTimeout::ZERO))? > 0;
        if !ready && !nonblock {
            return Err(Failure::WouldWait);
        }
        match cancel.retry(|| sys::read_more(self.fd(), None, max, out)) {
            Ok(_) => Ok(()),
            Err(Errno::EAGAIN) if !nonblock => Err(Failure::WouldWait),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Entries from the cookie `from` on; returns the cookie behind the last one that fitted.
    fn read_directory(
        &self,
        out: &mut Vec<u8>,
        from: u64,
        max: usize,
        with_type: bool,
        cancel: &Cancel,
    ) -> Result<u64, Errno> {
        let mut cookie = i64::try_from(from).map_err(|_| Errno::EINVAL)?;
        lseek(self.fd(), cookie, SeekFrom::SeekSet)?;
        let mut writer = DirentWriter::new(max, with_type);
        let mut chunk = vec![0; DIRECTORY_CHUNK];
        let mut full = false;
        while !full {
            if cancel.is_set() {
                return Err(Errno::EINTR);
            }
            let len = cancel.retry(|| sys::getdents64(self.fd(), &mut chunk))?;
            if len == 0 {
                break;
            }
            for entry in KernelEntries(chunk.get(..len).unwrap_or_default()) {
                if self.is_hidden(entry.name) {
                    cookie = entry.next as i64;
                    continue;
                }
                if !writer.push(&self.presented(entry)) {
                    full = true;
                    break;
                }
                cookie = entry.next as i64;
            }
        }
        if full && writer.is_empty() {
            return Err(Errno::EINVAL);
        }
        out.extend_from_slice(&writer.finish());
        Ok(cookie as u64)
    }

    /// Names that do not exist for remote callers; see [`crate::resolve`].
    fn is_hidden(&self, name: &[u8]) -> bool {
        if matches!(self.place, Place::Names | Place::NamesTop) {
            return !names::is_shown(self.fd(), self.place, name);
        }
        match &self.names {
            Some(names) => !matches!(name, b"." | b"..") && !names.iter().any(|known| known == name),
            None => self.place == Place::ProcRoot && matches!(name, b"self" | b"thread-self"),
        }
    }

    /// `/proc/net` and `/proc/mounts` are served as what they lead to.
    fn presented<'a>(&self, entry: Dirent<'a>) -> Dirent<'a> {
        let file_type = match (self.place, entry.name) {
            (Place::ProcRoot, b"net") => Some(libc::S_IFDIR),
            (Place::ProcRoot, b"mounts") => Some(libc::S_IFREG),
            _ => entry.file_type,
        };
        Dirent { file_type, ..entry }
    }
}

/// What a READ asks for.
#[derive(Debug, Clone, Copy)]
pub struct ReadArgs {
    /// Most bytes wanted.
    pub max: usize,
    /// Where; `None` is the file's position.
    pub offset: Option<u64>,
    /// This read does not wait.
    pub nonblock: bool,
    /// Directory entries carry types.
    pub with_type: bool,
}

/// The records of `getdents64`: ino u64, next i64, reclen u16, type u8, name, NUL, padding.
struct KernelEntries<'a>(&'a [u8]);

impl<'a> Iterator for KernelEntries<'a> {
    type Item = Dirent<'a>;

    fn next(&mut self) -> Option<Dirent<'a>> {
        let (ino, rest) = self.0.split_first_chunk()?;
        let (next, rest) = rest.split_first_chunk()?;
        let (reclen, rest) = rest.split_first_chunk()?;
        let (kind, _) = rest.split_first()?;
        let (record, others) = self.0.split_at_checked(u16::from_ne_bytes(*reclen).into())?;
        let name = record.get(19..)?.split(|b| *b == 0).next()?;
        self.0 = others;
        // DT_* are the file type bits of a mode, shifted
        let file_type = (*kind != libc::DT_UNKNOWN).then_some(u32::from(*kind) << 12);
        let (ino, next) = (u64::from_ne_bytes(*ino), u64::from_ne_bytes(*next));
        Some(Dirent { ino, next, name, file_type, stat: None })
    }
}
