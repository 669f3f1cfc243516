//! `libqnet.so`: the C face of the crate `qnet`, with QNX's calls, structures and return types.
//!
//! The headers are in `lsm-qnet/client/include/qnet`; what differs from QNX, call by call, in `docs/messages.md`. Nothing is
//! decided here: pointers, errno and types are converted, and `qnet::calls` does the work. The rules of this border:
//!
//! - A call never unwinds into its caller: a panic of ours is `EIO` (`call.rs`).
//! - While Rust runs, the thread cannot be cancelled (poll and recvmsg are cancellation points of the C library, and its
//!   unwinding must not pass frames that have destructors). Calls that QNX documents as cancellation points are so at their
//!   beginning and while they wait ([`cancel`]).
//! - A NULL with a length, a length beyond the address space and too many parts are `EFAULT` or `EINVAL` (`memory.rs`).
//! - Only the names of QNX's calls and those that the overlay headers redirect to (`qnet_…`) are exported; a test compares
//!   them with the headers.
//! - There are no constructors: the first call that needs something makes it.

mod call;
pub mod cancel;
pub mod channels;
pub mod clocks;
pub mod devctl;
pub mod events;
mod info;
mod memory;
pub mod messages;
pub mod names;
pub mod nodes;
pub mod priority;
pub mod queues;
mod registry;
pub mod threads;
pub mod timeouts;
pub mod timers;
