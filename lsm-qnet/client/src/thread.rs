//! What belongs to a thread: its number, its priority, and the timeout of its next blocking call.
//!
//! Priorities are QNX's, 1 to 255, 10 unless set. They are the library's own, so that messages are ordered by them also
//! where Linux refuses realtime scheduling. A thread that receives a message takes over its sender's priority (unless the
//! channel has `_NTO_CHF_FIXED_PRIORITY`) until it receives the next one or a pulse.
//!
//! DEVIATION: in QNX the receiver inherits while it is still waiting and every thread that it waits for inherits, too. Linux
//! offers that for mutexes only. Here the priority is taken over when the message is received; it counts for the messages
//! that the thread sends, and for the kernel only when the thread runs under a realtime policy.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use crate::{
    Event,
    process::{self, lock},
    sys,
};

/// Priority of a thread that never asked for another.
pub(crate) const DEFAULT_PRIORITY: i32 = 10;

/// States of a blocked thread, as bits for [`crate::calls::timer_timeout`].
pub mod state {
    /// Waiting for the message to be received.
    pub const SEND: u32 = 1 << 4;
    /// Waiting for a message.
    pub const RECEIVE: u32 = 1 << 5;
    /// Waiting for the reply.
    pub const REPLY: u32 = 1 << 6;
}

/// A timeout for one blocking call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout {
    /// In which states it runs, [`state`] bits (and others, for the C library).
    pub(crate) states: u32,
    /// When it is over, counted from the call that armed it.
    pub(crate) deadline: Instant,
    /// The same as a length, for a state that begins later.
    pub(crate) length: Duration,
    /// What happens then; [`Event::Unblock`] ends the call.
    pub(crate) event: Event,
}

thread_local! {
    static PRIORITY: Cell<i32> = const { Cell::new(DEFAULT_PRIORITY) };
    static TIMEOUT: Cell<Option<Timeout>> = const { Cell::new(None) };
    static NUMBER: RefCell<Option<Number>> = const { RefCell::new(None) };
}

/// The priority of the calling thread.
pub(crate) fn priority() -> i32 {
    PRIORITY.get()
}

/// Sets the priority of the calling thread, for messages only.
pub(crate) fn set_priority(priority: i32) {
    PRIORITY.set(priority.clamp(1, 255));
}

/// Takes over the priority of a message's sender.
pub(crate) fn inherit(priority: i32) {
    let priority = priority.clamp(1, 255);
    if PRIORITY.replace(priority) != priority {
        sys::inherit_realtime(priority);
    }
}

/// The next blocking call of this thread ends at the deadline, if it waits in one of the states then.
pub(crate) fn arm_timeout(states: u32, length: Duration, event: Event) {
    let deadline = Instant::now().checked_add(length);
    TIMEOUT.set(deadline.filter(|_| states != 0).map(|deadline| Timeout { states, deadline, length, event }));
}

/// The timeout that was armed, for one call only.
pub(crate) fn take_timeout() -> Option<Timeout> {
    TIMEOUT.take()
}

/// A thread's number, from 1; the lowest free one. Given back when the thread ends, of which the process's channels hear.
#[derive(Debug)]
struct Number {
    number: i32,
    /// The process that counts it: in a child of that one the thread has another number.
    process: &'static process::Process,
}

impl Number {
    fn lowest() -> Self {
        let process = process::get();
        let mut numbers = lock(&process.threads);
        // 1 is the first thread's, whoever asks first.
        let first = i32::from(nix::unistd::gettid() != nix::unistd::getpid()) + 1;
        let number = (first..i32::MAX).find(|number| !numbers.contains(number)).unwrap_or(i32::MAX);
        numbers.insert(number);
        Self { number, process }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if self.process.is_current() {
            lock(&self.process.threads).remove(&self.number);
            self.process.thread_ended(self.number);
        }
    }
}

/// The calling thread's number, from 1. From now on its end is told to the channels that asked for it.
pub(crate) fn number() -> i32 {
    let known = |slot: &RefCell<Option<Number>>| {
        let mut slot = slot.borrow_mut();
        if let Some(known) = slot.as_ref().filter(|known| known.process.is_current()) {
            return known.number;
        }
        slot.insert(Number::lowest()).number
    };
    // A thread that is ending has no number any more.
    NUMBER.try_with(known).unwrap_or(0)
}
