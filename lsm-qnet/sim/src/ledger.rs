//! The ledger: what was promised to whom, and whether it was kept.
//!
//! Every message and every pulse has a number here, and belongs to a *stream*: what one client sends
//! on one connection, in order. The number travels with it (as `keydata`, or as the pulse's value), so
//! the server's side can tell the ledger what arrived. A broken promise panics at once, where it
//! happens:
//!
//! - nothing arrives twice, and nothing arrives that was not sent;
//! - a pulse arrives after everything that was sent before it on its connection, and before
//!   everything that was sent after it; only a message that the server's node *refused* (it holds as many of the
//!   peer's as it may, or knows the connection no more) never arrives, and its sender gets exactly that error;
//! - a message ends once, with an answer or an error, and only what arrived is answered.
//!
//! [`Ledger::overdue`] tells of senders that wait too long, [`Ledger::check`] of those that wait
//! for ever.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::{Errno, Instant};

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its sender got the answer.
    Answered,
    /// Its sender got an error.
    Failed(Errno),
    /// Its sender left, or died with its host: there was nobody to be told.
    Abandoned,
}

/// What is known of a message or pulse.
#[derive(Debug)]
struct Entry {
    stream: u64,
    /// Its place in the stream.
    place: u64,
    pulse: bool,
    arrived: bool,
    /// A later pulse of its stream arrived, and it had not: it was refused.
    refused: bool,
    sent: Instant,
    outcome: Option<Outcome>,
}

/// What arrived of a stream.
#[derive(Debug, Default)]
struct Stream {
    /// The number of what is at each place.
    numbers: Vec<u64>,
    /// Everything before this place arrived, or was taken back before it left.
    base: u64,
    /// What arrived or was taken back after it.
    beyond: BTreeSet<u64>,
    /// One past the latest place that arrived.
    after_last: u64,
    /// One past the last pulse that arrived.
    after_pulse: u64,
}

impl Stream {
    /// What did not arrive of what is before a place, and was not taken back.
    fn missing_before(&self, place: u64) -> impl Iterator<Item = u64> {
        let missing = (self.base..place).filter(|before| !self.beyond.contains(before));
        missing.filter_map(|before| self.numbers.get(before as usize).copied())
    }

    fn settle(&mut self, place: u64) {
        self.beyond.insert(place);
        while self.beyond.remove(&self.base) {
            self.base += 1;
        }
    }
}

/// How a message ends that the server's node refused: with its refusal, or with the end of the connection or the
/// session before that came back, or unheard.
fn is_refusal(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Failed(errno) => {
            matches!(errno, Errno::EAGAIN | Errno::EBADF | Errno::ESRCH | Errno::EHOSTDOWN)
        }
        Outcome::Abandoned => true,
        Outcome::Answered => false,
    }
}

/// What became of everything.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    streams: BTreeMap<u64, Stream>,
    /// Messages that have not ended, oldest first.
    open: BTreeSet<u64>,
    clients: u64,
    /// Bytes whose arrival was verified.
    pub verified: u64,
    /// Connections the servers saw end.
    pub disconnects: u64,
}

/// A ledger that apps share.
pub type SharedLedger = Rc<RefCell<Ledger>>;

impl Ledger {
    /// A fresh one.
    #[must_use]
    pub fn shared() -> SharedLedger {
        Rc::default()
    }

    /// A number for a new client.
    pub(crate) fn add_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    fn enter(&mut self, stream: u64, pulse: bool, now: Instant) -> u64 {
        let number = self.entries.len() as u64;
        let entry = self.streams.entry(stream).or_default();
        let place = entry.numbers.len() as u64;
        entry.numbers.push(number);
        let (arrived, refused, outcome) = (false, false, None);
        self.entries.push(Entry { stream, place, pulse, arrived, refused, sent: now, outcome });
        number
    }

    /// A message is sent; gives its number.
    pub fn send(&mut self, stream: u64, now: Instant) -> u64 {
        let number = self.enter(stream, false, now);
        self.open.insert(number);
        number
    }

    /// A pulse is sent; gives its number.
    pub fn pulse(&mut self, stream: u64, now: Instant) -> u64 {
        self.enter(stream, true, now)
    }

