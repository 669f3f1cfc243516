//! How many unacknowledged bytes a path may have on the wire.
//!
//! Slow start, then CUBIC (RFC 9438) or one frame a round trip, whichever is more. What a loss takes away depends on what
//! it seems to mean:
//!
//! ```text
//!   few frames lost ("noise"):  what stood in queues goes; what the line itself holds stays, at least 0.7
//!   more than a fifth lost:     0.7
//!   timeouts in a row:          0.5
//! ```
//!
//! The line holds as much of the window as the least round trip time is of the present one. So a line that loses
//! frames for other reasons than being full keeps its window, and grows by a thirty-second a round trip while nothing
//! stands in its queues; a full one is drained and no more. Each happens at most once a round trip: losses of
//! frames sent before the last reduction tell nothing new, but how many they are is weighed again with each.

use std::time::Duration;

use crate::time::Instant;

/// Frames the window never falls below: a lossy wire must not end in stop-and-wait.
const FEWEST_FRAMES: u64 = 8;
/// Frames to begin with.
const FIRST_FRAMES: u64 = 64;
/// The window never grows past this many bytes.
const LARGEST: u64 = 16 << 20;
/// Frames among which losses are counted at least: of fewer they tell nothing.
const WEIGHED_FRAMES: u64 = 32;
/// One frame in so many may be lost by noise.
const NOISE: u64 = 5;
/// While the line's queues are empty the window grows by this part a round trip.
const SEARCH: u64 = 32;
/// Queues count as empty while the round trip takes no more than this part longer than the least.
const EMPTY: u32 = 16;

/// Round trip times of a path, as far as they are known; zero: not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    /// The least seen lately: what the line itself takes.
    pub(crate) least: Duration,
    /// The present one.
    pub(crate) now: Duration,
}

impl Line {
    /// How much of `window` is on the line itself and not in its queues.
    fn holds(self, window: u64) -> u64 {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(1 << 36);
        match nanos(self.now) {
            0 => 0,
            // A window has 24 bits, a time 36: 60 are enough.
            now => window * nanos(self.least).min(now) / now,
        }
    }

    fn is_empty(self) -> bool {
        !self.least.is_zero() && self.now <= self.least + self.least / EMPTY
    }
}

/// The congestion window of a path.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    window: u64,
    threshold: u64,
    frame: u64,
    reduced_at: Instant,
    /// The window before the reduction.
    before: u64,
    cubic: Cubic,
    /// Bytes that arrived and that were lost, of late.
    arrived: u64,
    lost: u64,
}

impl Congestion {
    /// A fresh window for frames of `frame` payload bytes.
    pub(crate) fn new(frame: u32) -> Congestion {
        let frame = u64::from(frame);
        Congestion {
            window: frame * FIRST_FRAMES,
            threshold: LARGEST,
            frame,
            reduced_at: Instant::ZERO,
            before: 0,
            cubic: Cubic::default(),
            arrived: 0,
            lost: 0,
        }
    }

    /// Begins anew: what reduced the window was no sign of the line.
    pub(crate) fn restart(&mut self) {
        (self.window, self.threshold) = (self.frame * FIRST_FRAMES, LARGEST);
    }

    /// Bytes that may be unacknowledged.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// `bytes` were acknowledged while the window was what held the sender back (`limited`).
    pub(crate) fn on_ack(&mut self, now: Instant, bytes: u64, limited: bool, line: Line) {
        self.weigh(bytes, 0);
        if !limited {
            return self.cubic.rest(now);
        }
        let window = self.window.max(1);
        let more = if self.window < self.threshold {
            bytes
        } else {
            let steady = self.cubic.steady(bytes, window, self.frame);
            let wanted = self.cubic.window_at(now + line.now, self.frame).max(steady);
            let more = wanted.saturating_sub(window).min(window / 2);
            // Neither is ever more than a window, of 24 bits.
            more.max(if line.is_empty() { window / SEARCH } else { 0 }) * bytes.min(window) / window
        };
        self.window = (self.window + more).min(LARGEST);
        self.cubic.last = now;
    }

