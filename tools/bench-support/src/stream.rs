//! Messages on a stream: TCP, a Unix socket, a pair of pipes.
//!
//! ```text
//!  0              4                4 + length
//!  ┌──────────────┬────────────────┐
//!  │ length, LE   │ bytes          │     bit 31 of the length: an empty answer will do
//!  └──────────────┴────────────────┘
//! ```
//!
//! Each side has the message in memory of its own before it answers, as a receiver of messages has it.

use std::io::{self, Read, Write};

use anyhow::{Result, ensure};

use crate::trips::{self, Plan, Trips};

const HEADER: usize = 4;
/// No echo is wanted.
const EMPTY_ANSWER: u32 = 1 << 31;

/// One end.
#[derive(Debug)]
pub struct Stream<R, W> {
    reader: R,
    writer: W,
    received: Vec<u8>,
    have: usize,
    outgoing: Vec<u8>,
}

impl<R: Read, W: Write> Stream<R, W> {
    /// On top of what can be read and written.
    pub fn new(reader: R, writer: W) -> Self {
        Self { reader, writer, received: vec![0; 4096], have: 0, outgoing: Vec::new() }
    }

    /// Answers every message until the other end closes.
    ///
    /// # Errors
    /// The stream is broken.
    pub fn echo(&mut self) -> io::Result<()> {
        while let Some((word, len)) = self.receive()? {
            let back = if word & EMPTY_ANSWER == 0 { len } else { 0 };
            self.received[..HEADER].copy_from_slice(&(back as u32).to_le_bytes());
            self.writer.write_all(&self.received[..HEADER + back])?;
            self.consume(len);
        }
        Ok(())
    }

    /// Sends messages as planned.
    ///
    /// # Errors
    /// The other end is gone or answers with something else.
    pub fn measure(&mut self, plan: &Plan) -> Result<Trips> {
        let flag = if plan.echo { 0 } else { EMPTY_ANSWER };
        let word = u32::try_from(plan.size)? | flag;
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&word.to_le_bytes());
        self.outgoing.resize(HEADER + plan.size, 0xa5);
        for _ in 1..plan.in_flight {
            self.writer.write_all(&self.outgoing)?;
        }
        let expected = if plan.echo { plan.size } else { 0 };
        let outcome = trips::take(plan, || {
            self.writer.write_all(&self.outgoing)?;
            self.answer(expected)
        });
        for _ in 1..plan.in_flight {
            self.answer(expected)?;
        }
        outcome
    }

    fn answer(&mut self, expected: usize) -> Result<()> {
        let answer = self.receive()?.map(|(_, len)| len);
        ensure!(answer == Some(expected), "an answer of {answer:?} bytes instead of {expected}");
        self.consume(expected);
        Ok(())
    }

    /// Reads a message to the front of `received`: its first word and its length; `None` at the end.
    fn receive(&mut self) -> io::Result<Option<(u32, usize)>> {
        loop {
            if self.have >= HEADER {
                let [a, b, c, d, ..] = self.received[..] else { unreachable!("the buffer holds a header") };
                let word = u32::from_le_bytes([a, b, c, d]);
                let len = (word & !EMPTY_ANSWER) as usize;
                if self.have >= HEADER + len {
                    return Ok(Some((word, len)));
                }
                if self.received.len() < HEADER + len {
                    self.received.resize(HEADER + len, 0);
                }
            }
            match self.reader.read(&mut self.received[self.have..])? {
                0 if self.have == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.have += n,
            }
        }
    }

    /// Drops the first message; what was read behind it moves to the front.
    fn consume(&mut self, len: usize) {
        self.received.copy_within(HEADER + len..self.have, 0);
        self.have -= HEADER + len;
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, thread, time::Duration};

    use super::*;

    #[test]
    fn messages_of_any_size_come_back() {
        let (near, far) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || Stream::new(&far, &far).echo());
        let mut client = Stream::new(&near, &near);
        for size in [0, 1, 5000, 70_000] {
            let trips = client.measure(&Plan::echo(size, Duration::from_millis(1))).unwrap();
            assert!(trips.count > 0, "{size}");
        }
        drop(client);
        drop(near);
        server.join().unwrap().unwrap();
    }

    #[test]
    fn many_may_be_under_way_with_empty_answers() {
        let (near, far) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || Stream::new(&far, &far).echo());
        let plan = Plan { echo: false, in_flight: 4, ..Plan::echo(3000, Duration::from_millis(1)) };
        let mut client = Stream::new(&near, &near);
        // Twice: nothing of the first may be left over.
        for _ in 0..2 {
            assert!(client.measure(&plan).unwrap().count > 0);
        }
        drop(client);
        drop(near);
        server.join().unwrap().unwrap();
    }
}
