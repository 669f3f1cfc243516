//! Timers: timer_create and friends of the overlay, TimerCreate and TimerSettime.
//!
//! They are those of the crate `qnet` (one thread, `qnet-timer`, for all of a process) under numbers, as C has them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use client::{Clock, PerProcess, Timer, Times, generation};
use libc::{c_int, clockid_t, itimerspec, timespec};

use crate::call::{Outcome, calls, errno, fenced, ordinary};
use crate::clocks::from_nanoseconds;
use crate::events::{Local, SI_TIMER, Sigevent};
use crate::memory;

/// Largest number of a timer.
const MOST_TIMERS: c_int = 1 << 20;

/// The timers of this process by their numbers, and which process that is.
struct Table(u32, Mutex<BTreeMap<c_int, Timer>>);

static TIMERS: PerProcess<Table> = PerProcess::new();

/// In a child the parent's timers do not exist.
fn lock() -> MutexGuard<'static, BTreeMap<c_int, Timer>> {
    let table = TIMERS.get(|table| table.0 == generation(), || Table(generation(), Mutex::default()));
    table.1.lock().unwrap_or_else(PoisonError::into_inner)
}

fn create(clock: clockid_t, event: Option<Local>) -> Outcome<c_int> {
    let clock = match clock {
        libc::CLOCK_REALTIME => Clock::Realtime,
        libc::CLOCK_MONOTONIC => Clock::Monotonic,
        libc::CLOCK_BOOTTIME => Clock::Boottime,
        _ => return Err(libc::EINVAL),
    };
    let mut timers = lock();
    let id = (1..MOST_TIMERS).find(|id| !timers.contains_key(id)).ok_or(libc::EAGAIN)?;
    let alarm = Local::Signal {
        signo: libc::SIGALRM,
        code: SI_TIMER,
        value: id.cast_unsigned().into(),
        thread: None,
    };
    let event = event.unwrap_or(alarm);
    let each = matches!(event, Local::Pulse { .. });
    // A connection that is gone takes no pulses; QNX's timer does not mind either.
    let timer = Timer::with(clock, each, move || event.happen().unwrap_or(())).map_err(errno)?;
    timers.insert(id, timer);
    Ok(id)
}

fn delete(id: c_int) -> Outcome<()> {
    lock().remove(&id).map(drop).ok_or(libc::EINVAL)
}

/// Sets a timer; gives what was left of the former setting.
fn set(id: c_int, flags: c_int, times: Times) -> Outcome<Times> {
    if flags & !libc::TIMER_ABSTIME != 0 {
        return Err(libc::EINVAL);
    }
    with_timer(id, |timer| if flags == 0 { timer.set(times) } else { timer.set_at(times) }.map_err(errno))
}

fn with_timer<T>(id: c_int, with: impl FnOnce(&Timer) -> Outcome<T>) -> Outcome<T> {
    lock().get(&id).ok_or(libc::EINVAL).and_then(with)
}

/// `struct itimerspec` → times; `EINVAL` for what is no time.
fn from_spec(spec: &itimerspec) -> Outcome<Times> {
    let duration = |time: &timespec| {
        let seconds = u64::try_from(time.tv_sec).map_err(|_| libc::EINVAL)?;
        let nanoseconds = u32::try_from(time.tv_nsec).map_err(|_| libc::EINVAL)?;
        let whole = nanoseconds < 1_000_000_000;
        whole.then(|| Duration::new(seconds, nanoseconds)).ok_or(libc::EINVAL)
    };
    Ok(Times { first: duration(&spec.it_value)?, every: duration(&spec.it_interval)? })
}

/// Times → `struct itimerspec`.
fn to_spec(times: Times) -> itimerspec {
    let spec = |time| from_nanoseconds(nanoseconds(time));
    itimerspec { it_value: spec(times.first), it_interval: spec(times.every) }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The event of a timer, if the program gave one.
///
/// # Safety
/// `event` is NULL or points to one.
unsafe fn event_of(event: *const Sigevent) -> Outcome<Option<Local>> {
    // SAFETY: the caller's promise.
    unsafe { memory::get(event) }.map(|event| Local::new(&event, SI_TIMER)).transpose()
}

/// The overlay's timer_create().
///
/// # Safety
/// The pointers are NULL or point to a sigevent and to a place for a timer's number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_timer_create(
    clock: clockid_t,
    event: *const Sigevent,
    timer: *mut c_int,
) -> c_int {
    ordinary(fenced(|| {
        if timer.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: the caller's promise.
        let id = create(clock, unsafe { event_of(event) }?)?;
        // SAFETY: the caller's promise.
        unsafe { memory::put(timer, || Ok(id)) }?;
        Ok(0)
    }))
}

/// The overlay's timer_delete().
#[unsafe(no_mangle)]
pub extern "C" fn qnet_timer_delete(timer: c_int) -> c_int {
    ordinary(fenced(|| delete(timer).map(|()| 0)))
}

/// The overlay's timer_settime().
///
/// # Safety
/// The pointers are NULL or point to their structures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_timer_settime(
    timer: c_int,
    flags: c_int,
    time: *const itimerspec,
    old: *mut itimerspec,
) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let time = unsafe { memory::get(time) }.ok_or(libc::EINVAL)?;
        let before = set(timer, flags, from_spec(&time)?)?;
        // SAFETY: the caller's promise.
        unsafe { memory::put(old, || Ok(to_spec(before))) }?;
        Ok(0)
    }))
}

/// The overlay's timer_gettime().
///
/// # Safety
/// `time` is NULL or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_timer_gettime(timer: c_int, time: *mut itimerspec) -> c_int {
    ordinary(fenced(|| {
        let left = with_timer(timer, |timer| timer.left().map_err(errno))?;
        if time.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: the caller's promise.
        unsafe { memory::put(time, || Ok(to_spec(left))) }?;
        Ok(0)
    }))
}

/// The overlay's timer_getoverrun(): expirations that the last event stands for beside its own.
#[unsafe(no_mangle)]
pub extern "C" fn qnet_timer_getoverrun(timer: c_int) -> c_int {
    let overrun = |timer: &Timer| timer.overrun().map_err(errno);
    ordinary(fenced(|| with_timer(timer, overrun).map(|count| c_int::try_from(count).unwrap_or(c_int::MAX))))
}

/// `struct _itimer`, in nanoseconds.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Itimer {
    nsec: u64,
    interval_nsec: u64,
}

calls! {
    /// Makes a timer; its number is the result.
    TimerCreate, TimerCreate_r (clock: clockid_t, event: *const Sigevent) -> c_int = {
        // SAFETY: the caller's promise.
        create(clock, unsafe { event_of(event) }?)
    };

    /// Removes a timer.
    TimerDestroy, TimerDestroy_r (timer: c_int) -> c_int = delete(timer).map(|()| 0);

    /// Sets a timer, in nanoseconds.
    TimerSettime, TimerSettime_r (timer: c_int, flags: c_int, time: *const Itimer, old: *mut Itimer) -> c_int = {
        // SAFETY: the caller's promise.
        let Itimer { nsec, interval_nsec } = unsafe { memory::get(time) }.ok_or(libc::EFAULT)?;
        let times = Times { first: Duration::from_nanos(nsec), every: Duration::from_nanos(interval_nsec) };
        let before = set(timer, flags, times)?;
        let (nsec, interval_nsec) = (nanoseconds(before.first), nanoseconds(before.every));
        // SAFETY: the caller's promise.
        unsafe { memory::put(old, || Ok(Itimer { nsec, interval_nsec })) }?;
        Ok(0)
    };
}
