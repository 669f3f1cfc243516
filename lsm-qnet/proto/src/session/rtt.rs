//! Round trip time of a session, and the retransmission timeout that follows from it (RFC 6298's
//! estimator).
//!
//! The lower bound is ours; the upper one is QNX's `tx_ticks`.

use std::time::Duration;

use crate::time::Instant;

use super::congestion::Line;

/// Below this the timeout would fire on a scheduling hiccup of a busy machine.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
/// Before the first sample.
const FIRST_TIMEOUT: Duration = Duration::from_millis(50);

/// The least round trip time is that of this span and the one before.
const SPAN: Duration = Duration::from_secs(10);

/// Smoothed round trip time and its variation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    last: Duration,
    /// The least sample of the span at hand, and of the one before it.
    least: [Option<Duration>; 2],
    /// When the span at hand began.
    since: Instant,
}

impl Rtt {
    /// A frame that was sent once was acknowledged after `sample` (the receiver's delay taken off).
    pub(crate) fn on_sample(&mut self, now: Instant, sample: Duration) {
        if now.since(self.since) >= SPAN {
            self.least = [None, self.least[0]];
            self.since = now;
        }
        self.least[0] = Some(self.least[0].map_or(sample, |least| least.min(sample)));
        self.last = sample;
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

    /// What the line takes by itself, and what it takes now.
    pub(crate) fn line(&self) -> Line {
        let least = self.least.into_iter().flatten().min().unwrap_or_default();
        Line { least, now: self.smoothed.unwrap_or_default().max(self.last) }
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
            rtt.on_sample(Instant::ZERO, Duration::from_millis(8));
        }
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(8)));
        assert_eq!(rtt.timeout(0, LONGEST), SHORTEST_TIMEOUT);
        assert_eq!(rtt.timeout(2, LONGEST), SHORTEST_TIMEOUT * 4);
        assert_eq!(rtt.timeout(60, LONGEST), LONGEST);
    }

    #[test]
    fn a_line_slower_than_the_bound_is_waited_for() {
        let mut rtt = Rtt::default();
        rtt.on_sample(Instant::ZERO, Duration::from_millis(600));
        assert_eq!(rtt.timeout(0, LONGEST), Duration::from_millis(900));
        assert_eq!(rtt.timeout(9, LONGEST), Duration::from_millis(900));
    }

    #[test]
    fn an_unsteady_line_gets_a_timeout_above_its_peaks() {
        let mut rtt = Rtt::default();
        for i in 0..100 {
            rtt.on_sample(Instant::ZERO, Duration::from_millis(if i % 2 == 0 { 5 } else { 35 }));
        }
        assert!(rtt.timeout(0, LONGEST) > Duration::from_millis(35));
    }

    #[test]
    fn the_least_time_is_that_of_the_last_spans() {
        let mut rtt = Rtt::default();
        let mut sample = |second: u64, millis| {
            rtt.on_sample(Instant::from_millis(second * 1000), Duration::from_millis(millis));
            rtt.line().least
        };
        assert_eq!(sample(0, 20), Duration::from_millis(20));
        assert_eq!(sample(1, 90), Duration::from_millis(20));
        assert_eq!(sample(11, 80), Duration::from_millis(20), "the span before counts");
        assert_eq!(sample(22, 90), Duration::from_millis(80), "the line became longer");
    }
}
