//! The one thing that `abi_stable` does for us: a tiny root module, frozen for ever.
//!
//! The ELF note has been checked before this code is reached, so the handshake only confirms it and hands out tables.
//! A C module cannot produce `abi_stable` layouts; it exports [`C_ENTRY_SYMBOL`] instead, which returns a
//! [`CHandshake`] with the same fields.

use abi_stable::{StableAbi, std_types::RStr};

use crate::{Bytes, table::Header};

/// First field of the handshake: the letters `iopktmod`, read as a little-endian number.
pub const HANDSHAKE_MAGIC: u64 = u64::from_le_bytes(*b"iopktmod");

/// `get_table` kind of a [`crate::DriverTable`].
pub const KIND_DRIVER: u32 = 1;
/// `get_table` kind of a [`crate::ProtocolTable`].
pub const KIND_PROTOCOL: u32 = 2;
/// `get_table` kind of a [`crate::ResolverTable`].
pub const KIND_RESOLVER: u32 = 3;

/// Name of the function that a C module exports: `const struct io_pkt_handshake *io_pkt_module_entry(void)`.
pub const C_ENTRY_SYMBOL: &str = "io_pkt_module_entry";

/// The root module that a Rust module exports through `abi_stable`. Frozen: no field is ever added.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HandshakeRef, prefix_fields = HandshakePrefix)))]
#[sabi(missing_field(panic))]
pub struct Handshake {
    /// [`HANDSHAKE_MAGIC`].
    pub magic: u64,
    /// The module's [`crate::ABI_MAJOR`].
    pub abi_major: u16,
    /// The module's [`crate::ABI_MINOR`].
    pub abi_minor: u16,
    /// Module name as in the ELF note (`devn-packet`).
    pub name: RStr<'static>,
    /// Free text that tells builds apart (package version, commit).
    pub build: RStr<'static>,
    /// Returns the table of that kind, or null when the module has none. Called on the loop thread, never blocks,
    /// may be called often, always returns the same `'static` pointer.
    #[sabi(last_prefix_field)]
    pub get_table: extern "C" fn(kind: u32) -> *const Header,
}

/// The same handshake in C's hands.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct CHandshake {
    /// [`HANDSHAKE_MAGIC`].
    pub magic: u64,
    /// The module's major version.
    pub abi_major: u16,
    /// The module's minor version.
    pub abi_minor: u16,
    /// Zero.
    pub reserved: u32,
    /// As [`Handshake::name`].
    pub name: Bytes,
    /// As [`Handshake::build`].
    pub build: Bytes,
    /// As [`Handshake::get_table`]; must not be null.
    pub get_table: Option<extern "C" fn(kind: u32) -> *const Header>,
}

impl abi_stable::library::RootModule for HandshakeRef {
    abi_stable::declare_root_module_statics! {HandshakeRef}
    const BASE_NAME: &'static str = "io_pkt_module";
    const NAME: &'static str = "io_pkt_module";
    const VERSION_STRINGS: abi_stable::sabi_types::VersionStrings =
        abi_stable::sabi_types::VersionStrings::new("1.0.0");
}
