//! The algorithm of a ring: who may touch which bytes, and who must be woken.
//!
//! ```text
//!            head                     tail
//!     ────────┴─────── records ────────┴──────── free ─────
//!         reader moves it          writer moves it          both count bytes and wrap at 2^32
//!
//!     waiting: the reader sleeps, or is about to        wanted: the writer needs more free bytes
//! ```
//!
//! Each side writes its position, makes a full barrier, and reads the other's word; the other writes its word, makes a
//! full barrier, and reads the position. So at least one of the two sees the other: nobody sleeps over a record, and a
//! system call is made only when somebody sleeps.
//!
//! Each side keeps its own position to itself and believes the other's only within the bounds of the ring; a position
//! outside of them is [`Broken`]. Nothing here touches the records themselves. The words are generic, so that the tests
//! run the very same code under `loom`.

use std::sync::atomic::{self, AtomicU32, Ordering};

use thiserror::Error;

/// The other side wrote something into the shared memory that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// A position outside of the ring.
    #[error("a position of the ring is {distance} bytes away, the ring has {capacity}")]
    Position {
        /// Bytes between the positions of both sides.
        distance: u32,
        /// Bytes of the ring.
        capacity: u32,
    },
    /// A record that cannot be there.
    #[error("a record of kind {kind} with {len} bytes cannot be in the ring")]
    Record {
        /// As read.
        kind: u32,
        /// As read.
        len: u32,
    },
    /// A loan that does not lie in the arena.
    #[error("{len} bytes at {offset} of slot {slot} are not in the arena")]
    Loan {
        /// As read.
        slot: u32,
        /// As read.
        offset: u32,
        /// As read.
        len: u32,
    },
}

/// A word that two processes share.
pub(super) trait Word {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
    /// A full barrier.
    fn fence();
}

impl Word for AtomicU32 {
    fn load(&self, order: Ordering) -> u32 {
        Self::load(self, order)
    }
    fn store(&self, value: u32, order: Ordering) {
        Self::store(self, value, order);
    }
    fn fence() {
        atomic::fence(Ordering::SeqCst);
    }
}

/// A word on cache lines of its own: the two sides write at the same time.
#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Line<W>(W);

/// The shared words of one direction.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Words<W> {
    tail: Line<W>,
    head: Line<W>,
    waiting: Line<W>,
    wanted: Line<W>,
}

/// Where the next record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A gap that must be marked as one: offset and bytes.
    pub(super) gap: Option<(u32, u32)>,
    /// Offset of the record.
    pub(super) at: u32,
    tail: u32,
}

/// The writer's private half.
#[derive(Debug)]
pub(super) struct Writer {
    capacity: u32,
    /// A ring that is empty with its position above this begins again at the front: few messages touch few pages.
    rewind: u32,
    tail: u32,
    /// The reader's position as last seen.
    head: u32,
}

impl Writer {
    /// For a fresh ring; `capacity` is a power of two and a record takes at most half of it.
    pub(super) fn new(capacity: u32, rewind: u32) -> Self {
        Self { capacity, rewind, tail: 0, head: 0 }
    }

    /// Finds room for `size` bytes in one piece (a multiple of 8). `None`: there is none, and the reader will say
    /// when there is more.
    pub(super) fn reserve<W: Word>(&mut self, words: &Words<W>, size: u32) -> Result<Option<Place>, Broken> {
        let at = self.tail & (self.capacity - 1);
        let mut gap = 0;
        if size > self.capacity - at {
            gap = self.capacity - at;
        } else if at >= self.rewind && size <= at {
            self.look(words)?;
            if self.head == self.tail {
                gap = self.capacity - at;
            }
        }
        if !self.has_room(gap + size) {
            self.look(words)?;
        }
        if !self.has_room(gap + size) {
            words.wanted.0.store(1, Ordering::Relaxed);
            W::fence();
            self.look(words)?;
            if !self.has_room(gap + size) {
                return Ok(None);
            }
            words.wanted.0.store(0, Ordering::Relaxed);
        }
        let place = match gap {
            0 => Place { gap: None, at, tail: self.tail.wrapping_add(size) },
            gap => Place { gap: Some((at, gap)), at: 0, tail: self.tail.wrapping_add(gap + size) },
        };
        Ok(Some(place))
    }

