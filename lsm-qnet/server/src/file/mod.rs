//! An open file of a connection, and what can be done with it.
//!
//! Nothing here waits for a partner: files are opened, read and written without blocking. Where a local reader
//! would wait (an empty FIFO, a silent terminal), [`Failure::WouldWait`] says so, and the service tries
//! again when the kernel reports data.
//!
//! | module | |
//! |---|---|
//! | `read`, `directory` | bytes and entries |
//! | `write` | bytes, size, space, copies |
//! | `change` | permissions, owner, times, and what the caller may do |

mod cancel;
mod change;
mod directory;
mod read;
mod write;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Whence as SeekFrom, lseek};
use qnet_iomsg::Stat;
use qnet_iomsg::filesys;
use qnet_iomsg::flags::{
    IOFLAG_ACCESS, IOFLAG_APPEND, IOFLAG_CREAT, IOFLAG_EXCL, IOFLAG_NONBLOCK, IOFLAG_TRUNC, IOFLAG_WRITE,
    linux_from_ioflag,
};
use qnet_iomsg::message::Whence;
use qnet_iomsg::stat::FLAG_SHARED;

pub use self::cancel::Cancel;
pub use self::directory::Extras;
pub use self::read::{MAX_READ, ReadArgs};
pub use self::write::{CopyArgs, MAX_WRITE, WriteArgs};
use crate::export::{Export, Refusal};
use crate::identity::Identity;
use crate::locks::OpenLocks;
use crate::opens::{By, Cache, Use};
use crate::resolve::{Found, Place};
use crate::wait::Wait;
use crate::{attributes, sys};

/// Why nothing was done.
#[derive(Debug)]
pub enum Failure {
    /// The answer to the caller.
    Errno(Errno),
    /// It may work later, and the caller is willing to wait.
    WouldWait(Wait),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// How a file is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Sequence of bytes with positions; nothing waits for a partner.
    Data,
    /// Directory.
    Directory,
    /// FIFO or character device: reading and writing may have to wait.
    Partner,
    /// Opened without access: attributes only.
    Name,
}

/// Who opens a file, and what he may do.
#[derive(Debug, Clone)]
pub struct Opener {
    /// As whom everything on the file is done from then on.
    pub identity: Arc<Identity>,
    /// He may change files.
    pub may_change: bool,
    /// Who keeps pages of what he opens.
    pub cache: Cache,
}

impl Opener {
    /// Why nothing may be changed in a place, if so.
    pub(crate) fn refusal(&self, read_only: bool) -> Option<Refusal> {
        if !self.may_change { Some(Refusal::NoRight) } else { read_only.then_some(Refusal::ReadOnly) }
    }
}

/// An open file (QNX: OCB). Closed when the last request that uses it is done.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    place: Place,
    kind: Kind,
    opener: Opener,
    /// Why nothing of it may be changed.
    refusal: Option<Refusal>,
    /// The only names in a directory that exist for remote callers; `None`: all that there are.
    names: Option<Vec<Vec<u8>>>,
    nonblock: bool,
    writable: bool,
    /// It had no size when it was opened: what it gives may be made up, and gone when it was read (trace_pipe, kmsg).
    sizeless: bool,
    /// Every write goes to the end.
    append: bool,
    /// Bytes, or a directory's cookie. Reads and writes without an offset hold the lock, so that each byte is
    /// given out once.
    position: Mutex<u64>,
    locks: OpenLocks,
    /// Of a regular file; after the descriptors, so that it goes when they are closed.
    booked: Option<Use>,
}

impl OpenFile {
    /// Opens a found place, or for its attributes alone when `ioflag` has no access bit.
    ///
    /// # Errors
    /// Those of `open` (a socket: ENXIO); ELOOP for a symbolic link or network directory, EACCES for our own process;
    /// what [`Export`] answers to who may not change it. A FIFO that nobody reads, and a file of which somebody has a lease, are
    /// waited for.
    pub fn open(
        export: &Export,
        found: Found,
        ioflag: u32,
        opener: Opener,
        cancel: &Cancel,
    ) -> Result<Self, Failure> {
        let (place, refusal) = (found.place, opener.refusal(found.read_only));
        let changes = ioflag & (IOFLAG_WRITE | IOFLAG_TRUNC) != 0;
        let mut file = Self::unopened(export, found, ioflag, opener);
        if ioflag & IOFLAG_ACCESS == 0 {
            return if ioflag & IOFLAG_TRUNC == 0 { Ok(file) } else { Err(Errno::EINVAL.into()) };
        }
        match place {
            Place::Network => return Err(Errno::ELOOP.into()),
            Place::OwnProcess => return Err(Errno::EACCES.into()),
            _ => {}
        }
        let stat = sys::statx(file.fd(), true)?;
        let file_type = u32::from(stat.stx_mode) & libc::S_IFMT;
        file.sizeless = stat.stx_size == 0;
        file.kind = match file_type {
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => return Err(Errno::ELOOP.into()),
            libc::S_IFREG | libc::S_IFBLK => Kind::Data,
            _ => Kind::Partner,
        };
        if let Some(refusal) = refusal.filter(|_| changes) {
            return Err(export.refusal(refusal).into());
        }
        let flags = open_flags(ioflag & !(IOFLAG_CREAT | IOFLAG_EXCL));
        let open = || cancel.retry(|| export.open_found(file.fd(), flags));
        if file_type == libc::S_IFREG {
            let by = By { cache: file.opener.cache, writes: file.writable, keeps: !file.append };
            let opened = export.opens().open(sys::key_of(&stat), by, open);
            let (fd, booked) = opened.map_err(|errno| held_by_a_lease(errno, file.nonblock))?;
            (file.fd, file.booked) = (fd, Some(booked));
            file.append_by_write_alone();
            return Ok(file);
        }
        file.fd = match open() {
            // nobody reads it yet; only the kernel of who opens it locally could wait for that
            Err(Errno::ENXIO) if file_type == libc::S_IFIFO && !file.nonblock => {
                return Err(Failure::WouldWait(Wait::Later));
            }
            result => result?,
        };
        file.append_by_write_alone();
        Ok(file)
    }

