//! The byte ranges that one owner has locked in one file, as the kernel keeps them.
//!
//! The kernel decides about locks; this is a copy of what it has granted, to say who is in the way of whom. Setting a range
//! replaces what the owner had there: a lock in the middle of another one splits it, equal neighbours become one.

/// Bytes from the first to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// First byte.
    pub(crate) start: u64,
    /// Last byte; at most [`qnet_iomsg::filesys::lock::END`].
    pub(crate) end: u64,
}

impl Span {
    /// Whether both have a byte in common.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// A locked range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Locked {
    /// Which bytes.
    pub(crate) span: Span,
    /// Nobody else may even read.
    pub(crate) write: bool,
}

/// Ranges in their order; none meets another.
#[derive(Debug, Default)]
pub(crate) struct Ranges(Vec<Locked>);

impl Ranges {
    /// The owner has locked `span`, or (`None`) unlocked it.
    pub(crate) fn set(&mut self, span: Span, write: Option<bool>) {
        let mut after = Vec::with_capacity(self.0.len() + 2);
        for old in self.0.drain(..) {
            if !old.span.meets(span) {
                after.push(old);
                continue;
            }
            if old.span.start < span.start {
                after.push(Locked { span: Span { end: span.start - 1, ..old.span }, ..old });
            }
            if old.span.end > span.end {
                after.push(Locked { span: Span { start: span.end + 1, ..old.span }, ..old });
            }
        }
        if let Some(write) = write {
            after.push(Locked { span, write });
        }
        after.sort_unstable_by_key(|locked| locked.span.start);
        for locked in after {
            match self.0.last_mut() {
                Some(last) if last.write == locked.write && last.span.end + 1 == locked.span.start => {
                    last.span.end = locked.span.end;
                }
                _ => self.0.push(locked),
            }
        }
    }

    /// The first range that keeps another owner from locking `span`.
    pub(crate) fn in_the_way(&self, span: Span, write: bool) -> Option<Locked> {
        self.0.iter().copied().find(|held| held.span.meets(span) && (held.write || write))
    }

    /// Whether unlocking `span` would leave more ranges than there are.
    pub(crate) fn are_split_by(&self, span: Span) -> bool {
        self.0.iter().any(|held| held.span.start < span.start && span.end < held.span.end)
    }

    /// All ranges.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Locked> + '_ {
        self.0.iter().copied()
    }

    /// Nothing is locked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[(u64, u64, bool)]) -> Ranges {
        let mut all = Ranges::default();
        for (start, end, write) in ranges {
            all.set(Span { start: *start, end: *end }, Some(*write));
        }
        all
    }

    fn shown(ranges: &Ranges) -> Vec<(u64, u64, bool)> {
        ranges.iter().map(|locked| (locked.span.start, locked.span.end, locked.write)).collect()
    }

    #[test]
    fn a_lock_in_the_middle_splits_another_one() {
        let mut ranges = of(&[(0, 99, false)]);
        ranges.set(Span { start: 40, end: 59 }, Some(true));
        assert_eq!(shown(&ranges), [(0, 39, false), (40, 59, true), (60, 99, false)]);
        ranges.set(Span { start: 50, end: 69 }, None);
        assert_eq!(shown(&ranges), [(0, 39, false), (40, 49, true), (70, 99, false)]);
        ranges.set(Span { start: 0, end: u64::MAX }, None);
        assert!(ranges.is_empty());
    }

    #[test]
    fn equal_neighbours_become_one() {
        assert_eq!(shown(&of(&[(0, 9, true), (20, 29, true), (10, 19, true)])), [(0, 29, true)]);
        assert_eq!(shown(&of(&[(0, 9, true), (10, 19, false)])), [(0, 9, true), (10, 19, false)]);
    }

    #[test]
    fn readers_are_in_the_way_of_writers_only() {
        let ranges = of(&[(10, 19, false), (30, 39, true)]);
        let meets = |start, end, write| ranges.in_the_way(Span { start, end }, write).is_some();
        assert!(!meets(0, 20, false) && meets(0, 10, true) && meets(39, 39, false));
        assert!(!meets(20, 29, true) && !meets(40, u64::MAX, true));
    }

    #[test]
    fn any_order_of_locks_says_for_each_byte_what_the_last_one_said() {
        // a small generator of our own: the sequence is the same in every run
        let mut state = 1_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut ranges, mut bytes) = (Ranges::default(), [None; 64]);
        for _ in 0..2000 {
            let (start, len) = (next(64), next(64));
            let end = (start + len).min(63);
            let write = [None, Some(false), Some(true)][next(3) as usize];
            ranges.set(Span { start, end }, write);
            bytes[start as usize..=end as usize].fill(write);
            let of_byte = |at| ranges.iter().find(|locked| locked.span.meets(Span { start: at, end: at }));
            for (at, expected) in bytes.iter().enumerate() {
                assert_eq!(of_byte(at as u64).map(|locked| locked.write), *expected);
            }
            let neighbours: Vec<_> = ranges.iter().collect();
            for pair in neighbours.windows(2) {
                let (left, right) = (pair[0], pair[1]);
                assert!(left.span.end < right.span.start);
                assert!(left.write != right.write || left.span.end + 1 < right.span.start, "not joined");
            }
        }
    }
}
