//! Everything a node is told once, with QNX's defaults.
//!
//! The names are those of `lsm-qnet`'s options. Which values a user may give is checked where the
//! options are read; here every value works.

use std::time::Duration;

use crate::names::{Domain, NodeName};

/// Settings of a [`Node`](crate::Node). Tick counts are in units of [`Config::tick`].
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name.
    pub name: NodeName,
    /// This node's domain; may be empty.
    pub domain: Domain,
    /// Distinguishes this run of the node from every other; random or the boot time, never 0.
    pub incarnation: u64,
    /// Seeds jitter and connection ids. Same seed and same inputs, same outputs.
    pub seed: u64,
    /// One tick. QNX: 200 ms (`periodic_ticks=5`).
    pub tick: Duration,
    /// Ticks between announcements; 0: neither announce nor believe announcements.
    pub auto_add: u32,
    /// Further requests after the first when a name is looked for.
    pub res_retries: u32,
    /// Ticks between those requests.
    pub res_ticks: u32,
    /// Further attempts after the first to set a session up.
    pub conn_est_retries: u32,
    /// Ticks between those attempts.
    pub conn_est_timeout: u32,
    /// Ticks of silence after which a session is polled.
    pub conn_up_idle: u32,
    /// Unanswered polls, five ticks apart, after which a session is dead.
    pub conn_up_retries: u32,
    /// With [`Config::tx_ticks`]: how long unacknowledged data keeps a session alive.
    pub tx_retries: u32,
    /// Longest time between two transmissions of a frame, in ticks.
    pub tx_ticks: u32,
    /// Largest packet in bytes, as the links' MTU counts; the smaller of both holds.
    pub mtu_en: u32,
    /// Most links of a session; 1 to 4.
    pub max_num_l4s: u32,
    /// The network directories, the default one first; none means one with the node's own domain,
    /// asked for on the LAN.
    pub directories: Vec<Directory>,
    /// Ticks for which trouble with a node is remembered: until then little is sent to it at once. 0: not at all.
    pub slow_mode: u32,
    /// Neither send nor expect acknowledgements; for media that lose nothing, the same on all nodes.
    pub no_ack: bool,
    /// Ticks after which a link on which a node was not heard is asked for it, while a session with it is up; `None`: as
    /// [`Config::conn_up_idle`].
    pub probe_no_l4_time: Option<u32>,
    /// Put a CRC on every packet and check the ones that carry one.
    pub do_crc: bool,
    /// With `do_crc`: drop packets that carry none.
    pub enforce_crc: bool,
    /// Whether the carrier can give this node another address on a link when two nodes have one
    /// ([`Event::TakeAddress`](crate::Event::TakeAddress)).
    pub may_move: bool,
    /// Whether to use the extensions of docs/protocol.md. Off, the node behaves as a plain QNX
    /// peer (tests use it for that).
    pub extensions: bool,
    /// The number of a session's first message, the same on all nodes: 1. Only tests have others, to see the number wrap.
    pub first_message: u32,
    /// Bounds on memory.
    pub limits: Limits,
}

/// Who is asked for a node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// Everybody on the links, by LR requests (QNX's `en_ionet`).
    Lan,
    /// Somebody outside of the core, by the caller's number:
    /// [`Event::Ask`](crate::Event::Ask), [`Command::Found`](crate::Command::Found).
    External(u32),
}

/// The names of one domain in a network directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// It and all domains below it; `None`: the node's own, whatever it is at the time.
    pub domain: Option<Domain>,
    /// Who is asked for them, one after the other.
    pub resolvers: Vec<Resolver>,
}

/// A network directory as the core sees it: how its names are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The first one's domain is that of names without one; it also has the names of all domains
    /// that no other zone covers. None: the node's own domain, on the LAN.
    pub zones: Vec<Zone>,
}

/// Bounds on what peers can make this node hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Known nodes, this one not counted. Beyond: newly heard nodes are not listed.
    pub nodes: usize,
    /// Bytes reserved for incomplete messages of one peer. Beyond: new messages are refused (NACK).
    pub reassembly_per_peer: u32,
    /// The same for all peers together.
    pub reassembly_total: u32,
    /// Server-side connections of one peer. Beyond: `EAGAIN`.
    pub connections_per_peer: usize,
    /// Unanswered messages of one peer. Beyond: `EAGAIN`.
    pub messages_per_peer: usize,
    /// Messages waiting to be sent to one peer. Beyond: `CommandError::Busy`.
    pub queue_per_peer: usize,
    /// The same for all peers together, counting answers: beyond, data of peers that are owed more than a
    /// few answers is dropped. Commands are not refused for it.
    pub queue_total: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            nodes: 16_384,
            reassembly_per_peer: 8 << 20,
            reassembly_total: 128 << 20,
            connections_per_peer: 16_384,
            messages_per_peer: 16_384,
            queue_per_peer: 65_536,
            queue_total: 262_144,
        }
    }
}

impl Config {
    /// QNX's defaults for a node of this name.
    #[must_use]
    pub fn new(name: NodeName, domain: Domain, incarnation: u64, seed: u64) -> Config {
        Config {
            name,
            domain,
            incarnation,
            seed,
            tick: Duration::from_millis(200),
            auto_add: 150,
            res_retries: 2,
            res_ticks: 1,
            conn_est_retries: 1,
            conn_est_timeout: 1,
            conn_up_idle: 50,
            conn_up_retries: 6,
            tx_retries: 25,
            tx_ticks: 1,
            mtu_en: 1500,
            max_num_l4s: 2,
            slow_mode: 1200,
            no_ack: false,
            probe_no_l4_time: None,
            directories: Vec::new(),
            do_crc: false,
            enforce_crc: false,
            may_move: false,
            extensions: true,
            first_message: 1,
            limits: Limits::default(),
        }
    }

    /// `ticks` as a duration.
    #[must_use]
    pub(crate) fn ticks(&self, ticks: u32) -> Duration {
        self.tick.saturating_mul(ticks)
    }
}
