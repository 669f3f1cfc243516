//! The lane that acknowledgements take.
//!
//! One that data comes by, because that one works; and the same for as long as data comes by it, because acknowledgements
//! that take several lanes overtake each other, and then tell of later fragments before earlier ones. A lane that may work
//! in one direction only is left at once: what comes a second time may have been acknowledged there in vain.

use std::time::Duration;

use crate::time::Instant;

use super::lane::LaneId;

/// Without data for so long, a lane gives way to one that brings some.
const QUIET: Duration = Duration::from_millis(2);

/// The lane, and when it brought data last.
#[derive(Debug, Default)]
pub(super) struct WayBack {
    lane: Option<LaneId>,
    heard: Instant,
}

impl WayBack {
    /// Data came by a lane; `again`: it was known.
    pub(super) fn on_data(&mut self, now: Instant, by: Option<LaneId>, again: bool) {
        let Some(by) = by else { return };
        let other = self.lane.is_some_and(|lane| lane != by);
        if other && !again && now.since(self.heard) < QUIET {
            return;
        }
        (self.lane, self.heard) = (Some(by), now);
    }

    /// The lane to take, if it still works.
    pub(super) fn lane(&self) -> Option<LaneId> {
        self.lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: [LaneId; 2] = [LaneId(1), LaneId(2)];

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    #[test]
    fn a_lane_stays_while_data_comes_by_it_and_gives_way_when_none_does() {
        let mut way = WayBack::default();
        way.on_data(at(0), Some(LANES[0]), false);
        for millis in 1..10 {
            way.on_data(at(1000 * millis), Some(LANES[1]), false);
            way.on_data(at(1000 * millis), Some(LANES[0]), false);
            assert_eq!(way.lane(), Some(LANES[0]));
        }
        way.on_data(at(10_999), Some(LANES[1]), false);
        assert_eq!(way.lane(), Some(LANES[0]));
        way.on_data(at(11_000), Some(LANES[1]), false);
        assert_eq!(way.lane(), Some(LANES[1]));
    }

    #[test]
    fn what_comes_again_takes_its_answer_along() {
        let mut way = WayBack::default();
        way.on_data(at(0), Some(LANES[0]), false);
        way.on_data(at(1), Some(LANES[1]), true);
        assert_eq!(way.lane(), Some(LANES[1]));
        way.on_data(at(2), None, true);
        assert_eq!(way.lane(), Some(LANES[1]), "what came by no lane of the session changes nothing");
    }
}
