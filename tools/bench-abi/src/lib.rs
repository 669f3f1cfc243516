//! Parts of the border benchmark: `cargo xtask bench abi`.
//!
//! The same bridge forwards the same batches twice: as `lsm-bridge.so`, loaded and called by the real loader, and as
//! the crate linked into the benchmark, whose methods are called directly. Host functions are the same in both.
//! Instructions are counted by callgrind, so the figure does not depend on what else the machine does.

#![expect(unsafe_code, reason = "a stand-in for the daemon's side of the border")]

pub mod host;
pub mod linked;
pub mod module;

/// Frames in a batch, as the daemon hands them out.
pub const FRAMES: usize = 64;
/// Interface that the frames come from.
pub const FROM: u32 = 1;
/// Interface behind which the destination was learned.
pub const TO: u32 = 2;