    /// Makes a regular file on a device with `make`, by [`open_flags`]. Only who may change files does.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn create(
        export: &Export,
        ioflag: u32,
        opener: Opener,
        (device, make): (u64, impl FnOnce() -> Result<OwnedFd, Errno>),
    ) -> Result<Self, Errno> {
        let found = |fd| Found { fd, place: Place::Ordinary, read_only: false };
        if ioflag & IOFLAG_ACCESS == 0 {
            return Ok(Self::unopened(export, found(make()?), ioflag, opener));
        }
        let flag = |bit| ioflag & bit != 0;
        let by = By { cache: opener.cache, writes: flag(IOFLAG_WRITE), keeps: !flag(IOFLAG_APPEND) };
        let (fd, booked) = export.opens().make((by, device), make)?;
        let file = Self::unopened(export, found(fd), ioflag, opener);
        let file = Self { kind: Kind::Data, booked: Some(booked), ..file };
        file.append_by_write_alone();
        Ok(file)
    }

    /// Takes O_APPEND from the descriptor of a file with positions: each write says whether it appends.
    fn append_by_write_alone(&self) {
        if self.kind == Kind::Data && self.append {
            // it was opened with the flag, and keeps it, where the file can only grow (`chattr +a`)
            let flags = fcntl(self.fd(), FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
            let _kept = flags.and_then(|flags| fcntl(self.fd(), FcntlArg::F_SETFL(flags - OFlag::O_APPEND)));
        }
    }

    fn unopened(export: &Export, found: Found, ioflag: u32, opener: Opener) -> Self {
        let flag = |bit| ioflag & bit != 0;
        Self {
            names: export.names(found.place),
            refusal: opener.refusal(found.read_only),
            fd: found.fd,
            place: found.place,
            kind: Kind::Name,
            locks: OpenLocks::new(export.locks(), opener.cache.nd),
            opener,
            nonblock: flag(IOFLAG_NONBLOCK),
            writable: flag(IOFLAG_WRITE),
            sizeless: true,
            append: flag(IOFLAG_APPEND),
            position: Mutex::new(0),
            booked: None,
        }
    }

    /// As whom everything is done on it.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.opener.identity
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// What is special about the place.
    pub fn place(&self) -> Place {
        self.place
    }

    /// # Errors
    /// What who may not change the file is told.
    pub(crate) fn may_change(&self, export: &Export) -> Result<(), Errno> {
        // to ask the server of a network directory could be to wait for this very request
        if self.place == Place::Network {
            return Err(Errno::EROFS);
        }
        self.refusal.map_or(Ok(()), |refusal| Err(export.refusal(refusal)))
    }

    /// What was locked through it.
    pub(crate) fn locks(&self) -> &OpenLocks {
        &self.locks
    }

    /// The descriptor, to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the same bytes can be read again.
    pub fn has_positions(&self) -> bool {
        self.kind == Kind::Directory || self.kind == Kind::Data && !self.sizeless
    }

    /// Attributes, and whether others have it open in a way that forbids to keep pages of it.
    ///
    /// # Errors
    /// As `statx`.
    pub fn stat(&self) -> Result<Stat, Errno> {
        let mut stat = attributes::stat(self.fd(), self.place)?;
        if self.booked.as_ref().is_some_and(|booked| !booked.keeps_pages()) {
            stat.flags |= FLAG_SHARED;
        }
        Ok(stat)
    }

    /// Whether this is the file that the caller means.
    ///
    /// # Errors
    /// ESTALE: another one. As `statx`.
    pub fn expect(&self, identity: &filesys::Identity) -> Result<(), Errno> {
        if identity.is_met_by(&self.stat()?) { Ok(()) } else { Err(Errno::ESTALE) }
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
}

/// A regular file that does not open at once is one of which a program of this node, or one that it serves (Samba, nfsd), has a
/// lease: the kernel has asked for it, and only a local open could wait in the kernel for its end.
fn held_by_a_lease(errno: Errno, nonblock: bool) -> Failure {
    match errno {
        Errno::EAGAIN if !nonblock => Failure::WouldWait(Wait::Later),
        errno => errno.into(),
    }
}

/// The flags to open a file with. Without an access bit in `ioflag` the descriptor is one that only names the file.
pub(crate) fn open_flags(ioflag: u32) -> OFlag {
    let flags = OFlag::from_bits_truncate(linux_from_ioflag(ioflag)) - OFlag::O_ASYNC;
    flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC
}