    /// A frame of `bytes` payload bytes sent at `sent` was lost.
    pub(crate) fn on_loss(&mut self, now: Instant, sent: Instant, bytes: u64, line: Line) {
        self.weigh(0, bytes);
        let again = self.is_known(sent);
        if !again {
            (self.before, self.reduced_at) = (self.window, now);
        }
        let held = if self.is_noise() { line.holds(self.before) } else { 0 };
        let window = (self.before * 7 / 10).max(held).max(self.frame * FEWEST_FRAMES);
        if again && window >= self.window {
            return;
        }
        // Almost all of it stays: nothing was learned of where the line ends.
        if window < self.before - self.before / 8 {
            self.threshold = window;
            self.cubic.reduce(now, self.before, window, self.frame);
        }
        self.window = self.window.min(window);
    }

    /// A frame sent at `sent` timed out, and not for the first time.
    pub(crate) fn on_timeout(&mut self, now: Instant, sent: Instant) {
        if self.is_known(sent) {
            return;
        }
        (self.before, self.reduced_at) = (self.window, now);
        self.window = (self.window / 2).max(self.frame * FEWEST_FRAMES);
        self.threshold = self.window;
        self.cubic.reduce(now, self.before, self.window, self.frame);
    }

    /// Whether a frame was on its way before the last reduction, which tells nothing new.
    fn is_known(&self, sent: Instant) -> bool {
        sent <= self.reduced_at && self.reduced_at != Instant::ZERO
    }

    fn weigh(&mut self, arrived: u64, lost: u64) {
        self.arrived += arrived;
        self.lost += lost;
        if self.arrived + self.lost > 2 * self.window.max(self.frame * WEIGHED_FRAMES) {
            self.arrived /= 2;
            self.lost /= 2;
        }
    }

    /// Whether so few frames were lost of late that the line need not be full.
    fn is_noise(&self) -> bool {
        self.lost * NOISE <= (self.arrived + self.lost).max(self.frame * WEIGHED_FRAMES)
    }
}

/// CUBIC's memory: the window grows back to what it was before the reduction, ever more slowly, lingers there, and then grows
/// on, ever faster. In whole numbers, so that it is the same on every machine.
#[derive(Clone, Debug, Default)]
struct Cubic {
    /// The window to come back to.
    most: u64,
    /// When growth began; moved on while the window was not used up.
    since: Instant,
    /// Milliseconds from then until the window is back.
    back_in: u64,
    /// The last acknowledgement.
    last: Instant,
    /// The window that grows by a frame a round trip from the reduction on, in 256ths of bytes.
    steady: u64,
}

/// RFC 9438's C is 0.4 frames a cubic second: 2 / 5, times 10^-9 for milliseconds.
const C: (i128, i128) = (2, 5_000_000_000);

impl Cubic {
    fn reduce(&mut self, now: Instant, before: u64, window: u64, frame: u64) {
        // Less than the last time: others want a share, too ("fast convergence").
        self.most = if before < self.most { before * 17 / 20 } else { before }.max(window);
        let frames = (self.most - window) / frame.max(1);
        self.back_in = cube_root(frames * 2_500_000_000);
        (self.since, self.last, self.steady) = (now, now, window << 8);
    }

    /// Time in which the window was not used up does not count.
    fn rest(&mut self, now: Instant) {
        self.since = self.since + now.since(self.last);
        self.last = now;
    }

    /// Lets the steady window grow, and tells it.
    fn steady(&mut self, bytes: u64, window: u64, frame: u64) -> u64 {
        self.steady = (self.steady + (frame << 8) * bytes / window).min(LARGEST << 8);
        self.steady >> 8
    }

    /// The window wanted at a time.
    fn window_at(&self, at: Instant, frame: u64) -> u64 {
        let passed = i128::try_from(at.since(self.since).as_millis()).unwrap_or(0).min(1 << 20);
        let distance = passed - i128::from(self.back_in);
        let more = C.0 * distance * distance * distance * i128::from(frame) / C.1;
        u64::try_from(i128::from(self.most) + more).unwrap_or(0).min(LARGEST)
    }
}

