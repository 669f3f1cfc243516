//! NR: the network resolver (`docs/protocol.md` §5).
//!
//! A ping asks whether a session lives; we send it unsequenced (sequence number 0) as heartbeat.
//! A remote request asks for the number by which the receiver knows a node.
//!
//! ```text
//!   ping request 0, ping answer 1:  type 1
//!   the same, numbered (ours):      type 1, 0, id 2
//!   remote request 2:               type 1, length 1, id 2, name (NUL counted)
//!   remote answer 3:                type 1, 0, id 2, nd 4
//!   remote error 4:                 type 1, 0, id 2, errno 4
//! ```

use super::WireError;
use super::bytes::{Order, Reader, Writer};
use super::tcs::ascii;

/// Bytes of a numbered ping.
const ECHO: usize = 4;

/// An NR message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nr<'a> {
    /// 0: are you there?
    PingRequest,
    /// 1: yes.
    PingAnswer,
    /// 0 with a number (ours): somebody asks how long it takes.
    EchoRequest {
        /// Comes back in the answer.
        id: u16,
    },
    /// 1 with a number (ours).
    EchoAnswer {
        /// From the request.
        id: u16,
    },
    /// 2: what is your number for this node?
    RemoteRequest {
        /// Comes back in the answer.
        id: u16,
        /// FQNN.
        name: &'a str,
    },
    /// 3: this one.
    RemoteAnswer {
        /// From the request.
        id: u16,
        /// The answering node's number.
        nd: u32,
    },
    /// 4: none.
    RemoteError {
        /// From the request.
        id: u16,
        /// errno.
        status: u32,
    },
}

impl<'a> Nr<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is cut off, of unknown type, or its name no text.
    pub fn parse(bytes: &'a [u8], order: Order) -> Result<Nr<'a>, WireError> {
        let mut r = Reader::new(bytes, order, "NR message");
        let kind = r.u8()?;
        if kind <= 1 {
            let numbered = bytes.len() >= ECHO;
            let id = if numbered { Reader::new(&bytes[2..], order, "NR message").u16()? } else { 0 };
            return Ok(match (kind, numbered) {
                (0, false) => Nr::PingRequest,
                (0, true) => Nr::EchoRequest { id },
                (_, false) => Nr::PingAnswer,
                (_, true) => Nr::EchoAnswer { id },
            });
        }
        let len = r.u8()?;
        let id = r.u16()?;
        Ok(match kind {
            2 => {
                let name = r.take(usize::from(len))?;
                let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
                Nr::RemoteRequest { id, name: ascii(&name[..end], "NR name")? }
            }
            3 => Nr::RemoteAnswer { id, nd: r.u32()? },
            4 => Nr::RemoteError { id, status: r.u32()? },
            other => return Err(WireError::BadValue { what: "NR type", value: other.into() }),
        })
    }

    /// Writes the message and returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when `out` is too short; [`WireError::BadText`] for a name over 254
    /// bytes.
    pub fn emit(&self, out: &mut [u8], order: Order) -> Result<usize, WireError> {
        let mut w = Writer::new(out, order);
        match *self {
            Nr::PingRequest => w.u8(0),
            Nr::PingAnswer => w.u8(1),
            Nr::EchoRequest { id } => w.u8(0).u8(0).u16(id),
            Nr::EchoAnswer { id } => w.u8(1).u8(0).u16(id),
            Nr::RemoteRequest { id, name } => {
                let len = u8::try_from(name.len() + 1);
                let len = len.map_err(|_| WireError::BadText { what: "NR name" })?;
                w.u8(2).u8(len).u16(id).bytes(name.as_bytes()).u8(0)
            }
            Nr::RemoteAnswer { id, nd } => w.u8(3).u8(0).u16(id).u32(nd),
            Nr::RemoteError { id, status } => w.u8(4).u8(0).u16(id).u32(status),
        };
        w.finish()
    }
}
