//! The binary border between `io-pkt` and its modules.
//!
//! Everything here is data: constants, `#[repr(C)]` structures and tables of function pointers. Behaviour lives in
//! `io-pkt-sdk` (the module's side) and `io-pkt-host` (the daemon's side).
//!
//! ```text
//! file on disk ── ELF note "io-pkt" ── abi_stable handshake (frozen) ── tables (grow at the end)
//!    note.rs            note.rs              handshake.rs                table.rs, frame.rs, info.rs
//! ```
//!
//! Rules, in force for the life of a major version:
//!
//! 1. The handshake ([`handshake`]) never changes.
//! 2. A table begins with a [`Header`]; fields are only appended; a reader looks no further than `header.size`.
//! 3. Every integer has a fixed width. A pointer comes with a length. The side that allocates frees.
//! 4. Functions return 0 or a negative Linux errno value and never unwind.
//! 5. Values that come from the other side are claims: no Rust enum, `bool`, `char` or reference crosses.

#![forbid(unsafe_code)]

pub mod frame;
pub mod handshake;
pub mod info;
pub mod note;
pub mod resolver;
pub mod table;

pub use frame::{FrameDesc, PoolInfo};
pub use handshake::{Handshake, HandshakeRef};
pub use info::{
    DriverStats, InterfaceEvent, InterfaceInfo, OptionSpec, OptionValue, PollEvent, PollWork, SpawnSpec,
};
pub use resolver::{ResolverAddress, ResolverAnswer, ResolverArgs, ResolverQuery, ResolverTable};
pub use table::{CreateArgs, DriverTable, Header, HostTable, ProtocolTable};

/// Major version of the tables. A module of another major version is refused before its code runs.
pub const ABI_MAJOR: u16 = 1;
/// Minor version of the tables: raised when a field is appended.
pub const ABI_MINOR: u16 = 1;

/// Bytes owned by whoever filled in the structure; valid for the duration of the call unless its field says longer.
/// Text is UTF-8 without a terminating NUL. `len == 0` allows any `ptr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, abi_stable::StableAbi)]
pub struct Bytes {
    /// First byte; may be null only when `len` is 0.
    pub ptr: *const u8,
    /// Number of bytes.
    pub len: u64,
}

impl Bytes {
    /// No bytes.
    pub const EMPTY: Self = Self { ptr: std::ptr::null(), len: 0 };

    /// Describes a `'static` text.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self { ptr: text.as_ptr(), len: text.len() as u64 }
    }

    /// Describes borrowed bytes; the caller keeps them alive as long as the receiver may look.
    #[must_use]
    pub const fn borrow(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() as u64 }
    }
}

/// Room for an error sentence, owned by the host. The module writes at most `cap` bytes of UTF-8 and sets `len`.
#[repr(C)]
#[derive(Clone, Copy, Debug, abi_stable::StableAbi)]
pub struct TextBuf {
    /// First byte of the room.
    pub ptr: *mut u8,
    /// Bytes of room.
    pub cap: u64,
    /// Bytes written by the module.
    pub len: u64,
}
