//! What can go wrong between two ends.

use std::io;

use thiserror::Error;

use crate::{MAX_DATA, MAX_PACKET, VERSION, codec::DecodeError, ring::Broken};

/// Why a peer could not send or receive.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The other end is gone.
    #[error("the other end closed the connection")]
    Closed,
    /// The kernel refused.
    #[error("socket: {0}")]
    Io(#[source] io::Error),
    /// The other end broke the rules.
    #[error("bad packet: {0}")]
    Decode(#[from] DecodeError),
    /// A packet larger than [`MAX_PACKET`] came in.
    #[error("packet of {len} bytes, at most {MAX_PACKET} are allowed")]
    Oversized {
        /// Its bytes.
        len: usize,
    },
    /// The other end wrote nonsense into the shared memory.
    #[error("shared memory: {0}")]
    Ring(#[from] Broken),
    /// The other end rings and has nothing to say.
    #[error("the other end rings and rings and sends nothing")]
    Bells,
    /// The other end speaks another version.
    #[error("the other end speaks version {theirs} of the channel protocol, we speak {VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// The queue is full and nothing was queued: wait until [`crate::Peer::flush`] made room, or give up on a peer that does
    /// not read.
    #[error("the other end does not read, {queued} bytes wait")]
    Full {
        /// Bytes in the queue.
        queued: usize,
    },
    /// More than [`MAX_DATA`] bytes of data in one packet, and [`crate::Peer::room`] does not allow them now; nothing was
    /// queued.
    #[error("{len} bytes of data in one packet, at most {MAX_DATA} are allowed now")]
    TooLong {
        /// Bytes of data.
        len: usize,
    },
}

impl PeerError {
    /// Whether the connection is over, as against a [`crate::Peer::send`] that merely cannot be done now.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Full { .. } | Self::TooLong { .. })
    }
}
