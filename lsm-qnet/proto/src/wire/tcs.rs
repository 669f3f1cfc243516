//! TCS: the messages that set sessions up and tear them down (`docs/protocol.md` §4).
//!
//! TCS_INIT carries who asks and whom; we send the same body, with our extension block, in
//! TCS_REM_UP and TCS_UP, where the public format knows of none.
//!
//! ```text
//!   0          2          4          6          8
//!   +----------+----------+----------+----------+- - - - - - - - -+- - - - - - - -
//!   | src name | src dom. | dst name | dst dom. | strings, NUL    | extensions
//!   |  offset  |  offset  |  offset  |  offset  | after each      | at 4 n (ours)
//!   +----------+----------+----------+----------+- - - - - - - - -+- - - - - - - -
//!   offsets count from byte 8
//! ```

use super::WireError;
use super::bytes::{Order, Reader, Writer};
use super::tlv::Extensions;

const OFFSETS: usize = 8;

/// The body of a set-up message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcs<'a> {
    /// The sender's name.
    pub src_name: &'a str,
    /// Its domain.
    pub src_domain: &'a str,
    /// The receiver's name.
    pub dst_name: &'a str,
    /// Its domain.
    pub dst_domain: &'a str,
    /// What only nodes of our kind send.
    pub extensions: Option<Extensions>,
}

impl<'a> Tcs<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`WireError`] when an offset points outside, a string has no NUL or is not ASCII, or the
    /// extension block is damaged.
    pub fn parse(bytes: &'a [u8], order: Order) -> Result<Tcs<'a>, WireError> {
        let mut r = Reader::new(bytes, order, "TCS message");
        let offsets = [r.u16()?, r.u16()?, r.u16()?, r.u16()?];
        let strings = r.rest();
        let mut texts = [""; 4];
        let mut end = 0;
        for (text, offset) in texts.iter_mut().zip(offsets) {
            let start = usize::from(offset);
            let tail = strings.get(start..).unwrap_or_default();
            let Some(len) = tail.iter().position(|&b| b == 0) else {
                return Err(WireError::BadText { what: "TCS name" });
            };
            *text = ascii(&tail[..len], "TCS name")?;
            end = end.max(start + len + 1);
        }
        let block = (OFFSETS + end).next_multiple_of(4);
        let extensions = Extensions::parse(bytes.get(block..).unwrap_or_default(), order)?;
        let [src_name, src_domain, dst_name, dst_domain] = texts;
        Ok(Tcs { src_name, src_domain, dst_name, dst_domain, extensions })
    }

    /// Writes the body and returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when `out` is too short.
    pub fn emit(&self, out: &mut [u8], order: Order) -> Result<usize, WireError> {
        let mut w = Writer::new(out, order);
        let texts = [self.src_name, self.src_domain, self.dst_name, self.dst_domain];
        let mut offset = 0;
        for text in texts {
            w.u16(u16::try_from(offset).map_err(|_| WireError::BadText { what: "TCS name" })?);
            offset += text.len() + 1;
        }
        for text in texts {
            w.bytes(text.as_bytes()).u8(0);
        }
        if let Some(extensions) = &self.extensions {
            let block = w.position().next_multiple_of(4);
            w.zero_to(block);
            extensions.emit(&mut w);
        }
        w.finish()
    }
}

/// ASCII bytes as text.
pub(super) fn ascii<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, WireError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => Err(WireError::BadText { what }),
    }
}
