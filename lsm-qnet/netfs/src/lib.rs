//! `/net` as a file system: FUSE requests become `_IO_*` messages to other nodes, their replies become FUSE replies.
//!
//! ```text
//!  kernel ── /dev/fuse ── fuse (codec) ── engine ── link ── ROOT/qnet.sock ── lsm-qnet ── other nodes
//!            mount, serve                   │
//!                            inodes (names ↔ numbers), attributes, caller
//! ```
//!
//! `engine` and everything under it is free of descriptors and clocks; `serve` drives it, `mount` and `claim` deal with the
//! directory it is mounted on. The binary `qnet-netfs` is a thin `main` over this library; tests and fuzz targets use the
//! library directly.

#![deny(unsafe_code)]

pub mod attributes;
pub mod caller;
pub mod claim;
pub mod engine;
pub mod fuse;
pub mod inodes;
pub mod link;
pub mod mount;
pub mod serve;
pub mod standby;
mod sys;
