//! What waits to be received: by priority, equal ones in order of arrival.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::Pulse;

/// The most urgent first, then the oldest.
type Rank = (Reverse<i32>, u64);

/// Messages (by what names them) and pulses.
#[derive(Debug)]
pub(super) struct Queue<M> {
    messages: BTreeMap<Rank, M>,
    pulses: BTreeMap<Rank, Pulse>,
    arrivals: u64,
}

/// What was taken from a [`Queue`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<M> {
    Message(M),
    Pulse(Pulse),
}

/// Where a message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(Rank);

impl<M> Queue<M> {
    pub(super) fn new() -> Self {
        Self { messages: BTreeMap::new(), pulses: BTreeMap::new(), arrivals: 0 }
    }

    pub(super) fn push(&mut self, priority: i32, message: M) -> Place {
        let rank = self.rank(priority);
        self.messages.insert(rank, message);
        Place(rank)
    }

    pub(super) fn push_pulse(&mut self, pulse: Pulse) {
        let rank = self.rank(pulse.priority);
        self.pulses.insert(rank, pulse);
    }

    /// The message leaves without being received.
    pub(super) fn remove(&mut self, place: Place) {
        self.messages.remove(&place.0);
    }

    pub(super) fn take(&mut self, pulses_only: bool) -> Option<Taken<M>> {
        let pulse = self.pulses.first_key_value().map(|(rank, _)| *rank);
        let message = self.messages.first_key_value().map(|(rank, _)| *rank);
        match (pulse, message) {
            (pulse, Some(message)) if !pulses_only && pulse.is_none_or(|pulse| message < pulse) => {
                self.messages.pop_first().map(|(_, message)| Taken::Message(message))
            }
            (Some(_), _) => self.pulses.pop_first().map(|(_, pulse)| Taken::Pulse(pulse)),
            (None, _) => None,
        }
    }

    pub(super) fn pulses(&self) -> usize {
        self.pulses.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.pulses.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.pulses.clear();
    }

    fn rank(&mut self, priority: i32) -> Rank {
        self.arrivals += 1;
        (Reverse(priority), self.arrivals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(priority: i32, value: u64) -> Pulse {
        Pulse { code: 1, value, priority, scoid: 1 }
    }

    #[test]
    fn the_most_urgent_comes_first_and_equal_ones_in_order() {
        let mut queue = Queue::new();
        queue.push(10, 'a');
        queue.push_pulse(pulse(10, 1));
        queue.push(20, 'b');
        let gone = queue.push(30, 'c');
        queue.push(10, 'd');
        queue.remove(gone);
        let order: Vec<_> = std::iter::from_fn(|| queue.take(false)).collect();
        let pulse = Taken::Pulse(pulse(10, 1));
        assert_eq!(order, [Taken::Message('b'), Taken::Message('a'), pulse, Taken::Message('d')]);
    }

    #[test]
    fn who_wants_pulses_only_leaves_the_messages() {
        let mut queue = Queue::new();
        queue.push(10, 'a');
        assert_eq!(queue.take(true), None);
        queue.push_pulse(pulse(1, 7));
        assert_eq!(queue.take(true), Some(Taken::Pulse(pulse(1, 7))));
        assert_eq!(queue.take(true), None);
        assert!(!queue.is_empty());
    }
}
