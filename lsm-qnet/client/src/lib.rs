//! QNX message passing for Rust programs on Linux: channels, connections, send, receive, reply, pulses.
//!
//! A server makes a [`Channel`]; a client attaches a [`Connection`] to it and sends. The sender is blocked until the
//! server replies, and meanwhile the server may read more of the message and write into the reply, at any offset. The
//! same calls reach a channel of this machine (no daemon is needed for that) and, through `lsm-qnet`, one on another
//! node: only the node descriptor differs.
//!
//! ```
//! use qnet::{Channel, ChannelFlags, Connection, Received, Root};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir();
//! # let root = Root::at(&directory)?;
//! let channel = Channel::create(&root, ChannelFlags::empty())?;
//! let (pid, chid) = (channel.pid(), channel.chid());
//! std::thread::scope(|scope| -> Result<(), qnet::Error> {
//!     scope.spawn(|| {
//!         let Ok(Received::Message(message)) = channel.receive(None) else { panic!("a message was sent") };
//!         assert_eq!(message.data(), b"ping");
//!         message.reply(7, b"pong")
//!     });
//!     let connection = Connection::attach(&root, 0, pid, chid)?;
//!     let mut answer = [0; 16];
//!     let reply = connection.send(b"ping", &mut answer)?;
//!     assert_eq!((reply.status, &answer[..reply.len]), (7, &b"pong"[..]));
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! Errors carry Linux errno values ([`Error::errno`]); the codes are the ones that QNX documents for each call.

#![deny(unsafe_code)]

pub mod calls;
mod channel;
mod connection;
mod crew;
mod error;
mod event;
mod file;
mod info;
mod iov;
mod link;
pub mod names;
pub mod netmgr;
mod port;
mod process;
mod signal;
mod sys;
pub mod terminal;
mod thread;
mod timer;
mod watch;

pub use channel::{Channel, ClientHandle, Message, Received};
pub use connection::{Connection, Reply, SendOptions};
pub use error::Error;
pub use event::Event;
pub use file::{File, entries};
pub use info::{ChannelFlags, MessageInfo, Pulse, ServerInfo};
pub use netmgr::Netmgr;
pub use qnet_iomsg::calendar;
pub use qnet_ipc::{Claim, Root};
pub use signal::signal_kill;
pub use sys::{PerProcess, generation};
pub use timer::{Clock, Timer, Times};

/// `ND_LOCAL_NODE`: this node.
pub const LOCAL_NODE: u32 = 0;
