//! Order where the kernel interface promises it, and nowhere else.
//!
//! Messages of a session travel in any order, so that bulk never blocks what is small. Those that
//! must keep an order pass a *gate*: the one of their connection or of their transaction. Behind a
//! gate a *free* message (MSGSEND, MSGWRITE) goes at once unless an *ordered* one is before it; an
//! ordered message (PULSE, UNBLOCK, DISCONNECT, MSGREPLY, EVENT, CONNECT_DEATH) waits until everything
//! before it has been acknowledged, which is when the receiver has delivered it.
//!
//! ```text
//!   enter(free)    ── nothing ordered before it ──► goes
//!   enter(ordered) ── gate empty ──► goes; otherwise waits in the gate's queue
//!   leave()        ── acknowledged: the queue moves up
//! ```

use std::collections::{BTreeMap, VecDeque};

/// Names a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GateKey {
    /// A client-side connection.
    Client(u32),
    /// A server-side connection.
    Server(u32),
    /// A received message.
    Rcv(u32),
    /// The events for the client of a server-side connection: a gate of their own, so that they wait for each other and
    /// not for a long reply.
    Events(u32),
}

/// How a message passes its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Needs no order among its kind.
    Free,
    /// Comes after everything that entered before it, and before everything that enters later.
    Ordered,
}

#[derive(Debug)]
struct Gate<T> {
    /// Messages that went and are not acknowledged yet.
    outstanding: usize,
    /// One of them is ordered; then it is the only one.
    ordered: bool,
    queue: VecDeque<(T, Class)>,
}

/// All gates of a session. A gate exists while something is behind it.
#[derive(Debug)]
pub(crate) struct Gates<T> {
    gates: BTreeMap<GateKey, Gate<T>>,
    waiting: usize,
}

impl<T> Default for Gates<T> {
    fn default() -> Gates<T> {
        Gates { gates: BTreeMap::new(), waiting: 0 }
    }
}

impl<T> Gates<T> {
    fn gate(&mut self, key: GateKey) -> &mut Gate<T> {
        let empty = || Gate { outstanding: 0, ordered: false, queue: VecDeque::new() };
        self.gates.entry(key).or_insert_with(empty)
    }

    /// A message comes to its gate: given back when it may go now, kept otherwise.
    pub(crate) fn enter(&mut self, key: GateKey, class: Class, item: T) -> Option<T> {
        let gate = self.gate(key);
        let may_go = match class {
            Class::Free => gate.queue.is_empty() && !gate.ordered,
            Class::Ordered => gate.outstanding == 0,
        };
        if may_go {
            gate.outstanding += 1;
            gate.ordered = class == Class::Ordered;
            return Some(item);
        }
        gate.queue.push_back((item, class));
        self.waiting += 1;
        None
    }

    /// Counts a message behind a second gate that never holds it back, only what comes after it.
    pub(crate) fn count(&mut self, key: GateKey) {
        self.gate(key).outstanding += 1;
    }

    /// A message behind the gate was acknowledged; `go` is called with each one that may go now.
    pub(crate) fn leave(&mut self, key: GateKey, mut go: impl FnMut(T)) {
        let Some(gate) = self.gates.get_mut(&key) else { return };
        gate.outstanding = gate.outstanding.saturating_sub(1);
        if gate.outstanding == 0 {
            gate.ordered = false;
        }
        while let Some((_, class)) = gate.queue.front() {
            let ordered = *class == Class::Ordered;
            if gate.ordered || (ordered && gate.outstanding > 0) {
                break;
            }
            gate.outstanding += 1;
            gate.ordered = ordered;
            if let Some((item, _)) = gate.queue.pop_front() {
                self.waiting -= 1;
                go(item);
            }
        }
        if gate.outstanding == 0 {
            self.gates.remove(&key);
        }
    }

    /// Messages held back.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: GateKey = GateKey::Client(7);

    fn leave(gates: &mut Gates<u32>) -> Vec<u32> {
        let mut gone = Vec::new();
        gates.leave(KEY, |item| gone.push(item));
        gone
    }

    #[test]
    fn free_messages_do_not_wait_for_each_other() {
        let mut gates = Gates::default();
        assert!((0..5).all(|i| gates.enter(KEY, Class::Free, i) == Some(i)));
    }

    #[test]
    fn an_ordered_message_waits_for_all_before_it_and_all_after_it_wait_for_it() {
        let mut gates = Gates::default();
        assert_eq!(gates.enter(KEY, Class::Free, 1), Some(1));
        assert_eq!(gates.enter(KEY, Class::Free, 2), Some(2));
        assert_eq!(gates.enter(KEY, Class::Ordered, 3), None);
        assert_eq!(gates.enter(KEY, Class::Free, 4), None);
        assert_eq!(gates.enter(KEY, Class::Free, 5), None);
        assert_eq!(gates.waiting(), 3);
        assert_eq!(leave(&mut gates), []);
        assert_eq!(leave(&mut gates), [3]);
        assert_eq!(leave(&mut gates), [4, 5]);
        assert_eq!(leave(&mut gates), []);
        assert_eq!(leave(&mut gates), []);
        assert_eq!(gates.waiting(), 0);
        assert!(gates.gates.is_empty());
    }

    #[test]
    fn ordered_messages_go_one_by_one() {
        let mut gates = Gates::default();
        assert_eq!(gates.enter(KEY, Class::Ordered, 1), Some(1));
        assert_eq!(gates.enter(KEY, Class::Ordered, 2), None);
        assert_eq!(gates.enter(KEY, Class::Ordered, 3), None);
        assert_eq!(leave(&mut gates), [2]);
        assert_eq!(leave(&mut gates), [3]);
    }

    #[test]
    fn a_counted_message_holds_ordered_ones_back_but_goes_itself() {
        let mut gates = Gates::default();
        gates.count(KEY);
        assert_eq!(gates.enter(KEY, Class::Ordered, 9), None);
        assert_eq!(leave(&mut gates), [9]);
    }

    #[test]
    fn gates_do_not_know_each_other() {
        let mut gates = Gates::default();
        assert_eq!(gates.enter(KEY, Class::Ordered, 1), Some(1));
        assert_eq!(gates.enter(GateKey::Server(7), Class::Ordered, 2), Some(2));
    }
}
