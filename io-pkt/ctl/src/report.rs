//! What the daemon tells: the `ok` values of the replies.
//!
//! A number that nobody knows is absent (`None`, JSON `null`), never 0. Sizes are bytes, times nanoseconds.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// An Ethernet address; text form `02:00:5e:10:00:01`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut mac {
            *octet = parts
                .next()
                .filter(|part| part.len() == 2)
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| format!("`{text}` is not an Ethernet address"))?;
        }
        if parts.next().is_some() {
            return Err(format!("`{text}` is not an Ethernet address"));
        }
        Ok(Self(mac))
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// Answer to `ping`: which daemon this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Version of the program.
    pub version: String,
    /// Instance number (`-i`).
    pub instance: u32,
    /// Process id as the daemon sees it.
    pub pid: u32,
    /// Version of the module ABI, `major.minor`.
    pub abi: String,
    /// Largest `v` the daemon understands.
    pub protocol: u32,
    /// Name by which it was called (`io-pkt`, `io-pkt-v4-hc`).
    pub name: String,
    /// User who runs it.
    pub uid: u32,
    /// Nanoseconds since it started.
    pub uptime_ns: u64,
}

/// Answer to `mount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Name of the new use (`en0`, `bridge0`, `qnet`).
    pub name: String,
    /// Name of the module (`devn-packet`).
    pub module: String,
    /// File in the device directory that stands for the use, if it has one.
    pub path: Option<PathBuf>,
}

/// Answer to `umount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmounted {
    /// Name of the use that is gone.
    pub name: String,
    /// Name of its module.
    pub module: String,
}

/// An interface: what its driver says of it, and its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// QNX name (`en0`).
    pub name: String,
    /// What the system calls it (`eth1`, `tap0`, `/tmp/seg`).
    pub system_name: String,
    /// Module name of its driver (`devn-packet`).
    pub driver: String,
    /// File that the driver was loaded from.
    pub driver_path: PathBuf,
    /// Device file (`/dev/io-net/en0`).
    pub path: PathBuf,
    /// Instance of io-pkt that carries it.
    pub instance: u32,
    /// Process id of that instance.
    pub pid: u32,
    /// One line that describes the card or device.
    pub description: String,
    /// Kind of connector (`UTP`, `virtual`); empty when not known.
    pub media: String,
    /// Address in use.
    pub mac: Mac,
    /// Address burnt into the card.
    pub permanent_mac: Mac,
    /// Largest payload of a frame, Ethernet header not counted (1500).
    pub mtu: u32,
    /// Speed in Mbit/s.
    pub speed_mbps: Option<u32>,
    /// Full duplex.
    pub full_duplex: bool,
    /// There is a carrier.
    pub link: bool,
    /// All frames are received, whatever their destination.
    pub promiscuous: bool,
    /// Multicast frames are received.
    pub multicast: bool,
    /// The driver's counters.
    pub stats: Stats,
    /// Descriptors waiting to be sent.
    pub queued: u64,
    /// Frames dropped by io-pkt on this interface, by reason; zeros are left out.
    pub drops: Vec<DropCount>,
}

/// Counters of a driver, in the order of QNX's nicinfo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Packets Transmitted OK.
    pub tx_packets: Option<u64>,
    /// Bytes Transmitted OK.
    pub tx_bytes: Option<u64>,
    /// Memory Allocation Failures on Transmit.
    pub tx_no_memory: Option<u64>,
    /// Packets Received OK.
    pub rx_packets: Option<u64>,
    /// Bytes Received OK.
    pub rx_bytes: Option<u64>,
    /// Memory Allocation Failures on Receive.
    pub rx_no_memory: Option<u64>,
    /// Single Collisions on Transmit.
    pub single_collisions: Option<u64>,
    /// Deferred Transmits.
    pub deferred: Option<u64>,
    /// Late Collision on Transmit errors.
    pub late_collisions: Option<u64>,
    /// Transmits aborted (excessive collisions).
    pub tx_aborted: Option<u64>,
    /// Transmit Underruns.
    pub tx_underruns: Option<u64>,
    /// No Carrier on Transmit.
    pub tx_no_carrier: Option<u64>,
    /// Receive Alignment errors.
    pub rx_alignment: Option<u64>,
    /// Received packets with CRC errors.
    pub rx_crc: Option<u64>,
    /// Packets Dropped on receive, before the driver saw them.
    pub rx_dropped: Option<u64>,
    /// Frames that the driver was given and could not send.
    pub tx_dropped: Option<u64>,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Short stable word (`tx-queue-full`).
    pub reason: String,
    /// The same for humans, with what to do about it.
    pub meaning: String,
    /// Frames.
    pub count: u64,
}

