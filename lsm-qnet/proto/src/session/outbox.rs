//! The sending half of a session's transport: which fragment goes next, what was lost, when to try
//! again, when to give up.
//!
//! ```text
//!   push ──► gates ──► ready (small │ bulk) ──► started, numbered ──► acknowledged, dropped
//!             order     before a number          fragments in flight
//! ```
//!
//! Messages get their sequence number when their first fragment goes out, so numbers are dense and
//! a held-back message blocks nothing. What is lost is told from what was acknowledged: a fragment
//! with three later transmissions acknowledged is lost, and so is everything older than the
//! retransmission timeout. The congestion window counts bytes; the peer's window bounds the sum of
//! started multi-fragment messages, so that a receiver can always finish what it began.

mod feedback;

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;
use crate::wire::lwl4::{FIRST, HEADER, Header, Kind, LAST};

use super::congestion::Congestion;
use super::message::{FragState, Message};
use super::order::Gates;
use super::rtt::Rtt;

/// Messages that may be started and unacknowledged; receivers remember twice as many.
pub(crate) const MAX_STARTED: u64 = 1024;
/// Later transmissions acknowledged before a fragment counts as lost.
const REORDERING: u64 = 3;
/// Small messages that go before bulk gets its turn.
const SMALL_TURNS: u32 = 8;
/// Bulk messages under way at once, packet by packet in turn; what is fully sent does not count.
const MAX_SENDING: usize = 8;
/// Messages under way of one transfer that takes several.
const MAX_SHARERS: usize = 16;
/// The first pause after a refusal for lack of room, doubled each time up to six times.
const PAUSE: Duration = Duration::from_millis(20);
/// How far small messages may exceed the congestion window, so that bulk never blocks them.
const SMALL_EXTRA: u64 = 32 << 10;

/// What a session's transport needs to know about time, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Longest time between two transmissions of a frame.
    pub(crate) longest_timeout: Duration,
    /// No progress for this long, and the session is dead.
    pub(crate) give_up: Duration,
}

/// A fragment on its way, in the order of transmission.
#[derive(Clone, Copy, Debug)]
struct Flight {
    transmission: u64,
    seq: u64,
    index: u32,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Outbox {
    gates: Gates<Message>,
    small: VecDeque<Message>,
    bulk: VecDeque<Message>,
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
    /// Started messages with fragments never sent, in turn.
    sending: VecDeque<u64>,
    lost: VecDeque<(u64, u32)>,
    flight: VecDeque<Flight>,
    transmissions: u64,
    acked_transmission: u64,
    in_flight: u64,
    /// Bytes of started multi-fragment messages.
    committed: u64,
    peer_window: u64,
    piece: u32,
    small_turns: u32,
    congestion: Congestion,
    /// Whether the congestion window held a frame back since the last acknowledgement.
    limited: bool,
    rtt: Rtt,
    backoff: u32,
    /// Since when nothing was acknowledged although something waits; `None`: nothing waits.
    stalled: Option<Instant>,
    /// The peer had no memory: no bulk is started before.
    pause: Option<Instant>,
    /// Whether the peer acknowledges parts; a plain one does not, so its whole message must fit.
    selective: bool,
    retransmits: u64,
    acknowledged: u64,
}

impl Outbox {
    /// An empty outbox for fragments of `piece` payload bytes.
    pub(crate) fn new(piece: u32) -> Outbox {
        Outbox {
            gates: Gates::default(),
            small: VecDeque::new(),
            bulk: VecDeque::new(),
            parked: VecDeque::new(),
            held: VecDeque::new(),
            hold: None,
            holds: 0,
            started: VecDeque::new(),
            base: 1,
            sending: VecDeque::new(),
            lost: VecDeque::new(),
            flight: VecDeque::new(),
            transmissions: 0,
            acked_transmission: 0,
            in_flight: 0,
            committed: 0,
            peer_window: 1 << 20,
            piece: piece.max(1),
            small_turns: 0,
            congestion: Congestion::new(piece),
            limited: false,
            rtt: Rtt::default(),
            backoff: 0,
            stalled: None,
            pause: None,
            selective: false,
            retransmits: 0,
            acknowledged: 0,
        }
    }

    /// The session is established: what waits begins to count.
    pub(crate) fn on_up(&mut self, now: Instant) {
        self.stalled = (!self.is_idle()).then_some(now);
    }

