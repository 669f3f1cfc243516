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
use super::outbox::overtaken::Overtaken;
use super::pacer::{Pacer, Rate};
use super::rtt::Rtt;

/// How far the timeout may back off while answers come and the round trip time is not known.
const LONGEST_UNMEASURED: Duration = Duration::from_secs(1);
/// The round trip of a plain peer before it was measured.
const UNMEASURED: Duration = Duration::from_millis(50);
/// The longest time in which a window goes out to a plain peer, unless the round trip is longer, and how often it may double.
const STRETCHED: Duration = Duration::from_millis(100);
const LONGEST_STRETCH: u32 = 10;
/// Frames of the window in slow mode.
const SLOW_FRAMES: u64 = 16;

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
    pacer: Pacer,
    /// When the pace lets the next frame go, if it held one back.
    pub(crate) paced: Option<Instant>,
    /// After trouble with the node: the window is tight.
    pub(crate) slow: bool,
    /// The peer acknowledges whole messages only.
    pub(crate) plain: bool,
    /// Then: how often the time in which a window goes out was doubled.
    stretch: u32,
    /// Payload bytes of a frame.
    frame: u32,
    pub(crate) flight: VecDeque<Flight>,
    transmissions: u64,
    /// Of these the ones that were given up for lost.
    lost: u64,
    /// The latest transmission known to have arrived.
    pub(crate) acked: u64,
    /// Then, with several lanes: whether something earlier did not, as far as is known.
    pub(crate) overtaken: Option<Overtaken>,
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
            pacer: Pacer::default(),
            paced: None,
            slow: false,
            plain: false,
            stretch: 0,
            frame,
            flight: VecDeque::new(),
            transmissions: 0,
            lost: 0,
            acked: 0,
            overtaken: None,
            in_flight: 0,
            arrived: 0,
            limited: false,
            backoff: 0,
            progress: Instant::ZERO,
            refused: false,
        }
    }

    /// Frames have `frame` payload bytes.
    pub(crate) fn set_frame(&mut self, frame: u32) {
        self.frame = frame;
        if self.transmissions == 0 {
            self.congestion = Congestion::new(frame);
        }
    }

    /// Bytes that may be unacknowledged.
    pub(crate) fn window(&self) -> u64 {
        let window = self.congestion.window();
        if self.slow { window.min(SLOW_FRAMES * u64::from(self.frame)) } else { window }
    }

    /// Notes a fragment as sent, and gives its number.
    pub(crate) fn send(&mut self, seq: u64, index: u32, length: u32) -> u64 {
        self.transmissions += 1;
        let transmission = self.transmissions;
        self.flight.push_back(Flight { transmission, seq, index });
        self.in_flight += u64::from(length);
        self.pacer.sent(length.into());
        transmission
    }

    /// Bytes that were on the way are not any more.
    pub(crate) fn landed(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// A fragment of so many bytes on the way is taken for lost.
    pub(crate) fn lose(&mut self, bytes: u64) {
        self.landed(bytes);
        self.lost += 1;
    }

    /// Fragments sent, repeated ones each time, and how many of them were taken for lost.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.transmissions, self.lost)
    }

    /// Whether a frame may go now, `extra` bytes beyond the window. Notes what held it back.
    pub(crate) fn fits(&mut self, now: Instant, length: u32, extra: u64) -> bool {
        let window = self.window() + extra;
        if self.in_flight > 0 && self.in_flight + u64::from(length) > window {
            self.limited = true;
            return false;
        }
        // What may exceed the window need not keep the pace either.
        if extra > 0 {
            return true;
        }
        if self.plain {
            return self.flows(now, length);
        }
        let Some(srtt) = self.rtt.smoothed() else { return true };
        let goes =
            self.keeps_pace(now, length, Rate { window, srtt, frame: self.frame.into(), alone: false });
        // The pace follows from the window: without it the window would have been used up (RFC 9002, 7.8).
        self.limited |= !goes;
        goes
    }

    /// Whether more may go of a message to a plain peer that is under way: what went out a round trip ago counts as
    /// arrived, for nothing is said of it before all of it did.
    pub(crate) fn flows(&mut self, now: Instant, length: u32) -> bool {
        let srtt = self.rtt.smoothed().unwrap_or(UNMEASURED);
        let stretched = (srtt * (1 << self.stretch)).min(STRETCHED.max(srtt));
        let rate = Rate { window: self.window(), srtt: stretched, frame: self.frame.into(), alone: true };
        let flows = self.keeps_pace(now, length, rate);
        self.limited |= !flows;
        flows
    }

    /// A message to a plain peer was not acknowledged in time, or (`in_time`) was although it went out once only. The smallest
    /// window each round trip may be more than a slow line carries, whose round trip under load nothing tells.
    pub(crate) fn stretch(&mut self, in_time: bool) {
        self.stretch =
            if in_time { self.stretch.saturating_sub(1) } else { (self.stretch + 1).min(LONGEST_STRETCH) };
    }

    fn keeps_pace(&mut self, now: Instant, length: u32, rate: Rate) -> bool {
        if self.pacer.may_send(now, length.into(), rate, self.in_flight == 0) {
            return true;
        }
        self.paced = Some(self.pacer.ready_at(length.into(), rate));
        false
    }

    /// When to send again what is not acknowledged.
    pub(crate) fn timeout(&self, longest: Duration) -> Duration {
        // Answers come, and none tells the round trip time: the line is slower than the bound, and has to be waited for once.
        let slow = self.rtt.smoothed().is_none() && self.progress != Instant::ZERO;
        self.rtt.timeout(self.backoff, if slow { longest.max(LONGEST_UNMEASURED) } else { longest })
    }

    /// How long a frame sent now will take, for comparison: the round trip time, up to three times as long when the
    /// window is full.
    pub(crate) fn cost(&self) -> u64 {
        let srtt =
            self.rtt.smoothed().map_or(1_000_000, |srtt| u64::try_from(srtt.as_nanos()).unwrap_or(u64::MAX));
        let window = self.window().max(1);
        // A window is at most some MiB, a round trip time some seconds: 63 bits are enough.
        srtt.min(1 << 36) / 16 * (window + 2 * self.in_flight.min(2 * window)) / window
    }
}
