//! The sending half of a session's transport: which fragment goes next and where, what was lost, when to try again,
//! when to give up.
//!
//! ```text
//!   push ──► gates ──► queue of its policy (small │ bulk) ──► started, numbered ──► acknowledged, dropped
//!             order     before a number                       fragments in flight, each on a lane
//! ```
//!
//! Messages get their sequence number when their first fragment goes out, so numbers are dense and
//! a held-back message blocks nothing. What is lost is told from what was acknowledged: a fragment
//! with three later transmissions on its lane acknowledged is lost ([`overtaken`]), and so is everything on a lane that stayed
//! silent for its retransmission timeout. A lane's congestion window counts bytes; the peer's window bounds the sum of
//! started multi-fragment messages, so that a receiver can always finish what it began.

mod expiry;
mod feedback;
pub(super) mod overtaken;
mod recut;

use std::collections::VecDeque;
use std::time::Duration;

use crate::qos::{Choice, Route};
use crate::time::Instant;
use crate::wire::lwl4::{FIRST, HEADER, Header, Kind, LAST};

use super::health::Spacing;
use super::lane::LaneId;
use super::lanes::Lanes;
use super::message::{FragState, Message};
use super::order::Gates;

/// Messages that may be started and unacknowledged; receivers remember twice as many.
pub(crate) const MAX_STARTED: u64 = 1024;
/// Later transmissions acknowledged before a fragment counts as lost.
const REORDERING: u64 = 3;
/// Small messages that go before bulk gets its turn.
const SMALL_TURNS: u32 = 8;
/// How far small messages may exceed the congestion window, so that bulk never blocks them.
const SMALL_EXTRA: u64 = 32 << 10;
/// Bulk messages under way at once, packet by packet in turn; what is fully sent does not count.
const MAX_SENDING: usize = 8;
/// Messages under way of one transfer that takes several.
const MAX_SHARERS: usize = 16;
/// The first pause after a refusal for lack of room, doubled each time up to six times.
const PAUSE: Duration = Duration::from_millis(20);

/// What a session's transport needs to know about time, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Longest time between two transmissions of a frame.
    pub(crate) longest_timeout: Duration,
    /// No progress for this long, and the session is dead.
    pub(crate) give_up: Duration,
    /// Time without proof after which one of several paths is asked for a sign of life.
    pub(crate) idle: Duration,
    /// Time between signs of life asked for in vain.
    pub(crate) spacing: Duration,
    /// How long trouble with the peer is remembered; zero: not at all.
    pub(crate) slow: Duration,
}

/// Messages of one policy on their way.
#[derive(Debug)]
struct Queue {
    route: Route,
    small: VecDeque<Message>,
    bulk: VecDeque<Message>,
    /// Started messages with fragments never sent, in turn.
    sending: VecDeque<u64>,
    lost: VecDeque<(u64, u32)>,
    small_turns: u32,
    /// Messages that left their gate and are not acknowledged.
    open: usize,
    /// Since when nothing was acknowledged although something is open.
    stalled: Option<Instant>,
}

impl Queue {
    fn new(route: Route) -> Queue {
        Queue {
            route,
            small: VecDeque::new(),
            bulk: VecDeque::new(),
            sending: VecDeque::new(),
            lost: VecDeque::new(),
            small_turns: 0,
            open: 0,
            stalled: None,
        }
    }
}

