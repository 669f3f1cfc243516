//! The few system calls that no safe wrapper offers: futexes, what happens at a fork, signals with values, timers.
#![expect(
    unsafe_code,
    reason = "futex, pthread_atfork, sigqueue and timerfd_settime have no (whole) safe wrapper"
)]

mod fork;
mod parker;
pub(crate) mod timerfd;

use std::{
    io, ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

pub(crate) use fork::KeptFromChild;
pub use fork::generation;
pub(crate) use parker::Parker;

/// Queues signal `signo` with a value to this process; any thread that does not block it takes it.
///
/// # Errors
/// `EINVAL`: no such signal; `EAGAIN`: too many wait.
pub(crate) fn queue_signal(signo: i32, value: u64) -> io::Result<()> {
    let value = libc::sigval { sival_ptr: value as usize as *mut libc::c_void };
    // SAFETY: the call takes plain values; the pointer is one in name only, nobody follows it here.
    let result = unsafe { libc::sigqueue(libc::getpid(), signo, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends signal `signo` to this process.
///
/// # Errors
/// `EINVAL`: no such signal.
pub(crate) fn raise_signal(signo: i32) -> io::Result<()> {
    // SAFETY: plain values, of which the first names this process.
    let result = unsafe { libc::kill(libc::getpid(), signo) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a number is an open descriptor of this process.
pub(crate) fn is_open(fd: i32) -> bool {
    // SAFETY: a query about a number; whoever owns the descriptor keeps it.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Gives the calling thread realtime priority `priority` if it runs under a realtime policy (`SCHED_FIFO`, `SCHED_RR`);
/// any other thread is left alone, because Linux knows no priorities among those that it would understand.
pub(crate) fn inherit_realtime(priority: i32) {
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: a query about the calling thread without pointers.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if policy != libc::SCHED_FIFO && policy != libc::SCHED_RR {
        return;
    }
    // QNX goes to 255, Linux to 99.
    param.sched_priority = priority.clamp(1, 99);
    // SAFETY: `param` is a live structure of the right type. Being refused changes nothing.
    let _refused = unsafe { libc::sched_setparam(0, &raw const param) };
}

/// A value of which a process and each child that it forks has one of its own, made when it is first asked for and never
/// freed: in a child the parent's may be locked by a thread that does not exist there. ([`generation`] tells the two apart.)
#[derive(Debug)]
pub struct PerProcess<T>(AtomicPtr<T>);

impl<T: Sync> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Sync> PerProcess<T> {
    /// Without a value yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The value, which `make` makes unless there is one that `is_current`.
    pub fn get(&self, is_current: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &'static T {
        let old = self.0.load(Ordering::Acquire);
        // SAFETY: null, or a box that was leaked below.
        if let Some(value) = unsafe { old.as_ref() }.filter(|value| is_current(value)) {
            return value;
        }
        let fresh = Box::into_raw(Box::new(make()));
        match self.0.compare_exchange(old, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: the box was just leaked.
            Ok(_) => unsafe { &*fresh },
            Err(other) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: another thread of this process stored a leaked box; it is current, because it came after `old`.
                unsafe { &*other }
            }
        }
    }
}
