//! Programs for simulated hosts: a server, clients, and what they say to each other.
//!
//! A client sends the messages of its plan, a few at a time, answers the server's reads, and compares
//! every reply byte by byte. The [`Ledger`] watches both: each message is delivered once or its sender
//! was told, never twice, and pulses keep their place. A [`Station`] lets several programs live on one
//! host.
//!
//! ```text
//!   message: 0x2001 (2), operation (2), 0 (8), argument (4), length (4), data
//! ```

mod client;
mod server;
mod station;

pub use crate::ledger::{Ledger, Outcome, SharedLedger};
pub use client::Client;
pub use server::{FIRST_CHUNK, Server};
pub use station::Station;

use qnet_proto::Errno;

/// Bytes before the data of a message.
const HEAD: usize = 20;

/// What a message asks the server for, or what a client does instead of sending one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The message comes back.
    Echo {
        /// Data bytes.
        len: u32,
    },
    /// A piece of the server's file comes back.
    Read {
        /// Where it begins.
        offset: u32,
        /// How long it is.
        len: u32,
    },
    /// The data is checked by the server, which answers with its sum.
    Put {
        /// Data bytes.
        len: u32,
    },
    /// The server answers after a while; the sender has only so much patience, then it unblocks.
    Wait {
        /// Milliseconds until the answer.
        millis: u32,
        /// Milliseconds after which the sender wants to leave.
        patience: u32,
    },
    /// The server answers with an error.
    Refuse,
    /// The server's channel goes away.
    Die,
    /// A pulse; has no answer.
    Pulse,
    /// The client closes its connection, whatever is under way on it, and opens another.
    Leave,
}

impl Op {
    /// The operation on the wire, its argument, its length, and how much data it carries.
    fn head(self) -> (u8, u32, u32, u32) {
        match self {
            Op::Echo { len } => (1, 0, len, len),
            Op::Read { offset, len } => (2, offset, len, 0),
            Op::Put { len } => (3, 0, len, len),
            Op::Wait { millis, .. } => (4, millis, 0, 0),
            Op::Refuse => (5, 0, 0, 0),
            Op::Die => (6, 0, 0, 0),
            Op::Pulse | Op::Leave => unreachable!("not sent as a message"),
        }
    }

    /// Bytes of the reply.
    fn reply_len(self) -> usize {
        match self {
            Op::Echo { len } => HEAD + len as usize,
            Op::Read { len, .. } => len as usize,
            _ => 0,
        }
    }

    /// Whether this error is what the message is sent for.
    fn is_answered_by(self, errno: Errno) -> bool {
        match self {
            Op::Wait { .. } => errno == Errno::EINTR,
            Op::Refuse => errno == Errno::EAGAIN,
            Op::Die => errno == Errno::ESRCH,
            _ => false,
        }
    }
}

/// The byte of every file and message at an offset.
#[must_use]
pub fn pattern(salt: u64, offset: u64) -> u8 {
    let x = (offset ^ (salt << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 56) as u8
}

fn fill(salt: u64, offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64).map(|at| pattern(salt, at)).collect()
}

fn sum(bytes: &[u8]) -> i32 {
    let sum = bytes.iter().fold(7u32, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
    (sum >> 1) as i32
}
