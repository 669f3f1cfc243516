//! What a request waits for without a thread.
//!
//! A request that would have to wait is put aside with the reason, and tried again when it may have gone: a file became
//! ready, a lock was given back, or some time has passed because nobody tells.

use nix::poll::PollFlags;

use crate::locks::Waiting;

/// Why a request has to be tried again.
#[derive(Debug)]
pub enum Wait {
    /// Its file is not ready for this.
    Ready(PollFlags),
    /// Somebody is in the way of a lock.
    Lock(Waiting),
    /// Something that the kernel tells nobody about: a FIFO without a reader, a terminal that is still sending.
    Later,
}
