//! Which bytes have arrived: ranges in order, without overlap, joined where they touch.
//!
//! In-order arrival, the usual case, makes the last range longer and allocates nothing.

/// A set of byte offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Start and end of each.
    list: Vec<(u32, u32)>,
}

impl Ranges {
    /// How many separate ranges there are.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether `start..end` would make another range, touching none that is there.
    pub(crate) fn is_apart(&self, start: u32, end: u32) -> bool {
        let at = self.list.partition_point(|range| range.1 < start);
        self.list.get(at).is_none_or(|range| range.0 > end)
    }

    /// Adds `start..end`, and calls `new` with each part of it that was not there before, in order.
    pub(crate) fn insert(&mut self, start: u32, end: u32, mut new: impl FnMut(u32, u32)) {
        if start >= end {
            return;
        }
        // The ranges that touch it: `first..last`.
        let first = self.list.partition_point(|range| range.1 < start);
        let mut last = first;
        let (mut from, mut low, mut high) = (start, start, end);
        while let Some(&(a, b)) = self.list.get(last)
            && a <= end
        {
            if from < a {
                new(from, a);
            }
            from = from.max(b);
            (low, high) = (low.min(a), high.max(b));
            last += 1;
        }
        if from < end {
            new(from, end);
        }
        if first == last {
            self.list.insert(first, (low, high));
        } else {
            self.list[first] = (low, high);
            self.list.drain(first + 1..last);
        }
    }

    /// Whether all of `start..end` is there.
    pub(crate) fn covers(&self, start: u32, end: u32) -> bool {
        let at = self.list.partition_point(|range| range.1 <= start);
        start >= end || self.list.get(at).is_some_and(|&(a, b)| a <= start && end <= b)
    }

    /// The ranges, as offset and length.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.list.iter().map(|&(start, end)| (start, end - start))
    }

    /// The range that an offset is in.
    pub(crate) fn span_at(&self, offset: u32) -> Option<(u32, u32)> {
        let at = self.list.partition_point(|range| range.1 <= offset);
        let &(start, end) = self.list.get(at)?;
        (start <= offset).then_some((start, end - start))
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.list.iter().map(|&(start, end)| u64::from(end - start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_new_once_and_the_ranges_agree_with_a_set() {
        // a small linear congruential sequence: any order, any overlap
        let mut state = 12345u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let (mut ranges, mut model) = (Ranges::default(), [0u8; 120]);
            for _ in 0..25 {
                let start = next(100) as u32;
                let end = start + next(20) as u32;
                let apart = start < end && ranges.is_apart(start, end);
                let before = ranges.count();
                ranges.insert(start, end, |a, b| (a..b).for_each(|i| model[i as usize] += 1));
                (start..end).for_each(|i| assert_eq!(model[i as usize], 1, "byte {i}"));
                assert_eq!(apart, ranges.count() > before);
                assert!(ranges.covers(start, end));
            }
            assert_eq!(ranges.bytes(), model.iter().map(|&n| u64::from(n)).sum::<u64>());
            for (i, &there) in model.iter().enumerate() {
                let at = i as u32;
                assert_eq!(ranges.span_at(at).is_some(), there == 1);
                assert_eq!(ranges.covers(at, at + 1), there == 1);
            }
            assert!(ranges.spans().is_sorted_by(|a, b| a.0 + a.1 < b.0), "joined where they touch");
        }
    }
}
