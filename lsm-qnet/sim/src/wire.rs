//! A wire with a speed: what a host sends waits its turn, and what finds the queue full is lost.
//!
//! Every host has a queue of its own for each of its links, as a network card has. A [`Wire`] says how
//! fast its segment is and how much may wait; without a rate nothing ever waits.

use std::collections::VecDeque;
use std::time::Duration;

use qnet_proto::Instant;

use crate::faults::Faults;

/// Bytes that travel around each packet: Ethernet header, checksum, preamble and gap.
const AROUND: u64 = 38;

/// One segment: its faults, its speed, its queues.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// What it does to frames.
    pub faults: Faults,
    /// Bits per second that each host can put on it; `None`: no limit.
    pub rate: Option<u64>,
    /// Frames that may wait at a host for their turn; the next one is lost.
    pub queue: usize,
}

impl Default for Wire {
    fn default() -> Wire {
        Wire { faults: Faults::default(), rate: None, queue: 1000 }
    }
}

/// What waits at one link of one host: the times at which frames will have left.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    leaving: VecDeque<Instant>,
}

impl Egress {
    /// Takes a frame of `len` bytes: how long it takes until it has left the host; `None` when the
    /// queue is full.
    pub(crate) fn send(&mut self, now: Instant, wire: &Wire, len: usize) -> Option<Duration> {
        let Some(rate) = wire.rate else { return Some(Duration::ZERO) };
        while self.leaving.front().is_some_and(|&at| at <= now) {
            self.leaving.pop_front();
        }
        if self.leaving.len() >= wire.queue {
            return None;
        }
        let bits = (len as u64 + AROUND).saturating_mul(8);
        let takes = Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate.max(1));
        let free = self.leaving.back().copied().unwrap_or(now).max(now);
        let left = free + takes;
        self.leaving.push_back(left);
        Some(left.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_megabits_take_a_full_frame_in_123_microseconds_and_the_next_waits() {
        let wire = Wire { rate: Some(100_000_000), queue: 2, ..Wire::default() };
        let (mut egress, now) = (Egress::default(), Instant::from_millis(5));
        assert_eq!(egress.send(now, &wire, 1500), Some(Duration::from_nanos(123_040)));
        assert_eq!(egress.send(now, &wire, 1500), Some(Duration::from_nanos(246_080)));
        assert_eq!(egress.send(now, &wire, 1500), None, "the queue is full");
        let later = now + Duration::from_micros(124);
        assert!(egress.send(later, &wire, 1500).is_some(), "one has left");
    }

    #[test]
    fn a_wire_without_a_rate_never_makes_anybody_wait() {
        let mut egress = Egress::default();
        let wire = Wire { queue: 0, ..Wire::default() };
        assert_eq!(egress.send(Instant::ZERO, &wire, 1500), Some(Duration::ZERO));
    }
}