    /// The peer told its abilities: fragments of at most `piece` bytes, `window` bytes of
    /// incomplete messages (0: not told), selective acknowledgements or not.
    pub(crate) fn on_peer(&mut self, piece: u32, window: u32, selective: bool) {
        self.piece = piece.max(1);
        self.selective = selective;
        if window > 0 {
            self.peer_window = u64::from(window);
        }
        if self.transmissions == 0 {
            self.congestion = Congestion::new(self.piece);
        }
    }

    /// A round trip was measured outside of the data (the session's set-up).
    pub(crate) fn on_round_trip(&mut self, sample: Duration) {
        self.rtt.on_sample(sample);
    }

    /// Takes a message.
    pub(crate) fn push(&mut self, now: Instant, message: Message) {
        self.stalled.get_or_insert(now);
        if let Some(key) = message.also {
            self.gates.count(key);
        }
        let released = match message.gate {
            Some((key, class)) => self.gates.enter(key, class, message),
            None => Some(message),
        };
        if let Some(message) = released {
            self.release(message);
        }
    }

    fn release(&mut self, message: Message) {
        if message.len() <= u64::from(self.piece) {
            self.small.push_back(message)
        } else {
            self.bulk.push_back(message)
        }
    }

    /// Whether nothing waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued() == 0
    }

    /// Messages not acknowledged yet, started or not.
    pub(crate) fn queued(&self) -> usize {
        let waiting = self.small.len() + self.bulk.len() + self.parked.len() + self.held.len();
        self.started.len() + waiting + self.gates.waiting()
    }

    /// Unacknowledged bytes on the wire.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes that may be on the wire.
    pub(crate) fn window(&self) -> u64 {
        self.congestion.window()
    }

    /// Payload bytes of a packet.
    pub(crate) fn piece(&self) -> u32 {
        self.piece
    }

    /// The round trip time.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// Timeouts in a row without progress: over one, another path is worth a try.
    pub(crate) fn backoff(&self) -> u32 {
        self.backoff
    }

