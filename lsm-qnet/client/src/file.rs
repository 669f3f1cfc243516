//! A file of a node, read with messages alone: for programs where no network directory is mounted.
//!
//! ```text
//!  File::open   _IO_CONNECT, open   to the node's process manager (process 1, channel 1)
//!  read         _IO_READ at an offset
//!  drop         _IO_CLOSE
//! ```
//!
//! The node decides, under the identity it maps the caller to, as it does for callers that come through `/net`.

use std::io::{self, Read};

use qnet_iomsg::{Connect, Io, flags::IOFLAG_LARGEFILE, flags::IOFLAG_READ, message::XTYPE_OFFSET};

use crate::{Connection, Error, Root, SendOptions};

/// Most bytes asked for at once; the server may give fewer.
const LARGEST: usize = 64 * 1024;

/// A file that is open for reading. It has one connection to the node for itself.
#[derive(Debug)]
pub struct File {
    connection: Connection,
    position: u64,
}
