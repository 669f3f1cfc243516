//! One incomplete incoming message.
//!
//! Bytes that continue the beginning are appended to one buffer; bytes further on wait in a map
//! until the gap before them is filled. Memory is taken only for bytes that arrived, never for a
//! length that was merely announced.

use std::collections::BTreeMap;

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
    front: Vec<u8>,
    later: BTreeMap<u32, Vec<u8>>,
    later_bytes: u64,
    total: Option<u32>,
    bound: u32,
}

impl Partial {
    /// Nothing of a message of at most `bound` bytes.
    pub(crate) fn new(bound: u32) -> Partial {
        Partial { front: Vec::new(), later: BTreeMap::new(), later_bytes: 0, total: None, bound }
    }

    /// What is kept behind the front: offset, bytes, and whether they end the message.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u32, &[u8], bool)> + '_ {
        self.later.iter().map(|(&at, bytes)| (at, &bytes[..], self.total == Some(at + bytes.len() as u32)))
    }

    fn front_len(&self) -> u32 {
        self.front.len() as u32 // never above `bound`
    }

    /// Keeps a fragment.
    pub(crate) fn store(&mut self, offset: u32, bytes: &[u8], last: bool) -> Stored {
        let Some(end) = u32::try_from(bytes.len()).ok().and_then(|len| offset.checked_add(len)) else {
            return Stored::Refused;
        };
        if end > self.bound || self.total.is_some_and(|total| end > total || (last && end != total)) {
            return Stored::Refused;
        }
        let furthest = self.later.last_key_value().map_or(0, |(at, b)| at + b.len() as u32);
        if last && self.total.is_none() {
            if end < furthest.max(self.front_len()) {
                return Stored::Refused;
            }
            self.total = Some(end);
        }
        let have = self.front_len();
        if end <= have && !(last && self.total == Some(have)) {
            return Stored::Known;
        }
        if offset > have {
            return self.store_later(offset, bytes);
        }
        self.front.extend_from_slice(&bytes[(have - offset) as usize..]);
        self.join();
        if self.total == Some(self.front_len()) { Stored::Whole } else { Stored::Kept }
    }

    fn store_later(&mut self, offset: u32, bytes: &[u8]) -> Stored {
        if self.later.get(&offset).is_some_and(|known| known.len() >= bytes.len()) {
            return Stored::Known;
        }
        // Overlapping fragments could otherwise hold more than the message is long.
        if self.later_bytes + bytes.len() as u64 > 2 * u64::from(self.bound) {
            return Stored::Refused;
        }
        self.later_bytes += bytes.len() as u64;
        if let Some(old) = self.later.insert(offset, bytes.to_vec()) {
            self.later_bytes -= old.len() as u64;
        }
        Stored::Kept
    }

    /// Moves what now continues the front over to it.
    fn join(&mut self) {
        while let Some(entry) = self.later.first_entry() {
            let have = self.front.len();
            let offset = *entry.key() as usize;
            if offset > have {
                break;
            }
            let bytes = entry.remove();
            self.later_bytes -= bytes.len() as u64;
            if offset + bytes.len() > have {
                self.front.extend_from_slice(&bytes[have - offset..]);
            }
        }
    }

    /// The bytes that arrived, as offset and length, in order and without overlap.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut pieces = std::iter::once((0, self.front_len()))
            .chain(self.later.iter().map(|(&at, b)| (at, b.len() as u32)));
        let mut current = pieces.next();
        std::iter::from_fn(move || {
            loop {
                let (start, len) = current?;
                current = pieces.next();
                match current {
                    Some((next, more)) if next <= start + len => {
                        let end = (start + len).max(next + more);
                        current = Some((start, end - start));
                    }
                    _ if len == 0 => {}
                    _ => return Some((start, len)),
                }
            }
        })
    }

    /// The span that the byte at `offset` is in.
    pub(crate) fn span_at(&self, offset: u32) -> Option<(u32, u32)> {
        if offset < self.front_len() {
            // in-order arrival, the usual case
            return self.spans().next();
        }
        self.spans().find(|(start, len)| (*start..*start + *len).contains(&offset))
    }

    /// The whole message.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.front
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
        assert_eq!(partial.spans().collect::<Vec<_>>(), [(40, 60)]);
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
    fn overlapping_lies_cannot_hold_more_than_twice_the_bound() {
        let mut partial = Partial::new(10_000);
        let refused = (1..9000u32).any(|at| partial.store(at, &[0; 1000], false) == Stored::Refused);
        assert!(refused);
        assert!(partial.later.values().map(Vec::len).sum::<usize>() <= 20_000);
    }

    #[test]
    fn a_last_fragment_without_bytes_ends_the_message() {
        let mut partial = Partial::new(10);
        assert_eq!(partial.store(0, &[1; 10], false), Stored::Kept);
        assert_eq!(partial.store(10, &[], true), Stored::Whole);
    }
}
