//! Clocks: ClockTime, ClockPeriod, ClockCycles, delay(), and the part of the system page that goes with them.

use std::{ptr, sync::OnceLock};

use libc::{c_int, c_uint, clockid_t, timespec};

use crate::call::{Outcome, calls};
use crate::memory;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// `struct _clockperiod`.
#[repr(C)]
pub struct ClockPeriods {
    nsec: u32,
    fract: i32,
}

calls! {
    /// Reads and, with the right to it, sets a clock, in nanoseconds since its beginning.
    ///
    /// DEVIATION: a clock is set at once; QNX's realtime clock is set by `ClockAdjust()` where it must not jump.
    ClockTime, ClockTime_r (clock: clockid_t, new: *const u64, old: *mut u64) -> c_int = {
        // SAFETY: the caller's promise for `old`; NULL is allowed.
        unsafe { memory::put(old, || now(clock)) }?;
        // SAFETY: the caller's promise for `new`; NULL is allowed.
        match unsafe { memory::get(new) } {
            Some(new) => set(clock, new).map(|()| 0),
            None => Ok(0),
        }
    };

    /// Tells the clock's resolution. It cannot be changed: `EPERM`, as for a QNX program without the right to it.
    ClockPeriod, ClockPeriod_r (clock: clockid_t, new: *const ClockPeriods, old: *mut ClockPeriods, _reserved: c_int) -> c_int = {
        let mut period = zero();
        // SAFETY: the structure is ours.
        check(unsafe { libc::clock_getres(clock, &raw mut period) })?;
        let nsec = u32::try_from(nanoseconds(&period)).unwrap_or(u32::MAX);
        // SAFETY: the caller's promise for `old`; NULL is allowed.
        unsafe { memory::put(old, || Ok(ClockPeriods { nsec, fract: 0 })) }?;
        if new.is_null() { Ok(0) } else { Err(libc::EPERM) }
    };
}

/// A counter that runs evenly, `cycles_per_sec` of the system page a second.
///
/// DEVIATION: nanoseconds of the monotonic clock, not the processor's own counter: the same on all CPUs and machines.
#[unsafe(no_mangle)]
pub extern "C" fn ClockCycles() -> u64 {
    now(libc::CLOCK_MONOTONIC_RAW).unwrap_or(0)
}

/// `struct syspage_entry` of `sys/syspage.h`.
#[repr(C)]
pub struct Syspage {
    num_cpu: u16,
    cycles_per_sec: u64,
}

/// The system page, as far as there is one.
#[unsafe(no_mangle)]
pub extern "C" fn qnet_syspage() -> *const Syspage {
    static PAGE: OnceLock<Syspage> = OnceLock::new();
    PAGE.get_or_init(|| {
        // SAFETY: has no conditions.
        let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        Syspage { num_cpu: u16::try_from(cpus).unwrap_or(1), cycles_per_sec: SECOND }
    })
}

/// Waits for so many milliseconds; returns those that a signal left over.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn delay(milliseconds: c_uint) -> c_uint {
    let mut time = from_nanoseconds(u64::from(milliseconds) * 1_000_000);
    let wanted = time;
    // A cancellation point of its own; no frame of ours above it has a destructor.
    // SAFETY: both structures are ours.
    if unsafe { libc::nanosleep(&raw const wanted, &raw mut time) } == 0 {
        return 0;
    }
    c_uint::try_from(nanoseconds(&time).div_ceil(1_000_000)).unwrap_or(c_uint::MAX)
}

/// Nanoseconds → `struct timespec`.
///
/// # Safety
/// `to` is NULL or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nsec2timespec(to: *mut timespec, nanoseconds: u64) {
    // SAFETY: the caller's promise.
    let _ = unsafe { memory::put(to, || Ok(from_nanoseconds(nanoseconds))) };
}

/// `struct timespec` → nanoseconds; 0 for NULL.
///
/// # Safety
/// `from` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timespec2nsec(from: *const timespec) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { memory::get(from) }.map_or(0, |time| nanoseconds(&time))
}

/// What a clock shows, in nanoseconds.
pub(crate) fn now(clock: clockid_t) -> Outcome<u64> {
    let mut time = zero();
    // SAFETY: the structure is ours.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(nanoseconds(&time))
}

fn set(clock: clockid_t, to: u64) -> Outcome<()> {
    let time = from_nanoseconds(to);
    // SAFETY: the structure is ours.
    check(unsafe { libc::clock_settime(clock, &raw const time) })
}

/// Errno of a call of the C library that returned -1.
pub(crate) fn check(result: c_int) -> Outcome<()> {
    if result == -1 { Err(nix::errno::Errno::last_raw()) } else { Ok(()) }
}

fn zero() -> timespec {
    timespec { tv_sec: 0, tv_nsec: 0 }
}

/// Negative times count as 0.
pub(crate) fn nanoseconds(time: &timespec) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec).saturating_mul(SECOND).saturating_add(part(time.tv_nsec))
}

pub(crate) fn from_nanoseconds(nanoseconds: u64) -> timespec {
    let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    timespec { tv_sec: part(nanoseconds / SECOND), tv_nsec: part(nanoseconds % SECOND) }
}

/// No pointer.
pub(crate) fn null<T>() -> *mut T {
    ptr::null_mut()
}
