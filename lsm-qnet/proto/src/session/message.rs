//! An outgoing message: its fixed part, its data, and what became of its fragments.
//!
//! ```text
//!   fragments:   acknowledged ...   | first .. window .. next |   never sent
//!                (not remembered)   | in flight, lost, acked  |
//! ```

use std::collections::VecDeque;

use crate::source::{Body, Source};
use crate::time::Instant;
use crate::wire::Order;
use crate::wire::kif::{Kif, MAX_HEAD};
use crate::wire::lwl4::Layer;

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
    /// Number of its last transmission in the session.
    pub(crate) transmission: u64,
    /// When that was.
    pub(crate) sent: Instant,
    /// How often it was sent.
    pub(crate) times: u32,
    /// What became of it.
    pub(crate) state: FragState,
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Message {
    head: [u8; MAX_HEAD],
    head_len: u8,
    body: Body,
    /// Layer it belongs to.
    pub(crate) layer: Layer,
    /// The gate it passes.
    pub(crate) gate: Option<(GateKey, Class)>,
    /// A second gate it counts behind.
    pub(crate) also: Option<GateKey>,
    len: u32,
    /// Payload bytes per fragment; fixed when the message is started.
    piece: u32,
    first: u32,
    frags: VecDeque<Frag>,
}

impl Message {
    /// A KIF message whose data is `body`; `None` when it is too long for the 32-bit length.
    pub(crate) fn kif(message: &Kif, body: Body) -> Option<Message> {
        let mut head = [0; MAX_HEAD];
        // MAX_HEAD bytes are enough for every fixed part.
        let head_len = message.emit(&mut head, Order::Little).ok()?;
        Message::new(Layer::Kif, head, head_len, body)
    }

    /// A message of another layer, without data of its own.
    pub(crate) fn plain(layer: Layer, bytes: &[u8]) -> Option<Message> {
        let mut head = [0; MAX_HEAD];
        head.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Message::new(layer, head, bytes.len(), Body::empty())
    }

    fn new(layer: Layer, head: [u8; MAX_HEAD], head_len: usize, body: Body) -> Option<Message> {
        let len = u32::try_from((head_len as u64).checked_add(body.len())?).ok()?;
        Some(Message {
            head,
            head_len: u8::try_from(head_len).ok()?,
            body,
            layer,
            gate: None,
            also: None,
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

    /// Length in bytes, fixed part included.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Fixes the size of its fragments; called once, when it gets its number.
    pub(crate) fn start(&mut self, piece: u32) {
        self.piece = piece.max(1);
    }

    fn total(&self) -> u32 {
        self.len.div_ceil(self.piece.max(1)).max(1)
    }

    /// Whether it takes more than one packet.
    pub(crate) fn is_fragmented(&self) -> bool {
        self.total() > 1
    }

    /// The next fragment that was never sent.
    pub(crate) fn next_unsent(&self) -> Option<u32> {
        let next = self.first + self.frags.len() as u32;
        (next < self.total()).then_some(next)
    }

    /// Offset and length of a fragment.
    pub(crate) fn span(&self, index: u32) -> (u32, u32) {
        let offset = index * self.piece;
        (offset, self.len.saturating_sub(offset).min(self.piece))
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
    pub(crate) fn transmit(&mut self, index: u32, transmission: u64, now: Instant, out: &mut [u8]) {
        let state = FragState::InFlight;
        match self.frag(index) {
            Some(frag) => *frag = Frag { transmission, sent: now, times: frag.times + 1, state },
            None => self.frags.push_back(Frag { transmission, sent: now, times: 1, state }),
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
        let last = if end >= self.len { self.total() } else { end / piece };
        let sent = self.first + self.frags.len() as u32;
        offset.div_ceil(piece).max(self.first)..last.min(sent)
    }

    /// Every remembered fragment with its index.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = (u32, Frag)> + '_ {
        self.frags.iter().enumerate().map(|(i, frag)| (self.first + i as u32, *frag))
    }

    /// Forgets acknowledged fragments at the front.
    pub(crate) fn forget_acked(&mut self) {
        while self.frags.front().is_some_and(|f| f.state == FragState::Acked) {
            self.frags.pop_front();
            self.first += 1;
        }
    }

    /// Spare zero bytes that follow the payload uncounted: stock tools always read the first two
    /// bytes of a MSGSEND's data and would call a shorter one malformed.
    pub(crate) fn spare(&self) -> usize {
        let is_send = self.layer == Layer::Kif && self.head_len == 48 && self.head[0] & 0x7f == 5;
        if is_send { 2usize.saturating_sub(self.body.len().min(2) as usize) } else { 0 }
    }
}
