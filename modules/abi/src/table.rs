//! The tables of functions. Both sides read a table no further than its `header.size`.
//!
//! Life cycle of a use, as the host drives it, always on the use's loop thread and never two calls at once:
//!
//! ```text
//!  create ──► start ──► { poll · transmit · receive · interface_event · stats }* ──► stop ──► destroy
//!     └─ error: nothing remains        a non-zero return or a caught panic: the use is failed, then stop, destroy
//! ```
//!
//! No function may block beyond the few microseconds of a non-blocking system call, except `create`, `start` and
//! `stop`, which may take up to a second. No function is called from inside another function of the same use; a host
//! function called by the module never calls back into the module.

use std::ffi::c_void;

use abi_stable::StableAbi;

use crate::{
    Bytes, TextBuf,
    frame::{FrameDesc, PoolInfo},
    info::{DriverStats, InterfaceEvent, InterfaceInfo, OptionSpec, OptionValue, PollWork, SpawnSpec},
    resolver::ResolverTable,
};

/// First field of every table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct Header {
    /// Bytes of the table that its maker knows, this header included.
    pub size: u32,
    /// Major version it was made for.
    pub major: u16,
    /// Minor version it was made for.
    pub minor: u16,
}

/// Capability: the use can be taken away at run time with `umount`.
pub const CAP_UNMOUNTABLE: u64 = 1 << 0;
/// Capability: different uses may run on different threads at the same time. A driver without it runs on the main thread
/// only. (No effect for protocols yet: they all run there.)
pub const CAP_PARALLEL: u64 = 1 << 1;
/// Capability: at most one use per daemon.
pub const CAP_SINGLE: u64 = 1 << 2;

/// Everything a module may know when a use of it is made. All pointers are valid until `create` returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct CreateArgs {
    /// `size_of::<CreateArgs>()` of the host.
    pub size: u32,
    /// Number of the io-pkt instance (`-i`).
    pub instance: u32,
    /// Functions of the host; valid until `destroy` returns.
    pub host: *const HostTable,
    /// First argument of every host function; valid until `destroy` returns.
    pub ctx: *mut c_void,
    /// Name of this use (`en0` for a driver, `bridge0`, `qnet`).
    pub name: Bytes,
    /// The node's root directory (`/run/io-pkt`).
    pub root: Bytes,
    /// Options as given, checked.
    pub options: *const OptionValue,
    /// Number of `options`.
    pub n_options: u64,
    /// State handed over by a former use; empty on a fresh start.
    pub state: Bytes,
    /// Where to say what went wrong.
    pub error: *mut TextBuf,
    /// Directory where this machine's device names live (`/dev/io-net`, or below the root).
    pub devices: Bytes,
    /// Network directory that the node should use when no option says otherwise (`/net`, or below the root).
    pub net: Bytes,
}

/// What the host offers. Each function may be called only on the use's loop thread, from `create` to `destroy`, except
/// `wake`, `log`, `log_level` and `now`, which any thread may call in that span.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct HostTable {
    /// Size and version.
    pub header: Header,
    /// Writes a log line. `level`: 1 error, 2 warn, 3 info, 4 debug, 5 trace. Both texts are copied.
    pub log: extern "C" fn(ctx: *mut c_void, level: u32, target: Bytes, text: Bytes),
    /// Nanoseconds of the same clock as [`PollWork::now`], read afresh.
    pub now: extern "C" fn(ctx: *mut c_void) -> u64,
    /// Where the packet pool is.
    pub pool: extern "C" fn(ctx: *mut c_void) -> *const PoolInfo,
    /// Takes up to `n` free chunks; returns how many. Each descriptor's `offset` stands behind the headroom, `len` is
    /// the room from there to the chunk's end. The use owns them.
    pub alloc: extern "C" fn(ctx: *mut c_void, frames: *mut FrameDesc, n: u32) -> u32,
    /// Gives up one reference to each chunk. A descriptor that the use does not own is counted and ignored.
    pub free: extern "C" fn(ctx: *mut c_void, frames: *const FrameDesc, n: u32),
    /// Takes one more reference to each chunk, for sending a frame more than once.
    pub retain: extern "C" fn(ctx: *mut c_void, frames: *const FrameDesc, n: u32),
    /// Driver only: hands received frames to the switchboard, which takes over the references. Never blocks.
    pub deliver: extern "C" fn(ctx: *mut c_void, frames: *const FrameDesc, n: u32),
    /// Protocol only: sends frames out of an interface and takes over the references. Returns how many descriptors
    /// were queued; the rest were freed and counted as dropped (queue full, or no such interface).
    pub send: extern "C" fn(ctx: *mut c_void, interface: u32, frames: *const FrameDesc, n: u32) -> u32,
    /// Protocol only: asks for the frames of an ethertype (0x0600 to 0xffff), or of all frames with 0. VLAN tags are
    /// not looked behind. -EBUSY when another protocol has that ethertype.
    pub claim: extern "C" fn(ctx: *mut c_void, ethertype: u32) -> i32,
    /// Driver only: makes the interface known, or tells new data of it. The structure is copied.
    pub interface: extern "C" fn(ctx: *mut c_void, info: *const InterfaceInfo) -> i32,
    /// Watches a descriptor, edge-triggered. Returns a handle above 0, or -errno. The module keeps the descriptor
    /// open until it removed the handle, or until `destroy`.
    pub poll_add: extern "C" fn(ctx: *mut c_void, fd: i32, interest: u32, token: u64) -> i64,
    /// Changes what a handle watches for.
    pub poll_modify: extern "C" fn(ctx: *mut c_void, handle: i64, interest: u32) -> i32,
    /// Stops watching.
    pub poll_remove: extern "C" fn(ctx: *mut c_void, handle: i64) -> i32,
    /// Asks for `poll` at that time (clock of `now`); 0 takes the request back. One deadline per use; the last holds.
    pub set_deadline: extern "C" fn(ctx: *mut c_void, at: u64),
    /// Asks for `poll` soon. Any thread.
    pub wake: extern "C" fn(ctx: *mut c_void),
    /// Starts a helper process. Returns a handle above 0, or -errno. Helpers die with the daemon's orderly end.
    pub spawn: extern "C" fn(ctx: *mut c_void, spec: *const SpawnSpec) -> i64,
    /// Sends a signal to a helper.
    pub kill: extern "C" fn(ctx: *mut c_void, helper: i64, signal: i32) -> i32,
    /// Marks the use as failed, with a reason; the host stops and destroys it after the present call.
    pub fail: extern "C" fn(ctx: *mut c_void, reason: Bytes),
    /// The most detailed level that `log` keeps at the moment (0 none … 5 trace), so that a module need not format
    /// lines that nobody reads. Any thread.
    pub log_level: extern "C" fn(ctx: *mut c_void) -> u32,
    /// Since 1.1; null in a host that has none. Protocol only: finds `nr-NAME.so`, loads it, and copies its table to
    /// `table` (as much of it as both know; `table->header.size` says before the call how much room there is, and
    /// afterwards how much was written). -ENOENT and a sentence in `error` when there is no such module.
    pub open_resolver: Option<
        extern "C" fn(ctx: *mut c_void, name: Bytes, table: *mut ResolverTable, error: *mut TextBuf) -> i32,
    >,
}

