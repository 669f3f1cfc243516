//! The receiving half of a session's transport: fragments in, each message delivered once.
//!
//! ```text
//!   fragment ──► first one there? ── no ──► Early      kept, charged byte by byte
//!                     │ yes
//!                     ├─ data transfer ──► Stream      straight into its sink (stream.rs)
//!                     ├─ anything else ──► Whole       put together, at most 64 KiB (partial.rs)
//!                     └─ no room ───────► Refused      NACK; comes again later
//! ```
//!
//! Memory is bounded by reservation: a message is begun only if all that it may hold fits into what is
//! left for the peer and for all peers together; once begun it can always be finished.

use std::collections::{BTreeMap, VecDeque};

use crate::time::Instant;
use crate::wire::ack::{AckHead, Span, Whole};
use crate::wire::kif::{Kif, MAX_GROUPS, MAX_HEAD, XFER_HEAD};
use crate::wire::lwl4::{FIRST, Header, LAST, Layer};

use super::partial::{Early, Partial, Stored};
use super::seen::{Place, Seen};
use super::stream::{Delivery, Stream, transfer};

/// The longest message that is put together, fixed part included.
pub(crate) const LONGEST: u32 = (crate::MAX_FIRST + MAX_HEAD) as u32;
/// What an incomplete message costs beside its bytes.
const ENTRY: u32 = 256;
/// What a fragment costs beside its bytes while it is kept.
const PIECE: u32 = 128;

/// Gaps of one message that are asked for at once.
const MAX_GAPS: usize = 1024;

/// Memory for incomplete messages, shared by all peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bytes for all peers.
    pub(crate) total: u32,
    /// Bytes for one peer.
    pub(crate) per_peer: u32,
    /// Bytes reserved at the moment.
    pub(crate) reserved: u32,
}

/// What a data packet did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The packet is the whole message: its payload is the message.
    Packet,
    /// The packet completed this message.
    Message(Vec<u8>),
    /// The packet completed a transfer, whose data is in its sink; this is its fixed part.
    Transfer(Kif),
    /// A part; the message has gaps.
    Part,
    /// A part of such a message that was there before; to be acknowledged again.
    Again,
    /// Of a message that was complete before; to be acknowledged again.
    Duplicate,
    /// No memory or no room in its sink for this message now.
    NoRoom,
    /// A part there is no room for; its sender notices by itself.
    Dropped,
    /// Further ahead than a sender may be, longer than a message may be, or contradicting itself.
    Refused,
}

#[derive(Debug)]
enum State {
    Early(Early),
    Refused,
    Whole(Partial),
    Stream(Box<Stream>),
}

/// An incomplete message.
#[derive(Debug)]
struct Slot {
    /// Its share of the budget.
    reserved: u32,
    state: State,
}

impl Slot {
    fn span_at(&self, offset: u32) -> Option<(u32, u32)> {
        match &self.state {
            State::Early(early) => early.span_at(offset),
            State::Whole(partial) => partial.ranges().span_at(offset),
            State::Stream(stream) => stream.ranges().span_at(offset),
            State::Refused => None,
        }
    }

    /// What arrived, the first of it.
    fn spans(&self) -> Vec<(u32, u32)> {
        match &self.state {
            State::Early(early) => early.spans().take(MAX_GAPS).collect(),
            State::Whole(partial) => partial.ranges().spans().take(MAX_GAPS).collect(),
            State::Stream(stream) => stream.ranges().spans().take(MAX_GAPS).collect(),
            State::Refused => Vec::new(),
        }
    }
}

/// What an acknowledgement told first: messages, and fragments by message and offset.
#[derive(Debug, Default)]
struct Told {
    whole: Vec<u32>,
    parts: Vec<(u32, u32)>,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Inbox {
    seen: Seen,
    slots: BTreeMap<u64, Slot>,
    reserved: u32,
    /// A sink had no room for something since the peer was last told that one has.
    waits: bool,
    echo: Option<(u32, u32, Instant)>,
    /// Messages and fragments that arrived, again or for the first time, since they were last told
    /// of: they come first in an acknowledgement, so that everything is told of in time however
    /// little fits into one.
    recent: VecDeque<u32>,
    recent_parts: VecDeque<(u32, u32)>,
    /// What the last acknowledgement told, which may be lost: the next one tells it again.
    told: Told,
    /// Room for what the one before it told; empty between calls.
    again: Told,
    whole: Vec<Whole>,
    parts: Vec<Span>,
}

/// Messages, and fragments, that are told of once more.
const MOST_AGAIN: usize = 16;
/// Arrivals remembered until they are told of. Beyond, the sender's timeout brings them back.
const MAX_RECENT: usize = 1024;

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            seen: Seen::new(),
            slots: BTreeMap::new(),
            reserved: 0,
            waits: false,
            echo: None,
            recent: VecDeque::new(),
            recent_parts: VecDeque::new(),
            told: Told::default(),
            again: Told::default(),
            whole: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// A data packet of this session arrived.
    pub(crate) fn on_data(
        &mut self,
        now: Instant,
        header: &Header,
        payload: &[u8],
        budget: &mut Budget,
        delivery: &mut dyn Delivery,
    ) -> Arrival {
        let arrival = self.take(now, header, payload, budget, delivery);
        match arrival {
            Arrival::Part | Arrival::Again if self.recent_parts.len() < MAX_RECENT => {
                self.recent_parts.push_back((header.seq, header.offset));
            }
            // Below the base everything is told of by the base.
            Arrival::Packet | Arrival::Message(_) | Arrival::Transfer(_) | Arrival::Duplicate
                if self.recent.len() < MAX_RECENT && self.seen.run_at(header.seq).is_some() =>
            {
                self.recent.push_back(header.seq);
            }
            _ => {}
        }
        arrival
    }

