//! Many durations in little memory: counted by size, sixteen classes to each doubling.

/// Classes of a doubling.
const PARTS: u32 = 16;
/// 64 doublings.
const CLASSES: usize = 64 * PARTS as usize;

/// A histogram of nanoseconds; a quantile is at most a sixteenth above the true one.
#[derive(Debug)]
pub(super) struct Times {
    counts: Box<[u64; CLASSES]>,
    count: u64,
    shortest: u64,
    longest: u64,
}

impl Times {
    pub(super) fn new() -> Self {
        Self { counts: Box::new([0; CLASSES]), count: 0, shortest: u64::MAX, longest: 0 }
    }

    /// Takes a duration in.
    pub(super) fn add(&mut self, nanos: u64) {
        self.counts[class(nanos)] += 1;
        self.count += 1;
        self.shortest = self.shortest.min(nanos);
        self.longest = self.longest.max(nanos);
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The shortest one; 0 when there are none.
    pub(super) fn shortest(&self) -> u64 {
        if self.count == 0 { 0 } else { self.shortest }
    }

    /// The longest one.
    pub(super) fn longest(&self) -> u64 {
        self.longest
    }

    /// A duration that at least `percent` of all do not exceed; 0 when there are none.
    pub(super) fn quantile(&self, percent: u64) -> u64 {
        let wanted = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return upper(class).clamp(self.shortest, self.longest);
            }
        }
        0
    }
}

/// The class of a value: its highest set bit, and the four bits behind it.
fn class(nanos: u64) -> usize {
    let Some(high) = nanos.checked_ilog2() else { return 0 };
    let low = if high >= 4 { nanos >> (high - 4) } else { nanos << (4 - high) };
    (high * PARTS) as usize + (low & 15) as usize
}

/// The largest value of a class.
fn upper(class: usize) -> u64 {
    let (high, low) = (class as u32 / PARTS, (class as u64) % u64::from(PARTS));
    let next = u128::from(low) + 17;
    let value = if high >= 4 { next << (high - 4) } else { next >> (4 - high) };
    u64::try_from(value.saturating_sub(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_at_most_a_sixteenth_below_the_end_of_its_class() {
        let around = |bit: u32| [1_u64 << bit, (1 << bit) + 1, (1 << bit) - 1, (1 << bit) + (1 << bit) / 3];
        for value in (0..63).flat_map(around).filter(|value| *value > 16) {
            let end = upper(class(value));
            assert!(value <= end && end - value <= value / 16, "{value}: class ends at {end}");
        }
        assert_eq!(upper(class(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_values_within_the_classes_width() {
        let mut times = Times::new();
        assert_eq!((times.quantile(50), times.shortest(), times.longest()), (0, 0, 0));
        (1..=1000).for_each(|n| times.add(n * 1000));
        assert_eq!((times.count(), times.shortest(), times.longest()), (1000, 1000, 1_000_000));
        for percent in [1, 50, 99] {
            let (found, exact) = (times.quantile(percent), percent * 10_000);
            assert!(found >= exact && found <= exact + exact / 16, "{percent} %: {found}");
        }
        assert_eq!(times.quantile(100), 1_000_000);
    }
}
