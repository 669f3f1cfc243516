//! The FUSE wire: bytes read from `/dev/fuse` become a [`Request`], a [`reply`] becomes bytes to write back.
//!
//! Pure: no descriptor, no clock, no kernel. Everything here can be driven from a byte slice, which is what the unit
//! tests and the fuzz target do.
//!
//! Why an own codec: a process blocked on a dead node must die of a signal. The kernel tells us with FUSE_INTERRUPT and
//! expects the *held* request to be answered with EINTR. The common Rust library (fuser, stock) answers INTERRUPT
//! itself with ENOSYS, after which the kernel never interrupts again on that mount and blocked readers become
//! unkillable. The part of the protocol that `/net` needs is small, so it is spoken here directly.
//!
//! ```text
//!  request:  in_header (40) | arguments | names, NUL-terminated | data      len counts everything
//!  reply:    out_header (16) | body                                         error is 0 or a negative errno
//! ```
//!
//! Layouts: `include/uapi/linux/fuse.h`, protocol 7. All integers are in the machine's own byte order.

pub mod abi;
mod negotiate;
mod opcode;
mod operation;
pub mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use self::{
    negotiate::{
        INIT_FLAGS, MAX_BACKGROUND, MAX_TRANSFER, MIN_MINOR, Negotiated, UnsupportedKernel, negotiate,
    },
    opcode::Opcode,
    operation::{Attributes, FileLock, Forgets, Operation, SetTime},
    request::{MalformedRequest, Request, WRITE_DATA},
};

/// `nodeid` of the mount's root directory.
pub const ROOT_ID: u64 = abi::FUSE_ROOT_ID;

/// Size of the buffer that one read of `/dev/fuse` needs: the kernel refuses to fill a smaller one than the largest
/// write it may send plus its headers.
pub const READ_BUFFER: usize = MAX_TRANSFER as usize + 4096;
