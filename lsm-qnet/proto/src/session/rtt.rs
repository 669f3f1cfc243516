//! Round trip time of a session, and the retransmission timeout that follows from it (RFC 6298's
//! estimator).
//!
//! The lower bound is ours; the upper one is QNX's `tx_ticks`.

use std::time::Duration;

/// Below this the timeout would fire on a scheduling hiccup of a busy machine.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
/// Before the first sample.
const FIRST_TIMEOUT: Duration = Duration::from_millis(50);

/// Smoothed round trip time and its variation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl Rtt {
    /// A frame that was sent once was acknowledged after `sample` (the receiver's delay taken off).
    pub(crate) fn on_sample(&mut self, sample: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                let deviation = smoothed.abs_diff(sample);
                self.variation = (self.variation * 3 + deviation) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    /// The smoothed round trip time, when one was measured.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// When an answer should be there at the latest, by all that is known.
    pub(crate) fn latest(&self) -> Duration {
        self.smoothed.unwrap_or_default() + self.variation * 2
    }

    /// When to send an unacknowledged frame again after `backoff` timeouts in a row, `longest` at
    /// most; but on a line slower than that not before an answer can be there.
    pub(crate) fn timeout(&self, backoff: u32, longest: Duration) -> Duration {
        let (base, longest) = match self.smoothed {
            None => (FIRST_TIMEOUT, longest),
            Some(smoothed) => {
                let base = (smoothed + self.variation * 4).max(SHORTEST_TIMEOUT);
                (base, longest.max(smoothed * 3 / 2))
            }
        };
        base.saturating_mul(1 << backoff.min(16)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(200);

    #[test]
    fn a_steady_line_gets_a_short_timeout_that_doubles_up_to_the_bound() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.on_sample(Duration::from_millis(8));
        }
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(8)));
        assert_eq!(rtt.timeout(0, LONGEST), SHORTEST_TIMEOUT);
        assert_eq!(rtt.timeout(2, LONGEST), SHORTEST_TIMEOUT * 4);
        assert_eq!(rtt.timeout(60, LONGEST), LONGEST);
    }

    #[test]
    fn a_line_slower_than_the_bound_is_waited_for() {
        let mut rtt = Rtt::default();
        rtt.on_sample(Duration::from_millis(600));
        assert_eq!(rtt.timeout(0, LONGEST), Duration::from_millis(900));
        assert_eq!(rtt.timeout(9, LONGEST), Duration::from_millis(900));
    }

    #[test]
    fn an_unsteady_line_gets_a_timeout_above_its_peaks() {
        let mut rtt = Rtt::default();
        for i in 0..100 {
            rtt.on_sample(Duration::from_millis(if i % 2 == 0 { 5 } else { 35 }));
        }
        assert!(rtt.timeout(0, LONGEST) > Duration::from_millis(35));
    }
}