/// A data packet to send; its payload stands in the frame.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The header's fields that depend on the message.
    pub(crate) header: Header,
    /// Spare zero bytes behind the payload.
    pub(crate) spare: usize,
    /// The path it takes.
    pub(crate) lane: LaneId,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) lanes: Lanes,
    gates: Gates<Message>,
    queues: Vec<Queue>,
    /// The queue whose turn it is.
    turn: usize,
    /// Rests of transfers that have enough messages under way.
    parked: VecDeque<Message>,
    /// Messages that a sink of the peer had no room for.
    held: VecDeque<Message>,
    /// When those are tried again, and how often that was in vain.
    hold: Option<Instant>,
    holds: u32,
    /// Messages `base..base + started.len()`; `None` where acknowledged.
    started: VecDeque<Option<Message>>,
    base: u64,
    /// Bytes of started multi-fragment messages.
    committed: u64,
    peer_window: u64,
    piece: u32,
    /// Messages that left their gate and are not acknowledged.
    open: usize,
    /// The peer had no memory: no bulk is started before.
    pause: Option<Instant>,
    /// Whether the peer acknowledges parts; a plain one does not, so its whole message must fit.
    selective: bool,
    retransmits: u64,
    acknowledged: u64,
    /// Policies whose only link stayed away too long; what was to go there was given up.
    failed: Vec<u16>,
    /// A path went down.
    down: bool,
    /// After trouble with the peer: until when windows are tight.
    slow: Option<Instant>,
    /// Nothing is acknowledged: what was sent has arrived.
    no_ack: bool,
    /// Then: when something was sent last, and how many empty messages followed it.
    trail: Option<(Instant, u32)>,
    /// Room for messages that pass their gates; empty between calls.
    released: Vec<Message>,
}

impl Outbox {
    /// An empty outbox for fragments of `piece` payload bytes.
    pub(crate) fn new(piece: u32) -> Outbox {
        Outbox {
            lanes: Lanes::default(),
            gates: Gates::default(),
            queues: vec![Queue::new(Route::default())],
            turn: 0,
            parked: VecDeque::new(),
            held: VecDeque::new(),
            hold: None,
            holds: 0,
            started: VecDeque::new(),
            base: 1,
            committed: 0,
            peer_window: 1 << 20,
            piece: piece.max(1),
            open: 0,
            pause: None,
            selective: false,
            retransmits: 0,
            acknowledged: 0,
            failed: Vec::new(),
            down: false,
            slow: None,
            no_ack: false,
            trail: None,
            released: Vec::new(),
        }
    }

    /// The session is established: what waits begins to count.
    pub(crate) fn on_up(&mut self, now: Instant) {
        for queue in &mut self.queues {
            queue.stalled = (queue.open > 0).then_some(now);
        }
    }

    /// The peer told its abilities: fragments of at most `piece` bytes, `window` bytes of
    /// incomplete messages (0: not told), selective acknowledgements or not.
    pub(crate) fn on_peer(&mut self, piece: u32, window: u32, selective: bool) {
        self.piece = piece.max(1);
        self.selective = selective;
        if window > 0 {
            self.peer_window = u64::from(window);
        }
        for lane in self.lanes.iter_mut() {
            lane.set_frame(self.piece);
            lane.plain = !selective;
        }
    }

    /// Takes a message.
    pub(crate) fn push(&mut self, now: Instant, mut message: Message, route: Route) {
        message.queue = self.queue_of(route);
        if let Some(key) = message.also {
            self.gates.count(key);
        }
        let released = match message.gate {
            Some((key, class)) => self.gates.enter(key, class, message),
            None => Some(message),
        };
        if let Some(message) = released {
            self.release(now, message);
        }
    }

    /// The place of the policy's queue, which is made when there is none.
    fn queue_of(&mut self, route: Route) -> usize {
        if let Some(at) = self.queues.iter().position(|queue| queue.route.index == route.index) {
            return at;
        }
        self.queues.push(Queue::new(route));
        self.queues.len() - 1
    }

