//! Parts of Qnet's benchmarks: `cargo xtask bench qnet` and `cargo xtask bench crc`.
//!
//! ```text
//!  namespace a                                        namespace b
//!  io-pkt ── q0 ════════════════════════════ q1 ── io-pkt            wire, process
//!  io-pkt ── c0 ════════════════════════════ c1 ── io-pkt            the same with do_crc=1
//!  io-pkt ── m0 ════════════════════════════ m1 ── io-pkt            the same with devn-packet's mode=mixed
//!  TCP, UDP, ZeroMQ, raw frames ── t0 ══ t1 ── their other ends      offloads off
//!  TCP ── o0 ═══════════════════════════════ o1 ── TCP               offloads as they come
//!  io-pkt ── s0 ════════════════════════════ s1 ── io-pkt            one link, limited
//!  io-pkt ── l0, r0 ════════════════════ l1, r1 ── io-pkt            two such links
//!  io-pkt ── z0 ════════════════════════════ z1 ── a thousand nodes in one program
//! ```
//!
//! Everything that is compared runs in turn within each round, so that a machine that slows down slows all of them
//! down. The ratios of a round count, not the figures.

pub mod crc;
pub mod crowd;
pub mod lines;
pub mod others;
pub mod process;
pub mod role;
pub mod sections;
mod sys;
