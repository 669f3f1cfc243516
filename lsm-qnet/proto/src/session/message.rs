//! An outgoing message: its fixed part, its data, and what became of its fragments.
//!
//! ```text
//!   fragments:   acknowledged ...   | first .. window .. next |   never sent
//!                (not remembered)   | in flight, lost, acked  |
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::source::{Body, Source};
use crate::time::Instant;
use crate::wire::Order;
use crate::wire::kif::{Kif, MAX_HEAD, Xfer};
use crate::wire::lwl4::Layer;

use super::lane::LaneId;
use super::order::{Class, GateKey};

/// State of a fragment that was sent at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FragState {
    /// On its way.
    InFlight,
    /// To be sent again.
    Lost,
    /// Arrived.
    Acked,
}

/// A fragment that was sent at least once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frag {
    /// The path of its last transmission.
    pub(crate) lane: LaneId,
    /// The number of that transmission on its path.
    pub(crate) transmission: u64,
    /// When that was.
    pub(crate) sent: Instant,
    /// How often it was sent.
    pub(crate) times: u32,
    /// What became of it.
    pub(crate) state: FragState,
}

/// A message's data: its own, or a part of what it shares with others.
enum Data {
    Own(Body),
    Part { of: Rc<Body>, start: u64, len: u64 },
}

impl Source for Data {
    fn len(&self) -> u64 {
        match self {
            Data::Own(body) => body.len(),
            Data::Part { len, .. } => *len,
        }
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        match self {
            Data::Own(body) => body.read_at(offset, out),
            Data::Part { of, start, .. } => of.read_at(start + offset, out),
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.len())
    }
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Message {
    head: [u8; MAX_HEAD],
    head_len: u8,
    body: Data,
    /// What it says of itself, when it may travel as several messages.
    transfer: Option<Kif>,
    /// It was refused before: its first fragment asks whether there is room now.
    pub(crate) asking: bool,
    /// Layer it belongs to.
    pub(crate) layer: Layer,
    /// The gate it passes.
    pub(crate) gate: Option<(GateKey, Class)>,
    /// A second gate it counts behind.
    pub(crate) also: Option<GateKey>,
    /// Index of its quality of service in the node's table.
    pub(crate) qos: u16,
    /// The place of that policy's queue in the outbox.
    pub(crate) queue: usize,
    /// Over 4 GiB only before it is cut.
    len: u64,
    /// Payload bytes per fragment; fixed when the message is started.
    piece: u32,
    first: u32,
    frags: VecDeque<Frag>,
}

impl Message {
    /// A KIF message whose data is `body`. One of MSGREAD_XFER and MSGWRITE may have any length: it is cut
    /// into several when it goes ([`Message::cut`]).
    pub(crate) fn kif(message: &Kif, body: Body) -> Option<Message> {
        Message::of(message, Data::Own(body))
    }

    /// A KIF message whose data is a part of `of`.
    pub(crate) fn sharing(message: &Kif, of: &Rc<Body>, start: u64, len: u64) -> Option<Message> {
        Message::of(message, Data::Part { of: Rc::clone(of), start, len })
    }

    fn of(message: &Kif, body: Data) -> Option<Message> {
        let mut head = [0; MAX_HEAD];
        // MAX_HEAD bytes are enough for every fixed part.
        let head_len = message.emit(&mut head, Order::Little).ok()?;
        let mut made = Message::new(Layer::Kif, head, head_len, body)?;
        made.transfer = matches!(message, Kif::MsgReadXfer(_) | Kif::MsgWrite(_)).then(|| message.clone());
        Some(made)
    }

    /// A message of another layer.
    pub(crate) fn plain(layer: Layer, bytes: &[u8]) -> Option<Message> {
        let (front, rest) = bytes.split_at(bytes.len().min(MAX_HEAD));
        let mut head = [0; MAX_HEAD];
        head[..front.len()].copy_from_slice(front);
        Message::new(layer, head, front.len(), Data::Own(Body::from(rest)))
    }

    fn new(layer: Layer, head: [u8; MAX_HEAD], head_len: usize, body: Data) -> Option<Message> {
        let len = (head_len as u64).checked_add(body.len())?;
        Some(Message {
            head,
            head_len: u8::try_from(head_len).ok()?,
            body,
            transfer: None,
            asking: false,
            layer,
            gate: None,
            also: None,
            qos: 0,
            queue: 0,
            len,
            piece: 0,
            first: 0,
            frags: VecDeque::new(),
        })
    }

