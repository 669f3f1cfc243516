//! Where a thread sleeps until another one wakes it: a futex, because a condition variable sleeps through signals; or, when
//! signals were held back up to the sleep, a descriptor, because no futex lets them in.

use std::{
    os::fd::AsFd,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags},
    sys::{
        eventfd::{EfdFlags, EventFd},
        time::TimeSpec,
    },
};
use qnet_ipc::Signals;

use super::{KeptFromChild, generation};

/// A sleep without a deadline is one of an hour, over and over: a futex with a timeout ends with `EINTR` after any signal
/// handler, as `poll` does, and one without only after some.
const LONG: Duration = Duration::from_secs(3600);
/// How often a thread that found no descriptor left looks for signals.
const PEEK: Duration = Duration::from_millis(5);

/// Nobody sleeps, or on the futex.
const IDLE: u32 = 0;
/// The next sleep is over.
const WOKEN: u32 = 1;
/// The thread sleeps on its bell.
const ON_BELL: u32 = 2;

/// One thread's sleeping place. A wake-up that comes early is kept for the next sleep.
#[derive(Debug)]
pub(crate) struct Parker {
    word: AtomicU32,
    /// Made for the first sleep that signals are to end.
    bell: OnceLock<(KeptFromChild, EventFd)>,
    generation: u32,
}

impl Default for Parker {
    fn default() -> Self {
        Self { word: AtomicU32::new(IDLE), bell: OnceLock::new(), generation: generation() }
    }
}

impl Parker {
    /// Whether it belongs to this process and not to its parent.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == generation()
    }

    /// Sleeps until [`Parker::unpark`] or the deadline.
    ///
    /// # Errors
    /// `EINTR` when a signal handler ran, if `signals` are held at any time since then. A wake-up of the same moment is kept.
    pub(crate) fn park(&self, deadline: Option<Instant>, signals: &Signals) -> Result<(), Errno> {
        let bell = if signals.are_held() { self.bell() } else { None };
        loop {
            if self.word.swap(IDLE, Ordering::Acquire) == WOKEN {
                return Ok(());
            }
            let left = deadline.map_or(LONG, |at| at.saturating_duration_since(Instant::now()).min(LONG));
            if left.is_zero() {
                return Ok(());
            }
            let slept = match bell {
                Some(bell) => self.sleep_on(bell, left, signals),
                None if signals.came() => Err(Errno::EINTR),
                None if signals.are_held() => self.wait(left.min(PEEK)),
                None => self.wait(left),
            };
            if slept == Err(Errno::EINTR) {
                return slept;
            }
            // Woken, or the time is over, or a kernel that knows better: look again.
        }
    }

    /// Wakes the thread that sleeps here, or keeps its next sleep from beginning.
    pub(crate) fn unpark(&self) {
        match self.word.swap(WOKEN, Ordering::AcqRel) {
            IDLE => {
                // SAFETY: the address is that of a live word; waking touches no memory.
                unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        self.word.as_ptr(),
                        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                        1,
                    )
                };
            }
            ON_BELL => {
                // It cannot be full: each ring is heard before the next sleep.
                let _rings = self.bell.get().map(|(_, bell)| bell.write(1));
            }
            _ => {}
        }
    }

    /// `None`: no descriptor is left.
    fn bell(&self) -> Option<&EventFd> {
        if self.bell.get().is_none() {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let bell = EventFd::from_value_and_flags(0, flags).ok()?;
            // Only the thread itself makes one.
            let _first = self.bell.set((KeptFromChild::new(bell.as_fd()), bell));
        }
        self.bell.get().map(|(_, bell)| bell)
    }

    fn sleep_on(&self, bell: &EventFd, left: Duration, signals: &Signals) -> Result<(), Errno> {
        if self.word.compare_exchange(IDLE, ON_BELL, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return Ok(());
        }
        let mut fds = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
        let slept = signals.poll(&mut fds, Some(TimeSpec::from_duration(left)));
        // A wake-up of this moment stays in the word, or in the bell for the next sleep, which then looks again.
        let _ringing = self.word.compare_exchange(ON_BELL, IDLE, Ordering::AcqRel, Ordering::Acquire);
        let _heard = bell.read();
        slept.map(drop)
    }

    fn wait(&self, left: Duration) -> Result<(), Errno> {
        let timeout = libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        };
        // SAFETY: the word and the timeout live across the call, which reads both; the second address is not used.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                IDLE,
                &raw const timeout,
                ptr::null::<u32>(),
                0u32,
            )
        };
        if result == 0 { Ok(()) } else { Err(Errno::last()) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicBool},
        thread,
    };

    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

    use super::*;

    fn short() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(5))
    }

    fn both(test: impl Fn(&Signals)) {
        test(&Signals::unnoticed());
        let mut held = Signals::new(true);
        held.hold();
        test(&held);
    }

    #[test]
    fn a_wake_up_that_comes_early_is_kept() {
        both(|signals| {
            let parker = Parker::default();
            parker.unpark();
            parker.unpark();
            assert_eq!(parker.park(None, signals), Ok(()));
            assert_eq!(parker.park(short(), signals), Ok(()), "one was kept, not two");
        });
    }

    #[test]
    fn a_sleeper_is_woken_by_another_thread() {
        both(|signals| {
            let parker = Arc::new(Parker::default());
            for _ in 0..100 {
                let other = Arc::clone(&parker);
                let waker = thread::spawn(move || other.unpark());
                assert_eq!(parker.park(None, signals), Ok(()));
                waker.join().unwrap();
            }
        });
    }

    #[test]
    fn a_signal_that_was_held_back_ends_the_next_sleep() {
        static RAN: AtomicBool = AtomicBool::new(false);
        extern "C" fn note(_: i32) {
            RAN.store(true, Ordering::Relaxed);
        }
        let handler = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler stores into a static and nothing else.
        unsafe { sigaction(Signal::SIGWINCH, &handler) }.unwrap();
        let mut signals = Signals::new(true);
        signals.hold();
        let parker = Parker::default();
        for on_bell in [true, false] {
            RAN.store(false, Ordering::Relaxed);
            raise(Signal::SIGWINCH).unwrap();
            assert!(!RAN.load(Ordering::Relaxed));
            if on_bell {
                assert_eq!(parker.park(None, &signals), Err(Errno::EINTR));
            } else {
                assert!(signals.came() && !signals.came());
            }
            assert!(RAN.load(Ordering::Relaxed));
        }
        raise(Signal::SIGWINCH).unwrap();
        RAN.store(false, Ordering::Relaxed);
        drop(signals);
        assert!(RAN.load(Ordering::Relaxed), "after the call it runs in any case");
    }
}
