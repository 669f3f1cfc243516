//! The kernel's locks: byte ranges of an open file description, and of the whole of one.
#![expect(unsafe_code, reason = "flock() of a descriptor that is borrowed")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use qnet_iomsg::filesys::lock::{END, Kind};

use super::ranges::Span;

/// Sets or takes away a lock of the description behind `fd`; never waits.
///
/// # Errors
/// EAGAIN: somebody is in the way. EBADF: not open for what the lock is for. As `fcntl`.
pub(super) fn set(fd: BorrowedFd<'_>, span: Span, kind: Kind) -> Result<(), Errno> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&range(span, kind))) {
        // POSIX allows both
        Err(Errno::EACCES) => Err(Errno::EAGAIN),
        result => result.map(drop),
    }
}

/// Who keeps the description behind `fd` from locking `span`, if anybody does: what he holds, of which bytes.
///
/// # Errors
/// As `fcntl`.
pub(super) fn holder(fd: BorrowedFd<'_>, span: Span, kind: Kind) -> Result<Option<(Kind, Span)>, Errno> {
    let mut found = range(span, kind);
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut found))?;
    let kind = match i32::from(found.l_type) {
        libc::F_RDLCK => Kind::Read,
        libc::F_WRLCK => Kind::Write,
        _ => return Ok(None),
    };
    let start = found.l_start.max(0).cast_unsigned();
    let end = match found.l_len {
        0 => END,
        len => start.saturating_add_signed(len - 1).min(END),
    };
    Ok(Some((kind, Span { start, end: end.max(start) })))
}

/// Locks or unlocks the whole open, for those who use `flock`; never waits.
///
/// # Errors
/// EAGAIN: somebody is in the way. As `flock`.
pub(super) fn whole(fd: BorrowedFd<'_>, kind: Kind) -> Result<(), Errno> {
    let operation = match kind {
        Kind::Read => libc::LOCK_SH,
        Kind::Write => libc::LOCK_EX,
        Kind::Unlock => libc::LOCK_UN,
    };
    // SAFETY: takes integers only; the descriptor is open as long as it is borrowed.
    Errno::result(unsafe { libc::flock(fd.as_raw_fd(), operation | libc::LOCK_NB) }).map(drop)
}

fn range(span: Span, kind: Kind) -> libc::flock {
    let kind = match kind {
        Kind::Read => libc::F_RDLCK,
        Kind::Write => libc::F_WRLCK,
        Kind::Unlock => libc::F_UNLCK,
    };
    // a length of 0 reaches to the end, whatever it will be
    let len = if span.end >= END { 0 } else { (span.end - span.start + 1).cast_signed() };
    #[expect(clippy::cast_possible_truncation, reason = "constants below 10")]
    let (kind, whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type: kind, l_whence: whence, l_start: span.start.cast_signed(), l_len: len, l_pid: 0 }
}
