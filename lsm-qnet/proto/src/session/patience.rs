//! Acknowledgements that may wait a little, so that one serves several messages.
//!
//! A MSGSEND and a MSGREPLY of one packet are answered anyway, by the reply and by what the client does next, and next to
//! nothing waits for their acknowledgement. It goes with the next one that is due, after a few messages, or after a
//! time that is short beside the shortest retransmission timeout. So a conversation of small messages takes two packets
//! a round trip, not four.

use std::time::Duration;

use crate::time::Instant;

/// The longest wait.
const LONGEST: Duration = Duration::from_micros(500);
/// So many messages wait at most; a congestion window never holds fewer packets.
const MOST: u32 = 8;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    count: u32,
    until: Option<Instant>,
}

impl Waiting {
    /// One more may wait. True when that was the last one: the acknowledgement is due now.
    #[must_use]
    pub(super) fn one_more(&mut self, now: Instant) -> bool {
        self.count += 1;
        self.until.get_or_insert(now + LONGEST);
        self.count >= MOST
    }

    /// When the acknowledgement is due, if one waits.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// An acknowledgement goes: it is for all that waited.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sets_the_time_and_the_eighth_ends_the_wait() {
        let start = Instant::from_nanos(1_000_000);
        let mut waiting = Waiting::default();
        for n in 0..7 {
            assert!(!waiting.one_more(start + Duration::from_micros(n)), "message {n}");
            assert_eq!(waiting.until(), Some(start + LONGEST));
        }
        assert!(waiting.one_more(start));
        waiting.clear();
        assert_eq!(waiting.until(), None);
        assert!(!waiting.one_more(start));
    }
}
