//! Signals of a thread that waits: none slips through between its looking and its sleeping.
//!
//! A wait that a signal handler is to end looks for packets first and sleeps then. A handler that ran while it looked would
//! have run for nothing: the thread would sleep on. So the signals are held back from before the first look to the end of
//! the call, and let in only by the sleep itself, which ends with `EINTR` after a handler, at once when the signal was there
//! before (ppoll(2)).
//!
//! ```text
//!  hold ──▶ send, look, look, …  ──▶ ppoll with the thread's own mask ──▶ look … ──▶ drop: the own mask again
//!           signals wait                handlers run, EINTR                            handlers run, too late for the call
//! ```

use std::marker::PhantomData;

use nix::{
    errno::Errno,
    poll::{PollFd, ppoll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal},
        time::{TimeSpec, TimeValLike},
    },
};

/// Faults of the program itself; they cannot wait.
const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
];

/// How the calling thread takes its signals during a call; dropping it makes everything as it was.
#[derive(Debug)]
pub struct Signals {
    /// A handler is to end the wait.
    end_waits: bool,
    /// The thread's own mask, while signals are held back.
    own: Option<SigSet>,
    /// A mask belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Signals {
    /// They come as they please; one that comes while nobody sleeps is not noticed.
    #[must_use]
    pub const fn unnoticed() -> Self {
        Self { end_waits: false, own: None, thread: PhantomData }
    }

    /// Each that comes after [`Signals::hold`] ends the next wait, if `end_waits`; otherwise as [`Signals::unnoticed`].
    #[must_use]
    pub const fn new(end_waits: bool) -> Self {
        Self { end_waits, own: None, thread: PhantomData }
    }

    /// Holds them back from now on. Two system calls in all, however often it is called.
    pub fn hold(&mut self) {
        if !self.end_waits || self.own.is_some() {
            return;
        }
        let mut all = SigSet::all();
        FAULTS.iter().for_each(|signal| all.remove(*signal));
        // It fails for no set.
        self.own = all.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
    }

    /// Whether they are held back.
    #[must_use]
    pub fn are_held(&self) -> bool {
        self.own.is_some()
    }

    /// Lets those in that were held back; whether a handler ran. For a thread that has found something again and again, so
    /// that it never slept.
    #[must_use]
    pub fn came(&self) -> bool {
        self.own.is_some() && self.poll(&mut [], Some(TimeSpec::nanoseconds(0))) == Err(Errno::EINTR)
    }

    /// poll(2) that lets them in.
    ///
    /// # Errors
    /// As ppoll(2): `EINTR` after a handler.
    pub fn poll(&self, fds: &mut [PollFd<'_>], timeout: Option<TimeSpec>) -> nix::Result<i32> {
        ppoll(fds, timeout, self.own)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(own) = self.own {
            // It fails for no set.
            let _never = own.thread_set_mask();
        }
    }
}
