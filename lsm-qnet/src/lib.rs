//! `lsm-qnet`: messages between nodes, as a protocol module of io-pkt.
//!
//! The protocol itself is `qnet-proto`, pure; the channels of this machine are `qnet-ipc`. This crate joins them and the
//! daemon: frames go to the core and come from it, programs connect at `ROOT/qnet.sock`, callers from other nodes arrive
//! at local channels under a mapped identity, and the two helpers (`qnet-server`, `qnet-netfs`) are started and watched.
//!
//! ```text
//!  programs, qnet-netfs          qnet-server      servers of this node
//!      │ qnet.sock                    │ pair           │ abstract sockets
//!      ▼ front: local                 ▲ back: channel  ▲
//!  ┌───┴──────────────── engine ──────┴────────────────┴───┐
//!  │ front: remote · back: remote · network manager        │
//!  └───────────────────────┬───────────────────────────────┘
//!                     qnet-proto::Node
//!                          │ frames, 0x8204
//! ```
//!
//! | File | What |
//! |---|---|
//! | `options.rs`, `tuning.rs`, `hostname.rs`, `access.rs` | what the user set; the node's name; who remote callers become |
//! | `engine/` | connections and calls between fronts and backs; no daemon needed, so tests run it alone |
//! | `places.rs`, `resolvers/` | network directories and how their names are found |
//! | `ports.rs`, `vlan.rs`, `internet/` | interfaces and frames; packets of IP and UDP |
//! | `mountpoint.rs` | whether a directory can become the network directory |
//! | `helpers.rs` | the two helper programs |
//! | `module.rs`, `report.rs` | the module's face to io-pkt; its report |

#![deny(unsafe_code)]

mod access;
pub mod engine;
mod helpers;
mod hostname;
mod internet;
mod module;
mod mountpoint;
mod options;
mod places;
mod ports;
mod report;
mod resolvers;
mod tuning;
mod vlan;

pub use access::{Access, Rights};
pub use hostname::{NameSource, node_name};
pub use module::Qnet;
pub use options::Settings;

io_pkt_sdk::export_protocol!("lsm-qnet", Qnet);
