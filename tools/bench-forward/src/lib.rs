//! Parts of the forwarding benchmark: `cargo xtask bench forward`.
//!
//! ```text
//!  namespace gen        namespace fwd                 namespace sink
//!  generator ── g0 ═══ f0 ── forwarder under test ── f1 ═══ s0 (its receive counter is the result)
//!     CPU 0                     CPU 1
//! ```
//!
//! Forwarders take turns in every round: `io-pkt -d packet … -d packet … -p bridge`, minimal AF_PACKET forwarders written
//! for the purpose ([`minimal`]), the kernel's bridge, and where they are installed Open vSwitch and DPDK ([`peers`]). The generator for overload hands frames to
//! the driver below any socket (XDP live frames, several million a second); the one for the loss-free rate is paced.
//! Absolute rates belong to the machine; what counts is the ratio within a round.

pub mod generate;
pub mod measure;
pub mod minimal;
pub mod peers;
pub mod report;
pub mod rig;
pub mod role;
mod sys;
