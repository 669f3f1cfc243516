//! Lines in and out of a byte stream.
//!
//! The reading side never keeps more of an unfinished line than its limit, whatever the peer sends, and looks at
//! every byte once.

use serde::Serialize;
use thiserror::Error;

use crate::MAX_LINE;

/// The peer sent a line longer than the limit; the stream cannot be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a line is longer than {0} bytes")]
pub struct LineTooLong(pub usize);

/// Collects bytes until they make lines.
#[derive(Debug)]
pub struct LineBuffer {
    limit: usize,
    bytes: Vec<u8>,
    /// Bytes before this one hold no newline.
    scanned: usize,
    /// Bytes before this one were handed out.
    consumed: usize,
}

impl Default for LineBuffer {
    /// For lines up to [`MAX_LINE`].
    fn default() -> Self {
        Self::with_limit(MAX_LINE)
    }
}

impl LineBuffer {
    /// For lines up to `limit` bytes, newline included.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, bytes: Vec::new(), scanned: 0, consumed: 0 }
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.bytes.drain(..self.consumed);
            self.scanned -= self.consumed;
            self.consumed = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line without its newline; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the line at the front is too long, finished or not. The buffer is of no use afterwards.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let Some(found) = self.bytes[self.scanned..].iter().position(|&b| b == b'\n') else {
            self.scanned = self.bytes.len();
            return if self.pending() >= self.limit { Err(LineTooLong(self.limit)) } else { Ok(None) };
        };
        let (start, end) = (self.consumed, self.scanned + found);
        if end - start >= self.limit {
            return Err(LineTooLong(self.limit));
        }
        self.consumed = end + 1;
        self.scanned = end + 1;
        Ok(Some(&self.bytes[start..end]))
    }

    /// Bytes held that were not handed out yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.consumed
    }
}

/// One message as a line, newline included.
///
/// # Errors
/// When the value cannot be written as JSON (never for the types of this crate).
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Command, ErrorReply, Outcome, Reply, Request};

    #[test]
    fn lines_come_out_whole_however_they_went_in() {
        let text = b"one\n\nthree and more\nrest";
        for size in 1..=text.len() {
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for piece in text.chunks(size) {
                buffer.push(piece);
                while let Some(line) = buffer.next_line().unwrap() {
                    lines.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(lines, ["one", "", "three and more"], "pieces of {size}");
            assert_eq!(buffer.pending(), 4);
        }
    }

    #[test]
    fn a_line_at_the_bound_passes_and_one_above_does_not() {
        let mut buffer = LineBuffer::default();
        buffer.push(&vec![b'x'; MAX_LINE - 1]);
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"\n");
        assert_eq!(buffer.next_line().map(|line| line.map(<[u8]>::len)), Ok(Some(MAX_LINE - 1)));
        buffer.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(buffer.next_line(), Err(LineTooLong(MAX_LINE)));
    }

    #[test]
    fn requests_look_as_documented() {
        let mount = Command::Mount { module: "devn-packet.so".into(), options: "dev=eth1".into() };
        let line = encode(&Request::new(7, mount.clone())).unwrap();
        let text = String::from_utf8(line).unwrap();
        assert_eq!(
            text,
            "{\"v\":1,\"id\":7,\"cmd\":\"mount\",\"module\":\"devn-packet.so\",\"options\":\"dev=eth1\"}\n"
        );
        let back: Request = serde_json::from_str(&text).unwrap();
        assert_eq!(back.command, mount);
        let ping: Request = serde_json::from_str(r#"{"v":1,"id":1,"cmd":"ping","later":true}"#).unwrap();
        assert_eq!(ping.command, Command::Ping);
        assert!(serde_json::from_str::<Request>(r#"{"v":1,"id":1,"cmd":"explode"}"#).is_err());
    }

    #[test]
    fn replies_look_as_documented() {
        let ok = Reply { v: 1, id: 7, outcome: Outcome::Ok("x".into()) };
        assert_eq!(encode(&ok).unwrap(), b"{\"v\":1,\"id\":7,\"ok\":\"x\"}\n");
        let error = Reply {
            v: 1,
            id: 8,
            outcome: Outcome::Error(ErrorReply::new(nix::errno::Errno::EBUSY, "qnet stays")),
        };
        let line = encode(&error).unwrap();
        assert_eq!(line, b"{\"v\":1,\"id\":8,\"error\":{\"errno\":\"EBUSY\",\"text\":\"qnet stays\"}}\n");
        assert_eq!(serde_json::from_slice::<Reply>(&line).unwrap(), error);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_lines(
            bytes in vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n')], 0..300),
            cuts in vec(1..40_usize, 1..30),
        ) {
            let mut buffer = LineBuffer::with_limit(1000);
            let mut lines = Vec::new();
            let (mut rest, mut cuts) = (&bytes[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                buffer.push(piece);
                while let Some(line) = buffer.next_line().unwrap() {
                    lines.push(line.to_vec());
                }
                rest = more;
            }
            let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            prop_assert_eq!(buffer.pending(), expected.pop().unwrap().len());
            prop_assert_eq!(lines, expected);
        }

        #[test]
        fn a_request_survives_the_wire(id in any::<u64>(), module in any::<String>(), options in any::<String>()) {
            let request = Request::new(id, Command::Mount { module, options });
            let line = encode(&request).unwrap();
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), request);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<Request>(&bytes);
            let _ = serde_json::from_slice::<Reply>(&bytes);
        }
    }
}
