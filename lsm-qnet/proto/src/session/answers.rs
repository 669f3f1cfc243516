//! What a session says in answer to data: acknowledgements and refusals.

use crate::time::Instant;
use crate::wire::ack::{self, Ack, Nack};
use crate::wire::lwl4::{HEADER, Header, Kind, Layer};

use super::inbox::Budget;
use super::{Out, Session};

impl Session {
    pub(super) fn poll_answers(&mut self, now: Instant, frame: &mut [u8], budget: &Budget) -> Option<Out> {
        let room = frame.get_mut(HEADER..)?;
        if let Some((reason, seq)) = self.nacks.pop_front() {
            return self.nack(reason, seq, room, budget);
        }
        if let Some(seq) = self.plain_acks.pop_front() {
            let mut header = Header::new(Kind::Ack, Layer::Kif);
            header.seq = seq;
            return Some(Out::Packet(header, 0));
        }
        let waited = self.waiting.until().is_some_and(|until| until <= now);
        if !std::mem::take(&mut self.ack_due) && !waited {
            return None;
        }
        self.waiting.clear();
        let head = self.inbox.ack_head(now, budget);
        let body = room.len().min(usize::try_from(self.outbox.piece()).unwrap_or(usize::MAX));
        self.ack_due = self.inbox.compose(body.saturating_sub(ack::ACK_HEAD));
        let mut header = Header::new(Kind::Ack, Layer::Seq);
        let (whole, parts) = (self.inbox.whole(), self.inbox.parts());
        let length = Ack::emit(&head, whole, parts, &mut room[..body], header.order).ok()?;
        self.inbox.echoed();
        header.seq = head.base;
        header.length = length as u32; // bounded by the frame
        Some(Out::Packet(header, 0))
    }

    fn nack(&mut self, reason: u8, seq: u32, room: &mut [u8], budget: &Budget) -> Option<Out> {
        let mut header = Header::new(Kind::Nack, Layer::Seq);
        header.seq = seq;
        if !self.selective() {
            // What a plain peer understands: the first missing byte.
            header.layer = Layer::Kif;
            header.offset = self.inbox.gaps(seq).next().map_or(0, |gap| gap.offset);
            return Some(Out::Packet(header, 0));
        }
        let window = self.inbox.window(budget);
        let body = room.len().min(usize::try_from(self.outbox.piece()).unwrap_or(usize::MAX));
        let room = &mut room[..body];
        let written = match reason {
            ack::MISSING => Nack::emit(reason, window, self.inbox.gaps(seq), room, header.order),
            ack::ROOM => Nack::emit(reason, window, std::iter::empty(), room, header.order),
            _ => {
                let all = ack::Span { seq, offset: 0, length: u32::MAX };
                Nack::emit(reason, window, std::iter::once(all), room, header.order)
            }
        };
        header.length = written.ok()? as u32; // bounded by the frame
        Some(Out::Packet(header, 0))
    }
}
