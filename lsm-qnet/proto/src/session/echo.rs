//! Pings that somebody asked for (`qnet-ping`), beside those that the session sends for itself.
//!
//! Each goes by one path and carries a number, which the answer brings back (docs/protocol.md §5, ours): so its round trip time
//! is known whatever else is on its way. A plain QNX peer gets a bare ping; its answers are taken in the order of the questions
//! on that path. Lost ones are not sent again: that is what the asker wants to know.

use std::collections::VecDeque;
use std::time::Duration;

use crate::link::LinkId;
use crate::time::Instant;
use crate::wire::Order;
use crate::wire::lwl4::{HEADER, Header, Kind, Layer};
use crate::wire::nr::Nr;

use super::lanes::Lanes;
use super::{MAX_PINGED, Out, Path, Session};

/// Questions of ours that wait for their turn or answer; beyond, new ones are refused.
const MAX_QUESTIONS: usize = 256;
/// Answers to the peer's that wait for their turn; beyond, its questions are lost, as a ping may be.
const MAX_ANSWERS: usize = 64;

/// A question that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) id: u16,
    pub(crate) rtt: Duration,
    pub(crate) path: Path,
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
struct Question {
    id: u16,
    path: Path,
    at: Instant,
}

/// The questions of both sides.
#[derive(Debug, Default)]
pub(crate) struct Echoes {
    wanted: VecDeque<(u16, Option<LinkId>)>,
    asked: VecDeque<Question>,
    answers: VecDeque<(u16, Path)>,
}

impl Echoes {
    /// Asks by this link, or by the best path. False when too many questions are open.
    pub(crate) fn want(&mut self, id: u16, link: Option<LinkId>) -> bool {
        let room = self.wanted.len() + self.asked.len() < MAX_QUESTIONS;
        if room {
            self.wanted.push_back((id, link));
        }
        room
    }

    /// Nobody waits for the answer any more. Returns the way that the question took, if it was sent.
    pub(crate) fn forget(&mut self, id: u16) -> Option<Path> {
        self.wanted.retain(|(wanted, _)| *wanted != id);
        let place = self.asked.iter().position(|question| question.id == id)?;
        self.asked.remove(place).map(|question| question.path)
    }

    /// The peer asks.
    pub(crate) fn on_request(&mut self, id: u16, path: Path) {
        if self.answers.len() < MAX_ANSWERS {
            self.answers.push_back((id, path));
        }
    }

    /// The peer answers: question `id`, or without a number the oldest of this path.
    pub(crate) fn on_answer(&mut self, now: Instant, id: Option<u16>, path: Option<Path>) -> Option<Echo> {
        let is_it = |question: &Question| match id {
            Some(id) => question.id == id,
            None => Some(question.path) == path,
        };
        let place = self.asked.iter().position(is_it)?;
        let Question { id, path, at } = self.asked.remove(place)?;
        Some(Echo { id, rtt: now.since(at), path })
    }

    /// The next packet: an answer, or a question; `numbered` when the peer knows our extensions. A question whose link has no
    /// path is dropped.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        lanes: &Lanes,
        numbered: bool,
        frame: &mut [u8],
    ) -> Option<(Out, Path)> {
        if let Some((id, path)) = self.answers.pop_front() {
            return Some((packet(Nr::EchoAnswer { id }, frame)?, path));
        }
        while let Some((id, link)) = self.wanted.pop_front() {
            let lane = match link {
                Some(link) => lanes.iter().find(|lane| lane.link == link),
                None => lanes.for_control(None),
            };
            let Some(lane) = lane else { continue };
            let path = (lane.link, lane.addr);
            let question = if numbered { Nr::EchoRequest { id } } else { Nr::PingRequest };
            let out = packet(question, frame)?;
            self.asked.push_back(Question { id, path, at: now });
            return Some((out, path));
        }
        None
    }
}

impl Session {
    /// A ping outside of the sequence. Returns the question of ours that it answers.
    pub(crate) fn on_ping(&mut self, now: Instant, ping: &Nr<'_>) -> Option<Echo> {
        let path = self.came_by;
        match *ping {
            // The answer takes the same way, whether we would use it ourselves or not: that is what it proves.
            Nr::PingRequest if self.pinged.len() < MAX_PINGED => {
                self.pinged.extend(path.filter(|path| !self.pinged.contains(path)));
            }
            Nr::EchoRequest { id } => self.echoes.on_request(id, path?),
            Nr::PingAnswer => {
                let lane = self.arrival.and_then(|id| self.outbox.lanes.get_mut(id));
                if let Some((sample, lane)) = lane.and_then(|lane| Some((lane.health.on_answer(now)?, lane)))
                {
                    lane.rtt.on_sample(now, sample);
                }
                return self.echoes.on_answer(now, None, path);
            }
            Nr::EchoAnswer { id } => {
                let echo = self.echoes.on_answer(now, Some(id), path)?;
                if let Some(lane) = self.arrival.and_then(|id| self.outbox.lanes.get_mut(id)) {
                    lane.health.prove(now);
                }
                return Some(echo);
            }
            _ => {}
        }
        None
    }
}

