//! What time does to the sending half: retransmission timeouts, paths that fall silent, patience that ends.

use crate::link::{LinkAddr, LinkId};
use crate::qos::Route;
use crate::time::Instant;
use crate::wire::lwl4::Layer;

use super::super::health::PathState;
use super::super::lane::{Flight, Lane, LaneId};
use super::super::message::{FragState, Message};
use super::{Outbox, Patience, REORDERING};

/// Timeouts in a row without an answer by any path that are trouble with the peer.
const TROUBLE: u32 = 4;
/// Fragments that go again after a first timeout: if they arrive, their acknowledgements tell what else did not.
const PROBES: usize = REORDERING as usize + 1;
/// Empty messages after the last one where nothing is acknowledged.
const TRAIL: u32 = 3;

impl Outbox {
    /// When [`Outbox::on_timeout`] is wanted.
    pub(crate) fn deadline(&mut self, patience: Patience) -> Option<Instant> {
        let mut earliest = [self.pause, self.hold, self.slow].into_iter().flatten().min();
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at {
                earliest = Some(earliest.map_or(at, |e: Instant| e.min(at)));
            }
        };
        for place in 0..self.lanes.len() {
            consider(self.expires_at(place, patience));
            if let Some(lane) = self.lanes.at(place) {
                consider(lane.paced);
                consider(lane.overtaken.map(|overtaken| overtaken.until));
                consider(lane.health.deadline(self.spacing(lane, patience)));
            }
        }
        consider(self.trail_at(patience));
        for queue in &self.queues {
            consider(queue.stalled.map(|since| since + patience.give_up));
        }
        earliest
    }

    /// When the oldest fragment on a lane has waited for too long: nothing that went there was acknowledged for a whole
    /// timeout.
    fn expires_at(&mut self, place: usize, patience: Patience) -> Option<Instant> {
        let id = self.lanes.at(place)?.id;
        let (_, sent) = self.waited_for(id)?;
        let lane = self.lanes.at(place)?;
        Some(sent.max(lane.progress) + lane.timeout(patience.longest_timeout))
    }

    /// Time passed. Returns whether the peer must be given up.
    #[must_use]
    pub(crate) fn on_timeout(&mut self, now: Instant, patience: Patience) -> bool {
        self.end_pause(now);
        if self.slow.is_some_and(|until| now >= until) {
            self.set_slow(None);
        }
        for lane in self.lanes.iter_mut() {
            lane.paced = lane.paced.filter(|&at| at > now);
        }
        if self.trail_at(patience).is_some_and(|at| now >= at) {
            self.leave_trail(now);
        }
        for at in 0..self.queues.len() {
            let spent = self.queues[at].stalled.is_some_and(|since| now >= since + patience.give_up);
            if spent && self.is_exclusive(at) {
                self.abandon(now, at);
            } else if spent {
                return true;
            }
        }
        for place in 0..self.lanes.len() {
            if self.expires_at(place, patience).is_some_and(|at| now >= at)
                && let Some(id) = self.lanes.at(place).map(|lane| lane.id)
            {
                self.expire(now, id, patience);
            }
            let Some(lane) = self.lanes.at(place) else { continue };
            let (id, spacing) = (lane.id, self.spacing(lane, patience));
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            let before = lane.health.state();
            lane.health.on_time(now, spacing);
            let after = lane.health.state();
            self.down |= after == PathState::Down && before != after;
            if before == PathState::Up && after != before && self.lanes.other_is_up(id) {
                self.lose_all(id);
            }
        }
        self.detect_losses(now);
        false
    }

    /// When the next empty message is due.
    fn trail_at(&self, patience: Patience) -> Option<Instant> {
        // A plain peer would not know what to make of it.
        let (since, count) = self.trail.filter(|_| self.selective)?;
        Some(since + patience.longest_timeout * (1 << count))
    }

    /// Nothing is acknowledged, and nothing was sent for a while: a message that was lost would show only when the next one
    /// comes. An empty one makes it show.
    fn leave_trail(&mut self, now: Instant) {
        self.trail = self.trail.and_then(|(_, count)| (count + 1 < TRAIL).then_some((now, count + 1)));
        if let Some(filler) = Message::plain(Layer::Seq, &[]) {
            self.push(now, filler, Route::default());
        }
    }

    /// A lane was silent for a whole timeout. If others work, they get everything; else a few fragments go again, and all
    /// that is due after the second timeout, when the others are tried whatever was thought of them.
    fn expire(&mut self, now: Instant, id: LaneId, patience: Patience) {
        let Some((_, sent)) = self.waited_for(id) else { return };
        let since = self.lanes.get(id).map_or(sent, |lane| sent.max(lane.progress));
        let (others, alone) = (self.lanes.other_answers(id, since), self.lanes.len() == 1);
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let timeout = lane.timeout(patience.longest_timeout);
        let silent = !std::mem::take(&mut lane.refused);
        lane.backoff = (lane.backoff + 1).min(16);
        let trouble = silent && !others && lane.backoff >= TROUBLE && !patience.slow.is_zero();
        let doubtful = silent && !alone && (others || lane.backoff >= 2);
        // One silence proves little: the last fragments or their acknowledgement were lost, or the peer did something else.
        let first = self.selective && lane.backoff == 1;
        let mut probes = if first { PROBES } else { usize::MAX };
        while let Some((flight, sent)) =
            self.waited_for(id).filter(|&(_, sent)| probes > 0 && now >= sent + timeout)
        {
            probes -= 1;
            if self.selective {
                self.lose_oldest(id, flight);
            } else {
                self.lose_message(flight.seq);
                self.lanes.get_mut(id).into_iter().for_each(|lane| lane.stretch(false));
            }
            if let Some(lane) = self.lanes.get_mut(id).filter(|_| !first) {
                lane.congestion.on_timeout(now, sent);
            }
        }
        if trouble {
            self.set_slow(Some(now + patience.slow));
        }
        if doubtful {
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.health.suspect(now);
            }
            self.lose_all(id);
        }
    }

    /// What is oldest on a lane, and since when an answer is waited for. A plain peer answers a whole message: since the
    /// last of it went out, and not before.
    fn waited_for(&mut self, id: LaneId) -> Option<(Flight, Instant)> {
        let (flight, sent) = self.oldest(id)?;
        if self.selective {
            return Some((flight, sent));
        }
        let (sent, _) = self.message(flight.seq)?.all_sent(id)?;
        Some((flight, sent))
    }

    /// All of a message goes out again.
    fn lose_message(&mut self, seq: u64) {
        let Some(message) = self.message(seq) else { return };
        for index in message.covered(0, u32::MAX) {
            self.lose(seq, index);
        }
    }

    /// Everything on a lane goes out again, elsewhere if possible.
    fn lose_all(&mut self, id: LaneId) {
        while let Some((flight, _)) = self.oldest(id) {
            self.lose_oldest(id, flight);
        }
    }

    /// Drops what is settled from the front of a lane's flight, and returns what is oldest in it.
    pub(super) fn oldest(&mut self, id: LaneId) -> Option<(Flight, Instant)> {
        while let Some(&flight) = self.lanes.get(id)?.flight.front() {
            let frag = self.message(flight.seq).and_then(|m| m.frag(flight.index).copied());
            match frag {
                Some(frag)
                    if frag.transmission == flight.transmission
                        && frag.lane == id
                        && frag.state == FragState::InFlight =>
                {
                    return Some((flight, frag.sent));
                }
                _ => drop(self.lanes.get_mut(id)?.flight.pop_front()),
            }
        }
        None
    }

    /// Makes what is oldest on a lane go again. Returns its length.
    pub(super) fn lose_oldest(&mut self, id: LaneId, flight: Flight) -> u64 {
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.flight.pop_front();
        }
        self.lose(flight.seq, flight.index).unwrap_or_default()
    }

    /// Makes everything unacknowledged go out again at once, and asks every path (`_NETMGR_QOS_FLUSH`).
    pub(crate) fn flush(&mut self) {
        self.pause = None;
        for place in 0..self.lanes.len() {
            let Some(id) = self.lanes.at(place).map(|lane| lane.id) else { continue };
            self.lose_all(id);
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.backoff = 0;
                lane.health.ask();
            }
        }
    }

    /// The session's paths from now on. What is on its way on a path that is none any more goes again on another.
    pub(crate) fn set_paths(&mut self, now: Instant, paths: &[((LinkId, LinkAddr), u32)]) {
        let stays = |lane: &Lane| paths.iter().any(|(path, _)| *path == (lane.link, lane.addr));
        let gone: Vec<LaneId> = self.lanes.iter().filter(|lane| !stays(lane)).map(|lane| lane.id).collect();
        for id in gone {
            self.lose_all(id);
            self.lanes.remove(id);
        }
        for &((link, addr), largest) in paths {
            self.lanes.add(now, (link, addr), self.piece);
            if let Some(lane) = self.lanes.of(link, addr).and_then(|id| self.lanes.get_mut(id)) {
                lane.largest = largest;
                lane.slow = self.slow.is_some();
                lane.plain = !self.selective;
            }
        }
    }

    /// The only link of a policy stayed away: everything that was to go there is given up. The places of messages that have
    /// a number are filled, because the receiver waits for them.
    fn abandon(&mut self, now: Instant, at: usize) {
        self.failed.push(self.queues[at].route.index);
        for seq in self.base..self.base + self.started.len() as u64 {
            let own = |m: &mut Message| m.queue == at && m.layer != Layer::Seq;
            if self.message(seq).is_some_and(own)
                && let Some(message) = self.fill(now, seq)
            {
                self.close(now, &message);
            }
        }
        for rest in self.parked.drain(..).chain(self.held.drain(..)).collect::<Vec<_>>() {
            self.line_up(rest);
        }
        // Those that waited behind what was given up for the same link go the same way.
        while let Some(message) = self.take_unsent(at) {
            self.close(now, &message);
        }
        let queue = &mut self.queues[at];
        queue.stalled = None;
        queue.lost.clear();
        queue.sending.clear();
    }

    fn take_unsent(&mut self, at: usize) -> Option<Message> {
        let queue = &mut self.queues[at];
        queue.small.pop_front().or_else(|| queue.bulk.pop_front())
    }

    /// Takes a started message's bytes off the lanes and the peer's window.
    pub(super) fn unload(&mut self, message: &Message) {
        for (index, frag) in message.remembered() {
            if frag.state == FragState::InFlight
                && let Some(lane) = self.lanes.get_mut(frag.lane)
            {
                lane.landed(u64::from(message.span(index).1));
            }
        }
        if message.is_fragmented() {
            self.committed = self.committed.saturating_sub(message.len());
        }
    }

    /// A message is over: whatever waited for it may go.
    pub(super) fn close(&mut self, now: Instant, message: &Message) {
        self.open -= 1;
        if let Some(queue) = self.queues.get_mut(message.queue) {
            queue.open -= 1;
        }
        for key in [message.gate.map(|(key, _)| key), message.also].into_iter().flatten() {
            let mut released = std::mem::take(&mut self.released);
            self.gates.leave(key, |message| released.push(message));
            released.drain(..).for_each(|message| self.release(now, message));
            self.released = released;
        }
    }
}
