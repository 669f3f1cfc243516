//! Where a thread sleeps until another one wakes it: a futex, because a condition variable sleeps through signals.

use std::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::errno::Errno;

/// A sleep without a deadline is one of an hour, over and over: a futex with a timeout ends with `EINTR` after any signal
/// handler, as `poll` does, and one without only after some.
const LONG: Duration = Duration::from_secs(3600);

/// One thread's sleeping place. A wake-up that comes early is kept for the next sleep.
#[derive(Debug, Default)]
pub(crate) struct Parker(AtomicU32);

impl Parker {
    /// Sleeps until [`Parker::unpark`] or the deadline.
    ///
    /// # Errors
    /// `EINTR` when a signal handler ran.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> Result<(), Errno> {
        loop {
            if self.0.swap(0, Ordering::Acquire) != 0 {
                return Ok(());
            }
            let left = deadline.map_or(LONG, |at| at.saturating_duration_since(Instant::now()).min(LONG));
            if left.is_zero() {
                return Ok(());
            }
            match self.wait(left) {
                Errno::ETIMEDOUT | Errno::EAGAIN => {}
                Errno::EINTR => return Err(Errno::EINTR),
                // Woken, or a kernel that knows better: look again.
                _ => {}
            }
        }
    }

    /// Wakes the thread that sleeps here, or keeps its next sleep from beginning.
    pub(crate) fn unpark(&self) {
        if self.0.swap(1, Ordering::Release) == 0 {
            // SAFETY: the address is that of a live word; waking touches no memory.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1,
                )
            };
        }
    }

    fn wait(&self, left: Duration) -> Errno {
        let timeout = libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        };
        // SAFETY: the word and the timeout live across the call, which reads both; the second address is not used.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                0u32,
                &raw const timeout,
                ptr::null::<u32>(),
                0u32,
            )
        };
        if result == 0 { Errno::UnknownErrno } else { Errno::last() }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn a_wake_up_that_comes_early_is_kept() {
        let parker = Parker::default();
        parker.unpark();
        parker.unpark();
        assert_eq!(parker.park(None), Ok(()));
        assert_eq!(
            parker.park(Some(Instant::now() + Duration::from_millis(5))),
            Ok(()),
            "one was kept, not two"
        );
    }

    #[test]
    fn a_sleeper_is_woken_by_another_thread() {
        let parker = Arc::new(Parker::default());
        let other = Arc::clone(&parker);
        let waker = thread::spawn(move || other.unpark());
        assert_eq!(parker.park(None), Ok(()));
        waker.join().unwrap();
    }
}
