//! Fragments that were cut for a wider path than any that is left are cut anew.
//!
//! A message's fragments have one length, fixed when it gets its number. If the path they were cut for dies and those that
//! work are narrower, its fragments fit nowhere. Then all of it that is not acknowledged is cut into fragments for the narrowest
//! of them, and goes again; the receiver minds places and lengths, not fragments.

use crate::qos::Choice;

use super::Outbox;

impl Outbox {
    /// Cuts a message anew, one of whose fragments has `length` bytes, if that is too long for every path it may take now.
    /// Returns whether it did.
    pub(super) fn recut(&mut self, choice: Choice, seq: u64, length: u32) -> bool {
        let Some(piece) = self.lanes.narrower(choice, length) else { return false };
        let Some(message) = self.message(seq) else { return false };
        let in_flight: Vec<_> = message.in_flight().collect();
        let (was_whole, len, queue) = (!message.is_fragmented(), message.len(), message.queue);
        let lost = message.recut(piece);
        for (lane, length) in in_flight {
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.landed(length);
            }
        }
        if was_whole {
            self.committed += len;
        }
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.lost.retain(|&(other, _)| other != seq);
            queue.lost.extend(lost.map(|index| (seq, index)));
            let rest = self.started.get((seq - self.base) as usize).and_then(Option::as_ref);
            let waits = rest.is_some_and(|message| message.next_unsent().is_some());
            if waits && !queue.sending.contains(&seq) {
                queue.sending.push_back(seq);
            }
        }
        true
    }
}
