//! The `_IO_` messages that Qnet carries, and the numbers inside them.
//!
//! Everything here is bytes ↔ values: `_IO_CONNECT` with its subtypes, the messages on an open
//! connection (READ, STAT, CLOSE, …), their replies, directory entries, the network manager's
//! `_IO_MSG` requests, QNX's errno and open flags against Linux's. It does no input or output and
//! knows nothing of sessions, sockets or files.
//!
//! Layouts are those of 32-bit QNX Neutrino 6 (`docs/protocol.md`), all fields little-endian, which
//! is the only byte order a node of ours sends. Whatever the bytes are, parsing returns an error or a
//! value and never panics; nothing is allocated from a length that the peer declared.
//!
//! | module | holds |
//! |---|---|
//! | [`connect`] | `_IO_CONNECT`: open, look-up, readlink, and what changes names |
//! | [`message`] | messages on an open connection, combined chains of them |
//! | [`stat`] | the STAT reply: QNX's 72 bytes and our wide structure behind them |
//! | [`dirent`] | directory entries in a READ reply |
//! | [`filesys`] | ours: what QNX's file messages cannot say |
//! | [`netmgr`] | STRTOND, NDTOSTR, REMOTE_ND and our NODES, STATS, PING |
//! | [`meter`] | our METER: measure the way to a node |
//! | [`gns`] | ours: the global names of all nodes |
//! | [`redirect`] | the reply that leads to another channel |
//! | [`signal`] | ours: a signal for a process; QNX's numbers ↔ Linux's |
//! | [`terminal`] | DEVCTL of terminals |
//! | [`calendar`] | dates as QNX's tools print them |
//! | [`errno`], [`flags`] | QNX's numbers ↔ Linux's |

#![forbid(unsafe_code)]

pub mod calendar;
pub mod connect;
pub mod dirent;
pub mod errno;
pub mod filesys;
pub mod flags;
pub mod gns;
pub mod message;
pub mod meter;
pub mod netmgr;
pub mod redirect;
pub mod signal;
pub mod stat;
pub mod terminal;

pub use connect::{Connect, Extra, Subtype};
pub use dirent::{Dirent, DirentWriter, Dirents};
pub use errno::{linux_to_qnx, qnx_to_linux};
pub use message::{Io, Link, chain, message_type};
pub use stat::{Stat, StatReply, Timestamp};

/// Why bytes are not the message they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The message ends before the structure does.
    #[error("{what}: {have} bytes, {need} needed")]
    Short {
        /// The structure that was read.
        what: &'static str,
        /// Bytes that the structure needs.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// The first word is not the type of the message that was to be read.
    #[error("message type {found:#06x} where {wanted:#06x} was expected")]
    Type {
        /// What the caller wanted to parse.
        wanted: u16,
        /// What the bytes say.
        found: u16,
    },
    /// A type or subtype that this code does not know; the answer is ENOSYS.
    #[error("{what} {value:#06x} is not known")]
    Unknown {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// A field contradicts another one or the length of the message.
    #[error("{what} is not valid: {value}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

impl ParseError {
    /// The Linux errno a server answers such a message with.
    #[must_use]
    pub fn linux_errno(&self) -> i32 {
        match self {
            Self::Unknown { .. } => errno::linux::ENOSYS,
            Self::Short { .. } | Self::Invalid { .. } => errno::linux::EBADMSG,
            Self::Type { .. } => errno::linux::EINVAL,
        }
    }
}

/// Why a value does not fit its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A field's length does not fit the 16 bits that carry it.
    #[error("{what} has {len} bytes, at most {max} fit")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most that fits.
        max: usize,
    },
    /// A NUL inside a path or name.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// The field.
        what: &'static str,
    },
}

impl BuildError {
    /// The Linux errno a client gives its caller: ENAMETOOLONG or EINVAL.
    #[must_use]
    pub fn linux_errno(&self) -> i32 {
        match self {
            Self::TooLong { .. } => errno::linux::ENAMETOOLONG,
            Self::Nul { .. } => errno::linux::EINVAL,
        }
    }
}

/// Reads a fixed structure from the front of `bytes` and returns what follows it.
pub(crate) fn take<'a, T>(bytes: &'a [u8], what: &'static str) -> Result<(T, &'a [u8]), ParseError>
where
    T: zerocopy::FromBytes,
{
    T::read_from_prefix(bytes).map_err(|_| ParseError::Short {
        what,
        need: size_of::<T>(),
        have: bytes.len(),
    })
}

/// The bytes before the first NUL; an unterminated text is an error.
pub(crate) fn until_nul<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a [u8], ParseError> {
    match bytes.iter().position(|b| *b == 0) {
        Some(end) => Ok(bytes.get(..end).unwrap_or_default()),
        None => Err(ParseError::Invalid { what, value: bytes.len() as u64 }),
    }
}

/// Zero bytes needed to bring `len` to a multiple of eight.
pub(crate) const fn pad8(len: usize) -> usize {
    len.wrapping_neg() & 7
}
