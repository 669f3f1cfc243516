//! What of an open file is ready. **Ours**: QNX's `_IO_NOTIFY` answers at once and sends a pulse later; here the answer itself
//! comes later, so that it needs no channel of the asking side and ends with its connection.
//!
//! ```text
//! 0x40 POLL   events u32 (bits of Linux's poll)   wait u32 (0: answer at once; 1: when one of them is there)
//! ```
//! Status: the events that are there, errors and ends (POLLERR, POLLHUP) whether asked for or not.

use zerocopy::little_endian::U32;

use super::MGRID;
use crate::message::Io;
use crate::{ParseError, take};

/// Subtype of this request.
pub const POLL: u16 = 0x40;

/// A question for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Those wanted: POLLIN 1, POLLPRI 2, POLLOUT 4, …
    pub events: u32,
    /// The answer may wait until one is there.
    pub wait: bool,
}

impl Request {
    /// Reads the data of an `_IO_MSG` with [`MGRID`] and subtype [`POLL`].
    ///
    /// # Errors
    /// Another subtype; too short.
    pub fn parse(subtype: u16, data: &[u8]) -> Result<Self, ParseError> {
        if subtype != POLL {
            return Err(ParseError::Unknown { what: "poll subtype", value: subtype.into() });
        }
        let ([events, wait], _) = take::<[U32; 2]>(data, "POLL")?;
        Ok(Self { events: events.get(), wait: wait.get() != 0 })
    }

    /// The whole `_IO_MSG` message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let words = [self.events, self.wait.into()].map(u32::to_le_bytes);
        Io::Msg { mgrid: MGRID, subtype: POLL, data: words.as_flattened() }.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_written_and_cut_ones_are_refused() {
        let request = Request { events: 0x2005, wait: true };
        let bytes = request.emit();
        let (subtype, data) = Io::parse_for(MGRID, &bytes).unwrap();
        assert_eq!(Request::parse(subtype, data), Ok(request));
        for len in 0..data.len() {
            assert!(Request::parse(subtype, &data[..len]).is_err(), "{len} bytes");
        }
        assert!(Request::parse(0x41, data).is_err());
    }
}