/// What a driver offers.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct DriverTable {
    /// Size and version.
    pub header: Header,
    /// `CAP_*`. A driver is always unmountable.
    pub capabilities: u64,
    /// Options it understands beside the generic ones; `'static`.
    pub options: *const OptionSpec,
    /// Number of `options`.
    pub n_options: u64,
    /// Makes a use. On success stores the module's own pointer in `use_`.
    pub create: unsafe extern "C" fn(args: *const CreateArgs, use_: *mut *mut c_void) -> i32,
    /// Opens the device and calls `host.interface`. On error the host calls `destroy`.
    pub start: unsafe extern "C" fn(use_: *mut c_void, error: *mut TextBuf) -> i32,
    /// Moves received frames to the host and does whatever is due.
    pub poll: unsafe extern "C" fn(use_: *mut c_void, work: *mut PollWork) -> i32,
    /// Sends frames. Takes over the first `*taken` descriptors (whole frames) and frees them when they are sent; the
    /// host keeps the rest and offers them again after the driver's next `poll`.
    pub transmit:
        unsafe extern "C" fn(use_: *mut c_void, frames: *const FrameDesc, n: u32, taken: *mut u32) -> i32,
    /// Fills in its counters.
    pub stats: unsafe extern "C" fn(use_: *mut c_void, stats: *mut DriverStats) -> i32,
    /// Closes the device, restores what it changed, frees its chunks.
    pub stop: unsafe extern "C" fn(use_: *mut c_void) -> i32,
    /// Frees the use. Nothing of it is touched afterwards.
    pub destroy: unsafe extern "C" fn(use_: *mut c_void),
}

/// What a protocol offers.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct ProtocolTable {
    /// Size and version.
    pub header: Header,
    /// `CAP_*`.
    pub capabilities: u64,
    /// Options it understands; `'static`.
    pub options: *const OptionSpec,
    /// Number of `options`.
    pub n_options: u64,
    /// Prefix of its uses' names (`bridge` gives `bridge0`); for a single use the name itself (`qnet`).
    pub prefix: Bytes,
    /// Makes a use.
    pub create: unsafe extern "C" fn(args: *const CreateArgs, use_: *mut *mut c_void) -> i32,
    /// Claims its ethertypes. Interfaces present are told right after.
    pub start: unsafe extern "C" fn(use_: *mut c_void, error: *mut TextBuf) -> i32,
    /// Does whatever is due.
    pub poll: unsafe extern "C" fn(use_: *mut c_void, work: *mut PollWork) -> i32,
    /// Takes over frames received on an interface: `n` descriptors, whole frames.
    pub receive:
        unsafe extern "C" fn(use_: *mut c_void, interface: u32, frames: *const FrameDesc, n: u32) -> i32,
    /// Hears of an interface.
    pub interface_event: unsafe extern "C" fn(use_: *mut c_void, event: *const InterfaceEvent) -> i32,
    /// Writes a report for humans into `text`; `topic` is empty or names a part.
    pub report: unsafe extern "C" fn(use_: *mut c_void, topic: Bytes, text: *mut TextBuf) -> i32,
    /// Ends helpers, frees chunks.
    pub stop: unsafe extern "C" fn(use_: *mut c_void) -> i32,
    /// Frees the use.
    pub destroy: unsafe extern "C" fn(use_: *mut c_void),
}
