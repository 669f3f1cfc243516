//! LR: the lan resolver, which finds nodes (`docs/protocol.md` §3).
//!
//! A request is broadcast: "who is DST? tell SRC". The node answers with a reply to SRC. An
//! announcement is a broadcast reply without DST.
//!
//! ```text
//!   0     1   2      3   4           8                                              56
//!   +-----+---+------+---+-----------+---------------------------------------------+- - - -
//!   | ver | 0 | type | 0 | total len | 6 x (offset 4, length 4): src name, domain, | data
//!   |  1  |   | 1, 2 |   |           | address; dst name, domain, address          |
//!   +-----+---+------+---+-----------+---------------------------------------------+- - - -
//!   offsets count from byte 56; address: length, family (1 = MAC), bytes
//! ```
//!
//! Our extension block, when there is one, follows the last item at a multiple of 8.

use super::WireError;
use super::bytes::{Order, Reader, Writer};
use super::tcs::ascii;
use super::tlv::Extensions;

const HEAD: usize = 56;
const FAMILY_MAC: u8 = 1;
/// Bytes of an address on the wire.
const ADDRESS: usize = 8;

/// What an LR message wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LrKind {
    /// 1: who is DST?
    Request,
    /// 2: SRC is at its address.
    Reply,
}

/// One side of an LR message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Party<'a> {
    /// Node name; empty when absent.
    pub name: &'a str,
    /// Domain; empty when absent.
    pub domain: &'a str,
    /// Ethernet address.
    pub mac: Option<[u8; 6]>,
}

/// An LR message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lr<'a> {
    /// Request or reply.
    pub kind: LrKind,
    /// Who speaks.
    pub src: Party<'a>,
    /// Who is looked for, or spoken to; empty in an announcement.
    pub dst: Party<'a>,
    /// What only nodes of our kind send.
    pub extensions: Option<Extensions>,
}

impl<'a> Lr<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when an item lies outside the message, is no ASCII text, or the version or
    /// type is unknown.
    pub fn parse(bytes: &'a [u8], order: Order) -> Result<Lr<'a>, WireError> {
        let mut r = Reader::new(bytes, order, "LR message");
        let version = r.u8()?;
        if version != 1 {
            return Err(WireError::BadValue { what: "LR version", value: version.into() });
        }
        r.u8()?;
        let kind = match r.u8()? {
            1 => LrKind::Request,
            2 => LrKind::Reply,
            other => return Err(WireError::BadValue { what: "LR type", value: other.into() }),
        };
        r.u8()?;
        r.u32()?; // total length: the packet's own length decides
        let mut spans = [(0, 0); 6];
        for span in &mut spans {
            *span = (r.u32()? as usize, r.u32()? as usize);
        }
        let data = r.rest();
        let item = |(offset, len): (usize, usize)| -> Result<&'a [u8], WireError> {
            if len == 0 {
                return Ok(&[]);
            }
            let need = offset.saturating_add(len);
            data.get(offset..need).ok_or(WireError::Truncated { what: "LR item", need, have: data.len() })
        };
        let party = |at: usize| -> Result<Party<'a>, WireError> {
            Ok(Party {
                name: text(item(spans[at])?)?,
                domain: text(item(spans[at + 1])?)?,
                mac: address(item(spans[at + 2])?),
            })
        };
        let (src, dst) = (party(0)?, party(3)?);
        // Every item was found inside the data, so the sums cannot overflow.
        let end = spans.iter().filter(|s| s.1 > 0).map(|s| s.0 + s.1).max().unwrap_or(0);
        let block = end.next_multiple_of(8);
        let extensions = Extensions::parse(data.get(block..).unwrap_or_default(), order)?;
        Ok(Lr { kind, src, dst, extensions })
    }

    /// Writes the message and returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when `out` is too short.
    pub fn emit(&self, out: &mut [u8], order: Order) -> Result<usize, WireError> {
        let mut w = Writer::new(out, order);
        let mut head = [(0, 0); 6];
        w.zero_to(HEAD);
        for (at, party) in [(0, &self.src), (3, &self.dst)] {
            let present = !party.name.is_empty();
            for (i, text) in [party.name, party.domain].into_iter().enumerate() {
                if present {
                    head[at + i] = (w.position() - HEAD, text.len() + 1);
                    w.bytes(text.as_bytes()).u8(0);
                }
            }
            if let Some(mac) = party.mac {
                let start = (w.position() - HEAD).next_multiple_of(8);
                w.zero_to(HEAD + start);
                head[at + 2] = (start, ADDRESS);
                w.u8(8).u8(FAMILY_MAC).bytes(&mac);
            }
        }
        if let Some(extensions) = &self.extensions {
            let start = (w.position() - HEAD).next_multiple_of(8);
            w.zero_to(HEAD + start);
            extensions.emit(&mut w);
        }
        let total = w.finish()?;
        let mut w = Writer::new(&mut out[..HEAD], order);
        let kind = if self.kind == LrKind::Request { 1 } else { 2 };
        // Bounded by the buffer, which is one frame.
        w.u8(1).u8(0).u8(kind).u8(0).u32(total as u32);
        for (offset, len) in head {
            w.u32(offset as u32).u32(len as u32);
        }
        w.finish()?;
        Ok(total)
    }
}

/// A name whose NUL may or may not be counted.
fn text(bytes: &[u8]) -> Result<&str, WireError> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    ascii(&bytes[..end], "LR name")
}

/// The Ethernet address of an item; other families are not ours to understand.
fn address(bytes: &[u8]) -> Option<[u8; 6]> {
    if bytes.len() < ADDRESS || bytes[1] != FAMILY_MAC {
        return None;
    }
    bytes[2..ADDRESS].try_into().ok()
}