    fn take(
        &mut self,
        now: Instant,
        header: &Header,
        payload: &[u8],
        budget: &mut Budget,
        delivery: &mut dyn Delivery,
    ) -> Arrival {
        let seq = match self.seen.place(header.seq) {
            Place::Old => return Arrival::Duplicate,
            Place::Outside => return Arrival::Refused,
            Place::New(seq) => seq,
        };
        let (first, last) = (header.flags & FIRST != 0, header.flags & LAST != 0);
        if first != (header.offset == 0) {
            return Arrival::Refused;
        }
        if header.is_whole() {
            return self.take_packet(now, seq, (header, payload), budget, delivery);
        }
        let begun =
            matches!(self.slots.get(&seq).map(|slot| &slot.state), Some(State::Whole(_) | State::Stream(_)));
        if first && !begun {
            if let Some(refused) = self.begin(seq, header, payload, budget, delivery) {
                return refused;
            }
        } else if !begun && !self.keep_early(seq, header.offset, payload, budget) {
            return Arrival::Dropped;
        }
        let Some(slot) = self.slots.get_mut(&seq) else { return Arrival::Dropped };
        let stored = match &mut slot.state {
            State::Early(early) => early.store(header.offset, payload, last),
            State::Whole(partial) => partial.store(header.offset, payload, last),
            State::Stream(stream) => stream.store(header.offset, payload, last, delivery),
            State::Refused => return Arrival::Dropped,
        };
        match stored {
            Stored::Refused => return Arrival::Refused,
            Stored::NoRoom => {
                self.waits = true;
                return Arrival::Dropped;
            }
            Stored::Known => return Arrival::Again,
            Stored::Kept | Stored::Whole => self.echo = Some((header.seq, header.offset, now)),
        }
        if stored == Stored::Kept {
            return Arrival::Part;
        }
        self.seen.complete(seq);
        match self.forget(seq, budget, delivery).map(|slot| slot.state) {
            Some(State::Whole(partial)) => Arrival::Message(partial.into_bytes()),
            Some(State::Stream(stream)) => Arrival::Transfer(stream.message()),
            _ => Arrival::Refused,
        }
    }

    /// A message of one packet.
    fn take_packet(
        &mut self,
        now: Instant,
        seq: u64,
        (header, payload): (&Header, &[u8]),
        budget: &mut Budget,
        delivery: &mut dyn Delivery,
    ) -> Arrival {
        let transfer = (header.layer == Layer::Kif).then(|| stream_head(header, payload)).flatten();
        let mut done = Arrival::Packet;
        // One without data, or shorter than it says, is looked at where messages are.
        if let Some((message, head, nbytes)) = transfer
            && nbytes > 0
            && u64::from(head) + u64::from(nbytes) <= payload.len() as u64
        {
            let Some(mut stream) = Stream::begin(message, head, nbytes, delivery) else {
                self.waits = true;
                return Arrival::NoRoom;
            };
            stream.store(0, &payload[..(head + nbytes) as usize], true, delivery);
            stream.close(delivery);
            done = Arrival::Transfer(stream.message());
        }
        self.echo = Some((header.seq, 0, now));
        self.forget(seq, budget, delivery);
        self.seen.complete(seq);
        done
    }

