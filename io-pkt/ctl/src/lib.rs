//! Control messages of io-pkt and a client for them.
//!
//! A daemon listens on `ROOT/io-pktN.sock` (a Unix stream socket). Both directions carry one JSON object a line, at
//! most [`MAX_LINE`] bytes long, newline included (requests: [`MAX_REQUEST`]):
//!
//! ```text
//!  client ► {"v":1,"id":7,"cmd":"mount","module":"devn-packet.so","options":"dev=eth1"}      (+ the file by SCM_RIGHTS)
//!  daemon ► {"v":1,"id":7,"ok":{"name":"en0","module":"devn-packet","path":"/dev/io-net/en0"}}
//!  client ► {"v":1,"id":8,"cmd":"umount","name":"qnet"}
//!  daemon ► {"v":1,"id":8,"error":{"errno":"EBUSY","text":"qnet: …"}}
//! ```
//!
//! Requests of one connection are answered in order. Unknown fields are ignored on both sides, so that fields can be
//! added without a new version. The kernel's credentials decide: everybody may read, only root and the user who runs
//! the daemon may change anything.
//!
//! This crate also knows where things are: [`Root`] finds the node's directory and the instances that run in it.

pub mod client;
pub mod codec;
pub mod handover;
pub mod message;
pub mod names;
pub mod report;
pub mod root;
pub mod sys;

pub use client::{Client, ClientError};
pub use codec::{LineBuffer, LineTooLong};
pub use message::{Command, ErrorReply, Outcome, Reply, Request};
pub use names::{DeviceFile, MountType, Target};
pub use report::{
    Build, Counters, DropCount, Interface, Mac, Modules, Mounted, Stats, Unmounted, Use, UseState, Version,
};
pub use root::{Instance, Root, RootError};

/// Version of the messages, the `v` of every object.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest line in bytes, newline included, in either direction.
pub const MAX_LINE: usize = 1 << 20;

/// Longest request that a daemon reads. Reading one may not keep frames waiting, and real ones are far shorter.
pub const MAX_REQUEST: usize = 64 << 10;

/// Most descriptors that one request may bring along.
pub const MAX_DESCRIPTORS: usize = 4;
