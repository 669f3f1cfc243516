//! Incoming messages that are put together here, and fragments whose message is not known yet.
//!
//! A [`Partial`] is one buffer as long as what arrived reaches, no longer than its bound, which was
//! reserved. [`Early`] keeps fragments as they came; each was charged.

use std::collections::BTreeMap;

use super::ranges::Ranges;

/// Gaps of one message; a fragment that would make another is dropped. An honest sender makes none of
/// fragments this small.
const MAX_RANGES: usize = 1024;

/// What a fragment did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Nothing new in it.
    Known,
    /// Kept; the message has gaps.
    Kept,
    /// The message is whole.
    Whole,
    /// There is no room for it now.
    NoRoom,
    /// It contradicts what is known of the message, or would exceed its bound.
    Refused,
}

/// An incomplete message of at most `bound` bytes.
#[derive(Debug)]
pub(crate) struct Partial {
    bytes: Vec<u8>,
    ranges: Ranges,
    total: Option<u32>,
    bound: u32,
}

impl Partial {
    /// Nothing of a message of at most `bound` bytes.
    pub(crate) fn new(bound: u32) -> Partial {
        Partial { bytes: Vec::new(), ranges: Ranges::default(), total: None, bound }
    }

    /// Keeps a fragment.
    pub(crate) fn store(&mut self, offset: u32, bytes: &[u8], last: bool) -> Stored {
        let Some(end) = u32::try_from(bytes.len()).ok().and_then(|len| offset.checked_add(len)) else {
            return Stored::Refused;
        };
        if end > self.bound || self.total.is_some_and(|total| end > total || (last && end != total)) {
            return Stored::Refused;
        }
        if last && self.total.is_none() {
            if (end as usize) < self.bytes.len() {
                return Stored::Refused;
            }
            self.total = Some(end);
        }
        if self.ranges.count() >= MAX_RANGES && self.ranges.is_apart(offset, end) {
            return Stored::NoRoom;
        }
        let mut new = last;
        // In-order arrival, the usual case, fills nothing twice.
        let appended = self.bytes.len() == offset as usize;
        if appended {
            self.bytes.extend_from_slice(bytes);
        } else if self.bytes.len() < end as usize {
            self.bytes.resize(end as usize, 0);
        }
        let whole = &mut self.bytes;
        self.ranges.insert(offset, end, |from, to| {
            new = true;
            if !appended {
                let piece = &bytes[(from - offset) as usize..(to - offset) as usize];
                whole[from as usize..to as usize].copy_from_slice(piece);
            }
        });
        if self.total.is_some_and(|total| self.ranges.covers(0, total)) {
            Stored::Whole
        } else if new {
            Stored::Kept
        } else {
            Stored::Known
        }
    }

    /// What arrived.
    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// The whole message.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Fragments that came before the first one of their message.
#[derive(Debug, Default)]
pub(crate) struct Early {
    pieces: BTreeMap<u32, Vec<u8>>,
    last: Option<u32>,
}

impl Early {
    /// Keeps a fragment, unless it is there.
    pub(crate) fn store(&mut self, offset: u32, bytes: &[u8], last: bool) -> Stored {
        if self.pieces.get(&offset).is_some_and(|known| known.len() >= bytes.len()) {
            return Stored::Known;
        }
        if last {
            self.last = Some(offset);
        }
        self.pieces.insert(offset, bytes.to_vec());
        Stored::Kept
    }

    /// Whether this fragment, or a longer one at its place, is there.
    pub(crate) fn has(&self, offset: u32, len: usize) -> bool {
        self.pieces.get(&offset).is_some_and(|known| known.len() >= len)
    }

    /// The fragments: offset, bytes, and whether they end the message.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u32, &[u8], bool)> + '_ {
        self.pieces.iter().map(|(&at, bytes)| (at, &bytes[..], self.last == Some(at)))
    }

    /// The bytes that arrived, as offset and length, fragment by fragment.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.pieces.iter().map(|(&at, bytes)| (at, bytes.len() as u32)) // a packet's payload is short
    }

    /// The fragment that begins at `offset`.
    pub(crate) fn span_at(&self, offset: u32) -> Option<(u32, u32)> {
        self.pieces.get(&offset).map(|bytes| (offset, bytes.len() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
    }

    #[test]
    fn fragments_in_any_order_give_the_message() {
        let whole = message(1000);
        let cuts: Vec<(usize, usize)> = (0..10).map(|i| (i * 100, (i + 1) * 100)).collect();
        for turn in 0..10 {
            for step in [1, 3, 7, 9] {
                let mut partial = Partial::new(1000);
                let mut done = 0;
                for i in 0..10 {
                    let (a, b) = cuts[(turn + i * step) % 10];
                    match partial.store(a as u32, &whole[a..b], b == 1000) {
                        Stored::Whole => done += 1,
                        other => assert_eq!(other, Stored::Kept),
                    }
                }
                assert_eq!(done, 1);
                assert_eq!(partial.into_bytes(), whole);
            }
        }
    }

    #[test]
    fn overlapping_fragments_of_other_sizes_are_joined() {
        let whole = message(100);
        let mut partial = Partial::new(100);
        assert_eq!(partial.store(40, &whole[40..70], false), Stored::Kept);
        assert_eq!(partial.store(60, &whole[60..100], true), Stored::Kept);
        assert_eq!(partial.store(40, &whole[40..50], false), Stored::Known);
        assert_eq!(partial.ranges().spans().collect::<Vec<_>>(), [(40, 60)]);
        assert_eq!(partial.store(0, &whole[0..45], false), Stored::Whole);
        assert_eq!(partial.into_bytes(), whole);
    }

    #[test]
    fn contradictions_are_refused() {
        let mut partial = Partial::new(100);
        assert_eq!(partial.store(90, &[0; 20], false), Stored::Refused);
        assert_eq!(partial.store(u32::MAX, &[0; 20], false), Stored::Refused);
        assert_eq!(partial.store(50, &[0; 10], true), Stored::Kept);
        assert_eq!(partial.store(60, &[0; 10], false), Stored::Refused);
        assert_eq!(partial.store(50, &[0; 5], true), Stored::Refused);
        let mut partial = Partial::new(100);
        assert_eq!(partial.store(50, &[0; 20], false), Stored::Kept);
        assert_eq!(partial.store(40, &[0; 10], true), Stored::Refused);
    }

    #[test]
    fn crumbs_and_overlapping_lies_cannot_hold_more_than_the_bound() {
        let mut partial = Partial::new(10_000);
        let dropped = (1..5000u32).filter(|at| partial.store(at * 2, &[1], false) == Stored::NoRoom).count();
        assert!(dropped > 3000);
        assert!((1..9000u32).all(|at| partial.store(at, &[0; 1000], false) != Stored::Refused));
        assert_eq!(partial.ranges().count(), 1);
        assert!(partial.bytes.capacity() <= 20_000);
    }

    #[test]
    fn a_last_fragment_without_bytes_ends_the_message() {
        let mut partial = Partial::new(10);
        assert_eq!(partial.store(0, &[1; 10], false), Stored::Kept);
        assert_eq!(partial.store(10, &[], true), Stored::Whole);
    }
}
