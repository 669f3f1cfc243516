//! A network simulator for the Qnet protocol core.
//!
//! [`Network`] holds real [`Node`](qnet_proto::Node)s, carries their frames in simulated time and
//! damages them as [`Faults`] say: loss, duplication, reordering, corruption, delay; a [`Wire`] may
//! have a speed and a queue, hosts are cut off, restarted, frozen, and their clocks stepped. Everything follows from one seed, so a failing run can be repeated exactly. On each
//! node an [`App`] plays the programs; [`apps`] has a server and a client that check what a user
//! would check: every message arrives once, or its sender is told.
//!
//! Nothing here is shipped.

#![forbid(unsafe_code)]

pub mod apps;
mod faults;
mod ledger;
mod network;
pub mod pcap;
mod rng;
pub mod scenario;
pub mod seeds;
mod wire;

pub use faults::Faults;
pub use network::{App, HostId, Network, Programs};
pub use rng::Rng;
pub use wire::Wire;