/// Answer to `modules`: everything `pidin mem` shows of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// Who answers.
    pub version: Version,
    /// Its program file.
    pub program: PathBuf,
    /// Bytes of code of the program itself.
    pub code: u64,
    /// Bytes of writable data of the process, modules not counted.
    pub data: u64,
    /// Its threads, main thread first.
    pub threads: Vec<Thread>,
    /// Mapped builds, in the order they were loaded.
    pub builds: Vec<Build>,
    /// Uses that failed, newest last; at most the last 32 are kept.
    pub failed: Vec<Use>,
}

/// A thread of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Thread id.
    pub tid: u32,
    /// Thread name.
    pub name: String,
    /// State letter of `/proc` (`S`, `R`).
    pub state: char,
    /// Kernel priority as in `/proc/PID/stat` field 18 (20 minus nothing: nice 0).
    pub priority: i64,
    /// Bytes of stack in use, when known.
    pub stack_used: Option<u64>,
    /// Bytes of stack mapped, when known.
    pub stack_size: Option<u64>,
}

/// A module file that is mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Module name (`lsm-qnet`).
    pub name: String,
    /// File it was loaded from.
    pub path: PathBuf,
    /// What tells builds of the same name apart.
    pub build_id: String,
    /// Version of the ABI that it was built against, `major.minor`.
    pub abi: String,
    /// Lowest mapped address.
    pub address: u64,
    /// Bytes of code.
    pub code: u64,
    /// Bytes of writable data.
    pub data: u64,
    /// Running uses; none after the last umount (a build stays mapped).
    pub uses: Vec<Use>,
}

/// A use: one running mount of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// `en0`, `bridge0`, `qnet`.
    pub name: String,
    /// Name of its module.
    pub module: String,
    /// `driver` or `protocol`.
    pub kind: String,
    /// Options as given.
    pub options: String,
    /// Where it stands in its life.
    pub state: UseState,
    /// For a failed use: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Chunks of the packet pool it holds.
    pub chunks: u64,
    /// The packet thread that it runs on: 0 is the main thread, 1 is called `packet 1`.
    #[serde(default)]
    pub thread: u32,
}

/// Life of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UseState {
    /// It runs.
    Running,
    /// It failed and was taken away.
    Failed,
}

/// Answer to `counters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packet pool.
    pub pool: PoolCounters,
    /// Event loop of the main thread.
    pub event_loop: LoopCounters,
    /// Frames that drivers delivered to the switchboard.
    pub frames_delivered: u64,
    /// Frames handed to protocols.
    pub frames_routed: u64,
    /// Frames handed to drivers.
    pub frames_sent: u64,
    /// Frames dropped by io-pkt, by reason, all interfaces together; zeros are left out.
    pub drops: Vec<DropCount>,
    /// Helper processes that run.
    pub helpers: u64,
    /// Control connections open.
    pub clients: u64,
}

/// State of the packet pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolCounters {
    /// Bytes of a chunk.
    pub chunk_size: u64,
    /// Chunks in all.
    pub chunks: u64,
    /// Chunks that nobody holds.
    pub free: u64,
    /// Requests for a chunk that found none.
    pub exhausted: u64,
    /// Descriptors refused because they named no chunk that the caller holds.
    pub bad_descriptors: u64,
    /// Chunks taken back from uses that went without freeing them.
    pub reclaimed: u64,
}

/// What the event loop did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopCounters {
    /// Turns.
    pub turns: u64,
    /// Times it slept in the kernel.
    pub sleeps: u64,
    /// Turns that only spun.
    pub spins: u64,
    /// Longest turn, nanoseconds.
    pub longest_turn_ns: u64,
}
