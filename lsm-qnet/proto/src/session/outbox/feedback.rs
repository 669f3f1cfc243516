//! What became of the fragments: acknowledgements, refusals, and the losses that follow from them.
//!
//! Every statement of the peer is a claim: numbers that name nothing started are skipped, ranges are
//! cut at what was sent, and loops are bounded by what is outstanding.

use std::time::Duration;

use crate::time::Instant;
use crate::wire::ack::{self, Ack, Nack, Span};
use crate::wire::lwl4::Layer;

use super::super::message::{Frag, FragState, Message};
use super::{Outbox, PAUSE};

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
        for seq in self.base..base {
            self.complete(now, seq);
        }
        // An honest one names each message once; ranges that overlap are not worth the time.
        let mut left = self.started.len();
        for range in ack.whole() {
            let Some(first) = self.expand(range.first) else { continue };
            let end = self.base + self.started.len() as u64;
            let named = first..first.saturating_add(u64::from(range.count)).min(end);
            for seq in named.take(left) {
                self.complete(now, seq);
                left -= 1;
            }
        }
        for span in ack.partial() {
            self.on_partial(now, span);
        }
        self.settle(now);
        true
    }

    /// A plain peer acknowledged a whole message.
    pub(crate) fn on_plain_ack(&mut self, now: Instant, seq: u32) {
        let Some(seq) = self.expand(seq) else { return };
        let long = self.message(seq).is_some_and(|message| message.is_fragmented());
        if let Some(last) = self.message(seq).and_then(|message| message.sent_once()) {
            self.sample_of(now, last, Duration::ZERO);
            self.lanes.get_mut(last.lane).filter(|_| long).into_iter().for_each(|lane| lane.stretch(true));
        }
        self.complete(now, seq);
        self.settle(now);
    }

    /// After acknowledgements: the base moves up, windows grow, losses show.
    fn settle(&mut self, now: Instant) {
        while let Some(None) = self.started.front() {
            self.started.pop_front();
            self.base += 1;
        }
        for lane in self.lanes.iter_mut() {
            let bytes = std::mem::take(&mut lane.arrived);
            if bytes > 0 {
                let limited = std::mem::take(&mut lane.limited);
                lane.congestion.on_ack(now, bytes, limited, lane.rtt.line());
            }
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
            self.sample_of(now, frag, delay);
        }
    }

    fn sample_of(&mut self, now: Instant, frag: Frag, delay: Duration) {
        if let Some(lane) = self.lanes.get_mut(frag.lane) {
            if lane.rtt.smoothed().is_none() {
                // Timeouts before were guesses and say nothing of what the line carries.
                lane.congestion.restart();
            }
            lane.rtt.on_sample(now, now.since(frag.sent).saturating_sub(delay));
        }
    }

    /// A fragment of `length` bytes arrived that was not known to have.
    fn note_arrival(&mut self, now: Instant, frag: Frag, length: u32) {
        let Some(lane) = self.lanes.get_mut(frag.lane) else { return };
        if frag.state == FragState::InFlight {
            lane.landed(length.into());
        }
        lane.arrived += u64::from(length).max(1);
        lane.progress = now;
        // As long as no round trip was measured, only an answer to something sent once ends the back-off: on a line slower
        // than the first timeout everything would be sent twice for ever, and nothing of it tells the round trip time.
        if frag.times == 1 || lane.rtt.smoothed().is_some() {
            lane.backoff = 0;
        }
        // Of a repeated fragment an earlier copy may have arrived: its last number proves nothing.
        if frag.times == 1 {
            lane.acked = lane.acked.max(frag.transmission);
            lane.health.prove(now);
        }
    }

    /// A message arrived whole: drops it, and lets through what waited for it.
    fn complete(&mut self, now: Instant, seq: u64) {
        let Some(at) = seq.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else { return };
        let Some(message) = self.started.get_mut(at).and_then(Option::take) else { return };
        for (index, frag) in message.remembered().filter(|(_, frag)| frag.state != FragState::Acked) {
            self.note_arrival(now, frag, message.span(index).1);
        }
        if message.is_fragmented() {
            self.committed = self.committed.saturating_sub(message.len());
        }
        self.acknowledged += u64::from(message.layer != Layer::Seq);
        if message.sharers() > 1 {
            while let Some(rest) = self.parked.pop_front() {
                self.go_on_with(rest);
            }
        }
        if message.is_repeatable() {
            self.holds = 0;
        }
        self.close(now, &message);
        self.on_progress(now, message.queue);
    }

    fn on_partial(&mut self, now: Instant, span: Span) {
        let Some(seq) = self.expand(span.seq) else { return };
        let Some(message) = self.message(seq) else { return };
        let (covered, queue) = (message.covered(span.offset, span.length), message.queue);
        let mut any = false;
        for index in covered {
            let Some(message) = self.message(seq) else { return };
            let length = message.span(index).1;
            let Some(frag) = message.frag(index).filter(|frag| frag.state != FragState::Acked) else {
                continue;
            };
            let before = *frag;
            frag.state = FragState::Acked;
            self.note_arrival(now, before, length);
            any = true;
        }
        if any {
            self.on_progress(now, queue);
            let Some(message) = self.message(seq) else { return };
            message.forget_acked();
            // There was room: the rest may follow.
            if std::mem::take(&mut message.asking) {
                self.queues[queue].sending.push_front(seq);
            }
        }
    }

    /// A fragment went out that nobody will acknowledge: it counts as arrived.
    pub(super) fn believe(&mut self, now: Instant, seq: u64, index: u32) {
        let Some(message) = self.message(seq) else { return };
        let (length, filler) = (message.span(index).1, message.layer == Layer::Seq);
        if let Some(frag) = message.frag(index) {
            frag.state = FragState::Acked;
            let lane = frag.lane;
            message.forget_acked();
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.landed(length.into());
                lane.flight.clear();
            }
        }
        if !filler {
            self.trail = Some((now, 0));
        }
        if self.message(seq).is_some_and(|message| message.next_unsent().is_none()) {
            self.complete(now, seq);
            self.settle(now);
        }
    }

    /// Something of a queue was acknowledged.
    pub(super) fn on_progress(&mut self, now: Instant, queue: usize) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.stalled = (queue.open > 0).then_some(now);
        }
    }

    fn on_missing(&mut self, now: Instant, span: Span) {
        let Some(seq) = self.expand(span.seq) else { return };
        let Some(message) = self.message(seq) else { return };
        for index in message.covered(span.offset, span.length) {
            let Some(frag) = self.message(seq).and_then(|m| m.frag(index).copied()) else { continue };
            if now.since(frag.sent) < self.on_the_way(&frag) {
                continue;
            }
            if let Some(length) = self.lose(seq, index)
                && let Some(lane) = self.lanes.get_mut(frag.lane)
            {
                lane.congestion.on_loss(now, frag.sent, length, lane.rtt.line());
            }
        }
    }

    /// A fragment goes again, if it was on its way. Returns its length.
    pub(super) fn lose(&mut self, seq: u64, index: u32) -> Option<u64> {
        let message = self.message(seq)?;
        let (length, queue) = (u64::from(message.span(index).1), message.queue);
        let frag = message.frag(index).filter(|frag| frag.state == FragState::InFlight)?;
        frag.state = FragState::Lost;
        let lane = frag.lane;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.lose(length);
        }
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.lost.push_back((seq, index));
        }
        Some(length)
    }

    /// How long a fragment may be on its way before a report that it is missing is believed: most of a round trip; with
    /// several paths, which overtake each other, all of it and what it varies by, and for ever while nothing later came by its
    /// own.
    fn on_the_way(&self, frag: &Frag) -> Duration {
        match self.lanes.get(frag.lane) {
            None => Duration::ZERO,
            Some(lane) if self.lanes.len() == 1 => lane.rtt.smoothed().unwrap_or_default() * 3 / 4,
            Some(lane) if frag.transmission < lane.acked => lane.rtt.latest(),
            Some(_) => Duration::MAX,
        }
    }

    fn on_no_room(&mut self, now: Instant, span: Span) {
        let Some(seq) = self.expand(span.seq) else { return };
        let Some(message) = self.message(seq) else { return };
        let (queue, lane) = (message.queue, message.last_lane());
        let (repeatable, filler) = (message.is_repeatable(), message.layer == Layer::Seq);
        // The peer lives and asks for patience.
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.stalled = Some(now);
        }
        if filler {
            return;
        }
        if repeatable {
            return self.hold(now, seq);
        }
        // Memory comes back soon; the timeout sends the message again.
        let Some(lane) = lane.and_then(|id| self.lanes.get_mut(id)) else { return };
        lane.backoff = (lane.backoff + 1).min(6);
        lane.refused = true;
        self.pause = Some(now + lane.rtt.timeout(0, PAUSE));
    }

    /// A sink may have no room for long: the message gives its number back, so that the session's other
    /// messages do not come too far ahead of it, and waits. A filler takes the number.
    fn hold(&mut self, now: Instant, seq: u64) {
        let Some(mut message) = self.fill(now, seq) else { return };
        message.take_back();
        self.held.push_back(message);
        if self.hold.is_none() {
            self.hold = Some(now + PAUSE * (1 << self.holds.min(6)));
            self.holds += 1;
        }
    }

    /// Puts an empty message of any path in the place of one that has a number and will not come under it.
    pub(super) fn fill(&mut self, now: Instant, seq: u64) -> Option<Message> {
        let at = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        let mut filler = Message::plain(Layer::Seq, &[])?;
        filler.start(self.piece);
        let slot = self.started.get_mut(at)?;
        slot.as_ref()?;
        let message = slot.replace(filler)?;
        self.unload(&message);
        if let Some(queue) = self.queues.get_mut(message.queue) {
            queue.sending.retain(|&sending| sending != seq);
        }
        self.open(now, 0);
        self.queues[0].sending.push_front(seq);
        Some(message)
    }
}