    /// What a policy allows has changed: a link came or went.
    pub(crate) fn set_route(&mut self, route: Route) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.route.index == route.index) {
            queue.route = route;
        }
    }

    /// A message passed its gate.
    fn release(&mut self, now: Instant, message: Message) {
        self.open(now, message.queue);
        self.line_up(message);
    }

    /// One more message of a queue is to be acknowledged.
    fn open(&mut self, now: Instant, queue: usize) {
        self.open += 1;
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.open += 1;
            queue.stalled.get_or_insert(now);
        }
    }

    /// Puts an open message where it waits for its number.
    fn line_up(&mut self, message: Message) {
        let small = message.len() <= u64::from(self.piece);
        if let Some(queue) = self.queues.get_mut(message.queue) {
            if small { queue.small.push_back(message) } else { queue.bulk.push_back(message) }
        }
    }

    /// Whether nothing waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued() == 0
    }

    /// Messages not acknowledged yet, started or not.
    pub(crate) fn queued(&self) -> usize {
        self.open + self.gates.waiting()
    }

    /// Unacknowledged bytes on the wire.
    pub(crate) fn in_flight(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.in_flight).sum()
    }

    /// Bytes that may be on the wire.
    pub(crate) fn window(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.window()).sum()
    }

    /// Payload bytes of a packet.
    pub(crate) fn piece(&self) -> u32 {
        self.piece
    }

    /// The round trip time of the fastest path that works.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        let up = || self.lanes.iter().filter(|lane| lane.health.is_up());
        let any = || self.lanes.iter().filter_map(|lane| lane.rtt.smoothed()).min();
        up().filter_map(|lane| lane.rtt.smoothed()).min().or_else(any)
    }

    /// Frames sent again and messages acknowledged since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.retransmits), std::mem::take(&mut self.acknowledged))
    }

    /// Nothing will be acknowledged; said once, before anything is sent.
    pub(crate) fn expect_no_acks(&mut self) {
        self.no_ack = true;
    }

    /// Numbers begin here; said once, before anything is sent.
    pub(crate) fn number_from(&mut self, first: u32) {
        self.base = first.into();
    }

    /// Until when windows are tight, because there was trouble with the peer.
    pub(crate) fn slow(&self) -> Option<Instant> {
        self.slow
    }

    /// Makes windows tight, or wide again.
    pub(crate) fn set_slow(&mut self, until: Option<Instant>) {
        self.slow = until;
        self.lanes.iter_mut().for_each(|lane| lane.slow = until.is_some());
    }

    /// Whether a path went down since the last call.
    pub(crate) fn take_down(&mut self) -> bool {
        std::mem::take(&mut self.down)
    }

    /// Policies that failed since the last call.
    pub(crate) fn take_failed(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.failed)
    }

    fn message(&mut self, seq: u64) -> Option<&mut Message> {
        let at = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.started.get_mut(at)?.as_mut()
    }

    // ---- what goes next ----

    /// The next fragment to send, its payload in `frame[HEADER..]`.
    pub(crate) fn poll(&mut self, now: Instant, frame: &mut [u8]) -> Option<Outgoing> {
        self.end_pause(now);
        let (seq, index, lane_id) = self.choose(now)?;
        let (offset, length) = self.message(seq)?.span(index);
        let Some(out) = frame.get_mut(HEADER..HEADER + length as usize) else {
            self.put_back(seq, index);
            return None;
        };
        let transmission = self.lanes.get_mut(lane_id)?.send(seq, index, length);
        let message = self.message(seq)?;
        message.transmit(index, (lane_id, transmission), now, out);
        let mut header = Header::new(Kind::User, message.layer);
        header.flags = if index == 0 { FIRST } else { 0 } | if message.is_last(index) { LAST } else { 0 };
        header.seq = seq as u32; // the wire carries the low 32 bits
        header.offset = offset;
        header.length = length;
        let (spare, queue) = (message.spare(), message.queue);
        let again = message.frag(index).is_some_and(|frag| frag.times > 1);
        frame.get_mut(HEADER + length as usize..)?.iter_mut().take(spare).for_each(|b| *b = 0);
        if let Some(queue) = self.queues.get(queue) {
            header.qos_type = queue.route.wire_type;
            header.src_qos_idx = queue.route.index;
        }
        if self.no_ack {
            self.believe(now, seq, index);
        } else if !self.selective && !again {
            // A long message takes its time, and nothing is said of it before its end.
            self.on_progress(now, queue);
        }
        Some(Outgoing { header, spare, lane: lane_id })
    }

    /// A fragment that was cut for a wider path than the one in use waits for another path.
    fn put_back(&mut self, seq: u64, index: u32) {
        let Some(message) = self.message(seq) else { return };
        let lost = message.frag(index).is_some_and(|f| f.state == FragState::Lost);
        let at = message.queue;
        let Some(queue) = self.queues.get_mut(at) else { return };
        if lost {
            queue.lost.push_back((seq, index));
        } else if !queue.sending.contains(&seq) {
            queue.sending.push_front(seq);
        }
    }

    fn end_pause(&mut self, now: Instant) {
        if self.pause.is_some_and(|until| now >= until) {
            self.pause = None;
        }
        if self.hold.is_some_and(|until| now >= until) {
            self.end_hold();
        }
    }

    /// What was refused for lack of room is tried again.
    fn end_hold(&mut self) {
        self.hold = None;
        for message in std::mem::take(&mut self.held) {
            self.line_up(message);
        }
    }

    /// The next fragment and its lane: the policies take turns.
    fn choose(&mut self, now: Instant) -> Option<(u64, u32, LaneId)> {
        let count = self.queues.len();
        for place in self.turn..self.turn + count {
            let at = place % count;
            if self.queues[at].open > 0
                && let Some(chosen) = self.choose_from(now, at)
            {
                self.turn = (at + 1) % count;
                return Some(chosen);
            }
        }
        None
    }

    fn choose_from(&mut self, now: Instant, at: usize) -> Option<(u64, u32, LaneId)> {
        if let Some(lost) = self.next_lost(now, at) {
            return Some(lost);
        }
        let queue = &self.queues[at];
        let bulk = !queue.sending.is_empty() || !queue.bulk.is_empty();
        let small_first = queue.small_turns < SMALL_TURNS || !bulk;
        if small_first && let Some(chosen) = self.next_small(now, at) {
            self.queues[at].small_turns += 1;
            return Some(chosen);
        }
        self.queues[at].small_turns = 0;
        self.next_bulk(now, at).or_else(|| self.next_small(now, at))
    }

    fn pick(&mut self, now: Instant, at: usize, length: u32, extra: u64) -> Option<LaneId> {
        let choice = self.queues[at].route.choice;
        self.lanes.pick(now, choice, length, extra)
    }

    fn next_lost(&mut self, now: Instant, at: usize) -> Option<(u64, u32, LaneId)> {
        while let Some(&(seq, index)) = self.queues[at].lost.front() {
            let still = |message: &mut Message| {
                let lost = message.frag(index).is_some_and(|f| f.state == FragState::Lost);
                lost.then(|| message.span(index).1)
            };
            let Some(length) = self.message(seq).and_then(still) else {
                self.queues[at].lost.pop_front();
                continue;
            };
            let choice = self.queues[at].route.choice;
            let lane = match self.selective {
                true => self.pick(now, at, length, 0),
                false => self.lanes.pick_on(now, choice, length, None),
            };
            let Some(lane) = lane else {
                if self.recut(choice, seq, length) {
                    continue;
                }
                return None;
            };
            self.queues[at].lost.pop_front();
            self.retransmits += 1;
            return Some((seq, index, lane));
        }
        None
    }

    fn may_start(&self) -> bool {
        (self.started.len() as u64) < MAX_STARTED
    }

    fn start(&mut self, mut message: Message) -> u64 {
        message.start(self.piece);
        if message.is_fragmented() {
            self.committed += message.len();
        }
        self.started.push_back(Some(message));
        self.base + self.started.len() as u64 - 1
    }

    fn next_small(&mut self, now: Instant, at: usize) -> Option<(u64, u32, LaneId)> {
        let length = u32::try_from(self.queues[at].small.front()?.len()).unwrap_or(u32::MAX);
        if length > self.piece {
            // The pieces became smaller while it waited.
            let message = self.queues[at].small.pop_front()?;
            self.queues[at].bulk.push_back(message);
            return self.next_bulk(now, at);
        }
        if !self.may_start() {
            return None;
        }
        let lane = self.pick(now, at, length, SMALL_EXTRA)?;
        let message = self.queues[at].small.pop_front()?;
        Some((self.start(message), 0, lane))
    }

    fn next_bulk(&mut self, now: Instant, at: usize) -> Option<(u64, u32, LaneId)> {
        self.start_bulk(now, at);
        let mut blocked = 0;
        while blocked < self.queues[at].sending.len()
            && let Some(seq) = self.queues[at].sending.pop_front()
        {
            let next = |m: &mut Message| {
                let index = m.next_unsent()?;
                Some((index, m.span(index).1, m.last_lane()))
            };
            let Some((index, length, before)) = self.message(seq).and_then(next) else { continue };
            // A plain peer acknowledges whole messages only: once begun, one must be finished, on one path.
            let lane = if !self.selective && index > 0 {
                self.lanes.pick_on(now, self.queues[at].route.choice, length, before)
            } else {
                self.pick(now, at, length, 0)
            };
            let Some(lane) = lane else {
                if self.recut(self.queues[at].route.choice, seq, length) {
                    return self.next_lost(now, at).or_else(|| self.next_bulk(now, at));
                }
                if self.selective {
                    self.queues[at].sending.push_front(seq);
                    return None;
                }
                // One that would have to begin must not hold back those whose end would let it.
                self.queues[at].sending.push_back(seq);
                blocked += 1;
                continue;
            };
            self.queues[at].sending.push_back(seq);
            return Some((seq, index, lane));
        }
        None
    }

    /// Gives numbers to bulk messages that the peer has room for.
    fn start_bulk(&mut self, now: Instant, at: usize) {
        while let Some(front) = self.queues[at].bulk.front() {
            let length = front.len().min(crate::MAX_TRANSFER as u64);
            let room = self.committed == 0 || self.committed + length <= self.peer_window;
            let turns = self.queues[at].sending.len() < MAX_SENDING;
            if self.pause.is_some() || !room || !self.may_start() || !turns {
                break;
            }
            let Some(message) = self.queues[at].bulk.pop_front() else { break };
            if let Some(message) = self.next_of(now, message) {
                let seq = self.start(message);
                self.queues[at].sending.push_back(seq);
            }
        }
    }

    /// The rest of a transfer stays behind what is before it, however little it is.
    fn go_on_with(&mut self, rest: Message) {
        if let Some(queue) = self.queues.get_mut(rest.queue) {
            queue.bulk.push_back(rest);
        }
    }

    /// The message itself, or the next one of a transfer that takes several, whose rest waits for its turn.
    fn next_of(&mut self, now: Instant, mut message: Message) -> Option<Message> {
        if message.sharers() > MAX_SHARERS {
            self.parked.push_back(message);
            return None;
        }
        let Some(piece) = message.cut() else { return Some(message) };
        // The rest keeps its place behind the gates, the piece gets one of its own.
        let keys = [piece.gate.map(|(key, _)| key), piece.also];
        keys.into_iter().flatten().for_each(|key| self.gates.count(key));
        self.open(now, piece.queue);
        self.go_on_with(message);
        Some(piece)
    }

    fn spacing(&self, lane: &super::lane::Lane, patience: Patience) -> Spacing {
        Spacing {
            idle: (self.lanes.len() > 1).then_some(patience.idle),
            first: lane.rtt.timeout(0, patience.longest_timeout),
            longest: patience.spacing,
        }
    }

    /// Whether the policy allows one link only.
    fn is_exclusive(&self, at: usize) -> bool {
        matches!(self.queues[at].route.choice, Choice::Only(_))
    }
}

#[cfg(test)]
mod tests;