/// The largest number whose cube is no more than `n`.
fn cube_root(n: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let more = root | 1 << bit;
        if u128::from(more).pow(3) <= u128::from(n) {
            root = more;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 1000;
    const UNKNOWN: Line = Line { least: Duration::ZERO, now: Duration::ZERO };

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn line(least: u64, now: u64) -> Line {
        Line { least: Duration::from_millis(least), now: Duration::from_millis(now) }
    }

    /// Round trips of 100 ms in which the whole window arrives.
    fn grow(c: &mut Congestion, from: u64, trips: u64, line: Line) {
        for trip in 0..trips {
            for _ in 0..10 {
                c.on_ack(at(from + trip * 100), c.window() / 10, true, line);
            }
        }
    }

    #[test]
    fn losses_of_one_flight_reduce_the_window_once_and_never_below_the_floor() {
        let mut c = Congestion::new(1000);
        let start = c.window();
        c.on_loss(at(10), at(5), FRAME, UNKNOWN);
        let once = c.window();
        assert_eq!(once, start * 7 / 10);
        c.on_loss(at(11), at(6), FRAME, UNKNOWN);
        assert_eq!(c.window(), once);
        for ms in 20..100 {
            c.on_timeout(at(ms), at(ms));
        }
        assert_eq!(c.window(), 8000);
    }

    #[test]
    fn a_restart_forgets_every_reduction() {
        let mut c = Congestion::new(1000);
        let start = c.window();
        c.on_timeout(at(10), at(5));
        c.restart();
        assert_eq!(c.window(), start);
        c.on_ack(at(11), 5000, true, UNKNOWN);
        assert_eq!(c.window(), start + 5000, "slow start again");
    }

    #[test]
    fn only_a_window_that_was_used_up_grows() {
        let mut c = Congestion::new(1000);
        let start = c.window();
        c.on_ack(at(1), 5000, false, UNKNOWN);
        assert_eq!(c.window(), start);
        c.on_ack(at(2), 5000, true, UNKNOWN);
        assert_eq!(c.window(), start + 5000);
    }

    #[test]
    fn noise_takes_what_stood_in_queues_and_a_full_line_three_tenths() {
        let mut empty = Congestion::new(1000);
        empty.on_loss(at(10), at(5), FRAME, line(100, 100));
        assert_eq!(empty.window(), 64_000, "nothing stood anywhere");
        empty.on_ack(at(11), 5000, true, line(100, 100));
        assert_eq!(empty.window(), 69_000, "still slow start");
        let mut queued = Congestion::new(1000);
        queued.on_loss(at(10), at(5), FRAME, line(100, 125));
        assert_eq!(queued.window(), 64_000 * 4 / 5);
        let mut deep = Congestion::new(1000);
        deep.on_loss(at(10), at(5), FRAME, line(10, 100));
        assert_eq!(deep.window(), 64_000 * 7 / 10, "but never more than that");
    }

    #[test]
    fn noise_that_is_too_much_is_none_and_the_flight_is_weighed_again() {
        let mut c = Congestion::new(1000);
        (0..6).for_each(|_| c.on_loss(at(10), at(5), FRAME, line(100, 100)));
        assert_eq!(c.window(), 64_000, "6 of 32");
        (0..20).for_each(|_| c.on_loss(at(10), at(5), FRAME, line(100, 100)));
        assert_eq!(c.window(), 64_000 * 7 / 10);
    }

    #[test]
    fn a_reduced_window_comes_back_fast_lingers_and_goes_on() {
        let mut c = Congestion::new(1000);
        grow(&mut c, 100, 3, UNKNOWN);
        let before = c.window();
        assert!(before > 900_000, "{before}: slow start");
        c.on_loss(at(600), at(590), FRAME, UNKNOWN);
        let queued = line(50, 100);
        let mut share = |from, trips| {
            grow(&mut c, from, trips, queued);
            c.window() * 100 / before
        };
        assert!((75..85).contains(&share(700, 10)), "after a second");
        assert!((97..=100).contains(&share(1700, 70)), "after eight");
        assert!((100..103).contains(&share(8700, 40)), "after twelve");
        assert!(share(12_700, 80) > 110, "after twenty");
    }

    #[test]
    fn an_empty_line_is_searched_by_a_thirty_second_a_round_trip() {
        let mut c = Congestion::new(1000);
        c.on_timeout(at(10), at(5));
        grow(&mut c, 100, 50, line(100, 101));
        assert!(c.window() > 32_000 * 4, "{}", c.window());
    }

    #[test]
    fn cube_roots_are_whole() {
        for n in [0, 1, 7, 8, 26, 27, 999_999_999_999, 1_000_000_000_000, u64::MAX] {
            let root = u128::from(cube_root(n));
            assert!(
                root.pow(3) <= u128::from(n) && (root + 1).pow(3) > u128::from(n).min((1 << 66) - 1),
                "{n}"
            );
        }
    }
}
