//! What drivers on Linux have in common: network interfaces (which there are, what they are like, when they change),
//! and sending frames straight out of the pool.
//!
//! [`LinkWatch`] hears of changes and answers questions through rtnetlink; [`device`] changes an interface through the
//! old `ioctl`s, which take one value each and need no message to be built. Everything is non-blocking or answered by
//! the kernel at once; nothing here keeps a thread or asks for privileges by itself.

pub mod device;
mod message;
mod send;
mod watch;

pub use message::{Link, LinkCounters};
pub use send::FrameSender;
pub use watch::LinkWatch;
