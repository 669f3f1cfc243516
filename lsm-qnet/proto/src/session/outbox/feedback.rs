//! What became of the fragments: acknowledgements, refusals, and the losses that follow from them.
//!
//! Every statement of the peer is a claim: numbers that name nothing started are skipped, ranges are
//! cut at what was sent, and loops are bounded by what is outstanding.

use std::time::Duration;

use crate::time::Instant;
use crate::wire::ack::{self, Ack, Nack, Span};

use super::super::message::{FragState, Message};
use super::{Flight, Outbox, PAUSE, REORDERING};
use crate::wire::lwl4::Layer;

impl Outbox {
    /// The full number of a sequence number on the wire, if it names a started message.
    fn expand(&self, seq: u32) -> Option<u64> {
        let distance = u64::from(seq.wrapping_sub(self.base as u32));
        (distance <= self.started.len() as u64).then(|| self.base + distance)
    }

    /// Our acknowledgement arrived. Returns whether it made sense.
    pub(crate) fn on_ack(&mut self, now: Instant, ack: &Ack<'_>) -> bool {
        let base = match self.expand(ack.head.base) {
            Some(base) => base,
            // overtaken by a later acknowledgement
            None if ack.head.base.wrapping_sub(self.base as u32) > u32::MAX / 2 => self.base,
            None => return false,
        };
        self.sample(now, ack);
        self.peer_window = u64::from(ack.head.window).max(1);
        let (mut bytes, limited) = (0, self.limited);
        let started_at = self.base;
        for seq in started_at..base {
            bytes += self.complete(seq);
        }
        for range in ack.whole() {
            let Some(first) = self.expand(range.first) else { continue };
            let end = self.base + self.started.len() as u64;
            for seq in first..first.saturating_add(u64::from(range.count)).min(end) {
                bytes += self.complete(seq);
            }
        }
        for span in ack.partial() {
            bytes += self.on_partial(span);
        }
        self.advance();
        if bytes > 0 {
            self.limited = false;
            self.congestion.on_ack(bytes, limited);
            self.progress(now);
        }
        self.detect_losses(now);
        true
    }

    /// A plain peer acknowledged a whole message.
    pub(crate) fn on_plain_ack(&mut self, now: Instant, seq: u32) {
        let Some(seq) = self.expand(seq) else { return };
        self.sample_frag(now, seq, 0, Duration::ZERO);
        let bytes = self.complete(seq);
        self.advance();
        if bytes > 0 {
            let limited = std::mem::take(&mut self.limited);
            self.congestion.on_ack(bytes, limited);
            self.progress(now);
        }
        self.detect_losses(now);
    }

    /// A plain peer misses everything of a message from `offset` on.
    pub(crate) fn on_plain_nack(&mut self, now: Instant, seq: u32, offset: u32) {
        self.on_missing(now, Span { seq, offset, length: u32::MAX });
    }

    /// Our negative acknowledgement arrived.
    pub(crate) fn on_nack(&mut self, now: Instant, nack: &Nack<'_>) {
        for span in nack.spans() {
            match nack.reason {
                ack::MISSING => self.on_missing(now, span),
                ack::NO_ROOM => self.on_no_room(now, span),
                _ => {}
            }
        }
        if nack.reason == ack::ROOM && !self.held.is_empty() {
            self.holds = 0;
            self.end_hold();
        }
    }

    fn sample(&mut self, now: Instant, ack: &Ack<'_>) {
        if ack.head.echo_delay == u32::MAX {
            return;
        }
        let Some(seq) = self.expand(ack.head.echo_seq) else { return };
        let Some(index) = self.message(seq).and_then(|m| m.index_at(ack.head.echo_offset)) else { return };
        self.sample_frag(now, seq, index, Duration::from_micros(u64::from(ack.head.echo_delay)));
    }

    fn sample_frag(&mut self, now: Instant, seq: u64, index: u32, delay: Duration) {
        // A fragment that was sent twice does not tell which transmission arrived.
        if let Some(frag) = self.message(seq).and_then(|m| m.frag(index).copied())
            && frag.times == 1
            && frag.state != FragState::Acked
        {
            self.rtt.on_sample(now.since(frag.sent).saturating_sub(delay));
        }
    }

    fn note_acked(&mut self, transmission: u64, times: u32) {
        // Of a repeated fragment an earlier copy may have arrived: its last number proves nothing.
        if times == 1 {
            self.acked_transmission = self.acked_transmission.max(transmission);
        }
    }

    /// A message arrived whole: drops it, lets through what waited for it, returns its new bytes.
    fn complete(&mut self, seq: u64) -> u64 {
        let Some(at) = seq.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else { return 0 };
        let Some(message) = self.started.get_mut(at).and_then(Option::take) else { return 0 };
        self.acknowledged += u64::from(message.layer != Layer::Seq);
        if message.sharers() > 1 {
            self.bulk.extend(self.parked.drain(..));
        }
        if message.is_repeatable() {
            self.holds = 0;
        }
        let newly = 1 + self.settle(&message, true);
        let keys = [message.gate.map(|(key, _)| key), message.also];
        for key in keys.into_iter().flatten() {
            let mut released = Vec::new();
            self.gates.leave(key, |message| released.push(message));
            released.into_iter().for_each(|message| self.release(message));
        }
        newly
    }

