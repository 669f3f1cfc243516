//! FUSE_INIT: agreeing with the kernel on a version, sizes and abilities.
//!
//! What is asked for and why:
//!
//! | Ability | Why |
//! |---|---|
//! | ASYNC_READ | several reads of one file in flight hide the network's latency |
//! | PARALLEL_DIROPS | a look-up that waits for a dead node does not block its neighbours in `/net` |
//! | AUTO_INVAL_DATA | cached pages go when the other node's file has changed |
//! | MAX_PAGES, BIG_WRITES | requests of up to 1 MiB |
//! | ATOMIC_O_TRUNC | truncation is decided by the serving node, in the same step as the open |
//! | DONT_MASK | the file mode creation mask comes with the request, where the node cannot add its own |
//! | HANDLE_KILLPRIV_V2 | set-user-id bits go when a file is written: the serving kernel does that, no request for each write |
//! | DO_READDIRPLUS, READDIRPLUS_AUTO | a listing brings the attributes along when programs ask for them |
//! | POSIX_LOCKS, FLOCK_LOCKS | the node that has a file keeps its locks, for all nodes |
//! | ASYNC_DIO | large direct transfers go out as several requests at once |
//!
//! Not asked for: WRITEBACK_CACHE, because a `write` that has returned must be on the other node; DIRECT_IO_ALLOW_MMAP, because what
//! is read and written past the cache is so because others have it open, and a mapping would show what they wrote long ago.

use super::abi::{
    FUSE_ASYNC_DIO, FUSE_ASYNC_READ, FUSE_ATOMIC_O_TRUNC, FUSE_AUTO_INVAL_DATA, FUSE_BIG_WRITES,
    FUSE_DO_READDIRPLUS, FUSE_DONT_MASK, FUSE_FLOCK_LOCKS, FUSE_HANDLE_KILLPRIV_V2,
    FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION, FUSE_MAX_PAGES, FUSE_PARALLEL_DIROPS, FUSE_POSIX_LOCKS,
    FUSE_READDIRPLUS_AUTO, InitIn, InitOut,
};

/// Largest read or write request, in bytes.
pub const MAX_TRANSFER: u32 = 1 << 20;
/// Background requests (readahead, mostly) the kernel may have in flight. Its default of 12 would let the readahead of
/// a few files on a dead node starve all others.
pub const MAX_BACKGROUND: u16 = 256;
/// Oldest minor version accepted: that of Linux 5.4. It has every structure in its present size and MAX_PAGES.
pub const MIN_MINOR: u32 = 31;
/// Abilities asked for; used as far as the kernel offers them.
pub const INIT_FLAGS: u32 = FUSE_ASYNC_READ
    | FUSE_ATOMIC_O_TRUNC
    | FUSE_BIG_WRITES
    | FUSE_AUTO_INVAL_DATA
    | FUSE_PARALLEL_DIROPS
    | FUSE_MAX_PAGES
    | FUSE_DONT_MASK
    | FUSE_HANDLE_KILLPRIV_V2
    | FUSE_DO_READDIRPLUS
    | FUSE_READDIRPLUS_AUTO
    | FUSE_ASYNC_DIO
    | FUSE_POSIX_LOCKS
    | FUSE_FLOCK_LOCKS;

/// Time stamps are kept to the nanosecond.
const TIME_GRANULARITY_NS: u32 = 1;
/// The unit of `max_pages` is the smallest page size; larger pages only make the limit larger.
const PAGE: u32 = 4096;

/// Outcome of an INIT request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiated {
    /// Both sides agree; the body is the reply and the mount is usable.
    Agreed(InitOut),
    /// The kernel is of a newer major version: the reply names ours, and the kernel sends INIT again.
    Again(InitOut),
}

/// The kernel's protocol is too old to be spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel speaks FUSE {major}.{minor}; qnet-netfs needs at least {FUSE_KERNEL_VERSION}.{MIN_MINOR} (Linux 5.4)"
)]
pub struct UnsupportedKernel {
    /// The kernel's major version.
    pub major: u32,
    /// The kernel's minor version.
    pub minor: u32,
}

/// Answers an INIT request.
///
/// # Errors
/// [`UnsupportedKernel`] when the kernel is older than 7.[`MIN_MINOR`]; the request is then answered with EPROTO.
pub fn negotiate(asked: InitIn) -> Result<Negotiated, UnsupportedKernel> {
    let ours = InitOut {
        major: FUSE_KERNEL_VERSION,
        minor: FUSE_KERNEL_MINOR_VERSION.min(asked.minor),
        ..InitOut::default()
    };
    if asked.major > FUSE_KERNEL_VERSION {
        return Ok(Negotiated::Again(InitOut { minor: FUSE_KERNEL_MINOR_VERSION, ..ours }));
    }
    if asked.major < FUSE_KERNEL_VERSION || asked.minor < MIN_MINOR {
        return Err(UnsupportedKernel { major: asked.major, minor: asked.minor });
    }
    Ok(Negotiated::Agreed(InitOut {
        // The kernel offers what the mount's backing device allows and refuses more.
        max_readahead: asked.max_readahead.min(MAX_TRANSFER),
        flags: INIT_FLAGS & asked.flags,
        max_background: MAX_BACKGROUND,
        congestion_threshold: MAX_BACKGROUND / 4 * 3,
        max_write: MAX_TRANSFER,
        time_gran: TIME_GRANULARITY_NS,
        max_pages: (MAX_TRANSFER / PAGE) as u16,
        ..ours
    }))
}
