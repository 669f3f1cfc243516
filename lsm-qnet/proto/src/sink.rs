//! Where the bytes of an incoming message go.
//!
//! The core never puts a long message together: each fragment of a reply or of a read is written into
//! its sink as it arrives, out of order too, and each byte of a message on the wire once. A sink that
//! is slow (a socket that is full) has no room; then the peer is told to wait, and nothing grows.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// Takes bytes at any offset.
pub trait Sink {
    /// Bytes it can take now, beside those it was given and did not pass on yet, and beside those that
    /// other sinks keep room for. The core never gives more than it was told, and tells what it relies
    /// on ([`Sink::keep`]): it may come later, in pieces.
    ///
    /// A sink whose room was too small must have room for [`MAX_TRANSFER`](crate::MAX_TRANSFER) bytes
    /// some time; [`Command::Room`](crate::Command::Room) says when. One that has none for thirty
    /// seconds loses its transaction.
    fn room(&self) -> u64 {
        u64::MAX
    }

    /// So many bytes will come that it was found to have room for; told whenever it changes. Sinks that
    /// share their room keep it for each other.
    fn keep(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// Takes `bytes`, whose place is `offset`: in the reply buffer, or in the message that is read.
    fn write_at(&mut self, offset: u64, bytes: &[u8]);
}

/// A sink given to the core with a command; dropped when its transaction or read is over.
pub struct Outlet(Option<Box<dyn Sink>>);

impl Outlet {
    /// Into `sink`.
    #[must_use]
    pub fn new(sink: impl Sink + 'static) -> Outlet {
        Outlet(Some(Box::new(sink)))
    }

    /// Nowhere: the bytes are thrown away.
    #[must_use]
    pub const fn nowhere() -> Outlet {
        Outlet(None)
    }
}

impl Sink for Outlet {
    fn room(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |sink| sink.room())
    }

    fn keep(&mut self, bytes: u64) {
        if let Some(sink) = &mut self.0 {
            sink.keep(bytes);
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        if let Some(sink) = &mut self.0 {
            sink.write_at(offset, bytes);
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Outlet" } else { "Outlet(nowhere)" })
    }
}

/// A sink in memory, shared with whoever wants to read what arrived. It begins at one offset, has a
/// length of the owner's choice, and grows with what arrives.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    bytes: Rc<RefCell<Vec<u8>>>,
    start: u64,
    most: usize,
    given: Rc<Cell<u64>>,
}

impl Buffer {
    /// Room for the bytes `start..start + most`; others are dropped.
    #[must_use]
    pub fn new(start: u64, most: usize) -> Buffer {
        Buffer { start, most, ..Buffer::default() }
    }

    /// The bytes so far, from `start` to the last one that arrived; zeros where none did.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.bytes.take()
    }

    /// How many bytes were written.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given.get()
    }
}

impl Sink for Buffer {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let Some(at) = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok()) else { return };
        let end = at.saturating_add(bytes.len()).min(self.most);
        let Some(len) = end.checked_sub(at).filter(|&len| len > 0) else { return };
        let mut buffer = self.bytes.borrow_mut();
        if buffer.len() == at {
            buffer.extend_from_slice(&bytes[..len]);
        } else {
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
            buffer[at..end].copy_from_slice(&bytes[..len]);
        }
        self.given.set(self.given.get() + len as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_what_is_inside_of_it_in_any_order() {
        let buffer = Buffer::new(100, 6);
        let mut sink = buffer.clone();
        sink.write_at(104, b"efgh");
        sink.write_at(90, b"zz");
        sink.write_at(100, b"abcd");
        sink.write_at(u64::MAX, b"z");
        assert_eq!(buffer.given(), 6);
        assert_eq!(buffer.take(), b"abcdef");
    }

    #[test]
    fn an_outlet_to_nowhere_takes_everything() {
        let mut outlet = Outlet::nowhere();
        outlet.write_at(7, b"gone");
        assert_eq!(outlet.room(), u64::MAX);
    }
}