/// An NR message outside of the sequence.
pub(super) fn packet(nr: Nr<'_>, frame: &mut [u8]) -> Option<Out> {
    let mut header = Header::new(Kind::User, Layer::Nr);
    header.length = nr.emit(frame.get_mut(HEADER..)?, Order::Little).ok()? as u32; // a few bytes
    Some(Out::Packet(header, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LinkAddr;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * SECOND)
    }

    fn path(n: u8) -> Path {
        (LinkId(n.into()), LinkAddr::mac([2, 0, 0, 0, 0, n]))
    }

    fn lanes() -> Lanes {
        let mut lanes = Lanes::default();
        lanes.add(at(0), path(1), 1400);
        lanes.add(at(0), path(2), 1400);
        lanes
    }

    #[test]
    fn a_question_takes_the_wanted_link_and_its_answer_tells_the_time() {
        let (mut echoes, lanes, mut frame) = (Echoes::default(), lanes(), [0; 100]);
        assert!(echoes.want(7, Some(LinkId(2))));
        let (_, by) = echoes.poll(at(1), &lanes, true, &mut frame).unwrap();
        assert_eq!((by, &frame[HEADER..HEADER + 4]), (path(2), &[0, 0, 7, 0][..]));
        assert_eq!(echoes.on_answer(at(2), Some(8), Some(path(2))), None);
        let echo = Echo { id: 7, rtt: Duration::from_secs(2), path: path(2) };
        assert_eq!(echoes.on_answer(at(3), Some(7), Some(path(1))), Some(echo));
        assert_eq!(echoes.on_answer(at(4), Some(7), Some(path(1))), None, "once");
    }

    #[test]
    fn answers_without_a_number_belong_to_the_oldest_question_of_their_path() {
        let (mut echoes, lanes, mut frame) = (Echoes::default(), lanes(), [0; 100]);
        for (id, link) in [(1, 1), (2, 2), (3, 2)] {
            echoes.want(id, Some(LinkId(link)));
            echoes.poll(at(0), &lanes, false, &mut frame).unwrap();
        }
        assert_eq!(frame[HEADER], 0);
        let ids: Vec<u16> =
            [2, 2, 1].map(|n| echoes.on_answer(at(1), None, Some(path(n))).unwrap().id).into_iter().collect();
        assert_eq!(ids, [2, 3, 1]);
    }

    #[test]
    fn a_question_for_a_link_without_a_path_is_dropped_and_the_next_one_goes() {
        let (mut echoes, lanes, mut frame) = (Echoes::default(), lanes(), [0; 100]);
        echoes.want(1, Some(LinkId(9)));
        echoes.want(2, Some(LinkId(1)));
        assert_eq!(echoes.poll(at(0), &lanes, true, &mut frame).map(|(_, by)| by), Some(path(1)));
        assert!(echoes.poll(at(0), &lanes, true, &mut frame).is_none());
    }

    #[test]
    fn the_peers_questions_are_answered_by_the_path_they_came_by_up_to_a_bound() {
        let (mut echoes, lanes, mut frame) = (Echoes::default(), lanes(), [0; 100]);
        (0..1000).for_each(|id| echoes.on_request(id, path(2)));
        let mut answered = 0;
        while let Some((_, by)) = echoes.poll(at(0), &lanes, true, &mut frame) {
            assert_eq!((by, frame[HEADER]), (path(2), 1));
            answered += 1;
        }
        assert_eq!(answered, MAX_ANSWERS);
    }

    #[test]
    fn open_questions_are_bounded_and_can_be_forgotten() {
        let (mut echoes, lanes, mut frame) = (Echoes::default(), lanes(), [0; 100]);
        assert!((0..MAX_QUESTIONS as u16).all(|id| echoes.want(id, None)));
        echoes.poll(at(0), &lanes, true, &mut frame).unwrap();
        assert!(!echoes.want(1000, None));
        assert_eq!(echoes.forget(0), Some(path(1)), "it was sent");
        assert_eq!(echoes.forget(1), None);
        assert_eq!(echoes.on_answer(at(1), Some(0), None), None);
        assert!(echoes.want(1000, None) && echoes.want(1001, None) && !echoes.want(1002, None));
    }
}