    /// What was sent last was refused by the sender's own node: it never left.
    pub fn take_back(&mut self, number: u64) {
        let Some(entry) = self.entries.get(number as usize) else { return };
        if !entry.arrived
            && let Some(stream) = self.streams.get_mut(&entry.stream)
        {
            stream.settle(entry.place);
        }
    }

    /// A message or pulse reached a server.
    ///
    /// # Panics
    /// When it must not have, or not yet.
    pub fn arrived(&mut self, number: u64, pulse: bool) {
        let Some(entry) = self.entries.get_mut(number as usize) else {
            panic!("{number} arrived, which nobody sent")
        };
        assert_eq!(entry.pulse, pulse, "{number} arrived as something else");
        assert!(!entry.arrived, "{number} arrived twice");
        entry.arrived = true;
        let (place, number_of) = (entry.place, entry.stream);
        let stream = self.streams.get_mut(&number_of).expect("an entry has a stream");
        assert!(
            place >= stream.after_pulse,
            "{number} (place {place} of stream {number_of:#x}) arrived after a pulse that was sent later",
        );
        if pulse {
            assert!(
                stream.after_last <= place,
                "pulse {number} (place {place} of stream {number_of:#x}) is out of order: after {}",
                stream.after_last,
            );
            stream.after_pulse = place + 1;
            let missing: Vec<u64> = stream.missing_before(place).collect();
            missing.into_iter().for_each(|missing| self.refuse(missing, number));
        }
        let stream = self.streams.get_mut(&number_of).expect("an entry has a stream");
        stream.after_last = stream.after_last.max(place + 1);
        stream.settle(place);
    }