    /// Shows the reader the record. Whether the reader sleeps and must be woken.
    #[must_use = "the reader may sleep"]
    pub(super) fn publish<W: Word>(&mut self, words: &Words<W>, place: Place) -> bool {
        self.tail = place.tail;
        words.tail.0.store(self.tail, Ordering::Release);
        W::fence();
        take(&words.waiting.0)
    }

    fn has_room(&self, bytes: u32) -> bool {
        self.capacity - self.tail.wrapping_sub(self.head) >= bytes
    }

    fn look<W: Word>(&mut self, words: &Words<W>) -> Result<(), Broken> {
        let head = words.head.0.load(Ordering::Acquire);
        let (distance, before) = (self.tail.wrapping_sub(head), self.tail.wrapping_sub(self.head));
        // It moves forward only.
        if distance > before {
            return Err(Broken::Position { distance, capacity: self.capacity });
        }
        self.head = head;
        Ok(())
    }
}

/// The reader's private half. One thread reads at a time; others may ask whether there is something.
#[derive(Debug)]
pub(super) struct Reader {
    capacity: u32,
    head: AtomicU32,
}

impl Reader {
    pub(super) fn new(capacity: u32) -> Self {
        Self { capacity, head: AtomicU32::new(0) }
    }

    /// Offset of the next record, and the bytes that are there.
    pub(super) fn next<W: Word>(&self, words: &Words<W>) -> Result<Option<(u32, u32)>, Broken> {
        let head = self.head.load(Ordering::Relaxed);
        let distance = words.tail.0.load(Ordering::Acquire).wrapping_sub(head);
        match distance {
            0 => Ok(None),
            _ if distance > self.capacity => Err(Broken::Position { distance, capacity: self.capacity }),
            _ => Ok(Some((head & (self.capacity - 1), distance))),
        }
    }

    /// Gives the next `size` bytes back to the writer, not to be touched any more.
    pub(super) fn release<W: Word>(&self, words: &Words<W>, size: u32) {
        let head = self.head.load(Ordering::Relaxed).wrapping_add(size);
        self.head.store(head, Ordering::Relaxed);
        words.head.0.store(head, Ordering::Release);
    }

    /// Whether there is something (or nonsense).
    pub(super) fn has_more<W: Word>(&self, words: &Words<W>) -> bool {
        words.tail.0.load(Ordering::Acquire) != self.head.load(Ordering::Relaxed)
    }

    /// Asks to be woken for the next record. `false`: there is something already, and nobody will be woken.
    ///
    /// Before a reader sleeps it must also ask [`Reader::is_wanted`]; this makes the barrier for both.
    pub(super) fn arm<W: Word>(&self, words: &Words<W>) -> bool {
        words.waiting.0.store(1, Ordering::Relaxed);
        W::fence();
        if self.has_more(words) {
            self.disarm(words);
            return false;
        }
        true
    }

    /// Does not want to be woken any more; it may happen once all the same.
    pub(super) fn disarm<W: Word>(&self, words: &Words<W>) {
        words.waiting.0.store(0, Ordering::Relaxed);
    }

    /// Whether the writer waits for room and must be woken. It is told once.
    pub(super) fn is_wanted<W: Word>(&self, words: &Words<W>) -> bool {
        take(&words.wanted.0)
    }
}

/// Whether the word is set, which is then cleared. Should the other side set it once more in between, that is lost; but the
/// bell that follows wakes it for the one as well as for the other.
fn take<W: Word>(word: &W) -> bool {
    let set = word.load(Ordering::Relaxed) != 0;
    if set {
        word.store(0, Ordering::Relaxed);
    }
    set
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