    /// Makes it pass a gate.
    pub(crate) fn behind(mut self, key: GateKey, class: Class) -> Message {
        self.gate = Some((key, class));
        self
    }

    /// Makes it count behind a second gate.
    pub(crate) fn counted(mut self, key: GateKey) -> Message {
        self.also = Some(key);
        self
    }

    /// Makes it take the links that a quality of service allows.
    pub(crate) fn by(mut self, qos: u16) -> Message {
        self.qos = qos;
        self
    }

    /// Takes the next message off the front of a transfer that is too long for one; `None` when it is
    /// not. Both have the same gates.
    pub(crate) fn cut(&mut self) -> Option<Message> {
        let most = crate::MAX_TRANSFER as u64;
        if self.body.len() <= most {
            return None;
        }
        let (of, start, len) = match std::mem::replace(&mut self.body, Data::Own(Body::empty())) {
            Data::Own(body) => {
                let len = body.len();
                (Rc::new(body), 0, len)
            }
            Data::Part { of, start, len } => (of, start, len),
        };
        let (mut front, mut rest) = (self.transfer.clone()?, self.transfer.clone()?);
        if let (Some(front), Some(rest)) = (xfer(&mut front), xfer(&mut rest)) {
            front.nbytes = most as u32;
            rest.offset = rest.offset.saturating_add(most as u32);
            rest.nbytes = rest.nbytes.saturating_sub(most as u32);
        }
        let mut piece = Message::sharing(&front, &of, start, most)?;
        (piece.gate, piece.also, piece.qos, piece.queue) = (self.gate, self.also, self.qos, self.queue);
        let mut left = Message::sharing(&rest, &of, start + most, len - most)?;
        (left.gate, left.also, left.qos, left.queue) = (self.gate, self.also, self.qos, self.queue);
        *self = left;
        Some(piece)
    }

    /// How many messages share its data, itself included.
    pub(crate) fn sharers(&self) -> usize {
        match &self.body {
            Data::Own(_) => 1,
            Data::Part { of, .. } => Rc::strong_count(of),
        }
    }

    /// Whether a second delivery would do nothing: it may get a new number though the old one was used.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.layer == Layer::Kif && matches!(self.head[0] & 0x7f, 7..=9)
    }

    /// As if it had never been sent; the next time it asks for room first.
    pub(crate) fn take_back(&mut self) {
        self.frags.clear();
        (self.first, self.piece, self.asking) = (0, 0, true);
    }

    /// Length in bytes, fixed part included.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Fixes the size of its fragments; called once, when it gets its number.
    pub(crate) fn start(&mut self, piece: u32) {
        self.piece = piece.max(1);
    }

    fn total(&self) -> u32 {
        // A message is cut before it is started.
        u32::try_from(self.len).unwrap_or(u32::MAX).div_ceil(self.piece.max(1)).max(1)
    }

    /// Whether it takes more than one packet.
    pub(crate) fn is_fragmented(&self) -> bool {
        self.total() > 1
    }

    /// The next fragment that was never sent.
    pub(crate) fn next_unsent(&self) -> Option<u32> {
        let next = self.first + self.frags.len() as u32;
        let may = next < self.total() && (!self.asking || next == 0);
        may.then_some(next)
    }

    /// Offset and length of a fragment.
    pub(crate) fn span(&self, index: u32) -> (u32, u32) {
        let offset = index * self.piece;
        (offset, self.len.saturating_sub(offset.into()).min(self.piece.into()) as u32)
    }

    /// Whether it is the last fragment.
    pub(crate) fn is_last(&self, index: u32) -> bool {
        index + 1 == self.total()
    }

    /// The fragment, if it was sent and is still remembered.
    pub(crate) fn frag(&mut self, index: u32) -> Option<&mut Frag> {
        let at = index.checked_sub(self.first)?;
        self.frags.get_mut(at as usize)
    }

    /// The fragment that holds `offset`, when the offset is the beginning of one.
    pub(crate) fn index_at(&self, offset: u32) -> Option<u32> {
        (self.piece > 0 && offset.is_multiple_of(self.piece)).then(|| offset / self.piece)
    }

    /// Notes a transmission and copies the fragment's bytes into `out`, which has its length.
    pub(crate) fn transmit(
        &mut self,
        index: u32,
        (lane, transmission): (LaneId, u64),
        now: Instant,
        out: &mut [u8],
    ) {
        let frag = Frag { lane, transmission, sent: now, times: 1, state: FragState::InFlight };
        match self.frag(index) {
            Some(known) => *known = Frag { times: known.times + 1, ..frag },
            None => self.frags.push_back(frag),
        }
        let (offset, _) = self.span(index);
        let head = &self.head[..usize::from(self.head_len)];
        (head, &self.body).read_at(u64::from(offset), out);
    }