    /// Frames sent again and messages acknowledged since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.retransmits), std::mem::take(&mut self.acknowledged))
    }

    fn message(&mut self, seq: u64) -> Option<&mut Message> {
        let at = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.started.get_mut(at)?.as_mut()
    }

    // ---- what goes next ----

    /// The next fragment to send: its payload in `frame[HEADER..]`, and the header's fields that
    /// depend on it. The second number is spare bytes behind the payload.
    pub(crate) fn poll(&mut self, now: Instant, frame: &mut [u8]) -> Option<(Header, usize)> {
        self.end_pause(now);
        let (seq, index) = self.choose()?;
        let message = self.message(seq)?;
        let (offset, length) = message.span(index);
        let Some(out) = frame.get_mut(HEADER..HEADER + length as usize) else {
            self.put_back(seq, index);
            return None;
        };
        self.transmissions += 1;
        let transmission = self.transmissions;
        let message = self.message(seq)?;
        message.transmit(index, transmission, now, out);
        let mut header = Header::new(Kind::User, message.layer);
        header.flags = if index == 0 { FIRST } else { 0 } | if message.is_last(index) { LAST } else { 0 };
        header.seq = seq as u32; // the wire carries the low 32 bits
        header.offset = offset;
        header.length = length;
        let spare = message.spare();
        frame.get_mut(HEADER + length as usize..)?.iter_mut().take(spare).for_each(|b| *b = 0);
        self.flight.push_back(Flight { transmission, seq, index });
        self.in_flight += u64::from(length);
        Some((header, spare))
    }

    /// A fragment that was cut for a wider path than the one in use waits for another path.
    fn put_back(&mut self, seq: u64, index: u32) {
        let lost = self.message(seq).and_then(|m| m.frag(index)).is_some_and(|f| f.state == FragState::Lost);
        if lost {
            self.lost.push_back((seq, index));
        } else if !self.sending.contains(&seq) {
            self.sending.push_front(seq);
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
            self.release(message);
        }
    }

    fn choose(&mut self) -> Option<(u64, u32)> {
        if let Some(lost) = self.next_lost() {
            return Some(lost);
        }
        let bulk = !self.sending.is_empty() || !self.bulk.is_empty();
        let small_first = self.small_turns < SMALL_TURNS || !bulk;
        if small_first && let Some(chosen) = self.next_small() {
            self.small_turns += 1;
            return Some(chosen);
        }
        self.small_turns = 0;
        self.next_bulk().or_else(|| self.next_small())
    }

    fn fits(&mut self, length: u32, extra: u64) -> bool {
        let fits =
            self.in_flight == 0 || self.in_flight + u64::from(length) <= self.congestion.window() + extra;
        self.limited |= !fits;
        fits
    }

    fn next_lost(&mut self) -> Option<(u64, u32)> {
        while let Some(&(seq, index)) = self.lost.front() {
            let Some(message) = self.message(seq) else {
                self.lost.pop_front();
                continue;
            };
            let length = message.span(index).1;
            if message.frag(index).is_none_or(|f| f.state != FragState::Lost) {
                self.lost.pop_front();
                continue;
            }
            // Of a plain peer's message nothing else can come in: what it misses must go.
            if self.selective && !self.fits(length, 0) {
                return None;
            }
            self.lost.pop_front();
            self.retransmits += 1;
            return Some((seq, index));
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

    fn next_small(&mut self) -> Option<(u64, u32)> {
        let length = u32::try_from(self.small.front()?.len()).unwrap_or(u32::MAX);
        if !self.may_start() || !self.fits(length, SMALL_EXTRA) {
            return None;
        }
        let message = self.small.pop_front()?;
        if message.len() > u64::from(self.piece) {
            // the pieces became smaller while it waited
            self.bulk.push_back(message);
            return self.next_bulk();
        }
        Some((self.start(message), 0))
    }

    fn next_bulk(&mut self) -> Option<(u64, u32)> {
        while let Some(front) = self.bulk.front() {
            let length = front.len().min(crate::MAX_TRANSFER as u64);
            let room = self.committed == 0 || self.committed + length <= self.peer_window;
            if self.pause.is_some() || !room || !self.may_start() || self.sending.len() >= MAX_SENDING {
                break;
            }
            let Some(message) = self.bulk.pop_front() else { break };
            if let Some(message) = self.next_of(message) {
                let seq = self.start(message);
                self.sending.push_back(seq);
            }
        }
        while let Some(seq) = self.sending.pop_front() {
            let Some((index, length)) =
                self.message(seq).and_then(|m| m.next_unsent().map(|index| (index, m.span(index).1)))
            else {
                continue;
            };
            // A plain peer acknowledges whole messages only: once begun, one must be finished.
            let committed = !self.selective && index > 0;
            if !committed && !self.fits(length, 0) {
                self.sending.push_front(seq);
                return None;
            }
            self.sending.push_back(seq);
            return Some((seq, index));
        }
        None
    }

    /// The message itself, or the next one of a transfer that takes several, whose rest waits for its turn.
    fn next_of(&mut self, mut message: Message) -> Option<Message> {
        if message.sharers() > MAX_SHARERS {
            self.parked.push_back(message);
            return None;
        }
        let Some(piece) = message.cut() else { return Some(message) };
        // The rest keeps its place behind the gates, the piece gets one of its own.
        let keys = [piece.gate.map(|(key, _)| key), piece.also];
        keys.into_iter().flatten().for_each(|key| self.gates.count(key));
        self.bulk.push_back(message);
        Some(piece)
    }

    // ---- time ----

    /// When [`Outbox::on_timeout`] is wanted.
    pub(crate) fn deadline(&mut self, patience: Patience) -> Option<Instant> {
        let retransmit =
            self.oldest().map(|(_, sent)| sent + self.rtt.timeout(self.backoff, patience.longest_timeout));
        let give_up = self.stalled.map(|since| since + patience.give_up);
        [retransmit, give_up, self.pause, self.hold].into_iter().flatten().min()
    }

    /// Time passed. Returns whether the peer must be given up.
    #[must_use]
    pub(crate) fn on_timeout(&mut self, now: Instant, patience: Patience) -> bool {
        self.end_pause(now);
        if self.stalled.is_some_and(|since| now >= since + patience.give_up) {
            return true;
        }
        let timeout = self.rtt.timeout(self.backoff, patience.longest_timeout);
        let mut expired = false;
        while let Some((flight, sent)) = self.oldest() {
            if now < sent + timeout {
                break;
            }
            self.lose_oldest(flight);
            self.congestion.on_timeout(now, sent);
            expired = true;
        }
        if expired {
            self.backoff = (self.backoff + 1).min(16);
        }
        false
    }

    /// Makes everything unacknowledged go out again at once (`_NETMGR_QOS_FLUSH`, a new path).
    pub(crate) fn flush(&mut self) {
        self.backoff = 0;
        self.pause = None;
        self.end_hold();
        while let Some((flight, _)) = self.oldest() {
            self.lose_oldest(flight);
        }
    }
}

#[cfg(test)]
mod tests;
