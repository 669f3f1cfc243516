//! Node resolvers: `nr-NAME.so`, which know where a node is. Since ABI 1.1.
//!
//! A resolver is not a use of the daemon: a protocol asks the host for its table ([`crate::HostTable::open_resolver`]) and
//! calls it. It may take its time, so it is called on a thread of its own:
//!
//! ```text
//!  create ──► { resolve }* ──► destroy        one call at a time, not always on the same thread
//! ```
//!
//! The table is valid for ever, because a module's image is never unmapped.

use std::ffi::c_void;

use abi_stable::StableAbi;

use crate::{Bytes, TextBuf, table::Header};

/// [`ResolverAddress::family`]: an Ethernet address, 6 bytes.
pub const FAMILY_MAC: u32 = 1;
/// [`ResolverAddress::family`]: an IPv4 address, 4 bytes.
pub const FAMILY_IPV4: u32 = 2;
/// [`ResolverAddress::family`]: an IPv6 address, 16 bytes.
pub const FAMILY_IPV6: u32 = 3;

/// What a resolver is told at its start. Pointers are valid until `create` returns, `ctx` until `destroy` returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct ResolverArgs {
    /// `size_of::<ResolverArgs>()` of the caller.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// What stands behind the name in `resolve=NAME:PARAMETER`; may be empty.
    pub parameter: Bytes,
    /// The node's own domain, for names without one; may be empty.
    pub domain: Bytes,
    /// Writes a log line, on any thread; level as in [`crate::HostTable::log`]. The text is copied.
    pub log: extern "C" fn(ctx: *mut c_void, level: u32, text: Bytes),
    /// First argument of `log`.
    pub ctx: *mut c_void,
    /// Where to say what went wrong.
    pub error: *mut TextBuf,
}

/// A node that is looked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct ResolverQuery {
    /// `size_of::<ResolverQuery>()` of the caller.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Its name, without the domain.
    pub name: Bytes,
    /// Its domain; may be empty.
    pub domain: Bytes,
}

/// An address of a node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, StableAbi)]
pub struct ResolverAddress {
    /// `FAMILY_*`; others are ignored.
    pub family: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// As many bytes as the family has, in network order; the rest is 0.
    pub bytes: [u8; 16],
}

/// Room for the answer, owned by the caller.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct ResolverAnswer {
    /// `size_of::<ResolverAnswer>()` of the caller.
    pub size: u32,
    /// Addresses that fit.
    pub cap: u32,
    /// Where they go.
    pub addresses: *mut ResolverAddress,
    /// Set by the resolver: how many there are; 0 when the node is not known.
    pub len: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

/// What a resolver offers.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct ResolverTable {
    /// Size and version.
    pub header: Header,
    /// Reserved, 0.
    pub capabilities: u64,
    /// Starts it; stores its own pointer in `use_`. May take up to a second.
    pub create: unsafe extern "C" fn(args: *const ResolverArgs, use_: *mut *mut c_void) -> i32,
    /// Looks a node up; may take several seconds, after which nobody waits any more. A node that is not known is no
    /// error.
    pub resolve: unsafe extern "C" fn(
        use_: *mut c_void,
        query: *const ResolverQuery,
        answer: *mut ResolverAnswer,
    ) -> i32,
    /// Ends it. Nothing of it is touched afterwards.
    pub destroy: unsafe extern "C" fn(use_: *mut c_void),
}
