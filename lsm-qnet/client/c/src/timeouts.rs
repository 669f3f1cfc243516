//! Events between processes, and kernel timeouts.

use std::time::Duration;

use client::{Event, calls};
use libc::{c_int, clockid_t, timespec};

use crate::call::{Outcome, calls, errno};
use crate::clocks::{self, check, from_nanoseconds, nanoseconds};
use crate::events::{Sigevent, notify};
use crate::memory;

/// The caller's event; `EFAULT` without one.
///
/// # Safety
/// `event` is NULL or points to one.
unsafe fn event(event: *const Sigevent) -> Outcome<Event> {
    // SAFETY: the caller's promise.
    unsafe { memory::get(event) }.ok_or(libc::EFAULT)?.event()
}

calls! {
    /// Lets the event of a client happen in it.
    MsgDeliverEvent, MsgDeliverEvent_r (rcvid: c_int, happening: *const Sigevent) -> c_int = {
        // SAFETY: the caller's promise.
        calls::msg_deliver_event(rcvid, &unsafe { event(happening) }?).map(|()| 0).map_err(errno)
    };

    /// Whether an event makes sense.
    MsgVerifyEvent, MsgVerifyEvent_r (rcvid: c_int, happening: *const Sigevent) -> c_int = {
        // SAFETY: the caller's promise.
        calls::msg_verify_event(rcvid, &unsafe { event(happening) }?).map(|()| 0).map_err(errno)
    };

    /// Keeps an event in the library: the caller's structure becomes a handle for the server behind `coid`.
    MsgRegisterEvent, MsgRegisterEvent_r (happening: *mut Sigevent, coid: c_int) -> c_int = {
        // SAFETY: the caller's promise.
        let mut written = unsafe { memory::get(happening) }.ok_or(libc::EFAULT)?;
        let Event::Registered { handle } = calls::msg_register_event(&written.event()?, coid).map_err(errno)? else {
            return Err(libc::EINVAL);
        };
        written.notify = notify::HANDLE | written.notify & notify::FLAGS;
        written.who.id = handle;
        // SAFETY: the caller's promise.
        unsafe { memory::put(happening, || Ok(written)) }.map(|()| 0)
    };

    /// Forgets a registered event.
    MsgUnregisterEvent, MsgUnregisterEvent_r (happening: *const Sigevent) -> c_int = {
        // SAFETY: the caller's promise.
        calls::msg_unregister_event(&unsafe { event(happening) }?).map(|()| 0).map_err(errno)
    };

    /// Bounds the next blocking call of this thread, in nanoseconds.
    TimerTimeout, TimerTimeout_r (
        clock: clockid_t, flags: c_int, happening: *const Sigevent, time: *const u64, left: *mut u64
    ) -> c_int = {
        // SAFETY: the caller's promise.
        let (happening, time) = unsafe { (memory::get(happening), memory::get(time)) };
        let rest = bound(clock, flags, happening, time)?;
        // SAFETY: the caller's promise.
        unsafe { memory::put(left, || Ok(rest)) }.map(|()| 0)
    };

    /// Bounds the next blocking call of this thread.
    timer_timeout, timer_timeout_r (
        clock: clockid_t, flags: c_int, happening: *const Sigevent, time: *const timespec, left: *mut timespec
    ) -> c_int = {
        // SAFETY: the caller's promise.
        let (happening, time) = unsafe { (memory::get(happening), memory::get(time)) };
        let rest = bound(clock, flags, happening, time.map(|time| nanoseconds(&time)))?;
        // SAFETY: the caller's promise.
        unsafe { memory::put(left, || Ok(from_nanoseconds(rest))) }.map(|()| 0)
    };
}

/// `_NTO_TIMEOUT_NANOSLEEP`.
const NANOSLEEP: c_int = 1 << 12;
/// All states that a timeout can be for; the bits above belong to other flags.
const STATES: c_int = (1 << 24) - 1;
/// Those of messages: SEND, RECEIVE, REPLY.
const MESSAGES: c_int = 1 << 4 | 1 << 5 | 1 << 6;

/// Arms the timeout, or sleeps; gives what was left of a sleep. Without a time it is over at once.
fn bound(clock: clockid_t, flags: c_int, happening: Option<Sigevent>, time: Option<u64>) -> Outcome<u64> {
    let absolute = flags & libc::TIMER_ABSTIME != 0;
    let states = flags & STATES & !libc::TIMER_ABSTIME;
    let time = time.unwrap_or(0);
    let length = if absolute { time.saturating_sub(clocks::now(clock)?) } else { time };
    if states & NANOSLEEP != 0 {
        return sleep(length);
    }
    // The overlay refuses the states of the C library's own calls; a number that got here all the same is no timeout.
    if states & !MESSAGES != 0 {
        return Err(libc::EINVAL);
    }
    let event = happening.map_or(Ok(Event::Unblock), |event| event.event())?;
    calls::timer_timeout(states.cast_unsigned(), Duration::from_nanos(length), event);
    Ok(0)
}

fn sleep(length: u64) -> Outcome<u64> {
    let (time, mut left) = (from_nanoseconds(length), from_nanoseconds(0));
    // SAFETY: both structures are ours.
    match check(unsafe { libc::nanosleep(&raw const time, &raw mut left) }) {
        Err(libc::EINTR) => Ok(nanoseconds(&left)),
        outcome => outcome.map(|()| 0),
    }
}
