//! Setting a timer of the kernel's and asking it what is left, with what was there before: nix gives the one without the other.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// When a timer is due next, and its period; zero: never, and once.
type Times = (Duration, Duration);

/// Sets a timer: to a time of its clock, or from now on. Gives what was left of its former setting.
///
/// # Errors
/// `EINVAL`: the descriptor is no timer's, or a time is longer than the kernel's numbers are.
pub(crate) fn set(timer: BorrowedFd<'_>, absolute: bool, (first, every): Times) -> io::Result<Times> {
    let new = libc::itimerspec { it_value: timespec(first)?, it_interval: timespec(every)? };
    let flags = if absolute { libc::TFD_TIMER_ABSTIME } else { 0 };
    let mut before = ZERO;
    // SAFETY: both structures are ours, and the descriptor is borrowed for the call.
    let result = unsafe { libc::timerfd_settime(timer.as_raw_fd(), flags, &raw const new, &raw mut before) };
    if result == 0 { Ok(times(&before)) } else { Err(io::Error::last_os_error()) }
}

/// What is left until a timer is due, and its period.
///
/// # Errors
/// `EINVAL`: the descriptor is no timer's.
pub(crate) fn left(timer: BorrowedFd<'_>) -> io::Result<Times> {
    let mut left = ZERO;
    // SAFETY: the structure is ours, and the descriptor is borrowed for the call.
    let result = unsafe { libc::timerfd_gettime(timer.as_raw_fd(), &raw mut left) };
    if result == 0 { Ok(times(&left)) } else { Err(io::Error::last_os_error()) }
}

const NEVER: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
const ZERO: libc::itimerspec = libc::itimerspec { it_interval: NEVER, it_value: NEVER };

fn timespec(time: Duration) -> io::Result<libc::timespec> {
    let tv_sec = time.as_secs().try_into().map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(libc::timespec { tv_sec, tv_nsec: time.subsec_nanos().into() })
}

fn times(spec: &libc::itimerspec) -> Times {
    // The kernel gives no negative ones.
    let duration = |time: &libc::timespec| Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    (duration(&spec.it_value), duration(&spec.it_interval))
}
