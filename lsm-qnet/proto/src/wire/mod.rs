//! Bytes on the wire: checked views, then owned values with `parse` and `emit`.
//!
//! The contract of everything below: no input makes it panic or allocate by a length the input
//! declares; what cannot be read is a [`WireError`] that says what was expected and found. Both
//! byte orders are read; the little one is sent. `docs/protocol.md` draws every layout and marks
//! what is ours.

pub mod ack;
pub mod bytes;
pub mod crc;
pub mod groups;
pub mod kif;
pub mod lr;
pub mod lwl4;
pub mod nr;
pub mod tcs;
pub mod tlv;

pub use bytes::Order;

/// Why bytes are not what they were taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than its fixed part, or than a length inside it.
    #[error("{what} is cut off: {need} bytes expected, {have} found")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes it would need.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A field holds a value it cannot have.
    #[error("{what} cannot be {value:#x}")]
    BadValue {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// The checksum does not match.
    #[error("checksum is {found:#010x}, should be {expected:#010x}")]
    BadCrc {
        /// In the packet.
        found: u32,
        /// Computed.
        expected: u32,
    },
    /// A text is not terminated or not ASCII.
    #[error("{what} is no terminated ASCII text")]
    BadText {
        /// The field.
        what: &'static str,
    },
    /// The buffer to write into is too short.
    #[error("a buffer of {have} bytes is too short for the message")]
    NoRoom {
        /// Its size.
        have: usize,
    },
}
