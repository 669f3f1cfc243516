//! What a child gets of its parent's channels and connections: nothing (QNX's rule).
//!
//! A child that kept the parent's sockets would keep its channels' addresses taken and hide its death from everybody. So
//! each descriptor of ours is marked, and in the child each marked one is replaced by a socket that is connected to
//! nobody: the numbers stay taken until their owners drop them, and every use of them fails as if the other end had
//! gone. `exec` closes all of them. The marks are a bit for each descriptor, because nothing that takes a lock or
//! memory may run in a child of many threads.

use std::{
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::{
        Once,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

/// Descriptors beyond are not marked; Linux allows no more unless an administrator asks for it.
const MOST: usize = 1 << 20;

static MARKS: [AtomicU64; MOST / 64] = [const { AtomicU64::new(0) }; MOST / 64];
/// Words of [`MARKS`] that were ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
static GENERATION: AtomicU32 = AtomicU32::new(0);
static HANDLER: Once = Once::new();

/// How many forks lie between this process and the one that first asked.
pub fn generation() -> u32 {
    notice_forks();
    GENERATION.load(Ordering::Relaxed)
}

/// From now on a child of this process is told.
fn notice_forks() {
    HANDLER.call_once(|| {
        // SAFETY: the handler is a function for ever, and does only what is allowed in a child.
        let refused = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // Without memory for an entry in a list the program has other worries.
        debug_assert_eq!(refused, 0);
    });
}

/// A descriptor that a child shall not have. Declare it before the descriptor's owner: it must be dropped first.
#[derive(Debug)]
pub(crate) struct KeptFromChild(RawFd);

impl KeptFromChild {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Self {
        notice_forks();
        let fd = fd.as_raw_fd();
        if let Some(word) = MARKS.get(fd as usize / 64) {
            word.fetch_or(1 << (fd % 64), Ordering::Relaxed);
            USED.fetch_max(fd as usize / 64 + 1, Ordering::Relaxed);
        }
        Self(fd)
    }
}

impl Drop for KeptFromChild {
    fn drop(&mut self) {
        if let Some(word) = MARKS.get(self.0 as usize / 64) {
            word.fetch_and(!(1 << (self.0 % 64)), Ordering::Relaxed);
        }
    }
}

/// Runs in the child before anything else of ours; only calls that are safe there.
extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let mut dead = dead_socket();
    let mut taken = -1;
    for (i, word) in MARKS[..USED.load(Ordering::Relaxed)].iter().enumerate() {
        let mut marks = word.swap(0, Ordering::Relaxed);
        while marks != 0 {
            let fd = (i * 64) as RawFd + marks.trailing_zeros() as RawFd;
            marks &= marks - 1;
            if dead < 0 {
                // No number was left: this one is, once it is closed.
                // SAFETY: the number is replaced in a moment; its owner in this child is told by errors.
                unsafe { libc::close(fd) };
                dead = dead_socket();
                taken = if dead == fd { fd } else { -1 };
            }
            if dead >= 0 && dead != fd {
                // SAFETY: both numbers are open or free; the target's owner keeps a number that is open.
                unsafe { libc::dup3(dead, fd, libc::O_CLOEXEC) };
            }
        }
    }
    if dead >= 0 && dead != taken {
        // SAFETY: made above, and nobody else knows it.
        unsafe { libc::close(dead) };
    }
}

fn dead_socket() -> RawFd {
    // SAFETY: plain values.
    unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) }
}
