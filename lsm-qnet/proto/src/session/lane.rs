//! The sending half's view of one path: what is on its way there, how fast it is, whether it works.
//!
//! A *lane* is a link of ours and an address of the peer on it. Each counts its own transmissions, because what one
//! path delivers late says nothing about another: only later transmissions of the same lane make a fragment lost.

use std::collections::VecDeque;
use std::time::Duration;

use crate::link::{LinkAddr, LinkId};
use crate::time::Instant;

use super::congestion::Congestion;
use super::health::Health;
use super::rtt::Rtt;

/// Names a lane for the life of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(super) u32);

/// A fragment on its way, in the order of transmission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) transmission: u64,
    pub(crate) seq: u64,
    pub(crate) index: u32,
}

/// One path.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: LaneId,
    pub(crate) link: LinkId,
    pub(crate) addr: LinkAddr,
    /// The most payload bytes of a packet.
    pub(crate) largest: u32,
    pub(crate) health: Health,
    pub(crate) rtt: Rtt,
    pub(crate) congestion: Congestion,
    pub(crate) flight: VecDeque<Flight>,
    transmissions: u64,
    /// The latest transmission known to have arrived.
    pub(crate) acked: u64,
    /// Unacknowledged bytes on the way.
    pub(crate) in_flight: u64,
    /// Bytes acknowledged and not yet told to the window.
    pub(crate) arrived: u64,
    /// Whether the window held a frame back since the last acknowledgement.
    pub(crate) limited: bool,
    /// Timeouts in a row without progress.
    pub(crate) backoff: u32,
    /// When something that went here was acknowledged last.
    pub(crate) progress: Instant,
    /// The peer had no memory for what went here: its silence about that proves nothing.
    pub(crate) refused: bool,
}

impl Lane {
    pub(super) fn new(now: Instant, id: LaneId, (link, addr): (LinkId, LinkAddr), frame: u32) -> Lane {
        Lane {
            id,
            link,
            addr,
            largest: frame,
            health: Health::new(now),
            rtt: Rtt::default(),
            congestion: Congestion::new(frame),
            flight: VecDeque::new(),
            transmissions: 0,
            acked: 0,
            in_flight: 0,
            arrived: 0,
            limited: false,
            backoff: 0,
            progress: Instant::ZERO,
            refused: false,
        }
    }

    /// Whether nothing was ever sent here.
    pub(crate) fn is_fresh(&self) -> bool {
        self.transmissions == 0
    }

    /// Notes a fragment as sent, and gives its number.
    pub(crate) fn send(&mut self, seq: u64, index: u32, length: u32) -> u64 {
        self.transmissions += 1;
        let transmission = self.transmissions;
        self.flight.push_back(Flight { transmission, seq, index });
        self.in_flight += u64::from(length);
        transmission
    }

    /// Bytes that were on the way are not any more.
    pub(crate) fn landed(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Whether a frame may go, `extra` bytes beyond the window.
    pub(crate) fn fits(&self, length: u32, extra: u64) -> bool {
        let window = self.congestion.window() + extra;
        length <= self.largest && (self.in_flight == 0 || self.in_flight + u64::from(length) <= window)
    }

    /// When to send again what is not acknowledged.
    pub(crate) fn timeout(&self, longest: Duration) -> Duration {
        self.rtt.timeout(self.backoff, longest)
    }

    /// How long a frame sent now will take, for comparison: the round trip time, up to three times as long when the
    /// window is full.
    pub(crate) fn cost(&self) -> u64 {
        let srtt =
            self.rtt.smoothed().map_or(1_000_000, |srtt| u64::try_from(srtt.as_nanos()).unwrap_or(u64::MAX));
        let window = self.congestion.window().max(1);
        // A window is at most some MiB, a round trip time some seconds: 63 bits are enough.
        srtt.min(1 << 36) / 16 * (window + 2 * self.in_flight.min(2 * window)) / window
    }
}
