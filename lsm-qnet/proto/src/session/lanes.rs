//! All paths of a session, and which of them a frame takes.
//!
//! Frames go over lanes that are up, to the one that will deliver soonest: with equal lanes that fills their windows
//! evenly, and a slow link gets no more than it can carry. While no lane that a route allows is up, the one with the
//! fewest timeouts is tried, so that tries alternate. A preferred link is used alone while it is up, an exclusive one alone.

use crate::link::{LinkAddr, LinkId};
use crate::qos::Choice;
use crate::time::Instant;

use super::lane::{Lane, LaneId};

/// Most paths of a session; QNX's bound on `max_num_l4s`.
pub(crate) const MAX_LANES: usize = 4;

/// The paths of a session.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    last_id: u32,
}

impl Lanes {
    pub(crate) fn get(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// The lane at a place; the order is that of their making.
    pub(crate) fn at(&self, place: usize) -> Option<&Lane> {
        self.lanes.get(place)
    }

    /// The lane of this path.
    pub(crate) fn of(&self, link: LinkId, addr: LinkAddr) -> Option<LaneId> {
        self.lanes.iter().find(|lane| lane.link == link && lane.addr == addr).map(|lane| lane.id)
    }

    /// Adds a lane for a path that has none; beyond [`MAX_LANES`] it is left out.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        (link, addr): (LinkId, LinkAddr),
        frame: u32,
    ) -> Option<LaneId> {
        if self.lanes.len() >= MAX_LANES || self.of(link, addr).is_some() {
            return self.of(link, addr);
        }
        self.last_id += 1;
        let id = LaneId(self.last_id);
        self.lanes.push(Lane::new(now, id, (link, addr), frame));
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: LaneId) {
        self.lanes.retain(|lane| lane.id != id);
    }

    /// Whether another lane is up.
    pub(crate) fn other_is_up(&self, id: LaneId) -> bool {
        self.lanes.iter().any(|lane| lane.id != id && lane.health.is_up())
    }

    /// Whether another lane is up and does not owe an answer of its own since then: if all are silent alike, it is the peer
    /// that has something else to do, or we had.
    pub(crate) fn other_answers(&self, id: LaneId, since: Instant) -> bool {
        let answers = |lane: &Lane| lane.in_flight == 0 || lane.progress > since;
        self.lanes.iter().any(|lane| lane.id != id && lane.health.is_up() && answers(lane))
    }

    /// The lane for something that is not data: the one it should take if that works, else the best.
    pub(crate) fn for_control(&self, wanted: Option<LaneId>) -> Option<&Lane> {
        let wanted = wanted.and_then(|id| self.get(id)).filter(|lane| lane.health.is_up());
        wanted
            .or_else(|| self.lanes.iter().filter(|lane| lane.health.is_up()).min_by_key(|lane| lane.cost()))
            .or_else(|| self.lanes.iter().min_by_key(|lane| lane.backoff))
    }

