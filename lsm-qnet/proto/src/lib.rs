//! The Qnet protocol core: wire formats and state machines, no input or output.
//!
//! [`Node`] is the whole of Qnet on one machine: it finds other nodes (`LR`), keeps sessions with
//! them (`TCS`), carries messages reliably (`L4`) and speaks the kernel interface (`KIF`) on top.
//! It is pure: frames, time and requests are arguments, and everything it wants done is fetched
//! from its `poll_*` calls. So it runs under a simulator exactly as it runs in the daemon.
//!
//! ```text
//!   handle_frame    ──►┌──────────────────────────┐──► poll_transmit   frames
//!   handle_command  ──►│ names │ KIF tables       │──► poll_event      Event
//!   handle_timeout  ──►│  LR   │ sessions, L4     │──► poll_timeout    when to call again
//!                      └──────────────────────────┘
//! ```

#![forbid(unsafe_code)]

mod command;
mod config;
mod counters;
mod event;
pub mod hosts;
mod link;
mod names;
mod node;
mod qos;
mod rng;
mod session;
mod sink;
mod source;
mod table;
mod time;
pub mod wire;

pub use command::{
    ClientId, Command, Errno, Handle, PulseInfo, Rcv, ServerId, Sigevent, SignalInfo, VtidInfo,
};
pub use config::{Config, Directory, Limits, Resolver, Zone};
pub use counters::{Counters, PeerCounters};
pub use event::{Data, DownReason, Event, NodeId};
pub use link::{Destination, LinkAddr, LinkId, LinkInfo, Transmit};
pub use names::{Domain, Fqnn, NameError, NodeName};
pub use node::{Clash, CommandError, Holdings, Node, NodeState, NodeView, PathView, SessionEnd};
pub use qos::{Qos, QosError};
pub use session::health::PathState;
pub use sink::{Buffer, Outlet, Sink};
pub use source::{Body, Source};
pub use time::Instant;
pub use wire::kif::ClientInfo;

/// The most data bytes of a message on the wire that goes into a sink: 256 KiB. Longer data travels in
/// several messages.
pub const MAX_TRANSFER: usize = 256 << 10;
/// The most data bytes a MSGSEND carries, whatever the two sides agree on: 64 KiB.
pub const MAX_FIRST: usize = 64 << 10;