    /// The first fragment is here: decides what the message will be, with what came before it. Returns
    /// why it cannot begin.
    fn begin(
        &mut self,
        seq: u64,
        header: &Header,
        payload: &[u8],
        budget: &mut Budget,
        delivery: &mut dyn Delivery,
    ) -> Option<Arrival> {
        // Every known fixed part of a transfer is shorter than the smallest packet.
        if payload.len() < XFER_HEAD {
            return Some(Arrival::Refused);
        }
        let early = self.forget(seq, budget, delivery);
        let transfer = (header.layer == Layer::Kif).then(|| stream_head(header, payload)).flatten();
        let bound = match &transfer {
            Some(_) => 0,
            None => announced(header, payload).unwrap_or(LONGEST),
        };
        let begun = match transfer {
            _ if !self.reserve(bound + ENTRY, budget) => None,
            None => Some(State::Whole(Partial::new(bound))),
            Some((message, head, nbytes)) => {
                let stream = Stream::begin(message, head, nbytes, delivery);
                if stream.is_none() {
                    self.waits = true;
                    self.give_back(ENTRY, budget);
                }
                stream.map(|stream| State::Stream(Box::new(stream)))
            }
        };
        let Some(mut state) = begun else {
            self.slots.insert(seq, Slot { reserved: 0, state: State::Refused });
            return Some(Arrival::NoRoom);
        };
        if let Some(Slot { state: State::Early(early), .. }) = early {
            for (offset, bytes, last) in early.pieces() {
                // What contradicts the first fragment is as good as not sent.
                let _stored = match &mut state {
                    State::Stream(stream) => stream.store(offset, bytes, last, delivery),
                    State::Whole(partial) => partial.store(offset, bytes, last),
                    State::Early(_) | State::Refused => Stored::Refused,
                };
            }
        }
        self.slots.insert(seq, Slot { reserved: bound + ENTRY, state });
        None
    }

    /// Makes sure that a fragment can be kept whose message is not begun.
    fn keep_early(&mut self, seq: u64, offset: u32, payload: &[u8], budget: &mut Budget) -> bool {
        let mut cost = (payload.len() as u32).saturating_add(PIECE); // a packet's payload is short
        match self.slots.get(&seq) {
            Some(Slot { state: State::Early(early), .. }) if early.has(offset, payload.len()) => return true,
            Some(Slot { state: State::Early(_), .. }) => {}
            Some(_) => return false,
            None => cost += ENTRY,
        }
        if !self.reserve(cost, budget) {
            return false;
        }
        let fresh = || Slot { reserved: 0, state: State::Early(Early::default()) };
        self.slots.entry(seq).or_insert_with(fresh).reserved += cost;
        true
    }

    fn reserve(&mut self, bytes: u32, budget: &mut Budget) -> bool {
        let fits = |limit: u32, used: u32| used.checked_add(bytes).is_some_and(|sum| sum <= limit);
        // One message a peer is always let in within the total: progress needs no more.
        let peer_fits = self.reserved == 0 || fits(budget.per_peer, self.reserved);
        if !peer_fits || !fits(budget.total, budget.reserved) {
            return false;
        }
        self.reserved += bytes;
        budget.reserved += bytes;
        true
    }

    fn give_back(&mut self, bytes: u32, budget: &mut Budget) {
        self.reserved -= bytes;
        budget.reserved -= bytes;
    }

    fn forget(&mut self, seq: u64, budget: &mut Budget, delivery: &mut dyn Delivery) -> Option<Slot> {
        let slot = self.slots.remove(&seq)?;
        self.give_back(slot.reserved, budget);
        if let State::Stream(stream) = &slot.state {
            stream.close(delivery);
        }
        Some(slot)
    }

    /// Gives all memory back; the session ends, and every transaction of its sinks with it.
    pub(crate) fn clear(&mut self, budget: &mut Budget) {
        budget.reserved -= self.reserved;
        self.reserved = 0;
        self.slots.clear();
    }

    /// Numbers begin here; said once, before anything arrives.
    pub(crate) fn number_from(&mut self, first: u32) {
        self.seen = Seen::starting_at(first.into());
    }

    /// The oldest message that is missing although something of a later one came.
    pub(crate) fn gap(&self) -> Option<u64> {
        let base = self.seen.base();
        let beyond = self.seen.runs().next().is_some() || self.slots.range(base + 1..).next().is_some();
        beyond.then_some(base)
    }

    /// Whether a sink had no room since the last call.
    pub(crate) fn take_waits(&mut self) -> bool {
        std::mem::take(&mut self.waits)
    }

    /// Bytes of incomplete messages this peer may have under way.
    pub(crate) fn window(&self, budget: &Budget) -> u32 {
        let free = budget.total.saturating_sub(budget.reserved).saturating_add(self.reserved);
        budget.per_peer.min(free)
    }

