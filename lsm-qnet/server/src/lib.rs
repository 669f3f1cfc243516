//! Serves this node's files to other nodes.
//!
//! `lsm-qnet` starts the program `qnet-server` with a socket as descriptor 3 and passes on it what remote
//! callers ask of this node (QNX: of its process manager, pid 1 channel 1): `_IO_` messages with paths,
//! reads, attributes. Each connection comes with the identity that its caller is mapped to, and every
//! request runs as that identity.
//!
//! A process of its own, because a hung disk, a remote user and a defect in here must reach neither
//! the frames nor the memory of `io-pkt`.
//!
//! | module | |
//! |---|---|
//! | [`service`], `state` | threads, connections, shares |
//! | [`request`] | one message: bytes → reply |
//! | [`resolve`], [`export`], [`selection`], [`mounts`] | paths, and where they must not lead |
//! | [`mod@file`], `attributes` | what is open, and reading it |
//! | `locks` | locks of remote programs |
//! | [`opens`] | who has a file open, and which page cache may keep it |
//! | [`names`], [`keeper`] | the names of channels, `/dev/name`; what dead owners left |
//! | [`identity`] | becoming the caller |
//! | [`limits`] | bounds of everything a caller can use up |
//! | `xattr` | extended attributes |
//! | `special`, `wait` | FIFOs, devices and terminals; what is waited for without a thread |
//! | [`sys`] | system calls |

#![deny(unsafe_code)]

mod attributes;
pub mod export;
pub mod file;
pub mod identity;
pub mod keeper;
pub mod limits;
mod locks;
pub mod mounts;
pub mod names;
pub mod opens;
mod outbox;
pub mod request;
pub mod resolve;
pub mod selection;
pub mod service;
mod signals;
mod special;
mod state;
pub mod sys;
mod wait;
mod xattr;

/// Name under which this program logs.
pub const LOG: &str = "qnet-server";