    /// A started message is no more: returns its bytes that were not acknowledged.
    fn settle(&mut self, message: &Message, arrived: bool) -> u64 {
        let mut newly = 0;
        for (index, frag) in message.remembered() {
            let length = u64::from(message.span(index).1);
            if frag.state == FragState::InFlight {
                self.in_flight = self.in_flight.saturating_sub(length);
            }
            if frag.state != FragState::Acked {
                newly += length;
                if arrived {
                    self.note_acked(frag.transmission, frag.times);
                }
            }
        }
        if message.is_fragmented() {
            self.committed = self.committed.saturating_sub(message.len());
        }
        newly
    }

    fn on_partial(&mut self, span: Span) -> u64 {
        let Some(seq) = self.expand(span.seq) else { return 0 };
        let Some(message) = self.message(seq) else { return 0 };
        let (mut newly, mut landed) = (0, 0);
        let mut seen = Vec::new();
        for index in message.covered(span.offset, span.length) {
            let length = u64::from(message.span(index).1);
            let Some(frag) = message.frag(index) else { continue };
            if frag.state == FragState::Acked {
                continue;
            }
            if frag.state == FragState::InFlight {
                landed += length;
            }
            newly += length;
            frag.state = FragState::Acked;
            seen.push((frag.transmission, frag.times));
        }
        message.forget_acked();
        // There was room: the rest may follow.
        let begun = newly > 0 && std::mem::take(&mut message.asking);
        self.in_flight = self.in_flight.saturating_sub(landed);
        if begun {
            self.sending.push_front(seq);
        }
        seen.into_iter().for_each(|(transmission, times)| self.note_acked(transmission, times));
        newly
    }

    fn on_missing(&mut self, now: Instant, span: Span) {
        let Some(seq) = self.expand(span.seq) else { return };
        // What was sent less than most of a round trip ago may be on its way still.
        let patience = self.rtt.smoothed().unwrap_or_default() * 3 / 4;
        let Some(message) = self.message(seq) else { return };
        let mut lost = Vec::new();
        for index in message.covered(span.offset, span.length) {
            let length = u64::from(message.span(index).1);
            if let Some(frag) = message.frag(index)
                && frag.state == FragState::InFlight
                && now.since(frag.sent) >= patience
            {
                frag.state = FragState::Lost;
                lost.push((index, length, frag.sent));
            }
        }
        for (index, length, sent) in lost {
            self.in_flight = self.in_flight.saturating_sub(length);
            self.lost.push_back((seq, index));
            self.congestion.on_loss(now, sent);
        }
    }

    fn on_no_room(&mut self, now: Instant, span: Span) {
        let Some(seq) = self.expand(span.seq) else { return };
        let Some(message) = self.message(seq) else { return };
        // The peer lives and asks for patience.
        let (repeatable, filler) = (message.is_repeatable(), message.layer == Layer::Seq);
        self.stalled = Some(now);
        if filler {
            return;
        }
        if repeatable {
            return self.hold(now, seq);
        }
        // Memory comes back soon; the timeout sends the message again.
        self.backoff = (self.backoff + 1).min(6);
        self.pause = Some(now + self.rtt.timeout(0, PAUSE));
    }

    /// A sink may have no room for long: the message gives its number back, so that the session's other
    /// messages do not come too far ahead of it, and waits. A filler takes the number.
    fn hold(&mut self, now: Instant, seq: u64) {
        let Some(at) = seq.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else { return };
        let Some(slot) = self.started.get_mut(at) else { return };
        let Some(mut filler) = Message::plain(Layer::Seq, &[]) else { return };
        filler.start(self.piece);
        let Some(mut message) = slot.replace(filler) else { return };
        self.settle(&message, false);
        self.sending.retain(|&sending| sending != seq);
        self.sending.push_front(seq);
        message.take_back();
        self.held.push_back(message);
        if self.hold.is_none() {
            self.hold = Some(now + PAUSE * (1 << self.holds.min(6)));
            self.holds += 1;
        }
    }

    fn advance(&mut self) {
        while let Some(None) = self.started.front() {
            self.started.pop_front();
            self.base += 1;
        }
    }

    fn progress(&mut self, now: Instant) {
        self.backoff = 0;
        self.stalled = (!self.is_idle()).then_some(now);
    }

    /// Drops what is settled from the front of the flight, and returns what is oldest in it.
    pub(super) fn oldest(&mut self) -> Option<(Flight, Instant)> {
        while let Some(&flight) = self.flight.front() {
            let frag = self.message(flight.seq).and_then(|m| m.frag(flight.index).copied());
            match frag {
                Some(frag)
                    if frag.transmission == flight.transmission && frag.state == FragState::InFlight =>
                {
                    return Some((flight, frag.sent));
                }
                _ => drop(self.flight.pop_front()),
            }
        }
        None
    }

    pub(super) fn lose_oldest(&mut self, flight: Flight) {
        self.flight.pop_front();
        let Some(message) = self.message(flight.seq) else { return };
        let length = u64::from(message.span(flight.index).1);
        if let Some(frag) = message.frag(flight.index) {
            frag.state = FragState::Lost;
        }
        self.in_flight = self.in_flight.saturating_sub(length);
        self.lost.push_back((flight.seq, flight.index));
    }

    fn detect_losses(&mut self, now: Instant) {
        while let Some((flight, sent)) = self.oldest() {
            if flight.transmission + REORDERING > self.acked_transmission {
                break;
            }
            self.lose_oldest(flight);
            self.congestion.on_loss(now, sent);
        }
    }
}
