//! `/net` as a file system: FUSE requests become `_IO_*` messages to other nodes, their replies become FUSE replies.
//!
//! ```text
//!  kernel ── /dev/fuse ── fuse (codec) ── …
//! ```
//!
//! The binary `qnet-netfs` is a thin `main` over this library; tests and fuzz targets use the library directly.

#![deny(unsafe_code)]

pub mod fuse;