    /// A message did not arrive before a later pulse of its stream did.
    fn refuse(&mut self, number: u64, pulse: u64) {
        let entry = &mut self.entries[number as usize];
        assert!(!entry.pulse, "pulse {number} is missing although {pulse} arrived, which was sent later");
        entry.refused = true;
        assert!(
            entry.outcome.is_none_or(is_refusal),
            "message {number} is missing although pulse {pulse} arrived, and ended with {:?}",
            entry.outcome,
        );
        let (stream, place) = (entry.stream, entry.place);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.settle(place);
        }
    }

    /// A message ended.
    ///
    /// # Panics
    /// When it had ended before, or was answered by nobody, or was overtaken by a pulse and not refused.
    pub fn end(&mut self, number: u64, outcome: Outcome) {
        let entry = &mut self.entries[number as usize];
        assert_eq!(entry.outcome, None, "message {number} ended twice");
        assert!(outcome != Outcome::Answered || entry.arrived, "{number} was answered by nobody");
        assert!(
            !entry.refused || is_refusal(outcome),
            "message {number} was overtaken by a pulse, and ended with {outcome:?}"
        );
        entry.outcome = Some(outcome);
        self.open.remove(&number);
    }

    /// The oldest message that has been waiting for longer than `patience`, if there is one.
    #[must_use]
    pub fn overdue(&self, now: Instant, patience: Duration) -> Option<u64> {
        let oldest = *self.open.first()?;
        (now.since(self.entries[oldest as usize].sent) > patience).then_some(oldest)
    }

    /// Checks that every sender was told.
    ///
    /// # Panics
    /// When one was not.
    pub fn check(&self) {
        assert!(self.open.is_empty(), "the senders of these were told nothing: {:?}", self.open);
    }

    fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        self.entries.iter().filter_map(|entry| entry.outcome)
    }

    /// Messages that ended with an error.
    #[must_use]
    pub fn errors(&self) -> Vec<Errno> {
        let error = |outcome| if let Outcome::Failed(errno) = outcome { Some(errno) } else { None };
        self.outcomes().filter_map(error).collect()
    }

    /// Messages that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.outcomes().filter(|&outcome| outcome == Outcome::Answered).count()
    }

    /// Messages of one client that were answered; clients count from 1, in the order they were made.
    #[must_use]
    pub fn answered_of(&self, client: u64) -> usize {
        let of_client = |entry: &&Entry| entry.stream >> 32 == client;
        let answered = |entry: &&Entry| entry.outcome == Some(Outcome::Answered);
        self.entries.iter().filter(of_client).filter(answered).count()
    }

    /// Pulses that arrived.
    #[must_use]
    pub fn pulses(&self) -> usize {
        self.entries.iter().filter(|entry| entry.pulse && entry.arrived).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn broken(promise: impl FnOnce(&mut Ledger)) -> String {
        let mut ledger = Ledger::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| promise(&mut ledger)));
        let panic = result.expect_err("the ledger noticed nothing");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn messages_may_overtake_each_other_and_pulses_nothing() {
        let mut ledger = Ledger::default();
        let numbers: Vec<u64> =
            (0..4).map(|i| if i == 2 { ledger.pulse(1, NOW) } else { ledger.send(1, NOW) }).collect();
        for i in [1, 0, 2, 3] {
            ledger.arrived(numbers[i], i == 2);
        }
        assert_eq!(ledger.pulses(), 1);
    }

    #[test]
    fn every_broken_promise_is_noticed() {
        let twice = broken(|ledger| {
            let number = ledger.send(1, NOW);
            ledger.arrived(number, false);
            ledger.arrived(number, false);
        });
        assert!(twice.contains("arrived twice"), "{twice}");
        let overtaken = broken(|ledger| {
            let (send, pulse) = (ledger.send(1, NOW), ledger.pulse(1, NOW));
            ledger.arrived(pulse, true);
            ledger.arrived(send, false);
        });
        assert!(overtaken.contains("after a pulse that was sent later"), "{overtaken}");
        let lost = broken(|ledger| {
            let (_lost, pulse) = (ledger.pulse(1, NOW), ledger.pulse(1, NOW));
            ledger.arrived(pulse, true);
        });
        assert!(lost.contains("is missing although"), "{lost}");
        for early in [true, false] {
            let wrong = broken(|ledger| {
                let (send, pulse) = (ledger.send(1, NOW), ledger.pulse(1, NOW));
                let failed = Outcome::Failed(Errno::EINTR);
                early.then(|| ledger.end(send, failed));
                ledger.arrived(pulse, true);
                ledger.end(send, failed);
            });
            assert!(wrong.contains("ended with"), "{wrong}");
        }
        let late = broken(|ledger| {
            let (pulse, send) = (ledger.pulse(1, NOW), ledger.send(1, NOW));
            ledger.arrived(send, false);
            ledger.arrived(pulse, true);
        });
        assert!(late.contains("out of order"), "{late}");
        let nobody = broken(|ledger| {
            let number = ledger.send(1, NOW);
            ledger.end(number, Outcome::Answered);
        });
        assert!(nobody.contains("by nobody"), "{nobody}");
        let silent = broken(|ledger| {
            ledger.send(1, NOW);
            ledger.check();
        });
        assert!(silent.contains("told nothing"), "{silent}");
    }

    #[test]
    fn what_was_taken_back_is_not_waited_for() {
        let mut ledger = Ledger::default();
        let (send, pulse) = (ledger.send(1, NOW), ledger.pulse(1, NOW));
        ledger.take_back(send);
        ledger.end(send, Outcome::Failed(Errno::EINTR));
        ledger.arrived(pulse, true);
        ledger.check();
    }

    #[test]
    fn what_was_refused_is_not_waited_for() {
        let mut ledger = Ledger::default();
        let (send, pulse) = (ledger.send(1, NOW), ledger.pulse(1, NOW));
        ledger.arrived(pulse, true);
        ledger.end(send, Outcome::Failed(Errno::EAGAIN));
        let (send, pulse) = (ledger.send(1, NOW), ledger.pulse(1, NOW));
        ledger.end(send, Outcome::Failed(Errno::EAGAIN));
        ledger.arrived(pulse, true);
        ledger.check();
    }

    #[test]
    fn who_waits_too_long_is_known() {
        let mut ledger = Ledger::default();
        let number = ledger.send(1, NOW);
        let later = NOW + Duration::from_secs(9);
        assert_eq!(ledger.overdue(later, Duration::from_secs(9)), None);
        assert_eq!(ledger.overdue(later, Duration::from_secs(8)), Some(number));
    }
}