    /// Fragments that lie wholly inside `offset..offset + length`, as a range of indices among
    /// those remembered.
    pub(crate) fn covered(&self, offset: u32, length: u32) -> std::ops::Range<u32> {
        let piece = self.piece.max(1);
        let end = offset.saturating_add(length);
        let last = if u64::from(end) >= self.len { self.total() } else { end / piece };
        let sent = self.first + self.frags.len() as u32;
        offset.div_ceil(piece).max(self.first)..last.min(sent)
    }

    /// The path of the fragment sent last, if one is remembered.
    pub(crate) fn last_lane(&self) -> Option<LaneId> {
        self.frags.back().map(|frag| frag.lane)
    }

    /// When the last fragment went out by a path, and which transmission it was; `None` while something has yet to go.
    pub(crate) fn all_sent(&self, lane: LaneId) -> Option<(Instant, u64)> {
        let waits = self.next_unsent().is_some() || self.frags.iter().any(|f| f.state == FragState::Lost);
        let by_lane = self.frags.iter().filter(|frag| frag.lane == lane);
        let last = by_lane.map(|frag| (frag.sent, frag.transmission)).max();
        last.filter(|_| !waits)
    }

    /// The fragment sent last, if each was sent once: then the answer to the whole message answers it.
    pub(crate) fn sent_once(&self) -> Option<Frag> {
        let once = self.frags.iter().all(|frag| frag.times == 1);
        self.frags.back().copied().filter(|_| once)
    }

    /// Every remembered fragment with its index.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = (u32, Frag)> + '_ {
        self.frags.iter().enumerate().map(|(i, frag)| (self.first + i as u32, *frag))
    }

    /// The fragments on their way: the path of each, and its length.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (LaneId, u64)> + '_ {
        let on_its_way = self.remembered().filter(|(_, frag)| frag.state == FragState::InFlight);
        on_its_way.map(|(index, frag)| (frag.lane, self.span(index).1.into()))
    }

    /// Cuts it into shorter fragments. Those of which something was not acknowledged go again: their indices.
    pub(crate) fn recut(&mut self, piece: u32) -> impl Iterator<Item = u32> + use<> {
        let (old, piece) = (self.piece.max(1), piece.max(1));
        let frags = std::mem::take(&mut self.frags);
        let sent = (u64::from(self.first) + frags.len() as u64) * u64::from(old);
        let front = self.first;
        let acked = |at: u32| {
            let place = at.checked_sub(front).and_then(|place| frags.get(place as usize));
            at < front || place.is_some_and(|frag| frag.state == FragState::Acked)
        };
        self.first = (u64::from(front) * u64::from(old) / u64::from(piece)) as u32; // no more than the bytes before it
        self.piece = piece;
        let end = sent.min(self.len).div_ceil(u64::from(piece)) as u32; // of a started message, whose length has 32 bits
        let mut lost = Vec::new();
        for index in self.first..end {
            let (offset, length) = self.span(index);
            let last = offset + length.saturating_sub(1);
            let whole = (offset / old..=last / old).all(acked);
            let state = if whole { FragState::Acked } else { FragState::Lost };
            let frag = frags.front().copied();
            let known = frag.map(|frag| Frag { transmission: 0, times: 1, state, ..frag });
            self.frags.extend(known);
            if !whole {
                lost.push(index);
            }
        }
        lost.into_iter()
    }

    /// Forgets acknowledged fragments at the front.
    pub(crate) fn forget_acked(&mut self) {
        while self.frags.front().is_some_and(|f| f.state == FragState::Acked) {
            self.frags.pop_front();
            self.first += 1;
        }
    }

    /// Spare zero bytes that follow the payload uncounted: stock tools always read the first two
    /// bytes of a MSGSEND's data, alone or behind a CONNECT, and would call a shorter one malformed.
    pub(crate) fn spare(&self) -> usize {
        let is_send = self.layer == Layer::Kif && matches!(self.head[0] & 0x7f, 1 | 5);
        if is_send { 2usize.saturating_sub(self.body.len().min(2) as usize) } else { 0 }
    }
}

/// The fields of a transfer.
fn xfer(message: &mut Kif) -> Option<&mut Xfer> {
    match message {
        Kif::MsgReadXfer(xfer) | Kif::MsgWrite(xfer) => Some(xfer),
        _ => None,
    }
}
