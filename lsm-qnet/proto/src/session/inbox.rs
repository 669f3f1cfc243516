//! The receiving half of a session's transport: fragments in, whole messages out, once each.
//!
//! Memory is bounded by reservation: a message is begun only if its whole length fits into what is
//! left for the peer and for all peers together; once begun it can always be finished. A message
//! that does not fit is refused with a NACK and comes again later.

use std::collections::{BTreeMap, VecDeque};

use crate::time::Instant;
use crate::wire::ack::{AckHead, Span, Whole};
use crate::wire::kif::{Kif, MAX_HEAD};
use crate::wire::lwl4::{FIRST, Header, LAST, Layer};

use super::partial::{Partial, Stored};
use super::seen::{Place, Seen};

/// The longest message taken, fixed part included.
pub(crate) const LONGEST: u32 = (crate::MAX_PIECE + MAX_HEAD) as u32;

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
    /// A part; the message has gaps.
    Part,
    /// Of a message that was complete before; to be acknowledged again.
    Duplicate,
    /// No memory for another message.
    NoRoom,
    /// Further ahead than a sender may be, longer than a message may be, or contradicting itself.
    Refused,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Inbox {
    seen: Seen,
    partial: BTreeMap<u64, Partial>,
    reserved: u32,
    echo: Option<(u32, u32, Instant)>,
    /// Messages and fragments that arrived, again or for the first time, since they were last told
    /// of: they come first in an acknowledgement, so that everything is told of in time however
    /// little fits into one.
    recent: VecDeque<u32>,
    recent_parts: VecDeque<(u32, u32)>,
    whole: Vec<Whole>,
    parts: Vec<Span>,
}

/// Arrivals remembered until they are told of. Beyond, the sender's timeout brings them back.
const MAX_RECENT: usize = 1024;

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            seen: Seen::new(),
            partial: BTreeMap::new(),
            reserved: 0,
            echo: None,
            recent: VecDeque::new(),
            recent_parts: VecDeque::new(),
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
    ) -> Arrival {
        let arrival = self.take(now, header, payload, budget);
        match arrival {
            Arrival::Part if self.recent_parts.len() < MAX_RECENT => {
                self.recent_parts.push_back((header.seq, header.offset));
            }
            // Below the base everything is told of by the base.
            Arrival::Packet | Arrival::Message(_) | Arrival::Duplicate
                if self.recent.len() < MAX_RECENT && self.seen.run_at(header.seq).is_some() =>
            {
                self.recent.push_back(header.seq);
            }
            _ => {}
        }
        arrival
    }

    fn take(&mut self, now: Instant, header: &Header, payload: &[u8], budget: &mut Budget) -> Arrival {
        let seq = match self.seen.place(header.seq) {
            Place::Old => return Arrival::Duplicate,
            Place::Outside => return Arrival::Refused,
            Place::New(seq) => seq,
        };
        if header.is_whole() {
            if header.offset != 0 {
                return Arrival::Refused;
            }
            self.echo = Some((header.seq, 0, now));
            self.forget(seq, budget);
            self.seen.complete(seq);
            return Arrival::Packet;
        }
        if !self.admit(seq, header, payload, budget) {
            return Arrival::NoRoom;
        }
        let Some(partial) = self.partial.get_mut(&seq) else { return Arrival::Refused };
        let stored = partial.store(header.offset, payload, header.flags & LAST != 0);
        match stored {
            Stored::Refused => return Arrival::Refused,
            Stored::Known => return Arrival::Part,
            Stored::Kept | Stored::Whole => self.echo = Some((header.seq, header.offset, now)),
        }
        if stored == Stored::Kept {
            return Arrival::Part;
        }
        self.seen.complete(seq);
        self.forget(seq, budget).map_or(Arrival::Refused, |partial| Arrival::Message(partial.into_bytes()))
    }

    /// Makes sure that memory for the message is reserved.
    fn admit(&mut self, seq: u64, header: &Header, payload: &[u8], budget: &mut Budget) -> bool {
        let told = announced(header, payload);
        if let Some(partial) = self.partial.get_mut(&seq) {
            // The first fragment tells the length: give back what was reserved too much.
            if let Some(told) = told {
                let before = partial.bound();
                partial.set_bound(told);
                let less = before - partial.bound();
                self.reserved -= less;
                budget.reserved -= less;
            }
            return true;
        }
        let bound = told.unwrap_or(LONGEST).min(LONGEST);
        let fits = |limit: u32, used: u32| used.checked_add(bound).is_some_and(|sum| sum <= limit);
        // One message a peer is always let in within the total: progress needs no more.
        let peer_fits = self.reserved == 0 || fits(budget.per_peer, self.reserved);
        if !peer_fits || !fits(budget.total, budget.reserved) {
            return false;
        }
        self.reserved += bound;
        budget.reserved += bound;
        self.partial.insert(seq, Partial::new(bound));
        true
    }

    fn forget(&mut self, seq: u64, budget: &mut Budget) -> Option<Partial> {
        let partial = self.partial.remove(&seq)?;
        self.reserved -= partial.bound();
        budget.reserved -= partial.bound();
        Some(partial)
    }

    /// Gives all memory back; the session ends.
    pub(crate) fn clear(&mut self, budget: &mut Budget) {
        budget.reserved -= self.reserved;
        self.reserved = 0;
        self.partial.clear();
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
        while whole.len() < most
            && let Some(seq) = self.recent.pop_front()
        {
            let run = self.seen.run_at(seq).map(Whole::from_run);
            whole.extend(run.filter(|run| !whole.contains(run)));
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
        while parts.len() < most
            && let Some((seq, offset)) = self.recent_parts.pop_front()
        {
            let partial = match self.seen.place(seq) {
                Place::New(full) => self.partial.get(&full),
                _ => None,
            };
            let span = partial.and_then(|partial| partial.span_at(offset));
            let span = span.map(|(offset, length)| Span { seq, offset, length });
            parts.extend(span.filter(|span| !parts.contains(span)));
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

    /// The gaps of one message.
    pub(crate) fn gaps(&self, seq: u32) -> impl Iterator<Item = Span> + '_ {
        let partial = match self.seen.place(seq) {
            Place::New(full) => self.partial.get(&full),
            _ => None,
        };
        partial
            .into_iter()
            .flat_map(move |p| p.gaps().map(move |(offset, length)| Span { seq, offset, length }))
    }

    /// The last fragment was reported: it is not echoed twice.
    pub(crate) fn echoed(&mut self) {
        self.echo = None;
    }
}

/// The length of the message, told by its first fragment.
fn announced(header: &Header, payload: &[u8]) -> Option<u32> {
    if header.layer != Layer::Kif || header.flags & FIRST == 0 || header.offset != 0 {
        return None;
    }
    // A total beyond the bound is refused byte by byte, like any fragment past its end.
    Kif::total_len(payload, header.order).map(|total| u32::try_from(total).unwrap_or(u32::MAX).min(LONGEST))
}

#[cfg(test)]
mod tests;
