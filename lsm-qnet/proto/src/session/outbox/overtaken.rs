//! Losses that show because something later arrived.
//!
//! Frames of one lane keep their order, so a fragment is lost when later ones of its lane arrived. But what tells of them are
//! acknowledgements, and those may come back by several lanes, although a peer of ours keeps to one as long as that brings data:
//! one of the quick lane overtakes one of the slow lane, or is merely looked at first because both waited while this node had
//! no processor. It then tells of later fragments before the
//! other tells of earlier ones. So with several lanes what was overtaken is lost only if it still is a moment later:
//!
//! ```text
//!   acknowledged:   1 2 . . . 6 7 8 9       3 to 5 are overtaken: remember 9, wait
//!   a moment later: 1 2 . . 5 6 7 8 9 10    3 and 4 are lost, being more than three behind 9
//! ```

use std::time::Duration;

use crate::time::Instant;

use super::super::lane::LaneId;
use super::{Outbox, REORDERING};

/// The moment is at least this long: how far apart two acknowledgements are looked at that waited side by side.
const LEAST_MOMENT: Duration = Duration::from_millis(1);

/// A lane on which something was overtaken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overtaken {
    /// The latest transmission that was known to have arrived then.
    by: u64,
    /// When what it overtook is lost.
    pub(crate) until: Instant,
}

impl Outbox {
    /// Finds what is lost, after acknowledgements and when a moment is over.
    pub(super) fn detect_losses(&mut self, now: Instant) {
        let several = self.lanes.len() > 1;
        // An acknowledgement may come back by the slowest lane.
        let slowest =
            self.lanes.iter().filter(|lane| lane.health.is_up()).map(|lane| lane.rtt.latest()).max();
        for place in 0..self.lanes.len() {
            let Some((id, acked, before)) =
                self.lanes.at(place).map(|lane| (lane.id, lane.acked, lane.overtaken))
            else {
                continue;
            };
            if !several {
                self.lose_behind(now, id, acked);
                // There may have been others.
                self.lanes.get_mut(id).into_iter().for_each(|lane| lane.overtaken = None);
                continue;
            }
            let waits = before.filter(|overtaken| now < overtaken.until);
            if let Some(overtaken) = before.filter(|_| waits.is_none()) {
                self.lose_behind(now, id, overtaken.by);
            }
            let still = self.oldest_judged(id).is_some_and(|last| is_behind(last, acked));
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            let own = lane.rtt.smoothed().unwrap_or_default();
            let until = now + slowest.unwrap_or_default().saturating_sub(own).max(LEAST_MOMENT);
            lane.overtaken = still.then(|| waits.unwrap_or(Overtaken { by: acked, until }));
        }
    }

    /// The last transmission of what is oldest on a lane. A message to a plain peer can only be judged when all of it went
    /// out.
    fn oldest_judged(&mut self, id: LaneId) -> Option<u64> {
        let (flight, _) = self.oldest(id)?;
        if self.selective {
            return Some(flight.transmission);
        }
        Some(self.message(flight.seq)?.all_sent(id).map_or(u64::MAX, |(_, last)| last))
    }

    /// What `acked` overtook is lost.
    fn lose_behind(&mut self, now: Instant, id: LaneId, acked: u64) {
        while self.oldest_judged(id).is_some_and(|last| is_behind(last, acked))
            && let Some((flight, sent)) = self.oldest(id)
        {
            let length = self.lose_oldest(id, flight);
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.congestion.on_loss(now, sent, length, lane.rtt.line());
            }
        }
    }
}

fn is_behind(transmission: u64, acked: u64) -> bool {
    transmission.saturating_add(REORDERING) <= acked
}

#[cfg(test)]
mod tests;
