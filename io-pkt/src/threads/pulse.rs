//! Whether a packet thread still turns, seen from loop 0 without asking it.
//!
//! The thread counts its turns; loop 0 looks at the count now and then. A thread that is seen in the same turn at
//! [`STRIKES`] looks one after the other, [`LOOK`] apart, is stuck in a module: no function of a driver may take that long
//! (`create`, `start` and `stop` a second, by the ABI; the rest is for a busy machine).
//! Looks are counted, not time, so a daemon that was stopped as a whole (a debugger, a frozen machine) suspects nobody.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use crate::uses::UseId;

/// Time between two looks, in nanoseconds.
pub(super) const LOOK: u64 = 500_000_000;
/// That many looks in a row must see the same turn.
pub(super) const STRIKES: u32 = 10;

/// How a thread came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum End {
    /// It was told to.
    Orderly = 1,
    /// Its poller failed.
    Poller = 2,
    /// Our own code panicked.
    Panic = 3,
}

/// Written by the thread, read by loop 0.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Grows with each turn and each request; odd while one goes on.
    beat: AtomicU64,
    /// The use that is called, or was called last.
    inside: AtomicU32,
    /// 0, or an [`End`].
    end: AtomicU8,
}

impl Pulse {
    /// The thread begins a turn or a request.
    pub(super) fn begin(&self) {
        let beat = self.beat.load(Ordering::Relaxed);
        self.beat.store((beat + 1) | 1, Ordering::Relaxed);
    }

    /// The thread is about to sleep.
    pub(super) fn rest(&self) {
        let beat = self.beat.load(Ordering::Relaxed);
        self.beat.store((beat + 1) & !1, Ordering::Relaxed);
    }

    /// The thread is about to call that use.
    pub(super) fn enter(&self, id: UseId) {
        self.inside.store(id.0, Ordering::Relaxed);
    }

    /// The thread ends. Everything that it did before is seen by who sees this.
    pub(super) fn end(&self, end: End) {
        self.end.store(end as u8, Ordering::Release);
    }

    /// How it ended; `None` while it runs.
    pub(super) fn ended(&self) -> Option<End> {
        let ends = [End::Orderly, End::Poller, End::Panic];
        let word = self.end.load(Ordering::Acquire);
        ends.into_iter().find(|end| *end as u8 == word)
    }

    /// It sleeps: nothing can be stuck.
    pub(super) fn is_resting(&self) -> bool {
        self.beat.load(Ordering::Relaxed) & 1 == 0
    }

    /// The use that it is inside of.
    pub(super) fn inside(&self) -> UseId {
        UseId(self.inside.load(Ordering::Relaxed))
    }
}

/// Loop 0's memory of its looks at a pulse.
#[derive(Debug, Default)]
pub(super) struct Watch {
    beat: Cell<u64>,
    at: Cell<u64>,
    strikes: Cell<u32>,
}

impl Watch {
    /// Looks at the pulse, unless the last look was a moment ago. True when the thread is stuck. `now` in nanoseconds.
    pub(super) fn look(&self, pulse: &Pulse, now: u64) -> bool {
        if now >= self.at.get() + LOOK {
            self.at.set(now);
            let beat = pulse.beat.load(Ordering::Relaxed);
            let same = self.beat.replace(beat) == beat && beat & 1 == 1;
            self.strikes.set(if same { self.strikes.get() + 1 } else { 0 });
        }
        self.strikes.get() >= STRIKES
    }

    /// It came back: it is suspected of nothing any more.
    pub(super) fn forgive(&self) {
        self.strikes.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(watch: &Watch, pulse: &Pulse, from: u64, n: u32) -> bool {
        (1..=u64::from(n)).map(|n| watch.look(pulse, from + n * LOOK)).last().unwrap()
    }

    #[test]
    fn a_thread_that_turns_or_sleeps_is_never_suspected() {
        let (pulse, watch) = (Pulse::default(), Watch::default());
        assert!(!looks(&watch, &pulse, 0, 100), "it sleeps");
        for n in 100..200 {
            pulse.begin();
            assert!(!looks(&watch, &pulse, n * LOOK, 1));
        }
        pulse.rest();
        assert!(pulse.is_resting() && !looks(&watch, &pulse, 200 * LOOK, 100));
    }

    #[test]
    fn one_long_turn_is_stuck_and_its_end_is_noticed() {
        let (pulse, watch) = (Pulse::default(), Watch::default());
        pulse.begin();
        pulse.enter(UseId(7));
        assert!(!looks(&watch, &pulse, 0, STRIKES), "the first look has nothing to compare with");
        assert!(looks(&watch, &pulse, 10 * LOOK, 1));
        assert_eq!(pulse.inside(), UseId(7));
        pulse.begin();
        assert!(!looks(&watch, &pulse, 20 * LOOK, 1));
    }

    #[test]
    fn looks_count_and_time_does_not() {
        let (pulse, watch) = (Pulse::default(), Watch::default());
        pulse.begin();
        assert!(!watch.look(&pulse, LOOK));
        // The whole daemon was stopped for an hour.
        assert!(!watch.look(&pulse, 7200 * LOOK));
        // Many looks in one moment are one.
        assert!((0..100).all(|n| !watch.look(&pulse, 7200 * LOOK + n)));
    }

    #[test]
    fn an_end_has_its_reason() {
        let pulse = Pulse::default();
        assert_eq!(pulse.ended(), None);
        for end in [End::Orderly, End::Poller, End::Panic] {
            pulse.end(end);
            assert_eq!(pulse.ended(), Some(end));
        }
    }
}
