//! Parts of the benchmark of message passing: `cargo xtask bench messages`.
//!
//! ```text
//!  namespace a                                         namespace b
//!  MsgSend, Unix socket, pipe, futex                                     local
//!  io-pkt ── q0 ════════════════════════════ q1 ── io-pkt                node to node
//!  io-pkt ── n0 ════════════════════════════ n1 ── io-pkt                the same, and nobody spins
//!  TCP, UDP, ZeroMQ, gRPC, raw frames ── t0 ══ t1 ── their other ends    offloads off
//! ```
//!
//! All of them are [contestants](bench_support::contestant): a client that answers plans, and a server that has each
//! message in memory of its own before it answers.

pub mod clients;
pub mod messages;
pub mod nodes;
pub mod peers;
pub mod role;
pub mod sections;
