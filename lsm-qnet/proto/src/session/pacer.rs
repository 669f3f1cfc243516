//! Frames leave a little faster than acknowledgements come back, not a window at once.
//!
//! A window that opens after a pause, or all at once because one acknowledgement told of much, would flood a slower
//! receiver's queues. So a lane may send a *burst* at once, and more only at five quarters of the rate that its window
//! and round trip time stand for. On a fast line the burst is the window: there acknowledgements alone set the pace.
//!
//! A plain peer acknowledges whole messages only. There the pace has to do what the window cannot: half a window at once, and
//! a window each round trip.

use std::time::Duration;

use crate::time::Instant;

/// Frames that may always go at once: a first window.
const BURST_FRAMES: u64 = 64;
/// A burst is at least what the line carries in this time: timers are not exact.
const BURST_TIME: Duration = Duration::from_millis(1);

/// What a lane may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Bytes that may be unacknowledged.
    pub(crate) window: u64,
    /// The round trip time.
    pub(crate) srtt: Duration,
    /// Payload bytes of a frame.
    pub(crate) frame: u64,
    /// Nothing but this rate bounds what is on the way.
    pub(crate) alone: bool,
}

impl Rate {
    /// Bytes in a time.
    fn bytes_in(self, time: Duration) -> u64 {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (time, srtt) = (nanos(time).min(1 << 30), nanos(self.srtt).max(1));
        // A window is at most some MiB: 30 and 26 bits fit.
        let window = self.window.min(1 << 26);
        (if self.alone { window } else { window * 5 / 4 }).saturating_mul(time) / srtt
    }

    fn burst(self) -> u64 {
        if self.alone {
            return (self.window / 2).max(self.frame);
        }
        self.bytes_in(BURST_TIME).min(self.window).max(BURST_FRAMES * self.frame)
    }
}

/// The pace of a lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pacer {
    /// Bytes that may go now, as of `at`.
    budget: u64,
    at: Instant,
}

impl Pacer {
    /// Whether `length` bytes may go now; `rest`: nothing is on its way.
    pub(crate) fn may_send(&mut self, now: Instant, length: u64, rate: Rate, rest: bool) -> bool {
        if self.budget >= length {
            return true;
        }
        let burst = rate.burst();
        let earned = if rest { burst } else { rate.bytes_in(now.since(self.at)) };
        if earned > 0 {
            self.budget = (self.budget + earned).min(burst);
            self.at = now;
        }
        self.budget >= length
    }

    /// When that many bytes may go.
    pub(crate) fn ready_at(&self, length: u64, rate: Rate) -> Instant {
        let missing = length.saturating_sub(self.budget).max(rate.frame);
        let each = rate.bytes_in(Duration::from_millis(1)).max(1);
        self.at + Duration::from_nanos(missing.saturating_mul(1_000_000) / each + 1)
    }

    /// Bytes went.
    pub(crate) fn sent(&mut self, length: u64) {
        self.budget = self.budget.saturating_sub(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(window: u64, millis: u64) -> Rate {
        Rate { window, srtt: Duration::from_millis(millis), frame: 1000, alone: false }
    }

    /// Frames that go at once.
    fn burst(pacer: &mut Pacer, now: Instant, rate: Rate, rest: bool) -> u64 {
        let mut sent = 0;
        while pacer.may_send(now, 1000, rate, rest && sent == 0) {
            pacer.sent(1000);
            sent += 1;
        }
        sent
    }

    #[test]
    fn a_window_that_opens_at_once_is_sent_over_a_round_trip() {
        let (mut pacer, rate) = (Pacer::default(), rate(4_000_000, 100));
        let start = Instant::from_millis(1000);
        assert_eq!(burst(&mut pacer, start, rate, true), 64);
        let (mut now, mut sent) = (start, 64);
        while sent < 4000 {
            now = pacer.ready_at(1000, rate);
            sent += burst(&mut pacer, now, rate, false);
        }
        let took = now.since(start);
        assert!(took > Duration::from_millis(70) && took < Duration::from_millis(85), "{took:?}");
    }

    #[test]
    fn on_a_fast_line_the_window_is_the_burst() {
        let mut pacer = Pacer::default();
        let rate = Rate { srtt: Duration::from_micros(100), ..rate(400_000, 0) };
        assert_eq!(burst(&mut pacer, Instant::from_millis(5), rate, true), 400);
    }

    #[test]
    fn rest_gives_a_burst_and_no_more() {
        let (mut pacer, rate) = (Pacer::default(), rate(64_000, 10));
        for second in 1..5 {
            assert_eq!(burst(&mut pacer, Instant::from_millis(second * 1000), rate, true), 64);
        }
    }

    #[test]
    fn alone_it_lets_half_a_window_go_and_a_window_each_round_trip() {
        let (mut pacer, rate) = (Pacer::default(), Rate { alone: true, ..rate(20_000, 100) });
        let start = Instant::from_millis(1000);
        assert_eq!(burst(&mut pacer, start, rate, true), 10);
        let mut sent = 0;
        let mut now = start;
        while now < Instant::from_millis(2000) {
            now = pacer.ready_at(1000, rate);
            sent += burst(&mut pacer, now, rate, false);
        }
        assert!((195..=205).contains(&sent), "{sent}");
    }
}
