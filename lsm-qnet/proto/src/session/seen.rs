//! Which messages have arrived whole: a base below which all have, and a window of bits above it.
//! This is what makes delivery happen once. The wire carries the low 32 bits of a number; the full one
//! is the nearest to the base.

/// Sequence numbers remembered above the base. Twice what a sender of ours may have started.
pub(crate) const SPAN: u64 = 2048;
const WORDS: usize = (SPAN / 64) as usize;

/// The receiver's memory of complete messages.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    base: u64,
    bits: [u64; WORDS],
}

/// Where a sequence number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Arrived before.
    Old,
    /// Not complete yet; its full number.
    New(u64),
    /// Further ahead than any sender of ours goes.
    Outside,
}

impl Seen {
    /// Nothing has arrived; numbers start at 1.
    pub(crate) fn new() -> Seen {
        Seen::starting_at(1)
    }

    pub(crate) fn starting_at(base: u64) -> Seen {
        Seen { base, bits: [0; WORDS] }
    }

    /// All messages before this one have arrived.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    fn bit(&self, seq: u64) -> bool {
        let at = seq % SPAN;
        self.bits[(at / 64) as usize] >> (at % 64) & 1 != 0
    }

    fn put(&mut self, seq: u64, on: bool) {
        let at = seq % SPAN;
        let mask = 1u64 << (at % 64);
        let word = &mut self.bits[(at / 64) as usize];
        *word = if on { *word | mask } else { *word & !mask };
    }

    /// Looks a wire number up.
    pub(crate) fn place(&self, seq: u32) -> Place {
        let ahead = seq.wrapping_sub(self.base as u32);
        if ahead > u32::MAX / 2 {
            return Place::Old;
        }
        let ahead = u64::from(ahead);
        if ahead >= SPAN {
            return Place::Outside;
        }
        let seq = self.base + ahead;
        if self.bit(seq) { Place::Old } else { Place::New(seq) }
    }

    /// A message is complete; its number came from [`Place::New`].
    pub(crate) fn complete(&mut self, seq: u64) {
        self.put(seq, true);
        while self.bit(self.base) {
            self.put(self.base, false);
            self.base += 1;
        }
    }

    /// The run of complete messages above the base that a wire number is in: first and count.
    pub(crate) fn run_at(&self, seq: u32) -> Option<(u64, u64)> {
        let ahead = u64::from(seq.wrapping_sub(self.base as u32));
        let seq = self.base + ahead;
        if ahead >= SPAN || !self.bit(seq) {
            return None;
        }
        let mut first = seq;
        while first > self.base && self.bit(first - 1) {
            first -= 1;
        }
        let mut end = seq + 1;
        while end < self.base + SPAN && self.bit(end) {
            end += 1;
        }
        Some((first, end - first))
    }

    /// Runs of complete messages above the base: first and count.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = self.base + SPAN;
        let mut at = self.base;
        std::iter::from_fn(move || {
            while at < end && !self.bit(at) {
                // whole empty words are the usual case
                at += if at.is_multiple_of(64) && self.bits[(at % SPAN / 64) as usize] == 0 { 64 } else { 1 };
            }
            let first = at;
            while at < end && self.bit(at) {
                at += 1;
            }
            (at > first).then_some((first, at - first))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once() {
        let mut seen = Seen::new();
        assert_eq!(seen.place(1), Place::New(1));
        seen.complete(1);
        assert_eq!(seen.place(1), Place::Old);
        assert_eq!(seen.place(0), Place::Old);
        seen.complete(3);
        assert_eq!(seen.place(3), Place::Old);
        assert_eq!(seen.place(2), Place::New(2));
        assert_eq!(seen.base(), 2);
        seen.complete(2);
        assert_eq!(seen.base(), 4);
    }

    #[test]
    fn numbers_too_far_ahead_are_outside() {
        let seen = Seen::new();
        assert_eq!(seen.place(SPAN as u32), Place::New(SPAN));
        assert_eq!(seen.place(SPAN as u32 + 1), Place::Outside);
    }

    #[test]
    fn the_wire_number_wraps_without_a_seam() {
        let start = (1u64 << 32) - 3;
        let mut seen = Seen::starting_at(start);
        for seq in start..start + 3 * SPAN {
            assert_eq!(seen.place(seq as u32), Place::New(seq));
            assert_eq!(seen.place((seq as u32).wrapping_sub(1)), Place::Old);
            seen.complete(seq);
        }
        assert_eq!(seen.base(), start + 3 * SPAN);
    }

    #[test]
    fn runs_tell_exactly_what_is_above_the_base() {
        let mut seen = Seen::starting_at(1000);
        for seq in [1002, 1003, 1100, 1000 + SPAN - 1] {
            seen.complete(seq);
        }
        let runs: Vec<_> = seen.runs().collect();
        assert_eq!(runs, [(1002, 2), (1100, 1), (1000 + SPAN - 1, 1)]);
        assert_eq!(
            [1001, 1002, 1003, 1100].map(|seq| seen.run_at(seq)),
            [None, Some((1002, 2)), Some((1002, 2)), Some((1100, 1))]
        );
        assert_eq!(seen.run_at(999), None);
    }
}
