//! Plain data that modules and host tell each other about interfaces, options, events and helpers.

use abi_stable::StableAbi;

use crate::Bytes;

/// In counters and numbers: not known.
pub const UNKNOWN: u64 = u64::MAX;

/// What an option's value looks like; the host checks it before `create`.
pub mod option_kind {
    /// A bare word; `name=0` and `name=1` are accepted too.
    pub const FLAG: u32 = 0;
    /// A decimal or `0x` number between `min` and `max`.
    pub const NUMBER: u32 = 1;
    /// Any text, not empty.
    pub const TEXT: u32 = 2;
    /// 12 hexadecimal digits, with or without `:` or `-` between the octets.
    pub const MAC: u32 = 3;
    /// One of the words in `choices`, separated by `|`.
    pub const CHOICE: u32 = 4;
}

/// One option that a module understands. `'static` in the module.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct OptionSpec {
    /// Name before the `=`.
    pub name: Bytes,
    /// One line for humans: meaning, unit, default.
    pub help: Bytes,
    /// [`option_kind`].
    pub kind: u32,
    /// 1 when it may be given more than once.
    pub repeats: u32,
    /// Smallest number allowed.
    pub min: u64,
    /// Largest number allowed.
    pub max: u64,
    /// For [`option_kind::CHOICE`].
    pub choices: Bytes,
}

/// One option as given, already checked against its [`OptionSpec`]. A bare flag has the value `1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct OptionValue {
    /// Name before the `=`.
    pub name: Bytes,
    /// Text after the `=`.
    pub value: Bytes,
}

/// In [`InterfaceInfo::flags`]: the link has a carrier.
pub const IF_LINK_UP: u32 = 1 << 0;
/// In [`InterfaceInfo::flags`]: all frames are received, whatever their destination.
pub const IF_PROMISCUOUS: u32 = 1 << 1;
/// In [`InterfaceInfo::flags`]: multicast frames are received.
pub const IF_MULTICAST: u32 = 1 << 2;
/// In [`InterfaceInfo::flags`]: full duplex.
pub const IF_FULL_DUPLEX: u32 = 1 << 3;

/// What is known of an interface; filled in by its driver. The host copies it.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct InterfaceInfo {
    /// `size_of::<InterfaceInfo>()` of the side that fills it in.
    pub size: u32,
    /// `IF_*`.
    pub flags: u32,
    /// The address in use.
    pub mac: [u8; 6],
    /// The address burnt into the card.
    pub permanent_mac: [u8; 6],
    /// Largest payload of a frame in bytes, Ethernet header not counted (1500).
    pub mtu: u32,
    /// Speed in Mbit/s, 0 when not known.
    pub speed_mbps: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// What stands behind the interface as the system calls it (`eth1`, `tap0`, `/tmp/seg`).
    pub system_name: Bytes,
    /// One line that describes the card or device.
    pub description: Bytes,
    /// Kind of connector for humans (`UTP`, `virtual`), may be empty.
    pub media: Bytes,
}

/// [`InterfaceEvent::kind`]: the interface is there now (also told for each one present when a protocol starts).
pub const EVENT_ARRIVED: u32 = 1;
/// [`InterfaceEvent::kind`]: its data changed (link, address, MTU).
pub const EVENT_CHANGED: u32 = 2;
/// [`InterfaceEvent::kind`]: it is gone; its id will not be used again.
pub const EVENT_GONE: u32 = 3;

/// Something happened to an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct InterfaceEvent {
    /// `size_of::<InterfaceEvent>()` of the host.
    pub size: u32,
    /// `EVENT_*`.
    pub kind: u32,
    /// The host's id of the interface; never 0, never reused while the daemon runs.
    pub interface: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Name of the interface (`en0`).
    pub name: Bytes,
    /// Its data; never null, valid during the call.
    pub info: *const InterfaceInfo,
}

/// [`PollEvent::ready`]: data can be read, or the peer closed.
pub const READY_READ: u32 = 1 << 0;
/// [`PollEvent::ready`]: data can be written.
pub const READY_WRITE: u32 = 1 << 1;
/// [`PollEvent::ready`]: error or hang-up.
pub const READY_ERROR: u32 = 1 << 2;
/// [`PollEvent::ready`]: the helper process `token` ended; `value` is its wait status.
pub const READY_HELPER_EXIT: u32 = 1 << 3;
/// [`PollEvent::ready`]: somebody called `wake`.
pub const READY_WAKE: u32 = 1 << 4;
/// [`PollEvent::ready`]: the deadline passed.
pub const READY_DEADLINE: u32 = 1 << 5;

