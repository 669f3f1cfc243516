//! How many unacknowledged bytes a session may have on the wire.
//!
//! Slow start, then additive increase; a loss takes three tenths away, a timeout half, and at most
//! once per round trip: losses of frames sent before the last reduction tell nothing new.

use crate::time::Instant;

/// Frames the window never falls below: a lossy wire must not end in stop-and-wait.
const FEWEST_FRAMES: u64 = 8;
/// Frames to begin with.
const FIRST_FRAMES: u64 = 64;
/// The window never grows past this many bytes.
const LARGEST: u64 = 16 << 20;

/// The congestion window of a session.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    window: u64,
    threshold: u64,
    frame: u64,
    reduced_at: Instant,
}

impl Congestion {
    /// A fresh window for frames of `frame` payload bytes.
    pub(crate) fn new(frame: u32) -> Congestion {
        let frame = u64::from(frame);
        Congestion { window: frame * FIRST_FRAMES, threshold: LARGEST, frame, reduced_at: Instant::ZERO }
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
    pub(crate) fn on_ack(&mut self, bytes: u64, limited: bool) {
        if !limited {
            return;
        }
        let more = if self.window < self.threshold { bytes } else { self.frame * bytes / self.window.max(1) };
        self.window = (self.window + more).min(LARGEST);
    }

    /// A frame sent at `sent` was lost.
    pub(crate) fn on_loss(&mut self, now: Instant, sent: Instant) {
        self.reduce(now, sent, 7, 10);
    }

    /// A frame sent at `sent` timed out.
    pub(crate) fn on_timeout(&mut self, now: Instant, sent: Instant) {
        self.reduce(now, sent, 1, 2);
    }

    fn reduce(&mut self, now: Instant, sent: Instant, part: u64, of: u64) {
        if sent <= self.reduced_at && self.reduced_at != Instant::ZERO {
            return;
        }
        self.reduced_at = now;
        self.window = (self.window * part / of).max(self.frame * FEWEST_FRAMES);
        self.threshold = self.window;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_one_flight_reduce_the_window_once_and_never_below_the_floor() {
        let mut c = Congestion::new(1000);
        let start = c.window();
        c.on_loss(Instant::from_millis(10), Instant::from_millis(5));
        let once = c.window();
        assert_eq!(once, start * 7 / 10);
        c.on_loss(Instant::from_millis(11), Instant::from_millis(6));
        assert_eq!(c.window(), once);
        for ms in 20..100 {
            c.on_timeout(Instant::from_millis(ms), Instant::from_millis(ms));
        }
        assert_eq!(c.window(), 8000);
    }

    #[test]
    fn a_restart_forgets_every_reduction() {
        let mut c = Congestion::new(1000);
        let start = c.window();
        c.on_timeout(Instant::from_millis(10), Instant::from_millis(5));
        c.restart();
        assert_eq!(c.window(), start);
        c.on_ack(5000, true);
        assert_eq!(c.window(), start + 5000, "slow start again");
    }

    #[test]
    fn only_a_window_that_was_used_up_grows() {
        let mut c = Congestion::new(1000);
        let start = c.window();
        c.on_ack(5000, false);
        assert_eq!(c.window(), start);
        c.on_ack(5000, true);
        assert_eq!(c.window(), start + 5000);
    }
}