    /// The lane for a frame of `length` payload bytes; `None` when none that `choice` allows has room.
    pub(crate) fn pick(&mut self, now: Instant, choice: Choice, length: u32, extra: u64) -> Option<LaneId> {
        if let ([lane], Choice::Any) = (&mut self.lanes[..], choice) {
            // The usual case.
            return (length <= lane.largest && lane.fits(now, length, extra)).then_some(lane.id);
        }
        let alone = self.alone(choice);
        let allowed = |lane: &Lane| alone.is_none_or(|link| Some(lane.link) == link);
        let takes = |lane: &Lane| allowed(lane) && length <= lane.largest;
        // What is too long for those that are up is not for one in doubt: it is cut anew.
        if !self.lanes.iter().any(|lane| allowed(lane) && lane.health.is_up()) {
            let lane = self.lanes.iter_mut().filter(|lane| takes(lane)).min_by_key(|lane| lane.backoff)?;
            return lane.fits(now, length, extra).then_some(lane.id);
        }
        let mut best: Option<(u64, LaneId)> = None;
        for lane in self.lanes.iter_mut().filter(|lane| takes(lane) && lane.health.is_up()) {
            if !lane.fits(now, length, extra) {
                continue;
            }
            let cost = lane.cost();
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, lane.id));
            }
        }
        best.map(|(_, id)| id)
    }

    /// The lane for more of a message to a plain peer, which takes one path as long as that is good: `stay`. `None` when it
    /// has to wait.
    pub(crate) fn pick_on(
        &mut self,
        now: Instant,
        choice: Choice,
        length: u32,
        stay: Option<LaneId>,
    ) -> Option<LaneId> {
        let alone = self.alone(choice);
        let allowed = |lane: &Lane| alone.is_none_or(|link| Some(lane.link) == link);
        let any_up = self.lanes.iter().any(|lane| allowed(lane) && lane.health.is_up());
        let good = |lane: &Lane| allowed(lane) && length <= lane.largest && (!any_up || lane.health.is_up());
        let stay = stay.and_then(|id| self.get(id)).filter(|lane| any_up && good(lane)).map(|lane| lane.id);
        let best =
            || self.lanes.iter().filter(|lane| good(lane)).min_by_key(|lane| (lane.backoff, lane.cost()));
        let id = stay.or_else(|| best().map(|lane| lane.id))?;
        self.get_mut(id)?.flows(now, length).then_some(id)
    }

    /// The longest packet that all paths take which `choice` allows and which may be used now, if `length` is too long for each
    /// of them.
    pub(crate) fn narrower(&self, choice: Choice, length: u32) -> Option<u32> {
        let alone = self.alone(choice);
        let allowed = |lane: &&Lane| alone.is_none_or(|link| Some(lane.link) == link);
        let any_up = self.lanes.iter().filter(allowed).any(|lane| lane.health.is_up());
        let usable = self.lanes.iter().filter(allowed).filter(|lane| !any_up || lane.health.is_up());
        let (least, most) = usable
            .fold((u32::MAX, 0), |(least, most), lane| (least.min(lane.largest), most.max(lane.largest)));
        (most > 0 && most < length).then_some(least)
    }

    /// The only link a choice allows at the moment; `Some(None)`: no link at all.
    fn alone(&self, choice: Choice) -> Option<Option<LinkId>> {
        match choice {
            Choice::Any => None,
            Choice::Only(link) => Some(link),
            Choice::First(link) => {
                let up = self.lanes.iter().any(|lane| lane.link == link && lane.health.is_up());
                up.then_some(Some(link))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LINKS: [LinkId; 2] = [LinkId(0), LinkId(1)];

    fn two_up() -> (Lanes, [LaneId; 2]) {
        let mut lanes = Lanes::default();
        let addr = LinkAddr::mac([2; 6]);
        let ids = LINKS.map(|link| lanes.add(Instant::ZERO, (link, addr), 1000).unwrap());
        for lane in lanes.iter_mut() {
            lane.health.prove(Instant::ZERO);
            lane.rtt.on_sample(Instant::ZERO, Duration::from_micros(100));
        }
        (lanes, ids)
    }

    /// Sends frames until none fits; how many each lane got.
    fn fill(lanes: &mut Lanes, choice: Choice) -> Vec<usize> {
        while let Some(id) = lanes.pick(Instant::ZERO, choice, 1000, 0) {
            lanes.get_mut(id).unwrap().send(1, 0, 1000);
        }
        lanes.iter().map(|lane| lane.flight.len()).collect()
    }

    #[test]
    fn equal_lanes_share_evenly_and_both_fill_up() {
        let (mut lanes, _) = two_up();
        for _ in 0..20 {
            let id = lanes.pick(Instant::ZERO, Choice::Any, 1000, 0).unwrap();
            lanes.get_mut(id).unwrap().send(1, 0, 1000);
        }
        assert_eq!(lanes.iter().map(|lane| lane.flight.len()).collect::<Vec<_>>(), [10, 10]);
        assert_eq!(fill(&mut lanes, Choice::Any), [64, 64]);
        assert!(lanes.iter().all(|lane| lane.limited));
    }

    #[test]
    fn a_slow_lane_is_used_when_the_fast_one_is_full() {
        let (mut lanes, [_, slow]) = two_up();
        for _ in 0..50 {
            lanes.get_mut(slow).unwrap().rtt.on_sample(Instant::ZERO, Duration::from_millis(50));
        }
        for _ in 0..64 {
            let id = lanes.pick(Instant::ZERO, Choice::Any, 1000, 0).unwrap();
            assert_ne!(id, slow);
            lanes.get_mut(id).unwrap().send(1, 0, 1000);
        }
        assert_eq!(lanes.pick(Instant::ZERO, Choice::Any, 1000, 0), Some(slow));
    }

    #[test]
    fn a_preferred_link_is_used_alone_until_it_fails_and_again_when_it_is_back() {
        let (mut lanes, [first, second]) = two_up();
        let choice = Choice::First(LINKS[1]);
        assert_eq!(fill(&mut lanes, choice), [0, 64], "full is not failed");
        lanes.get_mut(second).unwrap().health.suspect(Instant::ZERO);
        assert_eq!(lanes.pick(Instant::ZERO, choice, 1000, 0), Some(first));
        let lane = lanes.get_mut(second).unwrap();
        lane.health.prove(Instant::ZERO);
        lane.landed(64_000);
        assert_eq!(lanes.pick(Instant::ZERO, choice, 1000, 0), Some(second));
    }

    #[test]
    fn an_exclusive_link_is_never_replaced() {
        let (mut lanes, [_, second]) = two_up();
        let choice = Choice::Only(Some(LINKS[1]));
        lanes.get_mut(second).unwrap().health.suspect(Instant::ZERO);
        assert_eq!(fill(&mut lanes, choice), [0, 64], "there is nothing better to try");
        lanes.remove(second);
        assert_eq!(lanes.pick(Instant::ZERO, choice, 1000, 0), None);
        assert_eq!(lanes.pick_on(Instant::ZERO, choice, 1000, None), None);
        assert_eq!(lanes.pick(Instant::ZERO, Choice::Only(None), 1000, 0), None);
    }

    #[test]
    fn without_a_lane_that_is_up_tries_alternate() {
        let (mut lanes, ids) = two_up();
        lanes.iter_mut().for_each(|lane| lane.health.suspect(Instant::ZERO));
        let mut tried = Vec::new();
        for _ in 0..4 {
            let id = lanes.pick(Instant::ZERO, Choice::Any, 1000, 0).unwrap();
            lanes.get_mut(id).unwrap().backoff += 1;
            tried.push(id);
        }
        assert_eq!(tried, [ids[0], ids[1], ids[0], ids[1]]);
    }
}