    /// What an acknowledgement says now.
    pub(crate) fn ack_head(&self, now: Instant, budget: &Budget) -> AckHead {
        let mut head = AckHead {
            window: self.window(budget),
            base: self.seen.base() as u32,
            echo_delay: u32::MAX,
            ..AckHead::default()
        };
        if let Some((seq, offset, at)) = self.echo {
            head.echo_seq = seq;
            head.echo_offset = offset;
            head.echo_delay = u32::try_from(now.since(at).as_micros()).unwrap_or(u32::MAX);
        }
        head
    }

    /// Chooses what the next acknowledgement tells beside its head, in `room` bytes. Returns
    /// whether another acknowledgement is needed for the rest.
    pub(crate) fn compose(&mut self, room: usize) -> bool {
        let (whole, parts) = (&mut self.whole, &mut self.parts);
        whole.clear();
        parts.clear();
        let room_for_whole = if self.recent_parts.is_empty() { room } else { room / 2 };
        let most = room_for_whole / Whole::SIZE;
        std::mem::swap(&mut self.told, &mut self.again);
        while whole.len() < most
            && let Some(seq) = self.recent.pop_front()
        {
            let run = self.seen.run_at(seq).map(Whole::from_run);
            if let Some(run) = run.filter(|run| !whole.contains(run)) {
                whole.push(run);
                self.told.whole.push(seq);
            }
        }
        for seq in self.again.whole.drain(..).take(MOST_AGAIN) {
            let run = self.seen.run_at(seq).map(Whole::from_run);
            whole.extend(run.filter(|run| whole.len() < most && !whole.contains(run)));
        }
        if whole.len() < most && self.recent.is_empty() {
            let others = self.seen.runs().map(Whole::from_run).take(most - whole.len());
            for run in others {
                if !whole.contains(&run) {
                    whole.push(run);
                }
            }
        }
        let most = (room - whole.len() * Whole::SIZE) / Span::SIZE;
        let span_of = |(seq, offset): (u32, u32)| {
            let slot = match self.seen.place(seq) {
                Place::New(full) => self.slots.get(&full),
                _ => None,
            };
            let (offset, length) = slot?.span_at(offset)?;
            Some(Span { seq, offset, length })
        };
        while parts.len() < most
            && let Some(part) = self.recent_parts.pop_front()
        {
            if let Some(span) = span_of(part).filter(|span| !parts.contains(span)) {
                parts.push(span);
                self.told.parts.push(part);
            }
        }
        for part in self.again.parts.drain(..).take(MOST_AGAIN) {
            parts.extend(span_of(part).filter(|span| parts.len() < most && !parts.contains(span)));
        }
        !self.recent.is_empty() || !self.recent_parts.is_empty()
    }

    /// Complete messages above the base, as composed.
    pub(crate) fn whole(&self) -> impl Iterator<Item = Whole> + '_ {
        self.whole.iter().copied()
    }

    /// What arrived of incomplete messages, as composed.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Span> + '_ {
        self.parts.iter().copied()
    }

    /// The gaps of one message, before the last byte of it that arrived.
    pub(crate) fn gaps(&self, seq: u32) -> impl Iterator<Item = Span> + use<> {
        let spans = match self.seen.place(seq) {
            Place::New(full) => self.slots.get(&full).map(Slot::spans),
            _ => None,
        };
        let mut reached = 0u32;
        spans.unwrap_or_default().into_iter().filter_map(move |(start, length)| {
            let gap = Span { seq, offset: reached, length: start.saturating_sub(reached) };
            reached = reached.max(start.saturating_add(length));
            (gap.length > 0).then_some(gap)
        })
    }

    /// The last fragment was reported: it is not echoed twice.
    pub(crate) fn echoed(&mut self) {
        self.echo = None;
    }
}

/// The fixed part of a data transfer, its length, and that of its data, when a message begins with one.
fn stream_head(header: &Header, payload: &[u8]) -> Option<(Kif, u32, u32)> {
    let (message, head) = Kif::parse_head(payload, header.order).ok()?;
    let nbytes = transfer(&message)?.nbytes;
    Some((message, u32::try_from(head).ok()?, nbytes))
}

/// The length of the message, told by its first fragment.
fn announced(header: &Header, payload: &[u8]) -> Option<u32> {
    if header.layer != Layer::Kif {
        return None;
    }
    let (message, head) = Kif::parse_head(payload, header.order).ok()?;
    // more groups may follow: see [`crate::wire::groups`]
    if matches!(&message, Kif::Connect(connect) if connect.cred.as_ref().is_some_and(|cred| cred.groups.len() == MAX_GROUPS))
    {
        return Some(LONGEST);
    }
    let total = head as u64 + u64::from(message.nbytes());
    // A total beyond the bound is refused byte by byte, like any fragment past its end.
    Some(u32::try_from(total).unwrap_or(u32::MAX).min(LONGEST))
}

#[cfg(test)]
mod tests;
