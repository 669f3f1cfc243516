//! Large data: lent to the reader where the writer put it, until the reader is done with it.
//!
//! The writer alone decides what lies where and keeps its books in its own memory. A reader says that it is done by writing the
//! number of the loan into the word of its slot; one that lies about it spoils data that was meant for itself, or runs
//! out of arena.

use std::sync::{Arc, atomic::Ordering};

use super::{
    memory::{ARENA, Area, Direction, Memory, SLOTS, Span},
    words::Broken,
};

/// Loans begin at multiples of this.
const UNIT: u32 = 4096;

/// The writer's books.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// What is out, by offset.
    out: Vec<Entry>,
    last: u32,
}

/// A loan, as it stands in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: u32,
    pub(super) number: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Books {
    /// Takes room for `len` bytes, the lowest that is free.
    pub(super) fn take(&mut self, memory: &Memory, way: Direction, len: u32) -> Option<Entry> {
        self.collect(memory, way);
        let slot = (0..SLOTS as u32).find(|slot| self.out.iter().all(|entry| entry.slot != *slot))?;
        let (index, offset) =
            self.gaps().find(|(_, (from, to))| to - from >= len).map(|(i, (from, _))| (i, from))?;
        // Never zero, which is what an untouched word says.
        self.last = self.last.checked_add(1).unwrap_or(1);
        let entry = Entry { slot, number: self.last, offset, len };
        self.out.insert(index, entry);
        Some(entry)
    }

    /// Takes back a loan that nobody has seen.
    pub(super) fn undo(&mut self, entry: Entry) {
        self.out.retain(|other| *other != entry);
    }

    /// Bytes of the largest loan that can be had now.
    pub(super) fn room(&mut self, memory: &Memory, way: Direction) -> u32 {
        self.collect(memory, way);
        if self.out.len() == SLOTS {
            return 0;
        }
        self.gaps().map(|(_, (from, to))| to - from).max().unwrap_or(0)
    }

    fn collect(&mut self, memory: &Memory, way: Direction) {
        let returned = memory.returned(way);
        self.out.retain(|entry| returned[entry.slot as usize].load(Ordering::Acquire) != entry.number);
    }

    /// What is free before each loan and after the last.
    fn gaps(&self) -> impl Iterator<Item = (usize, (u32, u32))> {
        let ends = self.out.iter().map(|entry| (entry.offset + entry.len).next_multiple_of(UNIT));
        let from = std::iter::once(0).chain(ends);
        let to = self.out.iter().map(|entry| entry.offset).chain(std::iter::once(ARENA));
        from.zip(to).enumerate()
    }
}

/// Data of a packet that still lies where the sender put it. The sender gets its room back when this is dropped.
#[derive(Debug)]
pub struct Loan {
    memory: Arc<Memory>,
    way: Direction,
    entry: Entry,
}

impl Loan {
    /// Accepts what the other side says to have lent.
    pub(super) fn accept(memory: &Arc<Memory>, way: Direction, entry: Entry) -> Result<Self, Broken> {
        let Entry { slot, offset, len, .. } = entry;
        let fits = offset <= ARENA && len <= ARENA - offset && len as usize <= crate::MAX_LENT;
        if slot as usize >= SLOTS || !fits {
            return Err(Broken::Loan { slot, offset, len });
        }
        Ok(Self { memory: Arc::clone(memory), way, entry })
    }

    /// Bytes of data.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nothing is never lent")]
    pub fn len(&self) -> usize {
        self.entry.len as usize
    }

    /// Copies the data from `from` on; returns how many bytes there were. The sender may write to it meanwhile, so two
    /// copies may differ.
    pub fn copy(&self, from: usize, into: &mut [u8]) -> usize {
        let left = self.len().saturating_sub(from);
        let n = left.min(into.len());
        if n > 0 {
            let span = Span { area: Area::Arena(self.way), offset: self.entry.offset + from as u32 };
            self.memory.get(span, &mut into[..n]);
        }
        n
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.memory.returned(self.way)[self.entry.slot as usize].store(self.entry.number, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_taken_from_the_front_and_come_back_when_a_loan_ends() {
        let (memory, _fd) = Memory::create().unwrap();
        let (memory, way, mut books) = (Arc::new(memory), Direction::ToServer, Books::default());
        let first = books.take(&memory, way, 1 << 20).unwrap();
        let second = books.take(&memory, way, (1 << 20) - 1).unwrap();
        assert_eq!((first.offset, second.offset), (0, 1 << 20));
        assert!(books.take(&memory, way, 1).is_none(), "the last page is taken");
        assert_eq!(books.room(&memory, way), 0);
        drop(Loan::accept(&memory, way, first).unwrap());
        assert_eq!(books.room(&memory, way), 1 << 20);
        assert_eq!(books.take(&memory, way, 100).unwrap().offset, 0);
        assert_eq!(books.take(&memory, way, 100).unwrap().offset, UNIT);
        books.undo(second);
        assert_eq!(books.room(&memory, way), ARENA - 2 * UNIT);
    }

    #[test]
    fn there_are_so_many_loans_and_no_more() {
        let (memory, _fd) = Memory::create().unwrap();
        let mut books = Books::default();
        for _ in 0..SLOTS {
            books.take(&memory, Direction::ToClient, 1).unwrap();
        }
        assert!(books.take(&memory, Direction::ToClient, 1).is_none());
        assert_eq!(books.room(&memory, Direction::ToClient), 0);
    }

    #[test]
    fn a_loan_outside_of_the_arena_is_refused() {
        let (memory, _fd) = Memory::create().unwrap();
        let memory = Arc::new(memory);
        for (slot, offset, len) in [
            (SLOTS as u32, 0, 1),
            (u32::MAX, 0, 1),
            (0, ARENA, 1),
            (0, ARENA - 1, 2),
            (0, u32::MAX, 1),
            (0, 1, u32::MAX),
            (0, 0, crate::MAX_LENT as u32 + 1),
        ] {
            let entry = Entry { slot, number: 1, offset, len };
            let refused = Loan::accept(&memory, Direction::ToServer, entry).unwrap_err();
            assert_eq!(refused, Broken::Loan { slot, offset, len });
        }
    }
}
