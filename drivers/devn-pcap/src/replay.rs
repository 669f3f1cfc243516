//! When the next frame of a replay is due.
//!
//! Times are nanoseconds. The host's clock and the capture's have nothing in common but their pace: the first frame of each
//! round is due at once, the others as much later as the capture says, or as `rate=` does.

use io_pkt_sdk::Error;

const SECOND: u64 = 1_000_000_000;

/// How fast to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As the capture's time stamps say.
    Original,
    /// So many frames a second.
    Rate(u64),
    /// As fast as frames are taken.
    Max,
}

impl Pace {
    /// Reads `rate=`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        match (text, text.parse()) {
            ("original", _) => Ok(Self::Original),
            ("max", _) => Ok(Self::Max),
            (_, Ok(rate @ 1..=SECOND)) => Ok(Self::Rate(rate)),
            _ => Err(Error::new(
                libc::EINVAL,
                format!("rate={text} is neither original, max nor a number from 1 to {SECOND}"),
            )),
        }
    }
}

/// The clock of one replay.
#[derive(Debug)]
pub(crate) struct Clock {
    pace: Pace,
    /// When the first frame of the round was due, on the host's clock and on the capture's.
    begun: Option<(u64, Option<u64>)>,
    /// Frames of the round so far.
    frames: u64,
}

impl Clock {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, begun: None, frames: 0 }
    }

    /// When the next frame is due, which was captured at `stamp` (`None`: the file does not say).
    pub(crate) fn due(&mut self, now: u64, stamp: Option<u64>) -> u64 {
        let (begun, first) = *self.begun.get_or_insert((now, stamp));
        match self.pace {
            Pace::Max => now,
            Pace::Rate(rate) => {
                let after = u128::from(self.frames) * u128::from(SECOND) / u128::from(rate);
                begun.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
            }
            // Captures of several interfaces go back in time now and then: such frames are due at once.
            Pace::Original => match (stamp, first) {
                (Some(stamp), Some(first)) => begun.saturating_add(stamp.saturating_sub(first)),
                _ => begun,
            },
        }
    }

    /// The frame was delivered.
    pub(crate) fn next(&mut self) {
        self.frames += 1;
    }

    /// The file begins again.
    pub(crate) fn next_round(&mut self) {
        if self.pace == Pace::Original {
            self.begun = None;
            self.frames = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_rates() {
        assert_eq!(Pace::parse("original").ok(), Some(Pace::Original));
        assert_eq!(Pace::parse("max").ok(), Some(Pace::Max));
        assert_eq!(Pace::parse("1000").ok(), Some(Pace::Rate(1000)));
        for wrong in ["0", "fast", "-1", "1000000001", ""] {
            let error = Pace::parse(wrong).expect_err(wrong);
            assert!(error.text().starts_with(&format!("rate={wrong} is neither")), "{error}");
        }
    }

    #[test]
    fn the_original_timing_counts_from_the_first_frame_and_never_waits_for_the_past() {
        let mut clock = Clock::new(Pace::Original);
        assert_eq!(clock.due(1000, Some(50)), 1000);
        assert_eq!(clock.due(1001, Some(80)), 1030);
        assert_eq!(clock.due(1040, Some(40)), 1000, "it went back: at once");
        assert_eq!(clock.due(1040, None), 1000, "no time stamp: at once");
        clock.next_round();
        assert_eq!(clock.due(2000, Some(50)), 2000);
    }

    #[test]
    fn a_rate_is_kept_over_rounds_without_drift() {
        let mut clock = Clock::new(Pace::Rate(3));
        let dues: Vec<u64> = (0..4)
            .map(|_| {
                let due = clock.due(100, None);
                clock.next();
                clock.next_round();
                due - 100
            })
            .collect();
        assert_eq!(dues, [0, 333_333_333, 666_666_666, 1_000_000_000]);
    }
}