/// Why `poll` is called.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, StableAbi)]
pub struct PollEvent {
    /// The token given to `poll_add` or `spawn`; 0 for wake-ups and deadlines.
    pub token: u64,
    /// `READY_*`.
    pub ready: u32,
    /// For [`READY_HELPER_EXIT`].
    pub value: i32,
}

/// One call of `poll`: what is ready, how much may be done.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct PollWork {
    /// `size_of::<PollWork>()` of the host.
    pub size: u32,
    /// Number of `events`. 0 means: called again because the last call set `more`.
    pub n_events: u32,
    /// What happened since the last call. Readiness is edge-triggered: work until the system says "would block", or
    /// set `more`.
    pub events: *const PollEvent,
    /// Nanoseconds since the host's arbitrary start, monotonic; read once per turn of the loop.
    pub now: u64,
    /// Frames that may be handled in this call.
    pub budget_frames: u32,
    /// Bytes that may be handled in this call.
    pub budget_bytes: u32,
    /// Set to 1 by the module when it stopped for want of budget and must be called again soon.
    pub more: u32,
    /// Set by the module: how many units of work were done. 0 tells the loop that spinning does not pay.
    pub done: u32,
}

/// Interest for `poll_add`: readable.
pub const INTEREST_READ: u32 = 1 << 0;
/// Interest for `poll_add`: writable.
pub const INTEREST_WRITE: u32 = 1 << 1;

/// A helper process to start. The program is looked up beside the modules; its name has no slash.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct SpawnSpec {
    /// `size_of::<SpawnSpec>()` of the module.
    pub size: u32,
    /// Number of `args`.
    pub n_args: u32,
    /// Program file name (`qnet-server`).
    pub program: Bytes,
    /// Arguments after the program name.
    pub args: *const Bytes,
    /// Token for [`READY_HELPER_EXIT`].
    pub token: u64,
    /// Descriptors that the child gets as 3, 4, …; still owned by the module.
    pub fds: *const i32,
    /// Number of `fds`.
    pub n_fds: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

/// Counters of a driver. [`UNKNOWN`] where the device does not count. Order and names follow QNX's `nicinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct DriverStats {
    /// `size_of::<DriverStats>()` of the host; a module fills in no more than this.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Packets Transmitted OK.
    pub tx_packets: u64,
    /// Bytes Transmitted OK.
    pub tx_bytes: u64,
    /// Memory Allocation Failures on Transmit.
    pub tx_no_memory: u64,
    /// Packets Received OK.
    pub rx_packets: u64,
    /// Bytes Received OK.
    pub rx_bytes: u64,
    /// Memory Allocation Failures on Receive.
    pub rx_no_memory: u64,
    /// Single Collisions on Transmit.
    pub single_collisions: u64,
    /// Deferred Transmits.
    pub deferred: u64,
    /// Late Collision on Transmit errors.
    pub late_collisions: u64,
    /// Transmits aborted (excessive collisions).
    pub tx_aborted: u64,
    /// Transmit Underruns.
    pub tx_underruns: u64,
    /// No Carrier on Transmit.
    pub tx_no_carrier: u64,
    /// Receive Alignment errors.
    pub rx_alignment: u64,
    /// Received packets with CRC errors.
    pub rx_crc: u64,
    /// Packets Dropped on receive, by the kernel or the device, before the driver saw them.
    pub rx_dropped: u64,
    /// Frames that the driver was given and could not send.
    pub tx_dropped: u64,
}

impl DriverStats {
    /// Nothing known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            size: size_of::<Self>() as u32,
            reserved: 0,
            tx_packets: UNKNOWN,
            tx_bytes: UNKNOWN,
            tx_no_memory: UNKNOWN,
            rx_packets: UNKNOWN,
            rx_bytes: UNKNOWN,
            rx_no_memory: UNKNOWN,
            single_collisions: UNKNOWN,
            deferred: UNKNOWN,
            late_collisions: UNKNOWN,
            tx_aborted: UNKNOWN,
            tx_underruns: UNKNOWN,
            tx_no_carrier: UNKNOWN,
            rx_alignment: UNKNOWN,
            rx_crc: UNKNOWN,
            rx_dropped: UNKNOWN,
            tx_dropped: UNKNOWN,
        }
    }
}
