//! The daemon's side of the calls that modules make.
//!
//! ```text
//!  module ── HostTable (extern "C") ── sys.rs: pointers become slices and texts ── context.rs: safe code
//! ```
//!
//! `sys.rs` believes nothing: null and misaligned pointers, calls from a foreign thread and panics of our own end
//! there.

mod context;
mod sys;

pub use context::{Role, UseContext};
pub use sys::{create_driver, create_protocol, interface_event};

#[cfg(test)]
mod tests;
